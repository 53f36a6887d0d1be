"""The model and the text that SAEs are evaluated on: those of a run, or of metadata; whether SAEs share them."""

import os
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sae_lens import SAE
from sae_lens.constants import SAE_CFG_FILENAME

from sae_lens_abstopk.model.hook_places import residual_layer
from sae_lens_abstopk.model.language_model import PROCESSING, processing_of, recorded_options
from sae_lens_abstopk.model.model_spec import ModelSpec
from sae_lens_abstopk.saes.loading import read_by
from sae_lens_abstopk.system.errors import ConfigError, errors_in, require_given
from sae_lens_abstopk.system.files import without_path
from sae_lens_abstopk.system.typed_values import from_keys, typed_value
from sae_lens_abstopk.system.yaml_files import CONFIG_FILENAME, run_configs
from sae_lens_abstopk.text.documents import CONVERSATIONS, TOKENS, first_document, open_dataset
from sae_lens_abstopk.text.text_spec import TextSpec
from sae_lens_abstopk.vectors.vector_spec import VectorSpec

# keys that decide the held-out documents of a run, and their text
HELD_OUT_BY = (
    *("dataset_path", "dataset_name", "split", "streaming", "column_name", "use_chat_formatting", "held_out_every"),
)
TEXT_OPTIONS = {"name": "dataset_name", "split": "split", "column": "column_name"}
"""Options after the path of a text, with the config keys that they set."""
EXPLAINED = (
    " Configuration, split and column of a text are named after its path: --text "
    "PATH,name=CONFIGURATION,split=SPLIT,column=COLUMN (text= in Python)."
)
# options that only HookedTransformer has, in addition to its weight processing
HOOKED_TRANSFORMER_OPTIONS = PROCESSING | {"checkpoint_index", "checkpoint_value", "n_devices"}
WEIGHTS = {
    *("dtype", "torch_dtype", "revision", "subfolder", "variant", "gguf_file"),
    *("checkpoint_index", "checkpoint_value"),
}
"""Options that select the weights of a model and their dtype."""
# options that an SAE's metadata, which are untrusted, may set
FROM_METADATA = PROCESSING | WEIGHTS | {"attn_implementation", "quantization_config", "device_map", "n_devices"}


class SAESpecs(NamedTuple):
    """The model and the text of an SAE."""

    model: ModelSpec
    text: TextSpec
    started_elsewhere: bool = False
    """Whether its run started from another run's weights, which may have seen the held-out text."""


def specs_of_sae(
    folder: Path,
    sae: SAE[Any],
    *,
    model_name: str | None = None,
    text: str | None = None,
    device: str = "auto",
    is_loaded: bool = False,
) -> SAESpecs:
    """
    Return the model and the text of an SAE: its run's, or those in its metadata.

    ``folder`` is that of the SAE; for a Hub release, its name. The config of a run at another hook is ignored.
    ``model_name``, ``text`` and ``device`` replace the recorded ones. ``text`` is a data set or file: ``PATH``, or
    ``PATH,name=CONFIGURATION,split=SPLIT,column=COLUMN`` with any of these. A named column is read as plain text, as is
    the column ``text`` if the text lacks the run's column. A model that ``is_loaded`` needs no loading options.

    Raises:
        ConfigError: model, hook or text is unknown, or the metadata would run code that comes with the model.
    """
    metadata, other = sae.cfg.metadata, ""
    for path, raw in run_configs(folder):
        if "hook_name" not in raw:
            continue
        keys = raw | {"model_name": model_name or raw.get("model_name"), "shuffle": False}
        for key in ("model_name", "dataset_path"):
            keys[key] = os.path.expanduser(str(keys.get(key) or ""))
        if keys.get("layer") is not None:
            keys["hook_name"] = str(keys["hook_name"]).replace("{layer}", str(keys["layer"]))
        if keys.get("use_cached_activations"):  # cached activations are of all documents
            keys["held_out_every"] = None
        if text:
            keys |= _text_instead(text, keys)
        if metadata.hook_name in (None, keys["hook_name"]):
            started_elsewhere = keys.get("from_pretrained_path") is not None
            with errors_in(f"{path}: "):
                model = from_keys(ModelSpec, keys | {"device": device})
                return SAESpecs(model, from_keys(TextSpec, keys), started_elsewhere)
        other = f" ({path} is of the hook {keys['hook_name']}, and the SAE reads {metadata.hook_name})"
    held_out = f"{folder}: a {CONFIG_FILENAME} that names its held-out text{other}"
    text = require_given(held_out, text, "give --text FILE_OR_DATASET")
    model = model_of_metadata(folder, sae, model_name=model_name, device=device, is_loaded=is_loaded)
    keys = {
        "context_size": metadata.context_size or 128,
        "prepend_bos": metadata.prepend_bos is None or bool(metadata.prepend_bos),
        "sequence_separator_token": metadata.get("sequence_separator_token", "bos"),
        "seqpos_slice": tuple(metadata.seqpos_slice or (None,)),
        "store_batch_size_prompts": 8,
    }
    return SAESpecs(model, from_keys(TextSpec, keys | text_keys("text", text)))


def model_of_metadata(
    folder: Path, sae: SAE[Any], *, model_name: str | None = None, device: str = "auto", is_loaded: bool = False
) -> ModelSpec:
    """Return the model and the hook in the metadata of an SAE; arguments and errors as in :func:`specs_of_sae`."""
    metadata = sae.cfg.metadata
    require_given(f"{folder}: hook_name in the SAE's metadata", metadata.hook_name, "add it to its cfg.json")
    name = os.path.expanduser(model_name or metadata.model_name or "")
    require_given(f"{folder}: model_name in the SAE's metadata", name, "give --model NAME")
    options = _load_options(metadata.model_from_pretrained_kwargs or {}, folder, is_loaded=is_loaded)
    return ModelSpec(
        model_name=name,
        model_class_name=metadata.model_class_name or _model_class(metadata.hook_name, options),
        model_from_pretrained_kwargs=options,
        hook_name=metadata.hook_name,
        hook_head_index=metadata.hook_head_index,
        device=device,
    )


def was_held_out(text: TextSpec, source: str | Path, sae: SAE[Any]) -> bool:
    """Return whether the run of ``sae`` certainly held out the same documents as ``text``."""
    try:
        own = specs_of_sae(Path(source), sae)
    except ConfigError:  # the training text is unknown
        return False
    return not own.started_elsewhere and all(getattr(own.text, key) == getattr(text, key) for key in HELD_OUT_BY)


def _load_options(recorded: Any, folder: Path, *, is_loaded: bool) -> dict[str, Any]:
    """Return the model's loading options that an SAE's metadata, which are untrusted, may set."""
    recorded = typed_value("model_from_pretrained_kwargs", recorded, Mapping[str, Any])
    if is_loaded:
        return {key: value for key, value in recorded.items() if key in PROCESSING}
    runs_code = [key for key in ("trust_remote_code", "code_revision") if recorded.get(key)]
    if "/" in str(recorded.get("attn_implementation")):  # a kernel on the Hub runs its own code
        runs_code.append("attn_implementation")
    if runs_code:
        raise ConfigError(
            f"{folder}: the SAE's metadata set {', '.join(runs_code)}, which would run code from the Hub; an SAE does "
            "not decide that. If you trust that code, load the model yourself and pass it to explore(model=...), or "
            f"put the {CONFIG_FILENAME} of the SAE's run, with this in its model_from_pretrained_kwargs, beside "
            f"{SAE_CFG_FILENAME}."
        )
    if ignored := sorted(key for key, value in recorded.items() if value and key not in FROM_METADATA):
        warnings.warn(
            f"{folder}: {', '.join(map(repr, ignored))} of the SAE's model_from_pretrained_kwargs are ignored; the "
            f"{CONFIG_FILENAME} of its run, beside the SAE, can set them",
            stacklevel=3,
        )
    return {key: value for key, value in recorded.items() if key in FROM_METADATA}


def _text_instead(text: str, run: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys that replace a run's text; read like the run's if its columns allow, else as plain text."""
    keys: dict[str, Any] = {"dataset_name": None, "split": "train", **text_keys("text", text)}
    plain = {"column_name": "text", "use_chat_formatting": False, "is_dataset_tokenized": False}
    if "column_name" in keys:
        return plain | keys
    changed = [key for key, value in plain.items() if run.get(key, value) != value]
    if changed:
        named = run.get("column_name", "text")
        known = {"column_name": {named}, "use_chat_formatting": {*CONVERSATIONS}, "is_dataset_tokenized": {*TOKENS}}
        path, options = keys["dataset_path"], {"name": keys["dataset_name"], "split": keys["split"]}
        with errors_in("", EXPLAINED):
            dataset = open_dataset(path, streaming=run.get("streaming", True), **options)
            columns = first_document(dataset, path).keys()
        keys |= {key: plain[key] for key in changed if not (known[key] | ({named} - {"text"})) & columns}
    return keys


def text_keys(option: str, text: str) -> dict[str, Any]:
    """Return the config keys that the value of ``--text`` or ``--data`` sets; an existing path has no options."""
    text = os.path.expanduser(text)
    path, *options = [text] if Path(text).exists() else re.split(r",(?=\w+=)", text)
    keys = {"dataset_path": path}
    for pair in options:
        name, _, value = pair.partition("=")
        if name not in TEXT_OPTIONS or not value:
            raise ConfigError(
                f"{option}={text!r}: {pair!r} is not understood; a path may be followed by "
                f"{', '.join(f'{known}=VALUE' for known in TEXT_OPTIONS)}."
            )
        keys[TEXT_OPTIONS[name]] = value
    return keys


def name_with_options(spec: TextSpec | VectorSpec) -> str:
    """Return the name of a data set, without the path of a local file, with the options that open it."""
    options = {"name": spec.dataset_name, "split": spec.split, "column": spec.column_name}
    usual = {"name": None, "split": "train", "column": "text"}
    named = [f"{key}={value}" for key, value in options.items() if value != usual[key]]
    return ",".join([without_path(spec.dataset_path), *named])


def _model_class(hook_name: str, options: Mapping[str, Any]) -> str:
    """Guess the class of the model from the hook of an SAE."""
    if "hook_" not in hook_name:
        return "AutoModelForCausalLM"
    return "HookedTransformer" if HOOKED_TRANSFORMER_OPTIONS & options.keys() else "TransformerBridge"


def require_one_place(saes: Sequence[SAE[Any]], *, same_model: bool = False) -> None:
    """
    Raise ConfigError if SAEs read different hooks or models, or activations of different widths.

    With ``same_model`` they read one model, whatever their metadata say.
    """

    def require_one(found: set[str], different: str, remedy: str) -> None:
        if len(found) > 1:
            raise ConfigError(f"the SAEs {different} ({', '.join(sorted(found))}); {remedy}.")

    if len({_place(sae) for sae in saes}) > 1:
        require_one({read_by(sae) for sae in saes}, "read different hooks", "take those of one hook at a time")
    remedy = "evaluate each by itself, and combine the results with `abstopk report`"
    require_one({repr(weights_of(sae)) for sae in saes}, "were trained on different weights of their model", remedy)
    remedy = "they are of different models, so give those of one model at a time"
    require_one({str(sae.cfg.d_in) for sae in saes}, "read activations of different widths", remedy)
    if not same_model:
        models = {Path(name).name for sae in saes if (name := sae.cfg.metadata.model_name)}
        remedy = (
            "give those of one model at a time, or, if these are names of the same model, choose one with --model NAME"
        )
        require_one(models, "are of different models", remedy)


def weights_of(sae: SAE[Any]) -> dict[str, Any]:
    """Return the options of the model weights that an SAE was trained on, without their dtype."""
    kwargs = recorded_options(sae)
    named = {key: kwargs[key] for key in sorted(WEIGHTS & kwargs.keys()) if kwargs[key] is not None}
    return {key: value for key, value in named.items() if key not in ("dtype", "torch_dtype")} | processing_of(sae)


def _place(sae: SAE[Any]) -> str | int:
    """Return the layer whose output an SAE reads, else the hook."""
    # with processed weights, activations differ from those of transformers
    layer = None if processing_of(sae) else residual_layer(str(sae.cfg.metadata.hook_name))
    return read_by(sae) if layer is None else layer
