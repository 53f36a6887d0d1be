"""Presets, their variants and ``key=value`` overrides: the mapping of a training config before it is checked."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sae_lens_abstopk.system.errors import ConfigError, did_you_mean
from sae_lens_abstopk.system.yaml_files import data_folder, read_yaml, yaml_value

YAML = (".yaml", ".yml")
SAE_SHORTHANDS = {"expansion_factor": "d_sae", "k_fraction": "k", "signed_expansion_factor": "signed_share"}
"""Multiples of ``d_in``, and what they stand for."""
RIVALS = {target: shorthand for shorthand, target in SAE_SHORTHANDS.items()} | {"training_tokens": "training_steps"}
"""What a shorthand stands for, and the shorthand: of the two the one that is given later holds."""


def preset_names() -> list[str]:
    """Presets that :func:`load_config` accepts by name; that of a model may be followed by ``/VARIANT``."""
    return sorted(path.stem for path in data_folder("training_configs").glob("*.yaml"))


def variant_names() -> list[str]:
    """Variants that can follow the name of a model preset."""
    return sorted(path.stem for path in (data_folder("training_configs") / "variants").glob("*.yaml"))


def read_raw(source: str | Path) -> tuple[dict[str, Any], str]:
    """The merged but unchecked mapping behind ``source``, and a name for it in errors."""
    path = Path(source)
    if path.suffix in YAML:
        if not path.is_file():
            raise ConfigError(f"{path}: no such file. Presets: {', '.join(preset_names())}.")
        return _beside(path.parent, read_yaml(path)), str(path)
    if path.parent.suffix in YAML:
        raise ConfigError(
            f"config {str(source)!r}: variants are of the presets of models; in a file of your own, change the keys that "
            f"`abstopk configs {preset_names()[0]}/{path.name}` shows."
        )
    model, _, variant = str(source).partition("/")
    if model not in preset_names():
        raise ConfigError(
            f"config {str(source)!r} is neither a .yaml file nor a preset{did_you_mean(model, preset_names())}; "
            f"presets: {', '.join(preset_names())}."
        )
    folder = data_folder("training_configs")
    raw = read_yaml(folder / f"{model}.yaml")
    if variant and raw.get("companions"):
        raise ConfigError(
            f"config {str(source)!r}: {model} trains companions, which take from sae what they do not give, so no variant can be laid "
            "over it; set the keys of sae instead, or take the preset of a model."
        )
    if variant:
        if variant not in variant_names():
            raise ConfigError(
                f"config {str(source)!r}: no variant {variant!r}{did_you_mean(variant, variant_names())}; "
                f"variants: {', '.join(variant_names())}."
            )
        merge_variant(raw, read_yaml(folder / "variants" / f"{variant}.yaml"))
    return _beside(folder, raw), str(source)


def named_config(config: Any, file: Path) -> str:
    """
    What a sweep or comparison ``file`` names as ``config``: a preset, or a path, which is looked for beside the file first.

    Raises:
        ConfigError: it is no name.
    """
    if not isinstance(config, str):
        raise ConfigError(f"{file}: config={config!r} must be the name of a preset or the path of a .yaml file.")
    beside = file.parent / config
    return str(beside) if beside.suffix in YAML and beside.is_file() else config


def merge_variant(raw: dict[str, Any], variant: Mapping[str, Any]) -> None:
    """
    Lay ``variant`` over ``raw``; a key of ``raw`` that excludes one of the variant's is dropped.

    The list ``remove`` of the variant takes keys of ``sae`` out that the new architecture does not have. A target ``k`` in its
    ``target_l0`` is the k of ``raw``.
    """
    k = raw.get("sae", {}).get("k")
    removed = variant.get("remove") or []
    if not isinstance(removed, list) or not all(isinstance(key, str) for key in removed):
        raise ConfigError(f"remove={removed!r} must be a list of keys of sae.")
    for key in removed:
        raw.get("sae", {}).pop(key, None)
    for key, value in variant.items():
        if key == "remove":
            continue
        _remove_rival(raw, key)
        if key == "target_l0":
            value = {name: k if target == "k" else target for name, target in value.items()}
        if isinstance(value, dict) and isinstance(raw.get(key), dict):
            for changed in value:
                _remove_rival(raw[key], changed)
            raw[key] = {**raw[key], **value}
        else:
            raw[key] = value


def apply_override(raw: dict[str, Any], override: str) -> None:
    """Set the key of a text ``key=value``; what excludes that key goes."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"override {override!r} must have the form key=value, e.g. sae.k=32.")
    *sections, last = key.split(".")
    at: Any = raw
    for section in sections:
        at = at.setdefault(section, {})
        if not isinstance(at, dict):
            raise ConfigError(f"override {override!r}: {section!r} is a value, not a section.")
    at[last] = yaml_value(text)
    _remove_rival(at, last)
    if key == "hook_name" and "{layer}" not in text:
        raw.pop("layer", None)  # which was for the hook of the file


def refuse_rivals(changes: Sequence[str]) -> None:
    """
    Refuse overrides that say the same twice, of which the later would win without a word.

    Raises:
        ConfigError: naming both.
    """
    values = {key: value for key, _, value in (change.partition("=") for change in changes)}
    for key in values:
        section, dot, last = key.rpartition(".")
        if (other := f"{section}{dot}{rival(last)}") in values:
            raise ConfigError(f"the overrides give both {key} and {other}, which stand for the same; give one of them.")
    if "layer" in values and "{layer}" not in values.get("hook_name", "{layer}"):
        raise ConfigError(
            f"the overrides give layer and hook_name={values['hook_name']}, which has no {{layer}} in it; give one of them."
        )


def rival(key: str) -> str | None:
    """What excludes ``key``: of a shorthand and what it stands for, the other one."""
    return {**RIVALS, **{short: long for long, short in RIVALS.items()}}.get(key)


def _remove_rival(section: dict[str, Any], key: str) -> None:
    section.pop(rival(key) or "", None)


def _beside(folder: Path, raw: dict[str, Any]) -> dict[str, Any]:
    """A relative ``dataset_path`` that exists beside the config file means that file."""
    dataset = raw.get("dataset_path")
    if isinstance(dataset, str) and dataset and (folder / dataset).exists():
        raw["dataset_path"] = str((folder / dataset).resolve())
    return raw
