"""The folder of a fit: the SAE, the results, the code of each pair, and the page."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Bool, Float
from scipy.sparse import csr_array

from sae_lens_abstopk.pairs.pair_results import PairResults
from sae_lens_abstopk.pairs.pair_set import PairSet
from sae_lens_abstopk.pairs.reading import read_pairs
from sae_lens_abstopk.system.errors import ConfigError, require_given, require_range
from sae_lens_abstopk.system.files import files_sha256, reading, whole_file

RESULTS, AXES, CODES, SAE_FOLDER = "pairs.json", "axes.csv", "codes.parquet", "sae"
_ORIGIN = b"pairs"


class Fitted(NamedTuple):
    """A fit read from its folder, for curation."""

    pairs: PairSet
    codes: Float[np.ndarray, "n F"]
    """Positive where A has more of the positive pole."""
    results: PairResults


def write_codes(folder: Path, pairs: PairSet, codes: Float[np.ndarray, "n F"]) -> None:
    """Write the active axes of each pair, with the origin of the pairs in the metadata of the schema."""
    active = csr_array(codes, dtype=np.float32)
    table = pa.table(
        {
            "row": pairs.rows,
            "swapped": pairs.swapped,
            "preferred": pairs.preferred,
            "indices": pa.ListArray.from_arrays(active.indptr, active.indices),
            "values": pa.ListArray.from_arrays(active.indptr, active.data),
        }
    )
    origin = {"source": pairs.source, "columns": asdict(pairs.columns), "d_sae": codes.shape[1]}
    with whole_file(folder / CODES) as partial:
        pq.write_table(table.replace_schema_metadata({_ORIGIN: json.dumps(origin)}), partial)


def read_fit(folder: Path) -> Fitted:
    """
    Read the results and codes of a fit, and its pairs from where they came.

    Raises:
        ConfigError: a file is missing or damaged, or the data have changed since.
    """
    with reading(folder / RESULTS, "fit the pairs again with `abstopk pairs`"):
        results = PairResults.model_validate_json((folder / RESULTS).read_text(encoding="utf-8"))
    with reading(folder / CODES, "fit the pairs again with `abstopk pairs`"):
        table = pq.read_table(folder / CODES)
        origin = json.loads(table.schema.metadata[_ORIGIN])
    source = origin["source"]
    what, remedy = f"the file of the pairs of {folder}", "arrays and shipped concepts have none, so fit pairs of a file"
    require_given(what, "dataset_path" in source, remedy)
    path = Path(source["dataset_path"])
    if "sha256" in source and path.exists() and files_sha256(path) != source["sha256"]:
        raise ConfigError(f"{path} has changed since {folder} was written; fit the pairs again.")
    columns = {key: each for key, each in origin["columns"].items() if each is not None}
    if columns.pop("chosen_first"):
        columns["chosen"], columns["rejected"] = columns.pop("a"), columns.pop("b")
    pairs = read_pairs(
        source["dataset_path"],
        columns=columns,
        name=source.get("dataset_name"),
        split=source["split"],
        seed=results.seed,
        limit=results.counts["read"],
    )
    if not (np.array_equal(pairs.rows, table["row"]) and np.array_equal(pairs.swapped, table["swapped"])):
        raise ConfigError(f"{source['dataset_path']} has other pairs than when {folder} was written; fit them again.")
    indices, values = (table[name].combine_chunks() for name in ("indices", "values"))
    parts = values.flatten(), indices.flatten(), indices.offsets
    codes = csr_array(tuple(map(np.asarray, parts)), shape=(len(pairs), origin["d_sae"])).toarray()
    return Fitted(pairs, codes, results)


def pairs_of_axis(
    fitted: Fitted, axis: int, side: Literal["+", "-"], above: float
) -> tuple[Bool[np.ndarray, " n"], str]:
    """
    Choose the pairs whose preferred text has more of a pole than the other, by more than ``above``.

    Without a preference, it is A that has more. Returns which pairs, and the reason in words.

    Raises:
        ConfigError: there is no such axis, or no such pair.
    """
    require_range("axis", axis, at_least=0, below=fitted.codes.shape[1])
    record = fitted.results.axes[axis]
    preferred = np.where(fitted.pairs.labelled, fitted.pairs.preferred, 1)
    code = fitted.codes[:, axis] * preferred * (1 if side == "+" else -1)
    chosen = code > above
    reason = f"axis {axis} {side} ({record.pole_names()[side == '-']}) above {above:g}"
    if not chosen.any():
        raise ConfigError(
            f"no pair is on {reason}; the largest code there is {max(0.0, code.max()):.3g}: lower --above, or take the "
            "other side."
        )
    return chosen, reason
