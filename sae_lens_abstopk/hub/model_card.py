"""The README of a release, made from its manifest alone."""

import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from huggingface_hub import ModelCardData
from jinja2 import Environment, StrictUndefined

from sae_lens_abstopk.evaluation.reports.reconstruction_tables import LOSS_TOKENS
from sae_lens_abstopk.evaluation.results.examples import code_text
from sae_lens_abstopk.hub.manifest import Manifest, NumberWithInterval
from sae_lens_abstopk.hub.plot import PLOT_FILENAME
from sae_lens_abstopk.hub.results import CONCEPT_NAMES, RESULT_NAMES
from sae_lens_abstopk.model.hook_places import transformer_lens_name
from sae_lens_abstopk.saes.load_note import needed_import
from sae_lens_abstopk.saes.signed import SIGNED_ARCHITECTURES

TEMPLATE = "model_card.md.jinja"
# of the metadata, what training left out
SELECTION_KEYS = ("seqpos_slice", "exclude_special_tokens", "max_activation_norm")
TAGS = ["saelens", "sparse-autoencoder", "mechanistic-interpretability"]


def model_card(manifest: Manifest, repo_id: str, revision: str = "main") -> str:
    """The text of ``README.md`` of the release ``manifest`` on the branch ``revision`` of the repository ``repo_id``."""
    saes = manifest.saes
    signed = [sae_id for sae_id, sae in saes.items() if sae.architecture in SIGNED_ARCHITECTURES]
    own = {sae_id: sae for sae_id, sae in saes.items() if sae.mirror_of is None}
    measured = {sae_id: sae for sae_id, sae in own.items() if sae.results is not None}
    numbers = [number for sae in measured.values() if sae.results for number in sae.results.numbers.values()]
    concepts = [concept for sae in measured.values() if sae.results for concept in sae.results.concepts]
    models = sorted({str(sae.training["model_name"]) for sae in own.values() if "model_name" in sae.training})
    base_models = sorted({sae.base_model for sae in saes.values() if sae.base_model})
    plots = {sae_id: f"{sae_id}/{PLOT_FILENAME}" for sae_id in own}
    in_transformer_lens = {
        sae_id: name
        for sae_id, sae in saes.items()
        if (name := transformer_lens_name(str(sae.training.get("hook_name"))))
    }
    metadata = ModelCardData(
        library_name="saelens",
        license=manifest.license,
        base_model=base_models[0] if len(base_models) == 1 else base_models or None,
        tags=TAGS + (["abstopk"] if signed else []),
    )
    environment = Environment(
        undefined=StrictUndefined, keep_trailing_newline=True, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(files("sae_lens_abstopk.hub").joinpath(TEMPLATE).read_text(encoding="utf-8"))
    imports = {sae_id: needed_import(sae.architecture) for sae_id, sae in saes.items()}
    return template.render(
        metadata=metadata.to_yaml().strip(),
        title=repo_id.rpartition("/")[2],
        repo_id=repo_id,
        revision=revision,
        model=", ".join(models) or "a language model whose name was not recorded",
        saes=saes,
        own=own,
        signed=[f"`{sae_id}`" for sae_id in signed],
        partly_signed={
            sae_id: saes[sae_id] for sae_id in signed if saes[sae_id].signed_latents not in (None, saes[sae_id].d_sae)
        },
        in_transformer_lens=in_transformer_lens,
        of_bridge=any(name.endswith(".hook_out") for name in in_transformer_lens.values()),
        of_transformers=any("hook_" not in (sae.training.get("hook_name") or "hook_") for sae in saes.values()),
        selects=any(key in sae.training for sae in own.values() for key in SELECTION_KEYS),
        stock=[sae_id for sae_id, module in imports.items() if module is None],
        by_import={
            module: [sae_id for sae_id, needed in imports.items() if needed == module]
            for module in imports.values()
            if module
        },
        mirrors=[sae_id for sae_id, sae in saes.items() if sae.mirror_of],
        measured=measured,
        rough=[
            f"`{sae_id}`"
            for sae_id, sae in measured.items()
            if sae.results
            and "recovered_zero" in sae.results.numbers
            and (sae.results.loss_tokens or sae.results.tokens) < LOSS_TOKENS
        ],
        loss_tokens=LOSS_TOKENS,
        signed_architectures=SIGNED_ARCHITECTURES,
        steered=any("to_a" in concept.numbers for concept in concepts),
        unmatched=any(concept.unmatched for concept in concepts),
        intervals=any(number.low is not None for number in numbers),
        plots={sae_id: path for sae_id, path in plots.items() if path in own[sae_id].files},
        canonical=[f"`{sae_id}`" for sae_id in signed if saes[sae_id].gauge == "canonical"],
        as_trained=[f"`{sae_id}`" for sae_id in signed if saes[sae_id].gauge == "as trained"],
        concept_names=[
            (key, heading, form)
            for key, (heading, form) in CONCEPT_NAMES.items()
            if any(key in concept.numbers for concept in concepts)
        ],
        names=[
            (key, heading, form)
            for key, (heading, form) in RESULT_NAMES.items()
            if any(sae.results and key in sae.results.numbers for sae in measured.values())
        ],
        load=lambda sae_id: load_lines(repo_id, sae_id, revision, dtype=saes[sae_id].dtype),
        number=number_text,
        cell=cell_text,
        code=code_text,
        bold=bold_text,
        training=training_text,
        license=manifest.license,
        versions=", ".join(f"{name} {version}" for name, version in manifest.versions.items()),
    )


def load_lines(repo_id: str, sae_id: str, revision: str, *, dtype: str = "float32") -> str:
    """Python that loads an SAE of a release as it is stored; SAELens itself reads ``main`` alone, and as float32 unless told."""
    if revision == "main":
        as_stored = "" if dtype == "float32" else f', dtype="{dtype}"'
        return f'sae = SAE.from_pretrained("{repo_id}", "{sae_id}"{as_stored})'
    return (
        "from huggingface_hub import snapshot_download\n\n"
        f'release = snapshot_download("{repo_id}", revision="{revision}", allow_patterns="{sae_id}/*")\n'
        f'sae = SAE.load_from_disk(f"{{release}}/{sae_id}")'
    )


def number_text(number: NumberWithInterval | None, form: str) -> str:
    """A number with its interval where there is one."""
    if number is None:
        return "-"
    if number.low is None or number.high is None:
        return f"{number.value:{form}}"
    return f"{number.value:{form}} [{number.low:{form}}, {number.high:{form}}]"


def cell_text(text: str) -> str:
    """Text for a table cell: on one line, with nothing that Markdown or HTML would take for its own."""
    text = re.sub(r"\r\n?|[\n\v\f\x85\u2028\u2029]", "⏎", text).replace("\t", " ")
    text = re.sub(r"([\\`*_\[\]|~$])", r"\\\1", text)
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def bold_text(token: str) -> str:
    """A token in bold; Markdown wants the space before it outside."""
    word = token.strip(" ")
    before, _, after = token.partition(word) if word else ("", "", "")
    return f"{before}**{cell_text(word) or '␣'}**{after}"


def training_text(training: Mapping[str, Any]) -> str:
    """What is recorded of a training, as one sentence."""
    options = training.get("training_architecture_details") or {}
    facts = {key: value for key, value in training.items() if key not in ("hook_name", "training_architecture_details")}
    text = ", ".join(
        f"{key} {value:,}" if key == "training_tokens" else f"{key} {value}" for key, value in facts.items()
    )
    return (text or "nothing is recorded") + "".join(f"; {key} {value}" for key, value in options.items()) + "."
