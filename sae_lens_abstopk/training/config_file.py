"""YAML to :class:`TrainingConfig`: presets, variants, overrides, and errors that name the key."""

import difflib
import re
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

import pydantic
import yaml
from sae_lens.registry import SAE_TRAINING_CLASS_REGISTRY
from sae_lens.saes.sae import TrainingSAEConfig
from typing_extensions import override

import sae_lens_abstopk.saes  # noqa: F401  # registers the architectures
from sae_lens_abstopk.errors import ConfigError
from sae_lens_abstopk.training.config import TrainingConfig
from sae_lens_abstopk.training.language_model import model_shape
from sae_lens_abstopk.training.tracking import TrackingConfig

# Keys of SAELens's config that a file has no business setting: deprecated, or records of versions.
NOT_IN_FILES = frozenset({"hook_eval", "sae_lens_version", "sae_lens_training_version", "metadata"})
# What a user writes for what is registered under another name; SAELens's own abstopk is there as a baseline.
OUR_NAMES = {"abstopk": "sparse_abstopk", "sae_lens_abstopk": "abstopk"}
RUN_SHORTHANDS = {"layer": int, "training_steps": int}
SAE_SHORTHANDS = {"k_fraction": float, "expansion_factor": float}


def data_folder(name: str) -> Path:
    """``training_configs`` or ``evals``: beside the package in a clone, inside it in an install."""
    package = Path(__file__).resolve().parents[1]
    inside = package / name
    return inside if inside.is_dir() else package.parent / name


def preset_names() -> list[str]:
    """Names that :func:`load_config` accepts besides files: ``MODEL`` and ``MODEL/VARIANT``."""
    return sorted(path.stem for path in data_folder("training_configs").glob("*.yaml"))


def variant_names() -> list[str]:
    """Variants that can follow the name of a model preset."""
    return sorted(path.stem for path in (data_folder("training_configs") / "variants").glob("*.yaml"))


def load_config(source: str | Path, overrides: Iterable[str] = ()) -> TrainingConfig:
    """
    Read a training config.

    Args:
        source: A YAML file, or a preset: ``"pythia-70m"``, or with a variant ``"pythia-70m/topk"``.
        overrides: ``"key=value"`` texts, dots for nesting (``"sae.k=32"``); the value is read as YAML.

    Returns:
        The config, checked. The width of the model is looked up in its own config only where ``sae.d_in`` is left out.

    Raises:
        ConfigError: naming the file, the key, the value and what is allowed.
    """
    raw, where = read_raw(source)
    for change in overrides:
        _apply_override(raw, change)
    return build_config(raw, where=where)


def read_raw(source: str | Path) -> tuple[dict[str, Any], str]:
    """The merged but unchecked mapping behind ``source``, and a name for it in errors."""
    path = Path(source)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise ConfigError(f"{path}: no such file. Presets: {', '.join(preset_names())}.")
        return _beside(path.parent, read_yaml(path)), str(path)
    model, _, variant = str(source).partition("/")
    if model not in preset_names():
        raise ConfigError(
            f"config {str(source)!r} is neither a .yaml file nor a preset{_nearest(model, preset_names())}; "
            f"presets: {', '.join(preset_names())}."
        )
    folder = data_folder("training_configs")
    raw = read_yaml(folder / f"{model}.yaml")
    if variant:
        if variant not in variant_names():
            raise ConfigError(
                f"config {str(source)!r}: no variant {variant!r}{_nearest(variant, variant_names())}; "
                f"variants: {', '.join(variant_names())}."
            )
        _merge_variant(raw, read_yaml(folder / "variants" / f"{variant}.yaml"))
    return _beside(folder, raw), str(source)


def _beside(folder: Path, raw: dict[str, Any]) -> dict[str, Any]:
    """A relative ``dataset_path`` that exists beside the config file means that file."""
    dataset = raw.get("dataset_path")
    if isinstance(dataset, str) and dataset and (folder / dataset).exists():
        raw["dataset_path"] = str((folder / dataset).resolve())
    return raw


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file whose top level is a mapping."""
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: the top level must be a mapping of keys to values, not {type(content).__name__}.")
    return content


class _Loader(yaml.SafeLoader):
    """
    YAML 1.1 reads ``3e-4`` as a string, and takes the last of two equal keys.

    Here the first is a number, as everywhere else in Python, and the second an error.
    """

    @override
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen and key.tag != "tag:yaml.org,2002:merge":
                raise yaml.YAMLError(f"the key {key.value!r} is there twice, again in line {key.start_mark.line + 1}")
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else id(key))
        return super().construct_mapping(node, deep=deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


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
    for section in ("sae", "logger", "companions"):
        sections[section] = raw.pop(section, {})
        if not isinstance(sections[section], dict):
            raise ConfigError(f"{section}={sections[section]!r} must be a section of keys.")
    values = {key: _typed(key, value, hints[key]) for key, value in raw.items()}
    layer = values.pop("layer", None)
    if "{layer}" in values.get("hook_name", ""):
        if layer is None:
            raise ConfigError(f"hook_name={values['hook_name']!r} has a place for a layer; set layer=N.")
        values["hook_name"] = values["hook_name"].replace("{layer}", str(layer))
    elif layer is not None:
        raise ConfigError(f"layer={layer} has no effect, as hook_name has no '{{layer}}' in it.")
    if "training_steps" in values:
        batch = values.get("train_batch_size_tokens", TrainingConfig.train_batch_size_tokens)
        values["training_tokens"] = values.pop("training_steps") * batch
    if sections["sae"].get("d_in") is None:
        model_class = values.get("model_class_name", TrainingConfig.model_class_name)
        sections["sae"]["d_in"] = model_shape(values.get("model_name", ""), model_class).width
    companions = {
        name: build_sae_config(_companion(sections["sae"], changes, name), where=f"companions.{name}")
        for name, changes in sections["companions"].items()
    }
    return TrainingConfig(
        sae=build_sae_config(sections["sae"]), companions=companions, logger=_build_logger(sections["logger"]), **values
    )


def build_sae_config(raw: Mapping[str, Any], *, where: str = "sae") -> TrainingSAEConfig:
    """The checked SAE config of a section ``sae``, shorthands resolved; errors say ``where.key``."""
    raw = {key: value for key, value in raw.items() if key != "metadata"}
    name = str(raw.pop("architecture", "abstopk"))
    config_class = sae_config_class(name, where=where)
    hints = _hints(config_class) | SAE_SHORTHANDS
    aims_at_k = name == "jumprelu" and raw.get("jumprelu_sparsity_loss_mode") == "quadratic"
    if aims_at_k:
        hints |= {"k": float}
    _check_keys(raw, hints, of=f" of the architecture {name}", section=where)
    values = {key: _typed(f"{where}.{key}", value, hints[key]) for key, value in raw.items()}
    _resolve_shorthands(values, where, has_k="k" in hints)
    if aims_at_k and "k" in values:
        values.setdefault("target_l0", float(values["k"]))
        del values["k"]
    for key in ("d_in", "d_sae"):
        if key not in values:
            raise ConfigError(f"{where}.{key} is missing; give it, or for d_sae an expansion_factor.")
    try:
        return config_class(**values)
    except ConfigError as error:
        raise ConfigError(f"{where}.{error}") from None


def sae_config_class(architecture: str, *, where: str = "sae") -> type[TrainingSAEConfig]:
    """The config class of an architecture by the name that it has in a config file."""
    offered = sorted({*OUR_NAMES, *SAE_TRAINING_CLASS_REGISTRY} - {OUR_NAMES["abstopk"]})
    if architecture not in offered and architecture not in OUR_NAMES.values():
        raise ConfigError(
            f"{where}.architecture={architecture!r} is not known{_nearest(architecture, offered)}; "
            f"use one of {', '.join(offered)}."
        )
    return SAE_TRAINING_CLASS_REGISTRY[OUR_NAMES.get(architecture, architecture)][1]


def dump_config(cfg: TrainingConfig) -> str:
    """YAML that :func:`load_config` reads back into an equal config, with every key that differs from its default."""
    names = {value: key for key, value in OUR_NAMES.items()}

    def sae_section(sae: TrainingSAEConfig) -> dict[str, Any]:
        section = {f.name: getattr(sae, f.name) for f in fields(sae) if f.name not in NOT_IN_FILES}
        return {"architecture": names.get(sae.architecture(), sae.architecture()), **section}

    plain = {
        f.name: getattr(cfg, f.name)
        for f in fields(cfg)
        if f.name not in NOT_IN_FILES | {"sae", "companions", "logger"}
    }
    plain["seqpos_slice"] = list(cfg.seqpos_slice)
    document = {
        **plain,
        "logger": {f.name: getattr(cfg.logger, f.name) for f in fields(cfg.logger)},
        "sae": sae_section(cfg.sae),
    }
    if cfg.companions:
        document["companions"] = {
            name: {"remove": sorted(set(document["sae"]) - set(sae_section(sae))), **sae_section(sae)}
            for name, sae in cfg.companions.items()
        }
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True)


def _hints(config_class: type) -> dict[str, Any]:
    hints = get_type_hints(config_class)
    return {f.name: hints[f.name] for f in fields(config_class)}


def _check_keys(raw: Mapping[Any, Any], known: Iterable[str], *, of: str = "", section: str = "") -> None:
    known = set(known) - NOT_IN_FILES
    for key in raw:
        if key not in known:
            inside = f" in {section}" if section else ""
            raise ConfigError(
                f"unknown key {key!r}{of}{inside}{_nearest(str(key), known)}; `abstopk configs --keys` lists all."
            )


def _nearest(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def _typed(key: str, value: Any, hint: Any) -> Any:
    if key == "seqpos_slice" and isinstance(value, list):
        value = tuple(value)
    try:
        return pydantic.TypeAdapter(hint, config={"strict": True}).validate_python(value)
    except pydantic.ValidationError as error:
        expected = hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")
        detail = error.errors()[0]["msg"].lower()
        raise ConfigError(f"{key}={value!r} has the wrong type ({detail}); expected {expected}.") from None


def _resolve_shorthands(values: dict[str, Any], where: str, *, has_k: bool) -> None:
    """Replace ``expansion_factor`` and ``k_fraction`` by the ``d_sae`` and the ``k`` that they stand for."""
    for shorthand, target in (("expansion_factor", "d_sae"), ("k_fraction", "k")):
        if shorthand not in values:
            continue
        share = values.pop(shorthand)
        if target == "k" and not has_k:
            raise ConfigError(f"{where}.k_fraction={share} has no effect, as this architecture has no k.")
        if target in values:
            raise ConfigError(f"{where}: give {target} or {shorthand}, not both.")
        if "d_in" not in values:
            raise ConfigError(f"{where}.{shorthand} is a multiple of d_in, which is missing.")
        if share <= 0:
            raise ConfigError(f"{where}.{shorthand}={share!r} must be above 0.")
        values[target] = max(1, round(share * values["d_in"]))


def _companion(sae: Mapping[str, Any], changes: Any, name: str) -> dict[str, Any]:
    if not isinstance(changes, dict):
        raise ConfigError(f"companions.{name}={changes!r} must be a section of keys that differ from sae.")
    merged: dict[str, Any] = {"sae": dict(sae)}
    _merge_variant(
        merged, {"sae": {k: v for k, v in changes.items() if k != "remove"}, "remove": changes.get("remove")}
    )
    return merged["sae"]


def _merge_variant(raw: dict[str, Any], variant: Mapping[str, Any]) -> None:
    """Lay ``variant`` over ``raw``; its list ``remove`` takes keys out that the new architecture does not have."""
    removed = variant.get("remove") or []
    if not isinstance(removed, list) or not all(isinstance(key, str) for key in removed):
        raise ConfigError(f"remove={removed!r} must be a list of keys of sae.")
    for key in removed:
        raw.get("sae", {}).pop(key, None)
    for key, value in variant.items():
        if key == "remove":
            continue
        if isinstance(value, dict) and isinstance(raw.get(key), dict):
            raw[key] = {**raw[key], **value}
        else:
            raw[key] = value


def _apply_override(raw: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"override {override!r} must have the form key=value, e.g. sae.k=32.")
    try:
        value = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError:
        value = text
    *sections, last = key.split(".")
    at: Any = raw
    for section in sections:
        at = at.setdefault(section, {})
        if not isinstance(at, dict):
            raise ConfigError(f"override {override!r}: {section!r} is a value, not a section.")
    at[last] = value
    # a shorthand and what it stands for exclude each other; the override wins over the file
    rivals = {"d_sae": "expansion_factor", "k": "k_fraction", "training_tokens": "training_steps"}
    for one, other in rivals.items():
        if last in (one, other):
            at.pop(other if last == one else one, None)


def _build_logger(raw: Mapping[str, Any]) -> TrackingConfig:
    hints = _hints(TrackingConfig)
    _check_keys(raw, hints, section="logger")
    values = {key: _typed(f"logger.{key}", value, hints[key]) for key, value in raw.items()}
    return TrackingConfig(**values)
