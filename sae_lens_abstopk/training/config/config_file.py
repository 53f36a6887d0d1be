"""Read a training config from a YAML file, a preset or a mapping, with overrides; write it as YAML."""

import math
import os
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from sae_lens.saes.sae import TrainingSAEConfig

from sae_lens_abstopk.model.model_shape import model_shape
from sae_lens_abstopk.system.errors import ConfigError, require_choice, require_given, require_one, require_range
from sae_lens_abstopk.system.typed_values import field_types, from_keys, one_or_more, typed_value
from sae_lens_abstopk.system.yaml_files import data_folder, read_yaml, with_dataset_beside, yaml_document, yaml_value
from sae_lens_abstopk.training.config.checks import OF_DIFFERENCES, OF_TOKENS, SOURCES, section_of
from sae_lens_abstopk.training.config.sae_section import (
    NOT_IN_FILES,
    OUR_NAMES,
    RENAMED,
    RUN_SHORTHANDS,
    apply_variant,
    build_sae_config,
    companion_section,
    conflicting,
    require_known_keys,
)
from sae_lens_abstopk.training.config.training_config import TrackingConfig, TrainingConfig
from sae_lens_abstopk.vectors.embedding import rows_and_width
from sae_lens_abstopk.vectors.vector_spec import VectorSpec
from sae_lens_abstopk.vectors.vectors import Vectors

YAML = (".yaml", ".yml")
SHORTHANDS = {"layer": int | None, "training_steps": int, "epochs": float, "data": str, "column": str, "model": str}
"""Keys of a file that set keys of a config."""
SECTIONS = {"sae": "sae.k=32", "logger": "logger.log_to_wandb=true", "companions": "companions.topk.architecture=topk"}
"""Sections of a config file, each with an example of an override."""
ONE_SIDED = {"abstopk": "sparse_topk", "batch_abstopk": "sparse_batchtopk"}
"""The one-sided counterpart of a signed training architecture."""


def load_config(
    source: str | Path, overrides: str | Iterable[str] | Mapping[str, Any] = (), *, vectors: Any = None
) -> TrainingConfig:
    """
    Read and check a training config.

    Args:
        source: A YAML file, or a preset: ``"pythia-70m"``, or with a variant ``"pythia-70m/topk"``.
        overrides: One or several ``"key=value"`` texts, dots for nesting (``"sae.k=32"``), whose value is read as YAML;
            or a mapping of such keys to values, such as ``wandb.config``.
        vectors: With ``source: vectors``, an array or a tensor [n, d_in] to train on, to be given to ``train`` too.

    Raises:
        ConfigError: naming the file, the key, the value and what is allowed.
    """
    raw, where = read_raw(source)
    apply_overrides(raw, overrides if hasattr(overrides, "items") else one_or_more(overrides))
    return build_config(raw, where=where, vectors=None if vectors is None else Vectors.of_array(vectors))


def one_sided_companions(cfg: TrainingConfig) -> dict[str, Any]:
    """
    Return overrides that add one-sided SAEs of the same width and of twice the width to the run of a signed SAE.

    Raises:
        ConfigError: the architecture has no one-sided counterpart.
    """
    name = cfg.sae.architecture().removeprefix("sparse_")
    require_choice("one-sided companions: sae.architecture", name, ONE_SIDED)
    keys = ("companions.one_sided.architecture", "companions.one_sided_2F.architecture")
    return dict.fromkeys(keys, ONE_SIDED[name]) | {"companions.one_sided_2F.d_sae": 2 * cfg.sae.d_sae}


def preset_names() -> list[str]:
    return sorted(path.stem for path in data_folder("training_configs").glob("*.yaml"))


def variant_names() -> list[str]:
    return sorted(path.stem for path in (data_folder("training_configs") / "variants").glob("*.yaml"))


def read_raw(source: str | Path) -> tuple[dict[str, Any], str]:
    """Read a config file or preset, with a variant if one follows; return its mapping and a name for errors."""
    base, variant = split_variant(source)
    path = Path(base)
    if path.suffix not in YAML:
        require_choice(f"config {str(source)!r}: preset", base, preset_names(), remedy=", or give a .yaml file")
        path = data_folder("training_configs") / f"{base}.yaml"
    elif not path.is_file():
        raise ConfigError(f"{path}: no such file. Presets: {', '.join(preset_names())}.")
    raw = read_yaml(path)
    if variant:
        require_choice(f"config {str(source)!r}: the variant", variant, variant_names())
        apply_variant(raw, read_yaml(data_folder("training_configs") / "variants" / f"{variant}.yaml"))
    return with_dataset_beside(path.parent, raw), str(source)


def split_variant(source: str | Path) -> tuple[str, str]:
    """Split ``"pythia-70m/topk"`` or ``"mine.yaml/topk"`` into the config and the variant, empty if there is none."""
    path = Path(source)
    if path.suffix in YAML:
        return str(source), ""
    if path.parent.suffix in YAML:
        return str(path.parent), path.name
    base, _, variant = str(source).partition("/")
    return base, variant


def named_config(config: str, file: Path) -> str:
    """Return ``config`` of a sweep or comparison ``file``: a preset, or a path, tried relative to the file first."""
    beside = file.parent / config
    return str(beside) if beside.suffix in YAML and beside.is_file() else config


def apply_overrides(raw: dict[str, Any], changes: Iterable[str] | Mapping[str, Any]) -> None:
    """
    Set keys of ``raw``, dots for nesting; drop keys that conflict with a changed one.

    Args:
        raw: Changed in place.
        changes: Texts ``key=value``, whose values are YAML, or a mapping of keys to values; a mapping for ``sae`` or
            ``logger`` changes these keys of the section only.
    """
    values = override_values(changes)
    if values.get("model_name", raw.get("model_name")) != raw.get("model_name") and isinstance(raw.get("sae"), dict):
        raw["sae"].pop("d_in", None)  # it was the width of the other model
    if "{layer}" not in str(values.get("hook_name", "{layer}")):
        raw.pop("layer", None)  # it belonged to the hook of the file
    for key, value in values.items():
        *sections, last = key.split(".")
        for other in (".".join([*sections, name]) for name in conflicting(last)):
            require_one({key: key, other: other if other in values else None})
        at: Any = raw
        for section in sections:
            at = at.setdefault(section, {})
            if not isinstance(at, dict):
                raise ConfigError(f"override {key!r}: {section!r} is a value, not a section.")
        for other in conflicting(last):
            at.pop(other, None)
        at[last] = value


def override_values(changes: Iterable[str] | Mapping[str, Any]) -> dict[str, Any]:
    """Return overrides by key, of texts ``key=value`` or of a mapping; :func:`apply_overrides` says more."""
    values: dict[str, Any] = {}
    if hasattr(changes, "items"):  # also wandb.config, which is not a Mapping
        for key, value in deepcopy(dict(changes.items())).items():  # type: ignore[union-attr]
            in_section = key in ("sae", "logger") and isinstance(value, Mapping)
            values |= {f"{key}.{inner}": each for inner, each in value.items()} if in_section else {str(key): value}
        return values
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals or not key:
            raise ConfigError(f"override {change!r} must have the form key=value, e.g. sae.k=32.")
        values.pop(key, None)  # the last one wins
        values[key] = yaml_value(text)
    return values


def build_config(raw: Mapping[str, Any], *, where: str = "config", vectors: Vectors | None = None) -> TrainingConfig:
    """Build and check a config from a mapping in the form of the YAML files; a ConfigError begins with ``where``."""
    try:
        return _build(deepcopy(dict(raw)), vectors)
    except ValueError as error:  # SAELens's own config raises others than ConfigError
        raise ConfigError(f"{where}: {error}") from (None if isinstance(error, ConfigError) else error)


def _build(raw: dict[str, Any], vectors: Vectors | None) -> TrainingConfig:
    types = field_types(TrainingConfig) | SHORTHANDS | dict.fromkeys(SECTIONS, dict[str, Any])
    require_known_keys(raw, types)
    for name, example in SECTIONS.items():
        if not isinstance(raw.get(name, {}), dict):
            raise ConfigError(f"{name}={raw[name]!r} must be a section of keys, such as {example} on the command line.")
    raw = {key: typed_value(key, value, types[key]) for key, value in raw.items()}
    sae_section, logger = raw.pop("sae", {}), raw.pop("logger", {})
    _resolve_layer(raw)
    for pair in RUN_SHORTHANDS:
        require_one({key: raw.get(key) for key in pair}, or_none=True)
    for shorthand, key in RENAMED.items():
        if shorthand in raw:
            raw[key] = raw.pop(shorthand)
    batch = raw.get("train_batch_size_tokens", TrainingConfig.train_batch_size_tokens)
    if "training_steps" in raw:
        raw["training_tokens"] = raw.pop("training_steps") * batch
    require_choice("source", source := raw.get("source", "tokens"), SOURCES)
    require_source_of(vectors, source)
    if source == "vectors":
        _fill_from_vectors(raw, sae_section, batch, vectors)
    elif "epochs" in raw:
        raise ConfigError(f"epochs={raw['epochs']} is for source: vectors; give training_tokens or training_steps.")
    elif sae_section.get("d_in") is None:
        require_given("model_name", name := raw.get("model_name", ""), "the config has to name it")
        model_class = raw.get("model_class_name", TrainingConfig.model_class_name)
        options = raw.get("model_from_pretrained_kwargs")
        sae_section["d_in"] = model_shape(os.path.expanduser(name), model_class, options).width
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
    layer, problem = raw.pop("layer", None), ""
    places = [key for key in ("hook_name", "activation_cache") if "{layer}" in str(raw.get(key))]
    for key in places:
        if layer is None:
            problem = f"{key}={raw[key]!r} has a place for a layer; set layer=N."
        raw[key] = raw[key].replace("{layer}", str(layer))
    if layer is not None and not places:
        problem = (
            f"layer={layer} has no effect, since hook_name={raw.get('hook_name')!r} has no '{{layer}}' in it; write "
            "{layer} there, or leave layer out."
        )
    if problem:
        raise ConfigError(problem)


def require_source_of(vectors: Any, source: str) -> None:
    """Raise a :class:`ConfigError` if vectors are given to a run of another source."""
    if vectors is not None and source != "vectors":
        raise ConfigError("vectors are given; set source: vectors too, as the preset vectors does.")


def _fill_from_vectors(raw: dict[str, Any], sae_section: dict[str, Any], batch: int, vectors: Vectors | None) -> None:
    """Read the width of the vectors, and how many make ``epochs``, in whole batches."""
    epochs = raw.pop("epochs", None)
    if vectors is not None:
        raw["dataset_path"] = vectors.name
    if epochs is None and sae_section.get("d_in") is not None:
        return
    paths = {key: os.path.expanduser(raw.get(key, "")) for key in ("dataset_path", "model_name")}
    spec = from_keys(VectorSpec, {"held_out_every": TrainingConfig.held_out_every} | raw | paths)
    n_rows, width = rows_and_width(spec) if vectors is None else (len(vectors.part(spec, "train")), vectors.d_in)
    sae_section.setdefault("d_in", width)
    if epochs is not None:
        require_range("epochs", epochs, above=0)
        raw["training_tokens"] = math.ceil(epochs * n_rows / batch) * batch


def dump_config(cfg: TrainingConfig) -> str:
    """Return YAML with every key; what follows ``device`` or ``lr`` is null, so that it follows a later change too."""
    left_out = NOT_IN_FILES | {"sae", "companions", "logger"}
    if cfg.source == "vectors":
        left_out |= {*OF_TOKENS, *OF_DIFFERENCES, "model_kwargs", "model_from_pretrained_kwargs"}
    plain = {f.name: getattr(cfg, f.name) for f in fields(cfg) if f.name not in left_out}
    if cfg.source != "vectors":
        plain["seqpos_slice"] = list(cfg.seqpos_slice)
    plain |= {key: None for key in ("llm_device", "act_store_device") if plain[key] == cfg.device}
    if cfg.lr_end == cfg.lr / 10:
        plain["lr_end"] = None
    document = {**plain, "logger": asdict(cfg.logger), "sae": _sae_document(cfg.sae)}
    if cfg.companions:
        document["companions"] = {name: _sae_document(sae) for name, sae in cfg.companions.items()}
    return yaml_document(document)


def _sae_document(sae: TrainingSAEConfig) -> dict[str, Any]:
    names = {registered: written for written, registered in OUR_NAMES.items()}
    section = {f.name: getattr(sae, f.name) for f in fields(sae) if f.name not in NOT_IN_FILES | {"device"}}
    return {"architecture": names.get(sae.architecture(), sae.architecture()), **section}
