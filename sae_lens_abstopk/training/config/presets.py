"""Presets, variants and ``key=value`` overrides: the mapping of a training config before it is checked."""

from collections.abc import Iterable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from sae_lens_abstopk.system.errors import ConfigError, did_you_mean
from sae_lens_abstopk.system.typed_values import typed_value
from sae_lens_abstopk.system.yaml_files import data_folder, read_yaml, with_dataset_beside, yaml_value

YAML = (".yaml", ".yml")
SAE_SHORTHANDS = {"expansion_factor": "d_sae", "k_fraction": "k", "signed_expansion_factor": "signed_share"}
"""Shorthands that are multiples of ``d_in``, and the keys that they set."""
_SHORTHANDS = SAE_SHORTHANDS | {"training_steps": "training_tokens"}
CONFLICTS = _SHORTHANDS | {key: shorthand for shorthand, key in _SHORTHANDS.items()}
"""Each shorthand and its key, both ways: the one given later wins."""


def preset_names() -> list[str]:
    """Return the presets that :func:`load_config` accepts by name."""
    return sorted(path.stem for path in data_folder("training_configs").glob("*.yaml"))


def variant_names() -> list[str]:
    """Return the variants that can follow the name of a preset."""
    return sorted(path.stem for path in (data_folder("training_configs") / "variants").glob("*.yaml"))


def read_raw(source: str | Path) -> tuple[dict[str, Any], str]:
    """Read a config file or preset; return its mapping and a name for errors."""
    path = Path(source)
    if path.suffix in YAML:
        if not path.is_file():
            raise ConfigError(f"{path}: no such file. Presets: {', '.join(preset_names())}.")
        return with_dataset_beside(path.parent, read_yaml(path)), str(path)
    model, _, variant = str(source).partition("/")
    for what, name, known in (("preset", model, preset_names()), ("variant", variant, variant_names())):
        if name not in known and (name or what == "preset"):
            raise ConfigError(
                f"config {str(source)!r}: {name!r} is not a .yaml file or a {what}{did_you_mean(name, known)}; "
                f"{what}s: {', '.join(known)} (variants are for presets only)."
            )
    folder = data_folder("training_configs")
    raw = read_yaml(folder / f"{model}.yaml")
    if variant and raw.get("companions"):
        raise ConfigError(
            f"config {str(source)!r}: {model} trains companions, so no variant can be laid over it; set the keys of "
            "sae instead, or take the preset of a model."
        )
    if variant:
        merge_variant(raw, read_yaml(folder / "variants" / f"{variant}.yaml"))
    return with_dataset_beside(folder, raw), str(source)


def named_config(config: str, file: Path) -> str:
    """Return ``config`` of a sweep or comparison ``file``: a preset, or a path, tried relative to the file first."""
    beside = file.parent / config
    return str(beside) if beside.suffix in YAML and beside.is_file() else config


def merge_variant(raw: dict[str, Any], variant: Mapping[str, Any]) -> None:
    """
    Merge ``variant`` into ``raw``; drop keys of ``raw`` that conflict with the variant's.

    The list ``remove`` of the variant names keys of ``sae`` to drop. A target ``k`` in its ``target_l0`` is the k of
    ``raw``.
    """
    sae = raw.get("sae", {})
    k = sae.get("k")
    for key in typed_value("remove", variant.get("remove") or [], list[str]):
        sae.pop(key, None)
    for key, value in variant.items():
        if key == "remove":
            continue
        if key == "target_l0":
            value = {name: k if target == "k" else target for name, target in value.items()}
        if isinstance(value, dict) and isinstance(raw.get(key), dict):
            conflicting = {CONFLICTS.get(inner) for inner in value}
            raw[key] = {name: each for name, each in raw[key].items() if name not in conflicting} | value
        else:
            _set(raw, key, value)


def apply_overrides(raw: dict[str, Any], changes: Iterable[str] | Mapping[str, Any]) -> None:
    """
    Set keys of ``raw``, dots for nesting; drop keys that conflict with a changed one.

    Args:
        raw: Changed in place.
        changes: Texts ``key=value``, whose values are YAML, or a mapping of keys to values; a mapping for ``sae`` or
            ``logger`` changes these keys of the section only.
    """
    values = _as_mapping(changes)
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
        _set(at, last, value)


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


def _set(section: dict[str, Any], key: str, value: Any) -> None:
    section.pop(CONFLICTS.get(key, ""), None)
    section[key] = value
