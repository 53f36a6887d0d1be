"""
Train signed SAEs on sentence embeddings beside one-sided ones of F and of 2 F latents, and measure them.

    python -m experiments.embeddings.study answers runs/answers --model sentence-transformers/all-MiniLM-L6-v2

Reads a set that `answers.py` wrote. A cell is one F / D, k, seed and selection, over the batch or per vector; its three
SAEs train in one pass. Appends a line per cell to `results/runs.jsonl`: FVU on the rows that training held out, by
prompt, and the rows of retrieval by cosine and by dot product. A cell with a line is skipped, and a finished run is not
trained again.
"""

import itertools
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from sae_lens import SAE

from experiments.recording import append_line, arguments, origin, read_lines
from sae_lens_abstopk.embeddings.retrieval import SIMILARITIES, retrieval_rows
from sae_lens_abstopk.embeddings.retrieval_set import RetrievalSet, open_retrieval_set
from sae_lens_abstopk.model.reconstruction import Reconstruction, ReconstructionSums
from sae_lens_abstopk.saes.loading import load_sae
from sae_lens_abstopk.saes.threshold import at_l0
from sae_lens_abstopk.training.checkpoints.resume import is_finished
from sae_lens_abstopk.training.config.config_file import load_config, one_sided_companions
from sae_lens_abstopk.training.config.training_config import TrainingConfig
from sae_lens_abstopk.training.train import train
from sae_lens_abstopk.vectors.embedding import open_rows

RECORD = Path(__file__).resolve().parent / "results" / "runs.jsonl"
ARCHITECTURES = {"batch": "batch_abstopk", "vector": "abstopk"}
"""Signed architecture by selection."""


@dataclass(frozen=True)
class Cell:
    """Settings that the three SAEs of a run share."""

    set: str
    selection: str
    f_over_d: float
    k: int
    seed: int
    loss: str = "mse"

    @property
    def name(self) -> str:
        """Name of the run's folder."""
        loss = "" if self.loss == "mse" else f"_{self.loss}"
        return f"{self.set}_{self.selection}{loss}_x{self.f_over_d:g}_k{self.k}_seed{self.seed}"


def config_of(cell: Cell, folder: Path, model: str, out: Path) -> TrainingConfig:
    """Return the config of a cell, with its one-sided companions."""
    overrides: dict[str, Any] = {
        "data": str(folder / "train.jsonl"),
        "model": model,
        "group": "prompt",
        "sae.architecture": ARCHITECTURES[cell.selection],
        "sae.expansion_factor": cell.f_over_d,
        "sae.k": cell.k,
        "sae.reconstruction_loss": cell.loss,
        "seed": cell.seed,
        "output_path": str(out / cell.name),
    }
    if cell.loss == "cosine":
        overrides["sae.aux_loss_coefficient"] = 0
    return load_config("vectors", overrides | one_sided_companions(load_config("vectors", overrides)))


def fvu_and_l0(sae: SAE[Any], x: torch.Tensor, k: float) -> dict[str, float]:
    """Measure a saved SAE on vectors [n, d], at an L0 of ``k`` and at its own thresholds."""
    leveled, own = (_reconstruction(each, x) for each in (at_l0(sae, [x], k), sae))
    return {"rows": own.n_tokens, "fvu": leveled.fvu, "l0": leveled.l0, "l0_at_threshold": own.l0}


def _reconstruction(sae: SAE[Any], x: torch.Tensor) -> Reconstruction:
    codes, sums = sae.encode(x), ReconstructionSums()
    sums.update(x, sae.decode(codes), codes)
    return sums.result(None)


@torch.no_grad()
def measure(saes: Mapping[str, SAE[Any]], cfg: TrainingConfig, found: RetrievalSet) -> dict[str, Any]:
    """Return the held-out FVU by SAE, and the rows of retrieval by similarity."""
    rows, spec = open_rows(cfg.vector_spec), cfg.vector_spec
    x = rows.rows(rows.part(spec, "held_out"))
    vectors = found.queries, found.documents, found.relevant
    return {
        "held_out": {name: fvu_and_l0(sae, x, cfg.sae.k) for name, sae in saes.items()},
        "retrieval": {
            similarity: [row.model_dump() for row in retrieval_rows(saes, *vectors, similarity=similarity)]
            for similarity in SIMILARITIES
        },
    }


def run_cell(cell: Cell, folder: Path, model: str, out: Path, found: RetrievalSet) -> dict[str, Any]:
    """Train the SAEs of a cell, unless they are there, and measure them."""
    started = time.perf_counter()
    cfg = config_of(cell, folder, model, out)
    root = out / cell.name
    if not is_finished(cfg):
        train(cfg, console=Console(quiet=True))
    folders = {"signed": root, "one-sided": root / "one_sided", "one-sided 2F": root / "one_sided_2F"}
    measured = measure({name: load_sae(place) for name, place in folders.items()}, cfg, found)
    sizes = {"n_queries": len(found.queries), "n_documents": len(found.documents), "d_in": found.documents.d_in}
    facts = origin() | {"seconds": round(time.perf_counter() - started, 1)}
    return asdict(cell) | {"model": Path(model).name} | sizes | measured | facts


def finished(record: Path) -> set[Cell]:
    """Return the cells in a record."""
    fields = Cell.__dataclass_fields__
    return {Cell(**{key: line[key] for key in fields if key in line}) for line in read_lines(record)}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("set", help="name of the set in the record")
    parser.add_argument("folder", type=Path, help="folder that answers.py wrote")
    parser.add_argument("--model", required=True, help="sentence-transformers model: a folder or Hub id")
    parser.add_argument("--selection", nargs="+", choices=ARCHITECTURES, default=list(ARCHITECTURES))
    parser.add_argument("--f-over-d", nargs="+", type=float, default=[0.25, 1, 4])
    parser.add_argument("--k", nargs="+", type=int, default=[8, 16, 32])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--loss", choices=["mse", "cosine"], default="mse")
    parser.add_argument("--work", type=Path, default=Path("runs/embeddings"), help="folder of the SAEs")
    parser.add_argument("--record", type=Path, default=RECORD)
    given = parser.parse_args()
    sources = {"queries": "queries.jsonl", "documents": "corpus.jsonl", "qrels": "qrels.tsv"}
    files: Any = {name: str(given.folder / file) for name, file in sources.items()}
    found = open_retrieval_set(**files, model=given.model, widths={})
    done = finished(given.record)
    seeds: list[Any] = list(range(given.seeds))
    for seed, selection, f_over_d, k in itertools.product(seeds, given.selection, given.f_over_d, given.k):
        cell = Cell(given.set, selection, f_over_d, k, seed, given.loss)
        if cell in done:
            continue
        append_line(given.record, run_cell(cell, given.folder, given.model, given.work, found))
        print(cell.name)


if __name__ == "__main__":
    main()
