"""From differences to axes: train SAEs of several seeds, choose one, and measure it."""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from rich.console import Console
from sae_lens import SAE

from sae_lens_abstopk.equivalents.gauge import canonical_gauge
from sae_lens_abstopk.evaluation.results.facts import origin_facts
from sae_lens_abstopk.pairs.describing import describe
from sae_lens_abstopk.pairs.fitting import config_of, train_axes
from sae_lens_abstopk.pairs.measuring import codes_of, fit_record
from sae_lens_abstopk.pairs.pair_results import PairResults
from sae_lens_abstopk.pairs.pair_set import PairSet
from sae_lens_abstopk.saes.seed_stability import seed_stability
from sae_lens_abstopk.system.files import without_path
from sae_lens_abstopk.vectors.differences import Differences


class FittedAxes(NamedTuple):
    """Axes of a set of pairs."""

    sae: SAE[Any]
    """The SAE of the best seed; with preferences, positive poles won more training pairs."""
    codes: Float[np.ndarray, "n F"]
    """Its code of each pair; positive where A has more of the positive pole."""
    results: PairResults
    saes: dict[str, list[SAE[Any]]]
    """All SAEs by kind (``signed``, ``one_sided_F``, ``one_sided_2F``), each by seed."""


def fit_axes(
    pairs: PairSet,
    differences: Differences,
    group: Int[np.ndarray, " n"],
    *,
    d_sae: int,
    k: float,
    seeds: int,
    baselines: bool,
    seed: int,
    origin: Mapping[str, Any],
    device: str,
    console: Console,
    score: Callable[[SAE[Any]], float] | None = None,
) -> FittedAxes:
    """
    Train on the differences of pairs, and measure on those that are held out.

    Args:
        differences: Vectors of A minus B of ``pairs``, and which are held out.
        group: Component of each pair; intervals resample components.
        origin: What the vectors are, for the record and the SAE's metadata.
        score: Of a signed SAE, by which a seed is chosen; by default the mean stability of its axes.
    """
    with tempfile.TemporaryDirectory(prefix="pairs-") as folder:
        sizes: dict[str, Any] = {"d_sae": d_sae, "k": k, "n_seeds": seeds, "baselines": baselines, "seed": seed}
        cfg = config_of(differences, Path(folder) / "run", device=device, **sizes)
        saes = train_axes(cfg, differences, console=console)
    console.print("measuring on held-out pairs", style="dim")
    test = differences.held_out.numpy()
    stability = seed_stability(torch.stack([sae.W_dec.detach() for sae in saes["signed"]]))
    best = stability.best_seed if score is None else int(np.argmax([score(sae) for sae in saes["signed"]]))
    sae = saes["signed"][best]
    codes = codes_of(sae, differences)
    turned = _rarely_preferred(codes[~test], pairs.preferred[~test])
    codes = np.where(turned & (codes != 0), -codes, codes)
    sae = canonical_gauge(sae, torch.from_numpy(np.stack([~turned, turned])).float())
    for key, value in origin.items():  # `steer` finds the hook by them
        sae.cfg.metadata["model_name" if key == "model" else key] = value
    fits = {kind: fit_record(of_kind, differences, group, k=k, seed=seed) for kind, of_kind in saes.items()}
    of_axes = stability.found[best] if seeds > 1 else None
    preference, axes = describe(pairs, differences, codes, group, of_axes, seed=seed)
    results = PairResults(
        **origin_facts(device),
        data=without_path(pairs.name),
        columns=asdict(pairs.columns),
        counts=asdict(pairs.counts),
        vectors={key: without_path(value) if key == "model" else value for key, value in origin.items()},
        n_pairs=len(pairs),
        n_train=int((~test).sum()),
        n_held_out=int(test.sum()),
        n_components=int(group.max()) + 1,
        seed=seed,
        d_sae=d_sae,
        k=k,
        training={
            "steps": cfg.total_training_steps,
            "batch": cfg.train_batch_size_tokens,
            "lr": cfg.lr,
            "seeds": seeds,
        },
        fits=fits,
        preference=preference,
        axes=axes,
    )
    return FittedAxes(sae, codes, results, saes)


def _rarely_preferred(codes: Float[np.ndarray, "n F"], preferred: Float[np.ndarray, " n"]) -> Bool[np.ndarray, " F"]:
    """Return the axes whose positive pole lost more often than it won."""
    return np.sign(codes).T @ np.nan_to_num(preferred) < 0
