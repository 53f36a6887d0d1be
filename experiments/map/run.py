"""
Train signed and one-sided SAEs on every kind of vector, and measure how well they reconstruct vectors held out.

    python -m experiments.map.run FOLDER --work SAES

FOLDER is what `collect.py` wrote. A cell is a kind, a selection, F / D and k; its SAEs, of each share of signed latents
and each seed, train in one pass. First one seed of each trains with every learning rate, and the FVU on documents that
are not reported chooses. Writes a line a cell into `results/cells.jsonl`; a cell with a line is skipped, so the run can
be stopped at any time.
"""

import itertools
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Int
from rich.console import Console
from sae_lens import SAE
from torch import Tensor

from experiments.map.kinds import CHOOSING, PAIRS, REPORTED, KindVectors, kinds_in, read_kind
from experiments.recording import append_line, arguments, origin, read_lines
from sae_lens_abstopk.model.reconstruction import ReconstructionSums
from sae_lens_abstopk.saes.loading import load_sae
from sae_lens_abstopk.saes.seed_stability import seed_stability
from sae_lens_abstopk.saes.threshold import at_l0
from sae_lens_abstopk.training.config.config_file import load_config
from sae_lens_abstopk.training.train import train

RECORD = Path(__file__).resolve().parent / "results" / "cells.jsonl"
ARCHITECTURES = {"batch": ("batch_abstopk", "sparse_batchtopk"), "vector": ("abstopk", "sparse_topk")}
"""Signed and one-sided architecture by selection."""
SHARES = (1.0, 0.125, 0.0)
"""Shares of signed latents; with selection for each vector, all or none."""
WIDTHS = (1 / 16, 1 / 4, 1.0, 2.0, 8.0)
"""F / D of which all shares are trained; one-sided SAEs also of twice as many latents."""
KS = (8, 32)
FEWEST_LATENTS = 4
"""A cell has at least as many latents for each active one."""
RATES = (1e-3, 3e-3, 1e-2)
ROWS, BATCH = 384_000, 512
"""Vectors that an SAE trains on, repeats included, and of a step."""
MEASURED = 4096
"""Vectors encoded at a time."""


@dataclass(frozen=True)
class Cell:
    """Settings that the SAEs of a run share."""

    kind: str
    selection: str
    f_over_d: float
    k: int

    @property
    def shares(self) -> Sequence[float]:
        """Shares of signed latents that are trained; a width of 2 F is for one-sided SAEs only."""
        if self.f_over_d not in WIDTHS:
            return (0.0,)
        return SHARES if self.selection == "batch" else (1.0, 0.0)


class Member(NamedTuple):
    """One SAE of a run."""

    share: float
    seed: int
    rate: float


def cells(kinds: Iterable[str], *, selections: Iterable[str], widths: Sequence[float], ks: Iterable[int]) -> list[Cell]:
    """Return the cells, those that compare most SAEs in least time first, of all kinds in turn."""
    of_widths = sorted({*widths, *(2 * each for each in widths)})
    found = [Cell(*each) for each in itertools.product(kinds, selections, of_widths, ks)]
    return sorted(
        found, key=lambda cell: (cell.k != min(KS), cell.f_over_d > 2, cell.selection != "batch", cell.f_over_d)
    )


def run_members(cell: Cell, vectors: KindVectors, members: Sequence[Member], folder: Path) -> list[SAE[Any]]:
    """Train the SAEs of one run, and load them."""
    signed, one_sided = ARCHITECTURES[cell.selection]
    names = ["sae", *(f"sae_{i}" for i in range(1, len(members)))]
    overrides: dict[str, Any] = {
        "data": "vectors",
        "sae.architecture": signed,
        "sae.expansion_factor": cell.f_over_d,
        "sae.k": cell.k,
        "random_signs": cell.kind == PAIRS,
        "train_batch_size_tokens": BATCH,
        "training_steps": ROWS // BATCH,
        "lr": members[0].rate,
        "lr_scheduler_name": "cosineannealing",
        "lr_multiples": {name: member.rate / members[0].rate for name, member in zip(names, members, strict=True)},
        "weight_seeds": {name: member.seed for name, member in zip(names, members, strict=True)},
        "seed": members[0].seed,
        "perf_log_freq": 0,
        "divergence_factor": None,
        "output_path": str(folder),
    }
    for name, member in zip(names, members, strict=True):
        where = "sae" if name == "sae" else f"companions.{name}"
        if member.share == 0:
            overrides[f"{where}.architecture"] = one_sided
        else:
            overrides[f"{where}.architecture"] = signed
            if cell.selection == "batch":
                overrides[f"{where}.signed_share"] = member.share
            overrides[f"{where}.odd"] = cell.kind == PAIRS and member.share == 1
    cfg = load_config("vectors", overrides, vectors=vectors)
    folders = train(cfg, vectors=vectors, console=Console(quiet=True)).folders
    return [calibrated(load_sae(folders[name]), vectors, cell.k) for name in names]


def calibrated(sae: SAE[Any], vectors: KindVectors, k: int) -> SAE[Any]:
    """Return an SAE whose L0 is ``k`` on documents to choose by."""
    rows = vectors.numbers(CHOOSING)
    x = vectors.rows(rows[:: -(-len(rows) // MEASURED)])  # of all documents: early ones differ from late ones
    return at_l0(sae, [x], k)


@torch.no_grad()
def measure(sae: SAE[Any], vectors: KindVectors, rows: Int[Tensor, " n"]) -> dict[str, float]:
    """Return FVU, L0 and the share of latents that no row activates."""
    sums, active = ReconstructionSums(), torch.zeros(sae.cfg.d_sae, dtype=torch.bool)
    for part in rows.split(MEASURED):
        x = vectors.rows(part)
        codes = sae.encode(x)
        sums.update(x, sae.decode(codes), codes)
        active |= (codes != 0).any(0)
    found = sums.result(None)
    return {"fvu": found.fvu, "l0": found.l0, "dead": 1 - float(active.float().mean())}


def run_cell(cell: Cell, vectors: KindVectors, seeds: int) -> dict[str, Any]:
    """Choose the learning rates of a cell, train its SAEs and measure them."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        members, saes, rates = chosen_saes(cell, vectors, cell.shares, seeds, Path(folder))
    rows = vectors.numbers(REPORTED)
    stability = {
        str(share): float(
            seed_stability(
                torch.stack([s.W_dec.detach() for s, each in zip(saes, members, strict=True) if each.share == share]),
                signed=share > 0,
            ).found.mean()
        )
        for share in cell.shares
    }
    return {
        **asdict(cell),
        "d_in": vectors.d_in,
        "rows": {"train": len(vectors) - 2 * len(rows), "reported": len(rows)},
        "saes": [member._asdict() | measure(sae, vectors, rows) for sae, member in zip(saes, members, strict=True)],
        "stability": stability,
        "rates": rates,
        "seconds": round(time.perf_counter() - started, 1),
    }


def chosen_saes(
    cell: Cell, vectors: KindVectors, shares: Sequence[float], seeds: int, folder: Path
) -> tuple[list[Member], list[SAE[Any]], list[dict[str, Any]]]:
    """Choose a learning rate for each share of signed latents, and train its seeds; return the FVU of all rates too."""
    tried = [Member(share, seeds, rate) for share in shares for rate in RATES]
    rows = vectors.numbers(CHOOSING)
    found = [measure(sae, vectors, rows)["fvu"] for sae in run_members(cell, vectors, tried, folder / "rates")]
    chosen = {
        share: min((fvu, member.rate) for fvu, member in zip(found, tried, strict=True) if member.share == share)[1]
        for share in shares
    }
    members = [Member(share, seed, chosen[share]) for share in shares for seed in range(seeds)]
    rates = [member._asdict() | {"fvu": fvu} for member, fvu in zip(tried, found, strict=True)]
    return members, run_members(cell, vectors, members, folder / "seeds"), rates


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kinds", nargs="+", help="all by default")
    parser.add_argument("--selection", nargs="+", choices=ARCHITECTURES, default=list(ARCHITECTURES))
    parser.add_argument("--f-over-d", nargs="+", type=float, default=WIDTHS)
    parser.add_argument("--k", nargs="+", type=int, default=KS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--record", type=Path, default=RECORD)
    args = parser.parse_args()
    done = {Cell(**{key: line[key] for key in Cell.__dataclass_fields__}) for line in read_lines(args.record)}
    for cell in cells(args.kinds or kinds_in(args.folder), selections=args.selection, widths=args.f_over_d, ks=args.k):
        vectors, source = read_kind(args.folder, cell.kind)
        if cell not in done and cell.k * FEWEST_LATENTS <= cell.f_over_d * vectors.d_in:
            append_line(args.record, run_cell(cell, vectors, args.seeds) | origin("cpu") | {"source": source})
            print(cell, flush=True)


if __name__ == "__main__":
    main()
