"""Train SAEs of several seeds on differences in one pass, one-sided ones beside them."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

from rich.console import Console
from sae_lens import SAE

from sae_lens_abstopk.saes.derive import derive
from sae_lens_abstopk.saes.loading import load_sae
from sae_lens_abstopk.system.errors import require_range
from sae_lens_abstopk.system.terminal import only_bars
from sae_lens_abstopk.system.threads import one_thread
from sae_lens_abstopk.training.config.config_file import load_config, read_raw
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
    preset, _ = read_raw("pairs")
    n_train = int((~differences.held_out).sum())
    require_range("pairs to train on", n_train, at_least=int(1 / LARGEST_BATCH), remedy=f" ({differences.name})")
    batch = min(preset["train_batch_size_tokens"], int(n_train * LARGEST_BATCH))
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
