"""The README of a release, made from its manifest."""

import math
import re
from html import escape
from importlib.resources import files
from typing import Any

from huggingface_hub import ModelCardData
from jinja2 import Environment, StrictUndefined

from sae_lens_abstopk.evaluation.reports.reconstruction_tables import LOSS_TOKENS
from sae_lens_abstopk.evaluation.results.facts import code_text
from sae_lens_abstopk.hub.manifest import PLOT_FILENAME, Manifest, NumberWithInterval
from sae_lens_abstopk.hub.results import CONCEPT_NAMES, RESULT_NAMES
from sae_lens_abstopk.model.hook_places import transformer_lens_name
from sae_lens_abstopk.saes.load_note import needed_import
from sae_lens_abstopk.saes.signed import SIGNED_ARCHITECTURES

# the settings in the table of training: heading, key of the metadata
SETTINGS = {
    "model": "model_name",
    "text": "dataset_path",
    "training tokens": "training_tokens",
    "tokens per step": "train_batch_size_tokens",
    "context": "context_size",
    "architecture": "training_architecture",
    "k": "k",
    "learning rate": "lr",
}
# metadata about tokens left out of training
TOKEN_SELECTION = ("seqpos_slice", "exclude_special_tokens", "max_activation_norm")
TAGS = ["saelens", "sparse-autoencoder", "mechanistic-interpretability"]


def model_card(manifest: Manifest, repo_id: str, revision: str = "main") -> str:
    """Return the text of ``README.md`` for a release on the branch ``revision`` of the repository ``repo_id``."""
    saes = manifest.saes
    signed = {sae_id: sae for sae_id, sae in saes.items() if sae.architecture in SIGNED_ARCHITECTURES}
    own = {sae_id: sae for sae_id, sae in saes.items() if sae.mirror_of is None}
    results = {sae_id: sae.results for sae_id, sae in own.items() if sae.results is not None}
    concepts = [concept for each in results.values() for concept in each.concepts]
    of_tokens = {sae_id: sae for sae_id, sae in own.items() if sae.codes == "tokens"}
    axes = {sae_id: found.axes for sae_id, found in results.items() if found.axes}
    chosen = [sae_id for sae_id, found in axes.items() if any(axis.win_rate for axis in found)]
    base_models = sorted({sae.base_model for sae in saes.values() if sae.base_model})
    metadata = ModelCardData(
        library_name="saelens",
        license=manifest.license,
        base_model=base_models[0] if len(base_models) == 1 else base_models or None,
        tags=TAGS + (["abstopk"] if signed else []),
    )
    environment = Environment(
        undefined=StrictUndefined, keep_trailing_newline=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "number": number_text,
        "cell": cell_text,
        "bold": bold_text,
        "code": code_text,
        "setting": setting_text,
    }
    template = files("sae_lens_abstopk.hub").joinpath("model_card.md.jinja").read_text(encoding="utf-8")
    imports = {sae_id: needed_import(sae.architecture) for sae_id, sae in saes.items()}
    lens_names = {sae_id: transformer_lens_name(str(sae.training.get("hook_name"))) for sae_id, sae in saes.items()}
    return environment.from_string(template).render(
        metadata=metadata.to_yaml().strip(),
        repo_id=repo_id,
        revision=revision,
        models=sorted({str(sae.training["model_name"]) for sae in own.values() if "model_name" in sae.training}),
        saes=saes,
        own=own,
        signed=signed,
        results=results,
        of_tokens=of_tokens,
        of_vectors={sae_id: sae for sae_id, sae in own.items() if sae.codes != "tokens"},
        axes=axes,
        unlabelled=[sae_id for sae_id in own if sae_id not in axes],
        chosen=chosen,
        in_transformer_lens={sae_id: name for sae_id, name in lens_names.items() if name},
        of_bridge=any(name and name.endswith(".hook_out") for name in lens_names.values()),
        of_transformers=any("hook_" not in (sae.training.get("hook_name") or "hook_") for sae in of_tokens.values()),
        settings=SETTINGS,
        inf=math.inf,
        weights={
            sae_id: sae.training["model_weights"] for sae_id, sae in own.items() if "model_weights" in sae.training
        },
        selects=any(key in sae.training for sae in own.values() for key in TOKEN_SELECTION),
        stock=[sae_id for sae_id, module in imports.items() if module is None],
        by_import={
            module: [sae_id for sae_id, needed in imports.items() if needed == module]
            for module in imports.values()
            if module
        },
        rough=[
            sae_id
            for sae_id, found in results.items()
            if "recovered_zero" in found.numbers and (found.loss_tokens or found.tokens) < LOSS_TOKENS
        ],
        loss_tokens=LOSS_TOKENS,
        steered=any("to_a" in concept.numbers for concept in concepts),
        unmatched=any(concept.unmatched for concept in concepts),
        concept_kinds={own[sae_id].codes for sae_id, found in results.items() if found.concepts},
        intervals=any(number.low is not None for found in results.values() for number in found.numbers.values()),
        canonical=[sae_id for sae_id, sae in signed.items() if sae.gauge == "canonical"],
        as_trained=[sae_id for sae_id, sae in signed.items() if sae.gauge == "as trained" and sae_id not in chosen],
        plots={sae_id: path for sae_id, sae in own.items() if (path := f"{sae_id}/{PLOT_FILENAME}") in sae.files},
        names=_columns(RESULT_NAMES, [each.numbers for each in results.values()]),
        concept_names=_columns(CONCEPT_NAMES, [concept.numbers for concept in concepts]),
        license=manifest.license,
        versions=", ".join(f"{name} {version}" for name, version in manifest.versions.items()),
    )


def _columns(names: dict[str, tuple[str, str]], rows: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    """Return the key, heading and format of each number that any of ``rows`` has."""
    return [(key, *shown) for key, shown in names.items() if any(key in row for row in rows)]


def number_text(number: NumberWithInterval | None, form: str) -> str:
    """Return a number with its interval if it has one."""
    if number is None:
        return "-"
    if number.low is None or number.high is None:
        return f"{number.value:{form}}"
    return f"{number.value:{form}} [{number.low:{form}}, {number.high:{form}}]"


# what Markdown would not show as it is: these anywhere, and others only where they mean something
MARKUP = re.compile(r"""[*`|~$]|(?<![^\W_])_|_(?![^\W_])|\](?=\()|\\(?=[!-/:-@\[-`{-~]|$)""")
HTML = re.compile(r"<(?=[A-Za-z/!?])|&(?=#?\w+;)")


def cell_text(text: str) -> str:
    """Format text for a table cell: on one line, with signs escaped only where they would be Markdown or HTML."""
    text = re.sub(r"\r\n?|[\n\v\f\x85\u2028\u2029]", "⏎", text).replace("\t", " ")
    return HTML.sub(lambda sign: escape(sign[0]), MARKUP.sub(r"\\\g<0>", text))


def bold_text(token: str) -> str:
    """Format a token in bold; Markdown's own is none beside punctuation."""
    return f"<b>{cell_text(token) if token.strip(' ') else '␣'}</b>"


def setting_text(value: Any) -> str:
    """Return a recorded setting, and a dash for one that is not recorded."""
    return "-" if value is None else f"{value:,}" if isinstance(value, int) else cell_text(str(value))
