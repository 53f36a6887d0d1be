"""Checks of the SAEs of a run: companions, and errors that SAELens's own architectures raise only at a step."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sae_lens import JumpReLUTrainingSAEConfig, MatryoshkaBatchTopKTrainingSAEConfig, TopKTrainingSAEConfig
from sae_lens.constants import DTYPE_MAP
from sae_lens.saes.sae import TrainingSAEConfig

from sae_lens_abstopk.saes.matryoshka import up_to_all
from sae_lens_abstopk.saes.signed_training import SignedTrainingSAEConfig
from sae_lens_abstopk.saes.sparse_training import (
    RUN_TIME_NORMALISATIONS,
    SparseTrainingSAEConfig,
    require_count,
    require_k_in_range,
)
from sae_lens_abstopk.saes.sparsity import sparsity_coefficient
from sae_lens_abstopk.system.errors import ConfigError, require_choice, require_range
from sae_lens_abstopk.system.typed_values import require_types
from sae_lens_abstopk.training.config.run_checks import require_default

if TYPE_CHECKING:
    from sae_lens_abstopk.training.config.training_config import TrainingConfig

RESERVED_NAMES = ("sae", "checkpoints", "tensorboard", "wandb")
# reserved names on Windows, with any ending
WINDOWS_DEVICES = re.compile(r"con|prn|aux|nul|(com|lpt)\d", re.IGNORECASE)


def section_of(name: str) -> str:
    """Return the config section of the SAE ``name``."""
    return "sae" if name == "sae" else f"companions.{name}"


@contextmanager
def errors_in_section(where: str) -> Iterator[None]:
    """Prefix the key in an error with ``where``."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{where}.{error}") from None


def require_sae_name(name: str, *, where: str) -> None:
    """
    Raise if ``name`` cannot name an SAE, and so a folder of the run.

    Raises:
        ConfigError: naming the allowed characters.
    """
    if not isinstance(name, str):
        raise ConfigError(f"{where}: the name {name!r} is not a text; put it in quotes.")
    device = WINDOWS_DEVICES.fullmatch(name.partition(".")[0])
    if device or not re.fullmatch(r"[A-Za-z0-9]([\w.-]*[\w-])?", name) or name.casefold() in RESERVED_NAMES:
        raise ConfigError(
            f"{where}: the name {name!r} cannot be that of a folder in the run; use letters, digits, '.', '-' and '_', "
            f"a letter or digit first, no '.' at the end, and none of {', '.join(RESERVED_NAMES)}."
        )


def check_saes(cfg: "TrainingConfig") -> None:
    """
    Check every SAE of a run, and the keys that name SAEs.

    Raises:
        ConfigError: naming the section, the key, the value, the bound and the remedy.
    """
    folders: dict[str, str] = {}
    for name in cfg.companions:
        require_sae_name(name, where="companions")
        if (other := folders.setdefault(name.casefold(), name)) != name:
            raise ConfigError(
                f"companions: {other!r} and {name!r} differ only in case, and would share a folder; rename one."
            )
    for name, sae in cfg.all_saes.items():
        where = section_of(name)
        if not isinstance(sae, TrainingSAEConfig):
            raise ConfigError(
                f"{where}={sae!r} must be the training config of an SAE, such as AbsTopKTrainingSAEConfig(...)."
            )
        _check_sae(sae, where)
        if sae.reshape_activations == "hook_z" and not cfg.hook_name.endswith("_z"):
            raise ConfigError(
                f"{where}.reshape_activations='hook_z' is for a hook whose name ends in _z, not for hook_name="
                f"{cfg.hook_name!r}; leave it out."
            )
        if sae.d_in != cfg.sae.d_in:
            raise ConfigError(f"{where}.d_in={sae.d_in} differs from sae.d_in={cfg.sae.d_in}; all read one activation.")
    saes = list(cfg.all_saes.values())
    if all(isinstance(sae, SparseTrainingSAEConfig) and sae.sparse_backend == "sparse" for sae in saes):
        require_default(cfg, "autocast", "SAEs on the sparse kernels train in float32 (autocast_lm is for the model)")
    if all(isinstance(sae, SignedTrainingSAEConfig) for sae in saes):
        require_default(cfg, "b_dec_init_method", "sae.b_dec_init_method is what a signed SAE is centred by")
    _check_targets(cfg)


def _check_sae(sae: TrainingSAEConfig, where: str) -> None:
    require_types(sae, prefix=f"{where}.")
    require_choice(f"{where}.dtype", sae.dtype, tuple(DTYPE_MAP))
    if isinstance(sae, SparseTrainingSAEConfig):
        return  # it has checked itself
    for key in ("d_in", "d_sae"):
        setattr(sae, key, require_count(f"{where}.{key}", getattr(sae, key)))
    if (k := getattr(sae, "k", None)) is not None:
        with errors_in_section(where):
            require_k_in_range(k, sae.d_sae)
    if isinstance(sae, TopKTrainingSAEConfig):
        if sae.architecture() == "topk" and not isinstance(sae.k, int):
            raise ConfigError(f"{where}.k={sae.k!r} must be an integer for topk; batchtopk takes an average.")
        if sae.normalize_activations in RUN_TIME_NORMALISATIONS:
            raise ConfigError(
                f"{where}.normalize_activations={sae.normalize_activations!r} cannot be combined with the losses of "
                f"{sae.architecture()}; use 'none', 'expected_average_only_in' or 'covariance_whitening'."
            )
    if isinstance(sae, JumpReLUTrainingSAEConfig) and sae.jumprelu_sparsity_loss_mode == "quadratic":
        if sae.target_l0 is None:
            raise ConfigError(
                f"{where}.target_l0 is missing: the quadratic loss aims at it; give it, or k in its place."
            )
        require_range(f"{where}.target_l0", sae.target_l0, above=0, at_most=sae.d_sae, remedy=" (d_sae)")
    if isinstance(sae, MatryoshkaBatchTopKTrainingSAEConfig):
        if not sae.matryoshka_widths:
            raise ConfigError(f"{where}.matryoshka_widths is missing; list the sizes of the nested prefixes.")
        with errors_in_section(where):
            sae.matryoshka_widths = up_to_all(sae.matryoshka_widths, sae.d_sae)


def _check_targets(cfg: "TrainingConfig") -> None:
    for key in ("target_l0", "lr_multiples"):
        for name in getattr(cfg, key).keys() - cfg.all_saes:
            raise ConfigError(f"{key} names {name!r}, which is not trained; SAEs: {', '.join(cfg.all_saes)}.")
    for name, multiple in cfg.lr_multiples.items():
        require_range(f"lr_multiples.{name}", multiple, above=0)
    for name, target in cfg.target_l0.items():
        sae = cfg.all_saes[name]
        if sparsity_coefficient(sae) is None:
            raise ConfigError(
                f"target_l0.{name}: {sae.architecture()} has no sparsity coefficient to steer; its L0 is k."
            )
        if isinstance(sae, JumpReLUTrainingSAEConfig) and sae.jumprelu_sparsity_loss_mode == "quadratic":
            raise ConfigError(
                f"target_l0.{name}: the quadratic loss of this JumpReLU has a target of its own "
                f"({section_of(name)}.target_l0={sae.target_l0}); leave one of them out."
            )
        require_range(f"target_l0.{name}", target, above=0, at_most=sae.d_sae, remedy=" (d_sae)")
