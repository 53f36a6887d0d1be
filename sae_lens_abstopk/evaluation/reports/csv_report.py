"""Results as CSV, for further analysis."""

import csv
import io
from itertools import chain
from typing import Any

from sae_lens_abstopk.evaluation.results.merging import MergedResults, MergedSAE

_TRAINING_COLUMNS = ("lr", "seed", "train_batch_size_tokens", "training_tokens", "training_architecture")


def csv_report(merged: MergedResults) -> str:
    """Write one row per SAE, with full numbers; cells without a value are empty."""
    rows = [_row(sae) for sae in merged.saes]
    written = io.StringIO()
    table = csv.DictWriter(written, list(dict.fromkeys(chain.from_iterable(rows))), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return written.getvalue()


def _row(sae: MergedSAE) -> dict[str, Any]:
    record, found = sae.record, sae.reconstruction
    details = record.training.get("training_architecture_details") or {}
    row: dict[str, Any] = {"sae": sae.name, "model": sae.model, "hook": sae.hook, "measured_on": sae.measured_on}
    row |= {key: getattr(record, key) for key in ("group", "architecture", "d_in", "d_sae", "weights_sha256")}
    known = (record.training.get("k"), details.get("k"), record.training.get("target_l0"), details.get("target_l0"))
    row |= {"k": next((k for k in known if k is not None), None)}
    row |= {key: record.training.get(key) for key in _TRAINING_COLUMNS}
    if found:
        row |= found.model_dump(exclude={"two_sidedness_histogram", "density_quantiles", "loss"})
        row |= {f"loss_{key}": value for key, value in (found.loss.model_dump() if found.loss else {}).items()}
    if sae.geometry:
        row |= sae.geometry.model_dump(exclude={"decoder_norm_quantiles"})
    return {key: None if value != value else value for key, value in row.items()}
