"""Presets, variants and ``key=value`` overrides: the mapping of a training config before it is checked."""

from collections.abc import Iterable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from sae_lens_abstopk.system.errors import ConfigError, did_you_mean
from sae_lens_abstopk.system.yaml_files import data_folder, read_yaml, with_dataset_beside, yaml_value
from sae_lens_abstopk.training.config.sae_section import CONFLICTS, apply_variant, set_key

YAML = (".yaml", ".yml")


def preset_names() -> list[str]:
    """Return the presets that :func:`load_config` accepts by name."""
    return sorted(path.stem for path in data_folder("training_configs").glob("*.yaml"))


def variant_names() -> list[str]:
    """Return the variants that can follow the name of a preset."""
    return sorted(path.stem for path in (data_folder("training_configs") / "variants").glob("*.yaml"))


def read_raw(source: str | Path) -> tuple[dict[str, Any], str]:
    """Read a config file or preset, with a variant if one follows; return its mapping and a name for errors."""
    base, variant = split_variant(source)
    path = Path(base)
    if path.suffix not in YAML:
        if base not in (known := preset_names()):
            raise ConfigError(
                f"config {str(source)!r}: {base!r} is not a .yaml file or a preset{did_you_mean(base, known)}; "
                f"presets: {', '.join(known)}."
            )
        path = data_folder("training_configs") / f"{base}.yaml"
    elif not path.is_file():
        raise ConfigError(f"{path}: no such file. Presets: {', '.join(preset_names())}.")
    if variant and variant not in (known := variant_names()):
        raise ConfigError(
            f"config {str(source)!r}: {variant!r} is not a variant{did_you_mean(variant, known)}; variants: "
            f"{', '.join(known)}."
        )
    raw = read_yaml(path)
    if variant:
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
    values = _as_mapping(changes)
    if values.get("model_name", raw.get("model_name")) != raw.get("model_name") and isinstance(raw.get("sae"), dict):
        raw["sae"].pop("d_in", None)  # it was the width of the other model
    if "{layer}" not in str(values.get("hook_name", "{layer}")):
        raw.pop("layer", None)  # it belonged to the hook of the file
    for key, value in values.items():
        *sections, last = key.split(".")
        if (other := ".".join([*sections, CONFLICTS.get(last, "")])) in values:
            raise ConfigError(f"the overrides give both {key} and {other}, which stand for the same; give one of them.")
        at: Any = raw
        for section in sections:
            at = at.setdefault(section, {})
            if not isinstance(at, dict):
                raise ConfigError(f"override {key!r}: {section!r} is a value, not a section.")
        set_key(at, last, value)


def _as_mapping(changes: Iterable[str] | Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if hasattr(changes, "items"):  # also wandb.config, which is not a Mapping
        for key, value in deepcopy(dict(changes.items())).items():  # type: ignore[union-attr]
            if key in ("sae", "logger") and isinstance(value, Mapping):
                values |= {f"{key}.{inner}": each for inner, each in value.items()}
            else:
                values[str(key)] = value
        return values
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals or not key:
            raise ConfigError(f"override {change!r} must have the form key=value, e.g. sae.k=32.")
        values.pop(key, None)  # the last one wins
        values[key] = yaml_value(text)
    return values
