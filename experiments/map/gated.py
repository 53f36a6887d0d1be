"""
Does a Gated SAE with a two-sided gate do with half the latents? A claim of SA-GSAE (arXiv 2605.28149) for MLP outputs.

    python -m experiments.map.gated FOLDER --kinds "MLP output, layer 15"

FOLDER is what `collect.py` wrote. A Gated SAE (arXiv 2404.16014) learns a gate by an L1 penalty and an auxiliary
reconstruction from the gate, and a magnitude apart from it. The signed one has a gate with a bias for each pole, and
one magnitude for both. It follows the abstract of SA-GSAE, whose authors train on Pythia-1B and SmolLM3-3B. One plain
loop trains all SAEs at several penalties, with the rows, steps and documents of `run.py`; the learning rate of each is
the one with the lowest FVU at an L0 of 32 on documents that are not reported. Appends a line for each SAE to
`results/gated.jsonl`; what is there is skipped.
"""

import argparse
import itertools
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from experiments.map.kinds import CHOOSING, REPORTED, KindVectors, read_kind
from experiments.map.run import BATCH, MEASURED, RATES, ROWS
from experiments.speed.recording import command
from sae_lens_abstopk.evaluation.results.facts import origin_facts

RECORD = Path(__file__).resolve().parent / "results" / "gated.jsonl"
Kind = Literal["signed F", "one-sided F", "one-sided 2F"]
PENALTIES = (2.0, 4.0, 6.0, 9.0, 14.0)
"""Weights of the L1 of the gate, for vectors whose coordinates have a mean square of 1."""
L0 = 32
"""The learning rate is chosen by the FVU at this L0."""
WARM_UP = 0.2
"""Share of the steps in which the penalty rises."""


class Output(NamedTuple):
    """Codes, and the gate's positive parts, with the sign of their pole."""

    codes: Float[Tensor, "n f"]
    gate: Float[Tensor, "n f"]


class GatedSAE(nn.Module):
    """A Gated SAE; a ``signed`` one has two poles for each latent."""

    def __init__(self, signed: bool, d_sae: int, mean: Float[Tensor, " d"]) -> None:
        super().__init__()
        self.signed = signed
        rows = nn.functional.normalize(torch.randn(d_sae, len(mean)), dim=1)
        self.W_enc, self.W_dec = nn.Parameter(rows.clone()), nn.Parameter(rows.clone())
        self.b_dec = nn.Parameter(mean.clone())
        self.b_gate = nn.Parameter(torch.zeros(2, d_sae))
        self.log_scale, self.b_mag = nn.Parameter(torch.zeros(d_sae)), nn.Parameter(torch.zeros(d_sae))

    def forward(self, x: Float[Tensor, "n d"]) -> Output:
        u = (x - self.b_dec) @ self.W_enc.T
        positive, sign = u + self.b_gate[0], torch.ones_like(u)
        if self.signed:
            negative = self.b_gate[1] - u
            sign = torch.where(negative > positive, -1.0, 1.0)
            positive = torch.maximum(positive, negative)
        magnitude = torch.relu(sign * u * self.log_scale.exp() + self.b_mag)
        return Output(sign * magnitude * (positive > 0), sign * torch.relu(positive))


def trained(kind: Kind, x: Float[Tensor, "n d"], penalty: float, *, rate: float, seed: int) -> GatedSAE:
    """Train an SAE with F = D, or 2 D, latents."""
    torch.manual_seed(seed)
    d_sae = x.shape[1] * (2 if kind.endswith("2F") else 1)
    sae, steps = GatedSAE(kind.startswith("signed"), d_sae, x.mean(0)), ROWS // BATCH
    optimizer = torch.optim.Adam(sae.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        batch = x[torch.randint(len(x), (BATCH,))]
        codes, gate = sae(batch)
        error = (codes @ sae.W_dec + sae.b_dec - batch).square().sum(1).mean()
        # the gate learns from its own reconstruction, which does not move the decoder
        auxiliary = (gate @ sae.W_dec.detach() + sae.b_dec.detach() - batch).square().sum(1).mean()
        share = min(1.0, (step + 1) / (WARM_UP * steps))
        (error + auxiliary + share * penalty * gate.abs().sum(1).mean()).backward()
        nn.utils.clip_grad_norm_(sae.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        with torch.no_grad():
            sae.W_dec.copy_(nn.functional.normalize(sae.W_dec, dim=1))
    return sae


@torch.no_grad()
def measured(sae: GatedSAE, x: Float[Tensor, "n d"]) -> dict[str, float]:
    """Return FVU, L0, the share of dead latents, and the share of energy on the weaker sides."""
    error = active = 0.0
    energy = torch.zeros(2, len(sae.W_dec))
    for part in x.split(MEASURED):
        codes, _ = sae(part)
        error += float((codes @ sae.W_dec + sae.b_dec - part).square().sum())
        active += float((codes != 0).sum())
        energy += torch.stack([codes.clamp(min=0), codes.clamp(max=0)]).square().sum(1)
    return {
        "fvu": error / float((x - x.mean(0)).square().sum()),
        "l0": active / len(x),
        "dead": float((energy.sum(0) == 0).float().mean()),
        "weaker_side": float(energy.min(0).values.sum() / energy.sum()),
    }


def fvu_at(found: Sequence[Mapping[str, Any]], l0: float) -> float:
    """Return the FVU at an L0, interpolated in the logarithm of L0 between SAEs of several penalties."""
    by_l0 = np.array(sorted((each["l0"], each["fvu"]) for each in found)).T
    return float(np.interp(np.log(l0), np.log(by_l0[0] + 1e-3), by_l0[1]))


def chosen_rate(kind: Kind, x: Tensor, choosing: Tensor, seed: int) -> float:
    """Return the learning rate with the lowest FVU at an L0 of 32."""
    errors = {
        rate: fvu_at([measured(trained(kind, x, each, rate=rate, seed=seed), choosing) for each in PENALTIES[1:4]], L0)
        for rate in RATES
    }
    return min(errors, key=lambda rate: errors[rate])


def parts(vectors: KindVectors) -> tuple[Tensor, Tensor, Tensor]:
    """Return the vectors to train on, to choose by and to report, with a mean square of 1."""
    x = vectors.rows(vectors.to_train_on())
    scale = x.square().mean().sqrt()
    choosing, reported = (vectors.rows(vectors.numbers(each)) for each in (CHOOSING, REPORTED))
    return x / scale, choosing / scale, reported / scale


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kinds", nargs="+", required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--record", type=Path, default=RECORD)
    args = parser.parse_args()
    lines = args.record.read_text(encoding="utf-8").splitlines() if args.record.is_file() else []
    places = ("kind", "sae", "penalty", "seed")
    done = {tuple(json.loads(line)[key] for key in places) for line in lines}
    for kind, sae in itertools.product(args.kinds, get_args(Kind)):
        vectors, source = read_kind(args.folder, kind)
        left = [(kind, sae, *each) for each in itertools.product(PENALTIES, range(args.seeds))]
        left = [each for each in left if each not in done]
        if not left:
            continue
        x, choosing, reported = parts(vectors)
        rate = chosen_rate(sae, x, choosing, args.seeds)
        for place in left:
            started = time.perf_counter()
            found = measured(trained(sae, x, place[2], rate=rate, seed=place[3]), reported)
            line = dict(zip(places, place, strict=True)) | {"rate": rate} | found
            line |= {"seconds": round(time.perf_counter() - started)} | origin_facts("cpu")
            with args.record.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line | {"source": source, "command": command()}) + "\n")
            print(*place, rate, *(f"{value:.3f}" for value in found.values()), flush=True)


if __name__ == "__main__":
    main()
