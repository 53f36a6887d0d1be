"""Variants of the SAE of a training config, trained in one pass at the same L0."""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from sae_lens.saes.sae import TrainingSAEConfig

from sae_lens_abstopk.saes.signed_training import SignedTrainingSAEConfig
from sae_lens_abstopk.saes.traits import sparsity_coefficient
from sae_lens_abstopk.system.errors import ConfigError
from sae_lens_abstopk.training.config.sae_section import build_sae_config, sae_config_class
from sae_lens_abstopk.training.config.training_config import TrainingConfig

Factor = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Variant(BaseModel):
    """
    SAE keys of a variant; ``d_in``, ``d_sae`` and ``b_dec_init_method`` default to those of the config.

    The k of the run sets its L0: as its ``k`` if it has one, as the ``target_l0`` of JumpReLU's quadratic loss, else as
    the target of :class:`.L0Controller`.
    """

    model_config = ConfigDict(extra="allow", strict=True)
    times_wider: Factor = 1.0
    """Multiple of the config's ``d_sae``."""
    lr_multiple: Factor | None = None
    """Multiple of the config's ``lr``."""

    @property
    def sae_keys(self) -> dict[str, Any]:
        return dict(self.model_extra or {})

    @model_validator(mode="after")
    def _check_keys(self) -> Self:
        if given := {"k", "k_fraction", "target_l0"} & self.sae_keys.keys():
            raise ValueError(f"{min(given)} is the same for all variants; set k of the comparison")
        if "times_wider" in self.model_fields_set and (given := {"d_sae", "expansion_factor"} & self.sae_keys.keys()):
            raise ValueError(f"give times_wider or {min(given)}, not both")
        return self


def with_variants(
    base: TrainingConfig, variants: Mapping[str, Variant], k: float, *, where: str, **changes: Any
) -> TrainingConfig:
    """
    Copy the config ``base`` with ``changes`` so that it trains ``variants`` at an L0 of ``k``, the first as ``sae``.

    Raises ConfigError, naming ``where``, if a variant is wrong or has no way to reach ``k``.
    """
    saes: dict[str, TrainingSAEConfig] = {}
    targets, rates = {}, {}
    for name, variant in variants.items():
        key, place = name if saes else "sae", f"{where}: variants.{name}"
        keys: dict[str, Any] = {"d_in": base.sae.d_in, "d_sae": round(base.sae.d_sae * variant.times_wider)}
        keys |= variant.sae_keys
        config_class = sae_config_class(str(keys.get("architecture", "abstopk")), where=place)
        if issubclass(config_class, SignedTrainingSAEConfig):
            keys.setdefault("b_dec_init_method", base.b_dec_init_method)
        if keys.get("jumprelu_sparsity_loss_mode") == "quadratic":
            keys["target_l0"] = float(k)
        elif sparsity_coefficient(config_class) is not None:
            targets[key] = float(k)
        elif "k" in {field.name for field in fields(config_class)}:
            keys["k"] = k
        else:
            raise ConfigError(
                f"{place}: {keys['architecture']} has neither k nor a sparsity coefficient, so its L0 cannot be k."
            )
        saes[key] = build_sae_config(keys, where=place)
        if variant.lr_multiple is not None:
            rates[key] = variant.lr_multiple
    if all(isinstance(sae, SignedTrainingSAEConfig) for sae in saes.values()):
        changes["b_dec_init_method"] = "mean"  # the default, because each SAE has its own
    return replace(base, sae=saes.pop("sae"), companions=saes, target_l0=targets, lr_multiples=rates, **changes)
