"""
Measure signed and one-sided SAEs on the differences of fine-tunes: FVU and KL recovered by F and k.

    python -m experiments.finetunes.grid french past --model HuggingFaceTB/SmolLM2-135M-Instruct --made runs/finetunes

Appends a line to `results/grid.jsonl` for each fine-tune, F and k, with the SAEs of all kinds and seeds; what is there
is not measured again.
"""

import itertools
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from sae_lens import SAE

from experiments.finetunes.behaviours import FINE_TUNES
from experiments.finetunes.measure import RESULTS
from experiments.finetunes.readings import PRESET, Reading, trained
from experiments.recording import append_line, arguments, origin, read_lines
from sae_lens_abstopk.diffs.fit_measures import fit_record, level, mean_energy, recovered
from sae_lens_abstopk.diffs.patching import BASE, CEILING, MEAN, divergences, reconstruction
from sae_lens_abstopk.diffs.principal_components import component_patches, component_records
from sae_lens_abstopk.training.config.seeds_and_baselines import SIGNED

RECORD = RESULTS / "grid.jsonl"
WIDTHS, KS = (36, 144), (4, 16)
"""F is 1/16 and 1/4 of the model's width of 576."""
KL_CONTEXTS = 8
"""Held-out contexts whose KL is measured, of one seed: the passes cost more than the training."""


def measured(reading: Reading, saes: Mapping[str, list[SAE[Any]]], k: float) -> dict[str, Any]:
    """Return FVU and KL recovered of SAEs by kind, and of PCA, at an L0 of ``k``."""
    held_out, sample = reading.held_out, reading.held_out.rows(slice(KL_CONTEXTS))
    at_k = {kind: level(of, held_out, k) for kind, of in saes.items()}
    patches = {kind: reconstruction(of[0]) for kind, of in at_k.items()}
    components = component_patches(reading.x, k, saes[SIGNED][0].cfg.d_sae)
    patches |= {f"PCA {n}": patch for n, patch in components.items()}
    by_patch = divergences(reading.pair, sample, patches).by_patch
    shares = recovered(by_patch, BASE, sample, seed=0)
    fits = {}
    for kind, of in saes.items():
        fits[kind] = fit_record(of, at_k[kind], held_out, shares[kind], seed=0).model_dump()
    pca = component_records(components, held_out, {n: shares[f"PCA {n}"] for n in components})
    bounds = {"ceiling": shares[CEILING], "mean_difference": shares[MEAN], "mean_energy": mean_energy(held_out, seed=0)}
    return {"fits": fits, "pca": [each.model_dump() for each in pca]} | {
        name: each.model_dump() for name, each in bounds.items()
    }


def main() -> None:
    """Measure the grid."""
    parser = arguments(__doc__)
    parser.add_argument("name", nargs="+", choices=FINE_TUNES)
    parser.add_argument("--model", required=True)
    parser.add_argument("--made", type=Path, required=True, help="folder that make.py wrote")
    parser.add_argument("--d-sae", type=int, nargs="+", default=WIDTHS)
    parser.add_argument("--k", type=float, nargs="+", default=KS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--record", type=Path, default=RECORD)
    given = parser.parse_args()
    done = {tuple(line[key] for key in ("fine_tune", "d_sae", "k")) for line in read_lines(given.record)}
    for name, d_sae, k in itertools.product(given.name, given.d_sae, given.k):
        if (name, d_sae, k) in done:
            continue
        reading = Reading.of(name, given.model, given.made)
        with tempfile.TemporaryDirectory() as folder, torch.inference_mode(False):
            saes = trained(reading.x, Path(folder) / "run", d_sae=d_sae, k=k, n_seeds=given.seeds, baselines=True)
        place = {"fine_tune": name, "d_sae": d_sae, "k": k, "rows": len(reading.x)}
        keys = {key: PRESET[key] for key in ("training_tokens", "train_batch_size_tokens", "lr")}
        line = place | keys | measured(reading, saes, k) | origin()
        append_line(given.record, line)
        print(place, {kind: round(fit["fvu"]["value"], 4) for kind, fit in line["fits"].items()}, flush=True)


if __name__ == "__main__":
    main()
