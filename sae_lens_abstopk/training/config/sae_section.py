"""The section ``sae`` of a config file, and those of companions: architectures, shorthands, keys."""

from collections.abc import Iterable, Mapping
from typing import Any

from sae_lens.registry import SAE_TRAINING_CLASS_REGISTRY
from sae_lens.saes.sae import TrainingSAEConfig

import sae_lens_abstopk.saes  # noqa: F401  # registers the architectures
from sae_lens_abstopk.saes.loading import IMPORTS_VARIABLE, import_architectures
from sae_lens_abstopk.saes.traits import sparsity_coefficient
from sae_lens_abstopk.system.errors import (
    ConfigError,
    did_you_mean,
    errors_in,
    require_choice,
    require_given,
    require_one,
    require_range,
)
from sae_lens_abstopk.system.typed_values import field_types, typed_value
from sae_lens_abstopk.system.yaml_files import data_folder

NOT_IN_FILES = frozenset({"hook_eval", "sae_lens_version", "sae_lens_training_version", "metadata"})
"""Keys of SAELens's config that are deprecated or record versions."""
OUR_NAMES = {"abstopk": "sparse_abstopk", "sae_lens_abstopk": "abstopk"}
"""Architectures whose name in config files is not the registered one; SAELens's own is a baseline."""

SAE_SHORTHANDS = {"expansion_factor": "d_sae", "k_fraction": "k", "signed_expansion_factor": "signed_share"}
"""Shorthands that are multiples of ``d_in``, and the keys that they set."""
RENAMED = {"data": "dataset_path", "column": "column_name", "model": "model_name"}
"""Short names of keys of a run."""
RUN_SHORTHANDS = (
    *(("training_steps", "training_tokens"), ("epochs", "training_tokens"), ("epochs", "training_steps")),
    *RENAMED.items(),
)
"""Pairs of keys of a run of which one stands for the other."""


def conflicting(key: str) -> list[str]:
    """Return the keys that stand for the same as ``key``: the one given later wins."""
    pairs = (*SAE_SHORTHANDS.items(), *RUN_SHORTHANDS)
    return [other for pair in pairs for other in pair if key in pair and other != key]


def offered_architectures() -> list[str]:
    """Return the names that a config file may give as ``sae.architecture``."""
    return sorted({*OUR_NAMES, *SAE_TRAINING_CLASS_REGISTRY} - {OUR_NAMES["abstopk"]})


def sae_config_class(architecture: str, *, where: str = "sae") -> type[TrainingSAEConfig]:
    """Return the config class of an architecture by its name in a config file."""
    import_architectures()
    if architecture not in OUR_NAMES.values():
        remedy = f", or set {IMPORTS_VARIABLE} to the module that registers it"
        require_choice(f"{where}.architecture", architecture, offered_architectures(), remedy=remedy)
    return SAE_TRAINING_CLASS_REGISTRY[OUR_NAMES.get(architecture, architecture)][1]


def build_sae_config(raw: Mapping[str, Any], *, where: str = "sae") -> TrainingSAEConfig:
    """Build the SAE config of a section; a :class:`ConfigError` names ``where`` and the key."""
    raw = {key: value for key, value in raw.items() if key != "metadata"}
    types = _key_types(raw, where)
    name = str(raw.pop("architecture", "abstopk"))
    require_known_keys(raw, types, where=where, of=f" of the architecture {name}")
    values = {key: typed_value(f"{where}.{key}", value, types[key]) for key, value in raw.items()}
    for pair in SAE_SHORTHANDS.items():
        require_one({f"{where}.{key}": values.get(key) for key in pair}, or_none=True)
    if "expansion_factor" in values and "d_in" in values:
        values["d_sae"] = _multiple_of_d_in("expansion_factor", values, where)
    for key in ("d_in", "d_sae"):
        require_given(f"{where}.{key}", key in values, "give it, or for d_sae an expansion_factor")
    if "k_fraction" in values:
        values["k"] = _multiple_of_d_in("k_fraction", values, where)
    if "signed_expansion_factor" in values:
        values["signed_share"] = _multiple_of_d_in("signed_expansion_factor", values, where) / values["d_sae"]
    if name == "jumprelu" and "k" in values:
        require_one({f"{where}.{key}": values.get(key) for key in ("target_l0", "k")}, or_none=True)
        values["target_l0"] = float(values.pop("k"))
    with errors_in(f"{where}."):
        return sae_config_class(name, where=where)(**values)


def _multiple_of_d_in(shorthand: str, values: dict[str, Any], where: str) -> int:
    """Take a shorthand out of ``values`` and return its number of latents."""
    require_range(f"{where}.{shorthand}", values[shorthand], above=0)
    return max(1, round(values.pop(shorthand) * values["d_in"]))


def companion_section(sae: Mapping[str, Any], changes: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the section ``sae`` with a companion's changes, without keys that the companion's architecture lacks."""
    removed = typed_value(f"{where}.remove", changes.get("remove") or [], list[str])
    changes = {key: value for key, value in changes.items() if key != "remove"}
    replaced = {*removed, *(other for key in changes for other in conflicting(key))}
    merged = {key: value for key, value in sae.items() if key not in replaced} | changes
    keys = {"architecture", *_key_types(merged, where)}
    if "target_l0" in changes:
        keys -= {"k", "k_fraction"}
    if {"k", "k_fraction"} & changes.keys():
        keys -= {"target_l0"}
    return {key: value for key, value in merged.items() if key in changes or key in keys}


def apply_variant(raw: dict[str, Any], variant: Mapping[str, Any]) -> None:
    """
    Replace the SAE of a config by that of a variant, at the same width and L0, without companions.

    Keys that its architecture lacks are dropped, as are those of ``sae`` in the variant's list ``remove``.

    Raises:
        ConfigError: the variant holds L0 at the k of the config, and there is none.
    """
    for key in ("companions", "lr_multiples", "weight_seeds"):
        raw.pop(key, None)
    sae, targets = dict(raw.get("sae", {})), raw.pop("target_l0", {})
    if "sae" in targets and not {"k", "k_fraction"} & sae.keys():
        sae["k"] = targets["sae"]
    raw["sae"] = companion_section(sae, variant["sae"] | {"remove": variant.get("remove")}, "sae")
    if "target_l0" in variant:
        require_given("sae.k", "k" in sae, "set it in the config, since the variant holds L0 at it")
        raw["target_l0"] = {"sae": sae["k"]}


def require_known_keys(raw: Mapping[Any, Any], known: Iterable[str], *, where: str = "", of: str = "") -> None:
    """Raise if a section has unknown keys; for an SAE, name the architectures that have the key."""
    known = set(known) - NOT_IN_FILES
    for key in map(str, raw):
        if key in known:
            continue
        owners = [name for name in offered_architectures() if key in _key_types({"architecture": name}, "sae")]
        if of and owners:  # the key stayed when only the architecture was changed
            problem = f"{where}.{key} is not a key{of}, but of {', '.join(owners)}; {_remedy(key, where, of)}."
        else:
            meant = f"; did you mean 'sae.{key}'?" if owners and not where else did_you_mean(key, known)
            inside = f" in {where}" if where else ""
            problem = f"unknown key {key!r}{of}{inside}{meant}; `abstopk configs --keys` lists all."
        raise ConfigError(problem)


def _remedy(key: str, where: str, of: str) -> str:
    if where != "sae":
        return "leave it out"
    name = of.rpartition(" ")[2]
    needs_target = key == "k" and sparsity_coefficient(sae_config_class(name))
    remedy = "leave it out" + " and set target_l0.sae (in a sweep, in an entry of its own)" * bool(needs_target)
    if (data_folder("training_configs") / "variants" / f"{name}.yaml").is_file():
        remedy += f", or if a preset gives it, train the variant PRESET/{name}"
    return remedy


def _key_types(raw: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the keys that a section may have by its architecture, with their types."""
    name = str(raw.get("architecture", "abstopk"))
    types = field_types(sae_config_class(name, where=where))
    if name == "jumprelu" and raw.get("jumprelu_sparsity_loss_mode") == "quadratic":
        types["k"] = float
    return types | {shorthand: float for shorthand, target in SAE_SHORTHANDS.items() if target in types}
