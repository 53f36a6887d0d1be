"""
Can a signed SAE cost nothing where signs lose? Other encoders and a dense path, beside signed and one-sided SAEs.

    python -m experiments.map.recipes FOLDER --kinds "sentence means" --f-over-d 0.25 --k 8

FOLDER is what `collect.py` wrote. One plain loop trains all of them, with dense matrices: selection over the batch, the
rows, steps, documents and learning rates of `run.py`, and its rule for thresholds. Appends a line a recipe to
`results/recipes.jsonl`; what is there is skipped.
"""

import argparse
import itertools
import json
import time
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from experiments.map.kinds import CHOOSING, REPORTED, KindVectors, read_kind
from experiments.map.run import BATCH, MEASURED, RATES, ROWS
from experiments.speed.recording import command
from sae_lens_abstopk.evaluation.results.facts import origin_facts

RECORD = Path(__file__).resolve().parent / "results" / "recipes.jsonl"
Kind = Literal["one-sided", "signed", "two biases", "two encoders", "closed poles", "one-sided, dense", "signed, dense"]
"""One-sided and signed SAEs; with a bias or an encoder row for each pole; with weak poles closed; with a dense path."""
RANK = 24
"""Rank of the dense path."""
CLOSE_AT, CLOSED_BELOW = 1 / 3, 1 / 8
"""Share of the steps after which a pole is closed, if it has less than this share of its latent's energy."""
DEAD_AFTER, AUXILIARY = 50, 256
"""Steps without a code after which a latent is dead; dead latents that learn what the others leave."""


class Codes(NamedTuple):
    """Pre-activations of both poles as one signed value."""

    values: Float[Tensor, "n f"]
    magnitudes: Float[Tensor, "n f"]
    """Pre-activation of the larger pole times the norm of its decoder row; 0 or less if neither pole is on."""


class RecipeSAE(nn.Module):
    """An SAE of one of the recipes."""

    def __init__(self, kind: Kind, d_sae: int, mean: Float[Tensor, " d"]) -> None:
        super().__init__()
        self.kind: Kind = kind
        rows = nn.functional.normalize(torch.randn(d_sae, len(mean)), dim=1)
        self.W_dec, self.b_dec = nn.Parameter(rows.clone()), nn.Parameter(mean.clone())
        self.W_enc = nn.Parameter(torch.stack([rows, -rows] if kind == "two encoders" else [rows]))
        self.b_enc = nn.Parameter(torch.zeros(2, d_sae))
        self.open_poles = torch.ones(2, d_sae, dtype=torch.bool)
        dense = kind.endswith("dense")
        self.read = nn.Parameter(torch.randn(len(mean), RANK) / len(mean) ** 0.5) if dense else None
        self.write = nn.Parameter(torch.zeros(RANK, len(mean)))

    def codes(self, x: Float[Tensor, "n d"]) -> Codes:
        """Return the codes before selection."""
        x = x - self.b_dec
        up = x @ self.W_enc[0].T
        if self.kind.startswith("one-sided"):
            values = up + self.b_enc[0]
            return Codes(values, values * self.W_dec.norm(dim=1))
        if self.kind in ("signed, dense", "signed", "closed poles"):
            up = up + self.b_enc[0]
            down = -up
        else:
            down = (x @ self.W_enc[1].T if self.kind == "two encoders" else -up) + self.b_enc[1]
            up = up + self.b_enc[0]
        up, down = (pole.masked_fill(~is_open, 0) for pole, is_open in zip((up, down), self.open_poles, strict=True))
        larger = torch.maximum(up, down)
        return Codes(torch.where(up >= down, up, -down), larger * self.W_dec.norm(dim=1))

    def decoded(self, codes: Float[Tensor, "n f"], x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Return the reconstruction."""
        out = codes @ self.W_dec + self.b_dec
        return out if self.read is None else out + (x - self.b_dec) @ self.read @ self.write


def kept(codes: Codes, threshold: float | Tensor) -> Float[Tensor, "n f"]:
    """Return the codes whose magnitude is at least a positive threshold, 0 elsewhere."""
    return torch.where(codes.magnitudes >= threshold, codes.values, 0)


def threshold_of(magnitudes: Tensor, k: int) -> Tensor:
    """Return the magnitude that keeps ``k`` codes a row on average."""
    return magnitudes.flatten().topk(k * len(magnitudes), sorted=False).values.min().clamp(min=1e-6)


def trained(kind: Kind, x: Float[Tensor, "n d"], d_sae: int, k: int, *, rate: float, seed: int) -> RecipeSAE:
    """Train an SAE of one recipe."""
    torch.manual_seed(seed)
    sae, steps = RecipeSAE(kind, d_sae, x.mean(0)), ROWS // BATCH
    optimizer = torch.optim.Adam(sae.parameters(), lr=rate, betas=(0.9, 0.999))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    silent, energy = torch.zeros(d_sae), torch.zeros(2, d_sae)
    for step in range(steps):
        batch = x[torch.randint(len(x), (BATCH,))]
        found = sae.codes(batch)
        codes = kept(found, threshold_of(found.magnitudes, k))
        out = sae.decoded(codes, batch)
        loss = mse_loss(out, batch)
        with torch.no_grad():
            silent = torch.where((codes != 0).any(0), 0, silent + 1)
            energy += torch.stack([codes.clamp(min=0), codes.clamp(max=0)]).square().sum(1)
        dead = (silent > DEAD_AFTER).nonzero().squeeze(1)
        if len(dead):
            of_dead = Codes(found.values[:, dead], found.magnitudes[:, dead])
            left = kept(of_dead, threshold_of(of_dead.magnitudes, min(AUXILIARY, len(dead))))
            loss = loss + min(len(dead) / AUXILIARY, 1) * mse_loss(left @ sae.W_dec[dead], (batch - out).detach())
        loss.backward()
        nn.utils.clip_grad_norm_(sae.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        if kind == "closed poles" and step == int(CLOSE_AT * steps):
            sae.open_poles = energy >= CLOSED_BELOW * energy.sum(0)
    return sae


@torch.no_grad()
def measured(sae: RecipeSAE, vectors: KindVectors, k: int, scale: float, *, part: int) -> dict[str, float]:
    """Return FVU and L0, with a threshold that keeps ``k`` codes of documents to choose by, and what the sides are."""
    chosen, rows = (vectors.rows(vectors.numbers(each)) / scale for each in (CHOOSING, part))
    threshold = threshold_of(sae.codes(chosen[:MEASURED]).magnitudes, k)
    error = active = 0.0
    energy = torch.zeros(2, len(sae.W_dec))
    for x in rows.split(MEASURED):
        codes = kept(sae.codes(x), threshold)
        error += float((sae.decoded(codes, x) - x).square().sum())
        active += float((codes != 0).sum())
        energy += torch.stack([codes.clamp(min=0), codes.clamp(max=0)]).square().sum(1)
    total = float((rows - rows.mean(0)).square().sum())
    weaker = energy.min(0).values.sum() / energy.sum()
    dead = float((energy.sum(0) == 0).float().mean())
    return {"fvu": error / total, "l0": active / len(rows), "weaker_side": float(weaker), "dead": dead}


def compared(recipe: Kind, vectors: KindVectors, d_sae: int, k: int, seeds: int) -> dict[str, Any]:
    """Choose the learning rate of a recipe, train its seeds and measure them."""
    started = time.perf_counter()
    x = vectors.rows(vectors.to_train_on())
    scale = float(x.square().mean().sqrt())

    def run(rate: float, seed: int, part: int) -> dict[str, float]:
        sae = trained(recipe, x / scale, d_sae, k, rate=rate, seed=seed)
        return measured(sae, vectors, k, scale, part=part)

    rates = {rate: run(rate, seeds, CHOOSING)["fvu"] for rate in RATES}
    best = min(rates, key=lambda rate: rates[rate])
    saes = [run(best, seed, REPORTED) for seed in range(seeds)]
    return {"saes": saes, "rates": rates, "seconds": round(time.perf_counter() - started)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kinds", nargs="+", required=True)
    parser.add_argument("--f-over-d", type=float, required=True)
    parser.add_argument("--k", type=int, required=True)
    parser.add_argument("--recipes", nargs="+", choices=get_args(Kind), default=get_args(Kind))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--record", type=Path, default=RECORD)
    args = parser.parse_args()
    args.record.parent.mkdir(parents=True, exist_ok=True)
    lines = args.record.read_text(encoding="utf-8").splitlines() if args.record.is_file() else []
    places = ("kind", "rows", "f_over_d", "k", "recipe")
    done = {tuple(json.loads(line)[key] for key in places) for line in lines}
    for kind, recipe in itertools.product(args.kinds, args.recipes):
        vectors, source = read_kind(args.folder, kind)
        place = (kind, len(vectors.to_train_on()), args.f_over_d, args.k, recipe)
        if place in done:
            continue
        line: dict[str, Any] = dict(zip(places, place, strict=True))
        line |= compared(recipe, vectors, round(args.f_over_d * vectors.d_in), args.k, args.seeds)
        line |= origin_facts("cpu") | {"source": source, "command": command()}
        with args.record.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        print(place, [round(each["fvu"], 4) for each in line["saes"]], f"{line['seconds']} s", flush=True)


if __name__ == "__main__":
    main()
