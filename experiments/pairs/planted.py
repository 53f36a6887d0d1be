"""
Are known axes found, and their effects measured rightly? Differences whose axes, preferences and lengths are made up.

    python -m experiments.pairs.planted --draws 40

Eight orthogonal axes are on in 10 to 40 % of the pairs. Preferences follow two of them and the length of the texts, and
the length goes along with a third. The SAEs train as in `abstopk pairs`, with five seeds, of which the most stable one
counts; effects are those of held-out pairs, and of fifty more held-out sets. Writes `results/planted.json`, anew after
each draw.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from rich.console import Console
from sae_lens import SAE
from scipy.special import expit

from experiments.speed.recording import command
from sae_lens_abstopk.evaluation.results.facts import origin_facts
from sae_lens_abstopk.pairs.effects import preference_effects
from sae_lens_abstopk.pairs.fitting import config_of, train_axes
from sae_lens_abstopk.pairs.measuring import codes_of
from sae_lens_abstopk.pairs.pair_vectors import differences_of_arrays
from sae_lens_abstopk.pairs.preferences import Preferences
from sae_lens_abstopk.pairs.split import held_out_rows
from sae_lens_abstopk.saes.seed_stability import seed_stability
from sae_lens_abstopk.vectors.vectors import Vectors

RESULTS = Path(__file__).resolve().parent / "results" / "planted.json"
WEIGHTS = np.array([0, 1.2, 0, 0, 0, -0.7, 0, 0])
"""Log-odds of a preference for each unit of an axis."""
SHARES = np.geomspace(0.1, 0.4, len(WEIGHTS))
"""Share of the pairs on which an axis is on."""
LENGTH_AXIS, OF_LENGTH = 4, 0.8
"""The axis that goes along with the log of the length, and the log-odds of a unit of that."""
PAIRS, OF_A_PROMPT, WIDTH, NOISE, SEEDS = 3000, 2, 32, 0.05, 5
F, K = 16, 2.0
"""Latents, more than there are axes, and active ones of a pair, a little more than the mean of 1.7."""
REDRAWN = 50
"""Held-out sets that are drawn anew for each draw: one each is too few to say how often intervals are right."""
FOUND = 0.9
"""Absolute cosine of a found axis."""


class Draw(NamedTuple):
    """Made-up pairs."""

    a: Float[np.ndarray, "n D"]
    b: Float[np.ndarray, "n D"]
    axes: Float[np.ndarray, "F D"]
    log_length: Float[np.ndarray, " n"]
    preferred: Float[np.ndarray, " n"]


def draw(seed: int) -> Draw:
    """Draw axes, and the vectors, lengths and preferences of pairs."""
    random = np.random.default_rng(seed)
    return _pairs(random, np.linalg.qr(random.normal(size=(WIDTH, len(WEIGHTS))))[0].T, PAIRS)


def _pairs(random: np.random.Generator, axes: Float[np.ndarray, "F D"], n: int) -> Draw:
    codes, length = _codes_and_length(random, n)
    a_wins = random.random(n) < expit(_log_odds(codes, length))
    b = random.normal(size=(n, WIDTH))
    a = b + codes @ axes + NOISE * random.normal(size=b.shape)
    return Draw(a, b, axes, length, np.where(a_wins, 1.0, -1.0))


@cache
def true_effects() -> Float[np.ndarray, " F"]:
    """Return the average marginal effect of a standard deviation of each axis, in very many pairs."""
    codes, length = _codes_and_length(np.random.default_rng(0), 1_000_000)
    first = expit(_log_odds(codes, length))
    return WEIGHTS * np.sqrt((codes**2).mean(0)) * (first * (1 - first)).mean()


def share_inside(
    sae: SAE[Any], axes: Float[np.ndarray, "F D"], latents: Sequence[int], signs: Float[np.ndarray, " F"], seed: int
) -> list[float]:
    """Return for each axis the share of held-out sets, drawn anew, whose interval has the planted effect in it."""
    random, n = np.random.default_rng((seed, REDRAWN)), PAIRS // 5
    inside = np.zeros((REDRAWN, len(latents)), dtype=bool)
    for row in inside:
        made = _pairs(random, axes, n)
        with torch.no_grad():
            codes = sae.encode(torch.from_numpy(made.a - made.b).float()).numpy()
        prompts, everything = np.arange(n) // OF_A_PROMPT, np.full(n, fill_value=True)
        preferences = Preferences.of(
            made.preferred, codes=codes, log_length=made.log_length, components=prompts, among=everything
        )
        effects = preference_effects(preferences).effects
        for axis, latent in enumerate(latents):
            low, high = effects[latent].low, effects[latent].high
            row[axis] = low is not None and high is not None and low <= signs[axis] * true_effects()[axis] <= high
    return inside.mean(0).tolist()


def measured(seed: int) -> dict[str, Any]:
    """Fit one draw; return what was found of each planted axis."""
    made = draw(seed)
    prompts = np.arange(PAIRS) // OF_A_PROMPT
    test = held_out_rows(prompts, seed=seed)
    arrays = Vectors.of_array(made.a), Vectors.of_array(made.b)
    differences = differences_of_arrays(arrays, np.arange(PAIRS), np.zeros(PAIRS, dtype=bool), test)
    sizes: dict[str, Any] = {"d_sae": F, "k": K, "n_seeds": SEEDS, "baselines": False}
    with tempfile.TemporaryDirectory() as folder:
        cfg = config_of(differences, Path(folder) / "run", device="cpu", seed=seed, **sizes)
        saes = train_axes(cfg, differences, console=Console(quiet=True))["signed"]
    sae = saes[seed_stability(torch.stack([each.W_dec.detach() for each in saes])).best_seed]
    codes = codes_of(sae, differences)
    of_train, of_held_out = (
        preference_effects(
            Preferences.of(made.preferred, codes=codes, log_length=made.log_length, components=prompts, among=part)
        )
        for part in (~test, test)
    )
    confirmed = of_train.confirmed_by(of_held_out)
    cosines = made.axes @ torch.nn.functional.normalize(sae.W_dec.detach(), dim=1).numpy().T
    latents: list[int] = np.abs(cosines).argmax(1).tolist()
    signs = np.sign(cosines[np.arange(len(latents)), latents])
    found: dict[str, list[Any]] = {"cosine": [], "effect": [], "inside": [], "confirmed": []}
    found["inside_of_redrawn"] = share_inside(sae, made.axes, latents, signs, seed)
    for axis, (latent, sign) in enumerate(zip(latents, signs, strict=True)):
        effect = of_held_out.effects[latent]
        has_ends = effect.low is not None and effect.high is not None
        found["cosine"].append(float(abs(cosines[axis, latent])))
        found["effect"].append(None if effect.value is None else float(sign * effect.value))
        found["inside"].append(has_ends and bool(effect.low <= sign * true_effects()[axis] <= effect.high))
        found["confirmed"].append(bool(confirmed[latent]))
    return found


def summary(draws: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return shares over all draws."""
    names = ("cosine", "inside", "inside_of_redrawn", "confirmed")
    cosine, inside, of_redrawn, confirmed = (np.array([each[name] for each in draws]) for name in names)
    true = WEIGHTS != 0
    false_shares = (confirmed & ~true).sum(1) / confirmed.sum(1).clip(1)
    return {
        "draws": len(draws),
        "axes_found": float((cosine >= FOUND).mean()),
        "smallest_cosine": float(cosine.min()),
        "effects_inside": float(inside.mean()),
        "effects_inside_of_redrawn": float(of_redrawn.mean()),
        "effects_inside_of_redrawn_by_axis": of_redrawn.mean(0).tolist(),
        "confirmed_of_true": float(confirmed[:, true].mean()),
        "false_share_of_confirmed": float(false_shares.mean()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=40)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    draws: list[dict[str, Any]] = []
    for seed in range(args.draws):
        draws.append(measured(seed))
        record = {
            **origin_facts("cpu"),
            "command": command(),
            "planted": {"pairs": PAIRS, "width": WIDTH, "shares": SHARES.tolist(), "effects": true_effects().tolist()},
            "seeds": SEEDS,
            "d_sae": F,
            "k": K,
            **summary(draws),
            "by_draw": draws,
        }
        args.out.write_text(json.dumps(record, indent=1) + "\n")
        print(seed, summary(draws), flush=True)


def _codes_and_length(random: np.random.Generator, n: int) -> tuple[Float[np.ndarray, "n F"], Float[np.ndarray, " n"]]:
    on = random.random((n, len(SHARES))) < SHARES
    codes = on * random.choice([-1, 1], on.shape) * random.uniform(1, 2, on.shape)
    return codes, 0.5 * codes[:, LENGTH_AXIS] + 0.4 * random.normal(size=n)


def _log_odds(codes: Float[np.ndarray, "n F"], length: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    return codes @ WEIGHTS + OF_LENGTH * length


if __name__ == "__main__":
    main()
