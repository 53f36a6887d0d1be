"""Keys and presets for the terminal, and each key's meaning, from the docstrings."""

import re
from collections.abc import Iterable
from dataclasses import MISSING, dataclass, fields
from fractions import Fraction
from pathlib import Path
from typing import Any, get_type_hints

import docstring_parser
import yaml
from rich.table import Column, Table
from rich.text import Text
from sae_lens.registry import SAE_TRAINING_CLASS_REGISTRY

from sae_lens_abstopk.saes.loading import import_architectures
from sae_lens_abstopk.system.yaml_files import data_folder, read_yaml
from sae_lens_abstopk.training.config.checks import LOGGER_WITHOUT_EFFECT, WITHOUT_EFFECT
from sae_lens_abstopk.training.config.config_file import YAML, preset_names, read_raw, split_variant, variant_names
from sae_lens_abstopk.training.config.sae_section import NOT_IN_FILES
from sae_lens_abstopk.training.config.training_config import TrackingConfig, TrainingConfig

# keys that SAELens's docstrings leave out, and shorthands, which exist in files only
EXTRA = {
    "layer": ("int", "none", "Layer that takes the place of {layer} in hook_name and activation_cache."),
    "training_steps": ("int", "none", "Optimiser steps, in place of training_tokens."),
    "epochs": ("float", "none", "Times that each vector is trained on, in place of training_tokens."),
    "data": ("str", "none", "File of vectors (.npy, .safetensors, .parquet, .jsonl) or Hub id, as dataset_path."),
    "model": ("str", "none", "Language model, or sentence-transformers model that embeds texts, as model_name."),
    "column": ("str", "none", "Column of the vectors, or tensor of a .safetensors file, as column_name."),
    "companions": ("section", "{}", "SAEs trained in the same pass, by name, each with its keys that differ from sae."),
    "remove": ("list", "[]", "Keys of sae that are left at their defaults."),
    "sae": ("section", "required", "The SAE and its architecture."),
    "logger": ("section", "{}", "Logging, in SAELens's keys and a few more."),
    "sae.architecture": (
        "str",
        "abstopk",
        "An architecture of this package or of SAELens; a companion has that of sae.",
    ),
    "sae.k_fraction": ("float", "none", "k as a share of d_in, in place of k."),
    "sae.signed_expansion_factor": ("float", "none", "Signed latents as a multiple of d_in, in place of signed_share."),
    "sae.expansion_factor": ("float", "none", "d_sae as a multiple of d_in, in place of d_sae."),
    "sae.matryoshka_widths": ("list[int]", "[d_sae/16, d_sae/4, d_sae]", "Numbers of latents of the nested prefixes."),
    "sae.l1_coefficient": ("float", "1.0", "Weight of the L1 penalty."),
    "sae.l1_warm_up_steps": ("int", "0", "Steps over which the L1 penalty is warmed up."),
    "sae.lp_norm": ("float", "1.0", "Power of the sparsity penalty."),
    "sae.k": ("int | float", "100", "Latents a token keeps (on average over the batch in the batch architectures)."),
    "sae.d_in": ("int", "width of the model", "Width of the activations."),
    "sae.d_sae": ("int", "required", "Number of latents."),
    "sae.normalize_activations": ("str", "none", "How the activations are scaled before the encoder."),
    "sae.apply_b_dec_to_input": ("bool", "true", "Subtract b_dec from the activations before the encoder."),
    "sae.reshape_activations": ("str", "none", "hook_z flattens attention heads."),
    "sae.dtype": ("str", "float32", "Type of the parameters."),
    "sae.device": ("str", "cpu", "Set by the key device of the run."),
    "logger.wandb_log_frequency": ("int", "10", "Steps between two rows of metrics.csv and of every other logger."),
    "logger.wandb_project": ("str", "sae_lens_training", "Weights & Biases project."),
    "logger.wandb_entity": ("str | null", "null", "User or team of that project; by default that of the login."),
    "logger.wandb_id": ("str | null", "null", "Id of the Weights & Biases run; by default a new one."),
    "logger.run_name": (
        "str | null",
        "null",
        "Name in Weights & Biases and MLflow; by default that of the run folder.",
    ),
    "logger.log_weights_to_wandb": ("bool", "true", "Log the weights too, with the other files of the run."),
}


@dataclass(frozen=True)
class KeyDoc:
    """One key of the config."""

    name: str
    """Dotted name: ``lr``, ``sae.k``, ``logger.log_to_wandb``."""
    type: str
    default: str
    meaning: str

    def __str__(self) -> str:
        default = "required" if self.default == "required" else f"default {self.default}"
        return f"{self.type}, {default}. {self.meaning}"


def key_docs() -> dict[str, KeyDoc]:
    """Return every key of a config file that has an effect, by dotted name, sorted."""
    docs = {key: KeyDoc(key, *entry) for key, entry in EXTRA.items()}
    of_saes = [("sae.", config_class) for _, config_class in SAE_TRAINING_CLASS_REGISTRY.values()]
    for prefix, config_class in (("", TrainingConfig), *of_saes, ("logger.", TrackingConfig)):
        for doc in _class_docs(config_class, prefix):
            docs.setdefault(doc.name, doc)
    without_effect = {*WITHOUT_EFFECT, *(f"logger.{key}" for key in LOGGER_WITHOUT_EFFECT)}
    return {key: doc for key, doc in sorted(docs.items()) if key not in without_effect}


def _class_docs(config_class: type, prefix: str) -> Iterable[KeyDoc]:
    hints = get_type_hints(config_class)
    meanings: dict[str, str] = {}
    for ancestor in reversed(config_class.__mro__):
        for entry in docstring_parser.parse(ancestor.__doc__ or "").params:
            first, *_ = re.split(r"(?<=[.?!])\s+(?=[A-Z])", " ".join((entry.description or "").split()))
            meanings[entry.arg_name] = first.removesuffix(".") + "."
    for field in fields(config_class):
        if field.name not in NOT_IN_FILES:
            meaning = meanings.get(field.name, f"See {config_class.__name__} in SAELens.")
            yield KeyDoc(prefix + field.name, _type_name(hints[field.name]), _default(field), meaning)


def _type_name(hint: Any) -> str:
    name = hint.__name__ if isinstance(hint, type) else str(hint)
    name = name.replace("typing.", "")
    name = re.sub(r"Literal\[([^\]]*)\]", lambda m: m[1].replace("'", "").replace(", ", " | "), name)
    name = re.sub(r"Union\[(.*)\]", lambda m: m[1].replace(", ", " | ").replace("NoneType", "None"), name)
    return re.sub(r"\btuple\[int \| None, \.\.\.\]", "list", name).replace("None", "null")


def _default(field: Any) -> str:
    value = field.default if field.default_factory is MISSING else field.default_factory()
    if value is MISSING or value == "":
        return "required"
    if value is None or value == (None,):
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def keys_table() -> Table:
    import_architectures()
    table = Table(Column("key", no_wrap=True), Column("type, default and meaning"), box=None, pad_edge=False)
    for doc in key_docs().values():
        # Text, because the table would read list[int] as markup
        table.add_row(Text(doc.name), Text(str(doc)))
    return table


def presets_table() -> Table:
    """Return a table of the presets and the SAEs that they train."""
    # widths that leave room for the model
    columns = ("preset", Column("model", overflow="fold"), Column("layer", justify="right"))
    columns += (Column("architecture", max_width=13), "signed", Column("k", justify="right"))
    variants = ", ".join(variant_names())
    usage = f"With a variant, after a preset or a file: {variants}, e.g. `abstopk train mine.yaml/topk`."
    table = Table(*columns, box=None, pad_edge=False, caption=usage, caption_justify="left")
    for name in preset_names():
        raw, _ = read_raw(name)
        sae, signed = raw.get("sae", {}), "all"
        if (given := sae.get("signed_expansion_factor")) is not None:
            times, parts = Fraction(given).limit_denominator(1000).as_integer_ratio()
            signed = f"{times if times > 1 else ''}d_in{f'/{parts}' if parts > 1 else ''}"
        architectures = " + ".join([str(sae.get("architecture")), *raw.get("companions", {})])
        model, layer = (str(raw.get(key, "-")) for key in ("model_name", "layer"))
        table.add_row(name, model, layer, architectures, signed, str(sae.get("k")))
    return table


def preset_text(name: str) -> str:
    """Return the text of a config file or preset, or of one merged with a variant."""
    raw, _ = read_raw(name)
    base, variant = split_variant(name)
    if variant:
        merged = yaml.safe_dump(raw, sort_keys=False, allow_unicode=True)
        return f"# {base} with the variant {variant}\n{merged}"
    if Path(base).suffix in YAML:
        return Path(base).read_text(encoding="utf-8")
    file = data_folder("training_configs") / f"{base}.yaml"
    text = file.read_text(encoding="utf-8")
    if "dataset_path" not in raw:
        return text
    return text.replace(read_yaml(file)["dataset_path"], raw["dataset_path"])  # the text beside it, from anywhere
