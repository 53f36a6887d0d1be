"""Show presets in the terminal: a table of all, or the file of one."""

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import yaml
from rich.table import Column, Table

from sae_lens_abstopk.system.yaml_files import data_folder, read_yaml
from sae_lens_abstopk.training.config.keys import annotate
from sae_lens_abstopk.training.config.presets import YAML, preset_names, read_raw, variant_names


def presets_table() -> Table:
    """Return a table of the presets and the SAEs that they train."""
    architecture = Column("architecture", max_width=len("batch_abstopk"))  # leaves room for the model
    columns = ("preset", "model", "layer", architecture, "signed", "k")
    table = Table(*columns, caption=_how_to_combine(), caption_justify="left")
    for name in preset_names():
        raw, _ = read_raw(name)
        sae = raw.get("sae", {})
        companions = "".join(f" + {companion}" for companion in raw.get("companions", {}))
        table.add_row(
            name,
            str(raw.get("model_name")),
            str(raw.get("layer")),
            f"{sae.get('architecture')}{companions}",
            _signed(sae),
            str(sae.get("k")),
        )
    return table


def _signed(sae: Mapping[str, Any]) -> str:
    """Return the number of latents that may fire on both sides."""
    if (given := sae.get("signed_expansion_factor")) is None:
        return "all"
    times, parts = Fraction(given).limit_denominator(1000).as_integer_ratio()
    return f"{times if times > 1 else ''}d_in{f'/{parts}' if parts > 1 else ''}"


def _how_to_combine() -> str:
    return f"With a variant: PRESET/{{{', '.join(variant_names())}}}, e.g. `abstopk train pythia-70m/topk layer=4`."


def preset_text(name: str) -> str:
    """Return the text of a config file, of a preset, or of a preset merged with a variant."""
    raw, _ = read_raw(name)
    if Path(name).suffix in YAML:
        return Path(name).read_text(encoding="utf-8")
    model, _, variant = name.partition("/")
    if not variant:
        file = data_folder("training_configs") / f"{model}.yaml"
        text = file.read_text(encoding="utf-8")
        return text.replace(read_yaml(file)["dataset_path"], raw["dataset_path"])  # the text beside it, from anywhere
    return f"# {model} with the variant {variant}\n" + annotate(
        yaml.safe_dump(raw, sort_keys=False, allow_unicode=True)
    )
