"""Mappings as in the YAML files to :class:`TrainingConfig` and back, with errors that name the key."""

import math
import os
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

import pydantic
import yaml
from sae_lens.registry import SAE_TRAINING_CLASS_REGISTRY
from sae_lens.saes.sae import TrainingSAEConfig

import sae_lens_abstopk.saes  # noqa: F401  # registers the architectures
from sae_lens_abstopk.model.model_shape import model_shape
from sae_lens_abstopk.saes.own_code import VARIABLE, import_architectures
from sae_lens_abstopk.saes.sparsity import sparsity_coefficient
from sae_lens_abstopk.system.errors import ConfigError, did_you_mean
from sae_lens_abstopk.system.one_or_more import one_or_more
from sae_lens_abstopk.system.yaml_files import yaml_document, yaml_text, yaml_value
from sae_lens_abstopk.training.config.presets import (
    SAE_SHORTHANDS,
    apply_override,
    merge_variant,
    read_raw,
    refuse_rivals,
)
from sae_lens_abstopk.training.config.tracking_config import TrackingConfig
from sae_lens_abstopk.training.config.training_config import TrainingConfig

# Keys of SAELens's config that a file has no business setting: deprecated, or records of versions.
NOT_IN_FILES = frozenset({"hook_eval", "sae_lens_version", "sae_lens_training_version", "metadata"})
# What a user writes for what is registered under another name; SAELens's own abstopk is there as a baseline.
OUR_NAMES = {"abstopk": "sparse_abstopk", "sae_lens_abstopk": "abstopk"}
RUN_SHORTHANDS = {"layer": int | None, "training_steps": int}
SECTIONS = {
    "sae": "sae.k=32",
    "logger": "logger.log_to_wandb=true",
    "companions": "companions.topk.architecture=topk",
}
"""With a key of each, as an override."""


def load_config(source: str | Path, overrides: str | Iterable[str] | Mapping[str, Any] = ()) -> TrainingConfig:
    """
    Read a training config.

    Args:
        source: A YAML file, or a preset: ``"pythia-70m"``, or with a variant ``"pythia-70m/topk"``.
        overrides: One or several ``"key=value"`` texts, dots for nesting (``"sae.k=32"``), whose value is read as YAML; or a
            mapping of such keys to values, as ``wandb.config`` is one.

    Returns:
        The config, checked. The width of the model is looked up in its own config only where ``sae.d_in`` is left out.

    Raises:
        ConfigError: naming the file, the key, the value and what is allowed.
    """
    raw, where = read_raw(source)
    given: Any = overrides
    if hasattr(given, "items"):  # also of wandb.config, which is no Mapping
        given = [f"{key}={yaml_text(value)}" for key, value in _with_flat_sections(given).items()]
    changes = one_or_more(given)
    refuse_rivals(changes)
    for change in changes:
        apply_override(raw, change)
    return build_config(raw, where=where)


def _with_flat_sections(given: Any) -> dict[str, Any]:
    """Values by key, those of a section one by one, so that they change what the config has and do not stand for all of it."""
    flat: dict[str, Any] = {}
    for key, value in given.items():
        is_section = key in ("sae", "logger") and isinstance(value, Mapping)
        flat |= {f"{key}.{inner}": each for inner, each in value.items()} if is_section else {key: value}
    return flat


def build_config(raw: Mapping[str, Any], *, where: str = "config") -> TrainingConfig:
    """The checked config of a mapping in the form of the YAML files; ``where`` names it in errors."""
    try:
        return _build(deepcopy(dict(raw)))
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
    except ValueError as error:  # what SAELens's own config refuses
        raise ConfigError(f"{where}: {error}") from error


def _build(raw: dict[str, Any]) -> TrainingConfig:
    hints = _hints(TrainingConfig) | RUN_SHORTHANDS
    _check_keys(raw, hints)
    if "sae" not in raw:
        raise ConfigError("the section 'sae' is missing; it needs at least architecture, d_sae and k.")
    sections: dict[str, dict[str, Any]] = {}
    for section in SECTIONS:
        sections[section] = raw.pop(section, {})
        if not isinstance(sections[section], dict):
            raise ConfigError(
                f"{section}={sections[section]!r} must be a section of keys, such as {SECTIONS[section]} on the command line."
            )
    values = {key: _typed(key, value, hints[key]) for key, value in raw.items()}
    layer = values.pop("layer", None)
    with_place = [key for key in ("hook_name", "activation_cache") if "{layer}" in (values.get(key) or "")]
    for key in with_place:
        if layer is None:
            raise ConfigError(f"{key}={values[key]!r} has a place for a layer; set layer=N.")
        values[key] = values[key].replace("{layer}", str(layer))
    if layer is not None and not with_place:
        raise ConfigError(
            f"layer={layer} has no effect, as hook_name={values.get('hook_name')!r} has no '{{layer}}' in it; write {{layer}} "
            "there, or leave layer out."
        )
    if "training_steps" in values:
        if "training_tokens" in values:
            raise ConfigError("give training_tokens or training_steps, not both.")
        batch = values.get("train_batch_size_tokens", TrainingConfig.train_batch_size_tokens)
        values["training_tokens"] = values.pop("training_steps") * batch
    if sections["sae"].get("d_in") is None:
        model_class = values.get("model_class_name", TrainingConfig.model_class_name)
        loaded_with = values.get("model_from_pretrained_kwargs")
        if not values.get("model_name"):
            raise ConfigError("model_name is missing; the config has to name it.")
        sections["sae"]["d_in"] = model_shape(os.path.expanduser(values["model_name"]), model_class, loaded_with).width
    sae = build_sae_config(sections["sae"])  # so what companions take from it are keys of some architecture
    companions = {
        name: build_sae_config(_companion(sections["sae"], changes, name), where=f"companions.{name}")
        for name, changes in sections["companions"].items()
    }
    return TrainingConfig(sae=sae, companions=companions, logger=_build_logger(sections["logger"]), **values)


def build_sae_config(raw: Mapping[str, Any], *, where: str = "sae") -> TrainingSAEConfig:
    """The checked SAE config of a section ``sae``, shorthands resolved; errors say ``where.key``."""
    hints = _sae_keys(raw, where)
    raw = {key: value for key, value in raw.items() if key != "metadata"}
    name = str(raw.pop("architecture", "abstopk"))
    config_class = sae_config_class(name, where=where)
    _check_foreign_keys(raw, hints, name, where)
    _check_keys(raw, hints, of=f" of the architecture {name}", section=where)
    values = {key: _typed(f"{where}.{key}", value, hints[key]) for key, value in raw.items()}
    _resolve_shorthands(values, where, known=hints)
    if name == "jumprelu" and "k" in values:
        if values.get("target_l0") is not None:
            raise ConfigError(f"{where}: give k or target_l0, not both.")
        values["target_l0"] = float(values.pop("k"))
    for key in ("d_in", "d_sae"):
        if key not in values:
            raise ConfigError(f"{where}.{key} is missing; give it, or for d_sae an expansion_factor.")
    try:
        return config_class(**values)
    except ConfigError as error:
        raise ConfigError(f"{where}.{error}") from None


def offered_architectures() -> list[str]:
    """Names that a config file may give as ``sae.architecture``."""
    return sorted({*OUR_NAMES, *SAE_TRAINING_CLASS_REGISTRY} - {OUR_NAMES["abstopk"]})


def sae_config_class(architecture: str, *, where: str = "sae") -> type[TrainingSAEConfig]:
    """
    The config class of an architecture by the name that it has in a config file.

    Raises:
        ConfigError: none of that name is registered, by a module that ``ABSTOPK_IMPORT`` names either.
    """
    import_architectures()
    offered = offered_architectures()
    if architecture not in offered and architecture not in OUR_NAMES.values():
        raise ConfigError(
            f"{where}.architecture={architecture!r} is not known{did_you_mean(architecture, offered)}; "
            f"use one of {', '.join(offered)}, or set {VARIABLE} to the module that registers it."
        )
    return SAE_TRAINING_CLASS_REGISTRY[OUR_NAMES.get(architecture, architecture)][1]


def dump_config(cfg: TrainingConfig) -> str:
    """
    YAML that :func:`load_config` reads back into an equal config, with every key.

    The device of an SAE is left out: the run moves the SAE to its own ``device``, and SAELens notes that in the SAE's config.
    Other devices that are the run's are null, so that they go with it where ``device`` alone is changed; so is ``lr_end``
    where it is lr / 10.
    """
    names = {value: key for key, value in OUR_NAMES.items()}

    def sae_section(sae: TrainingSAEConfig) -> dict[str, Any]:
        section = {f.name: getattr(sae, f.name) for f in fields(sae) if f.name not in NOT_IN_FILES | {"device"}}
        return {"architecture": names.get(sae.architecture(), sae.architecture()), **section}

    plain = {
        f.name: getattr(cfg, f.name)
        for f in fields(cfg)
        if f.name not in NOT_IN_FILES | {"sae", "companions", "logger"}
    }
    plain["seqpos_slice"] = list(cfg.seqpos_slice)
    plain |= {key: None for key in ("llm_device", "act_store_device") if plain[key] == cfg.device}
    if isinstance(cfg.lr, int | float) and cfg.lr_end == cfg.lr / 10:
        plain["lr_end"] = None
    document = {
        **plain,
        "logger": {f.name: getattr(cfg.logger, f.name) for f in fields(cfg.logger)},
        "sae": sae_section(cfg.sae),
    }
    if cfg.companions:
        document["companions"] = {name: sae_section(sae) for name, sae in cfg.companions.items()}
    return yaml_document(document)


def checked_again(cfg: TrainingConfig) -> TrainingConfig:
    """
    The config as :func:`load_config` would give it, so that what Python gave it, or set since, is checked and of plain types.

    Raises:
        ConfigError: as of :func:`load_config`, or a value is none that a file could hold.
    """
    try:
        text = dump_config(cfg)
    except yaml.YAMLError as error:
        value = error.args[-1]
        keys = [f.name for f in fields(cfg) if getattr(cfg, f.name) is value]
        keys += [
            f"{name}.{f.name}"
            for name, sae in cfg.all_saes.items()
            for f in fields(sae)
            if getattr(sae, f.name) is value
        ]
        raise ConfigError(
            f"the config holds {value!r}, which no config file can{', in ' + keys[0] if keys else ''}; give numbers, texts, lists "
            "or mappings of these."
        ) from None
    again = build_config(yaml_value(text))
    for name, sae in again.all_saes.items():
        sae.metadata = cfg.all_saes[name].metadata
    return again


def _hints(config_class: type) -> dict[str, Any]:
    hints = get_type_hints(config_class)
    return {f.name: hints[f.name] for f in fields(config_class)}


def _sae_keys(raw: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Types of the keys that a section ``sae`` may have; its architecture decides."""
    name = str(raw.get("architecture", "abstopk"))
    keys = _hints(sae_config_class(name, where=where)) | dict.fromkeys(SAE_SHORTHANDS, float)
    aims_at_k = name == "jumprelu" and raw.get("jumprelu_sparsity_loss_mode") == "quadratic"
    return keys | ({"k": float} if aims_at_k else {})


def _check_keys(raw: Mapping[Any, Any], known: Iterable[str], *, of: str = "", section: str = "") -> None:
    known = set(known) - NOT_IN_FILES
    for key in raw:
        if key not in known:
            inside = f" in {section}" if section else ""
            of_sae = {name for each in offered_architectures() for name in _sae_keys({"architecture": each}, "sae")}
            meant = f"; did you mean 'sae.{key}'?" if not section and key in of_sae else did_you_mean(str(key), known)
            raise ConfigError(f"unknown key {key!r}{of}{inside}{meant}; `abstopk configs --keys` lists all.")


def _check_foreign_keys(raw: Mapping[Any, Any], known: Iterable[str], architecture: str, where: str) -> None:
    """A key that another architecture has stays behind where the architecture alone is changed."""
    for key in sorted(set(map(str, raw)) - set(known) - NOT_IN_FILES):
        owners = [name for name in offered_architectures() if key in _hints(sae_config_class(name))]
        if owners:
            remedy = "leave it out"
            if where == "sae" and key == "k" and sparsity_coefficient(sae_config_class(architecture)):
                remedy += " and set target_l0.sae (in a sweep, in an entry of its own)"
            elif where == "sae":
                remedy += ", as the variants of a preset do (`abstopk configs`)"
            raise ConfigError(
                f"{where}.{key} is no key of the architecture {architecture}, but of {', '.join(owners)}; {remedy}."
            )


def _typed(key: str, value: Any, hint: Any) -> Any:
    if key == "seqpos_slice" and isinstance(value, list):
        value = tuple(value)
    try:
        return pydantic.TypeAdapter(hint, config={"strict": True}).validate_python(value)
    except pydantic.ValidationError as error:
        expected = hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")
        if value is None:
            raise ConfigError(f"{key}= is empty; give a value of type {expected}.") from None
        detail = error.errors()[0]["msg"].lower()
        raise ConfigError(f"{key}={value!r} has the wrong type ({detail}); expected {expected}.") from None


def _resolve_shorthands(values: dict[str, Any], where: str, *, known: Iterable[str]) -> None:
    """Replace each of :data:`SAE_SHORTHANDS` by what it stands for."""
    for shorthand, target in SAE_SHORTHANDS.items():
        if shorthand not in values:
            continue
        share = values.pop(shorthand)
        if target not in known:
            raise ConfigError(
                f"{where}.{shorthand}={share} has no effect, as this architecture has no {target}; leave it out."
            )
        if target in values:
            raise ConfigError(f"{where}: give {target} or {shorthand}, not both.")
        for size in ("d_in", "d_sae") if target == "signed_share" else ("d_in",):
            if size not in values:
                raise ConfigError(f"{where}.{shorthand} is a multiple of d_in, and {size} is missing; give it.")
        if not 0 < share < math.inf:
            raise ConfigError(f"{where}.{shorthand}={share!r} must be above 0 and finite.")
        latents = max(1, round(share * values["d_in"]))
        values[target] = latents / values["d_sae"] if target == "signed_share" else latents


def _companion(sae: Mapping[str, Any], changes: Any, name: str) -> dict[str, Any]:
    """The section ``sae`` with the companion's changes, without those of its keys that the companion's architecture lacks."""
    if not isinstance(changes, dict):
        raise ConfigError(f"companions.{name}={changes!r} must be a section of keys that differ from sae.")
    merged: dict[str, Any] = {"sae": dict(sae)}
    merge_variant(merged, {"sae": {k: v for k, v in changes.items() if k != "remove"}, "remove": changes.get("remove")})
    keys = {"architecture", *_sae_keys(merged["sae"], f"companions.{name}")}
    keys -= {shorthand for shorthand, target in SAE_SHORTHANDS.items() if target not in keys}
    if "target_l0" in changes:
        keys -= {"k", "k_fraction"}
    if {"k", "k_fraction"} & changes.keys():
        keys -= {"target_l0"}
    return {key: value for key, value in merged["sae"].items() if key in changes or key in keys}


def _build_logger(raw: Mapping[str, Any]) -> TrackingConfig:
    hints = _hints(TrackingConfig)
    _check_keys(raw, hints, section="logger")
    values = {key: _typed(f"logger.{key}", value, hints[key]) for key, value in raw.items()}
    return TrackingConfig(**values)
