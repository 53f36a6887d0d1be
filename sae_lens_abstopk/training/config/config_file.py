"""Read a training config from a YAML file, a preset or a mapping, and write it as YAML."""

import os
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import fields
from pathlib import Path
from typing import Any

from sae_lens.saes.sae import TrainingSAEConfig

from sae_lens_abstopk.model.model_shape import model_shape
from sae_lens_abstopk.system.errors import ConfigError
from sae_lens_abstopk.system.typed_values import field_types, one_or_more, typed_value
from sae_lens_abstopk.system.yaml_files import yaml_document
from sae_lens_abstopk.training.config.checks import section_of
from sae_lens_abstopk.training.config.presets import apply_overrides, read_raw
from sae_lens_abstopk.training.config.sae_section import (
    NOT_IN_FILES,
    OUR_NAMES,
    build_sae_config,
    companion_section,
    require_known_keys,
    require_not_both,
)
from sae_lens_abstopk.training.config.training_config import TrackingConfig, TrainingConfig

RUN_SHORTHANDS = {"layer": int | None, "training_steps": int}
SECTIONS = {"sae": "sae.k=32", "logger": "logger.log_to_wandb=true", "companions": "companions.topk.architecture=topk"}
"""Sections of a config file, each with an example of an override."""


def load_config(source: str | Path, overrides: str | Iterable[str] | Mapping[str, Any] = ()) -> TrainingConfig:
    """
    Read and check a training config.

    Args:
        source: A YAML file, or a preset: ``"pythia-70m"``, or with a variant ``"pythia-70m/topk"``.
        overrides: One or several ``"key=value"`` texts, dots for nesting (``"sae.k=32"``), whose value is read as YAML;
            or a mapping of such keys to values, such as ``wandb.config``.

    Raises:
        ConfigError: naming the file, the key, the value and what is allowed.
    """
    raw, where = read_raw(source)
    apply_overrides(raw, overrides if hasattr(overrides, "items") else one_or_more(overrides))
    return build_config(raw, where=where)


def build_config(raw: Mapping[str, Any], *, where: str = "config") -> TrainingConfig:
    """Build and check a config from a mapping in the form of the YAML files; a ConfigError begins with ``where``."""
    try:
        return _build(deepcopy(dict(raw)))
    except ValueError as error:  # SAELens's own config raises others than ConfigError
        raise ConfigError(f"{where}: {error}") from (None if isinstance(error, ConfigError) else error)


def _build(raw: dict[str, Any]) -> TrainingConfig:
    types = field_types(TrainingConfig) | RUN_SHORTHANDS | dict.fromkeys(SECTIONS, dict[str, Any])
    require_known_keys(raw, types)
    for name, example in SECTIONS.items():
        if not isinstance(raw.get(name, {}), dict):
            raise ConfigError(f"{name}={raw[name]!r} must be a section of keys, such as {example} on the command line.")
    raw = {key: typed_value(key, value, types[key]) for key, value in raw.items()}
    sae_section, logger = raw.pop("sae", {}), raw.pop("logger", {})
    _resolve_layer(raw)
    require_not_both(raw, [("training_steps", "training_tokens")])
    if "training_steps" in raw:
        batch = raw.get("train_batch_size_tokens", TrainingConfig.train_batch_size_tokens)
        raw["training_tokens"] = raw.pop("training_steps") * batch
    if sae_section.get("d_in") is None:
        sae_section["d_in"] = _width_of_model(raw)
    sae = build_sae_config(sae_section)  # first, so that companions inherit keys that exist
    companions = {}
    for name, changes in raw.pop("companions", {}).items():
        where = section_of(name)
        section = companion_section(sae_section, typed_value(where, changes, dict[str, Any]), where)
        companions[name] = build_sae_config(section, where=where)
    require_known_keys(logger, field_types(TrackingConfig), where="logger")
    return TrainingConfig(sae=sae, companions=companions, logger=TrackingConfig(**logger), **raw)


def _resolve_layer(raw: dict[str, Any]) -> None:
    """Fill ``layer`` into the keys that have a place for it."""
    layer, used = raw.pop("layer", None), False
    for key in ("hook_name", "activation_cache"):
        if "{layer}" in str(raw.get(key)):
            if layer is None:
                raise ConfigError(f"{key}={raw[key]!r} has a place for a layer; set layer=N.")
            raw[key], used = raw[key].replace("{layer}", str(layer)), True
    if layer is not None and not used:
        raise ConfigError(
            f"layer={layer} has no effect, since hook_name={raw.get('hook_name')!r} has no '{{layer}}' in it; write "
            "{layer} there, or leave layer out."
        )


def _width_of_model(raw: Mapping[str, Any]) -> int:
    name = raw.get("model_name")
    if not name:
        raise ConfigError("model_name is missing; the config has to name it.")
    model_class = raw.get("model_class_name", TrainingConfig.model_class_name)
    return model_shape(os.path.expanduser(name), model_class, raw.get("model_from_pretrained_kwargs")).width


def dump_config(cfg: TrainingConfig) -> str:
    """Return YAML with every key; what follows ``device`` or ``lr`` is null, so that it follows a later change too."""
    left_out = NOT_IN_FILES | {"sae", "companions", "logger"}
    plain = {f.name: getattr(cfg, f.name) for f in fields(cfg) if f.name not in left_out}
    plain["seqpos_slice"] = list(cfg.seqpos_slice)
    plain |= {key: None for key in ("llm_device", "act_store_device") if plain[key] == cfg.device}
    if cfg.lr_end == cfg.lr / 10:
        plain["lr_end"] = None
    logger = {f.name: getattr(cfg.logger, f.name) for f in fields(cfg.logger)}
    document = {**plain, "logger": logger, "sae": _sae_document(cfg.sae)}
    if cfg.companions:
        document["companions"] = {name: _sae_document(sae) for name, sae in cfg.companions.items()}
    return yaml_document(document)


def _sae_document(sae: TrainingSAEConfig) -> dict[str, Any]:
    names = {registered: written for written, registered in OUR_NAMES.items()}
    section = {f.name: getattr(sae, f.name) for f in fields(sae) if f.name not in NOT_IN_FILES | {"device"}}
    return {"architecture": names.get(sae.architecture(), sae.architecture()), **section}
