"""From differences to axes: train SAEs of several seeds in one pass, one-sided ones beside them, and measure one."""

import tempfile
from collections.abc import Callable, Mapping
from contextlib import nullcontext
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
from sae_lens_abstopk.pairs.measuring import codes_of, fit_record
from sae_lens_abstopk.pairs.pair_results import PairResults
from sae_lens_abstopk.pairs.pair_set import PairSet
from sae_lens_abstopk.saes.derive import derive
from sae_lens_abstopk.saes.geometry import seed_stability
from sae_lens_abstopk.saes.loading import load_sae
from sae_lens_abstopk.system.errors import require_range
from sae_lens_abstopk.system.files import without_path
from sae_lens_abstopk.system.terminal import only_bars
from sae_lens_abstopk.system.threads import one_thread
from sae_lens_abstopk.training.config.config_file import load_config
from sae_lens_abstopk.training.config.seeds_and_baselines import by_kind, seeds_and_baselines
from sae_lens_abstopk.training.config.training_config import TrainingConfig
from sae_lens_abstopk.training.train import train
from sae_lens_abstopk.vectors.differences import Differences

# a step sees at most this share of the pairs
LARGEST_BATCH = 1 / 16
# the steps of 60 epochs of such batches; more pairs are seen less often
MOST_STEPS = 960
# multiplications of an encoder's step up to which one thread is faster than several that wait for each other
OF_ONE_THREAD = 2**25
# most axes, in widths of the vectors
MOST_WIDTHS = 8


def require_sizes(*, d_sae: int, k: float, seeds: int) -> None:
    """Raise a :class:`ConfigError` if a size is out of range."""
    require_range("seeds", seeds, at_least=1)
    require_range("d_sae", d_sae, at_least=1)
    require_range("k", k, at_least=1, at_most=d_sae, remedy=" (d_sae)")


def require_width(d_sae: int, width: int | None) -> None:
    """Raise a :class:`ConfigError` if vectors of this width, where it is known, are too narrow for so many axes."""
    most = None if width is None else MOST_WIDTHS * width
    require_range("d_sae", d_sae, at_most=most, remedy=f", {MOST_WIDTHS} times the width of the vectors")


def config_of(
    differences: Differences, out: Path, *, d_sae: int, k: float, n_seeds: int, baselines: bool, seed: int, device: str
) -> TrainingConfig:
    """
    Return the config of a run on ``differences``: the preset ``pairs``, with companions.

    Raises:
        ConfigError: a size is out of range, or there are too few pairs.
    """
    preset = load_config("pairs", {"data": "pairs", "sae.d_in": 1, "training_steps": 1})
    n_train = int((~differences.held_out).sum())
    require_range("pairs to train on", n_train, at_least=int(1 / LARGEST_BATCH), remedy=f" ({differences.name})")
    batch = min(preset.train_batch_size_tokens, int(n_train * LARGEST_BATCH))
    overrides: dict[str, Any] = {
        "sae.d_sae": d_sae,
        "sae.k": k,
        "seed": seed,
        "device": device,
        "train_batch_size_tokens": batch,
        "output_path": str(out),
        "divergence_factor": None,  # few pairs can be fitted nearly without loss, of which ten times is no divergence
    }
    overrides |= seeds_and_baselines(d_sae, n_seeds=n_seeds, baselines=baselines, seed=seed)
    cfg = load_config("pairs", overrides, vectors=differences)
    if cfg.total_training_steps > MOST_STEPS:
        cfg = load_config("pairs", overrides | {"training_steps": MOST_STEPS}, vectors=differences)
    return cfg


def train_axes(cfg: TrainingConfig, differences: Differences, *, console: Console) -> dict[str, list[SAE[Any]]]:
    """Train, and return the saved SAEs by kind (``signed``, ``one_sided_F``, ``one_sided_2F``), each by seed."""
    is_small = cfg.train_batch_size_tokens * cfg.sae.d_in * cfg.sae.d_sae <= OF_ONE_THREAD
    with one_thread() if is_small else nullcontext():
        folders = train(cfg, vectors=differences, console=only_bars(console)).folders
    saes = {name: load_sae(folder) for name, folder in folders.items()}
    if differences.unit:  # the saved SAE takes raw differences
        scaled = {"normalize_activations": "constant_norm_rescale"}
        saes = {name: derive(type(sae), type(sae.cfg), sae, sae.state_dict(), **scaled) for name, sae in saes.items()}
    return by_kind(saes)


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
    fits = {kind: fit_record(of_kind, differences, group, seed=seed) for kind, of_kind in saes.items()}
    of_axes = stability.found[best] if seeds > 1 else None
    preference, axes = describe(pairs, differences, codes, group, of_axes, seed=seed)
    signed = fits.pop("signed")
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
        fvu=signed.fvu,
        fit=signed,
        baselines=fits,
        preference=preference,
        axes=axes,
    )
    return FittedAxes(sae, codes, results, saes)


def _rarely_preferred(codes: Float[np.ndarray, "n F"], preferred: Float[np.ndarray, " n"]) -> Bool[np.ndarray, " F"]:
    """Return the axes whose positive pole lost more often than it won."""
    return np.sign(codes).T @ np.nan_to_num(preferred) < 0
