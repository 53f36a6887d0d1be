"""The config that model and text of an evaluation are loaded by, from the run of an SAE or from its metadata."""

import os
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sae_lens import SAE, StandardTrainingSAEConfig
from sae_lens.constants import SAE_CFG_FILENAME

from sae_lens_abstopk.model.weight_processing import PROCESSING
from sae_lens_abstopk.system.errors import ConfigError
from sae_lens_abstopk.text.documents import first_document, open_dataset
from sae_lens_abstopk.training.config.checks import WITHOUT_EFFECT
from sae_lens_abstopk.training.config.config_file import build_config
from sae_lens_abstopk.training.config.presets import read_raw
from sae_lens_abstopk.training.config.training_config import TrainingConfig
from sae_lens_abstopk.training.run_folder import CONFIG_FILENAME

# what decides which documents a run keeps back, and what their text is
HELD_OUT_BY = (
    "dataset_path",
    "dataset_name",
    "split",
    "streaming",
    "column_name",
    "use_chat_formatting",
    "held_out_every",
)
# where SAELens looks for what is no plain text
_COLUMNS = {
    "use_chat_formatting": {"conversation", "conversations", "messages"},
    "is_dataset_tokenized": {"tokens", "input_ids"},
}
TEXT_OPTIONS = {"name": "dataset_name", "split": "split", "column": "column_name"}
"""What may follow the path of a text, and the config keys that these set."""
# options that HookedTransformer alone knows, beside what it does to weights
_OF_HOOKED_TRANSFORMER = PROCESSING | {"checkpoint_index", "checkpoint_value", "n_devices"}
# which weights of a model, and of what type
WEIGHTS = {
    "dtype",
    "torch_dtype",
    "revision",
    "subfolder",
    "variant",
    "gguf_file",
    "checkpoint_index",
    "checkpoint_value",
}
# what an SAE's metadata may say of how its model is loaded, as the SAE may be a stranger's
_FROM_METADATA = PROCESSING | WEIGHTS | {"attn_implementation", "quantization_config", "device_map", "n_devices"}


def evaluation_config(
    folder: Path,
    sae: SAE[Any],
    *,
    model_name: str | None = None,
    text: str | None = None,
    device: str = "auto",
    is_loaded: bool = False,
) -> TrainingConfig:
    """
    The config that model and text are loaded by: that of the run, or one made from the SAE's metadata.

    Args:
        folder: Of the SAE. One that is no folder of an SAE, as a Hub release, names it in errors alone.
        sae: The SAE; a config of another hook than its own is not that of its run.
        model_name: Model to run instead of the one recorded.
        text: Dataset or file to read instead of the run's held-out text: ``PATH``, or
            ``PATH,name=CONFIGURATION,split=SPLIT,column=COLUMN`` with any of these. A column that is named is read as plain
            text; where none is and the text lacks the column, the conversations or the token ids that the run read, its
            column ``text`` is.
        device: For the model, whatever the run had.
        is_loaded: Whether the model is in memory, so that nothing decides any more how it is loaded.

    Raises:
        ConfigError: model, hook or text are unknown, or the SAE's metadata would have code run that comes with the model.
    """
    metadata, other = sae.cfg.metadata, ""
    beside = (folder / CONFIG_FILENAME, folder.parent / CONFIG_FILENAME)
    for candidate in beside if (folder / SAE_CFG_FILENAME).is_file() else ():
        if not candidate.is_file():
            continue
        raw, where = read_raw(candidate)
        if not {"sae", "hook_name"} <= raw.keys():  # of another tool
            continue
        # what no evaluation reads may be refused by now, where the run is an older one
        unread = {*WITHOUT_EFFECT, "b_dec_init_method", "dtype", "logger", "lr_multiples", "target_l0"}
        raw = {key: value for key, value in raw.items() if key not in unread}
        raw |= {"resume_from_checkpoint": None, "shuffle": False, "perf_log_freq": 0}
        # only its width is looked at, and its architecture may be one that is registered nowhere by now
        raw |= {"sae": {"architecture": "standard", "d_in": sae.cfg.d_in, "d_sae": sae.cfg.d_sae}, "companions": {}}
        if raw.get("use_cached_activations"):  # they are of all documents, and no evaluation reads them
            raw |= {"held_out_every": None, "use_cached_activations": False, "cached_activations_path": None}
        raw |= {"device": device, "llm_device": None, "act_store_device": None}
        raw |= {"model_name": model_name} if model_name else {}
        raw |= _read_as(text, raw) if text else {}
        cfg = build_config(raw, where=where)
        if metadata.hook_name in (None, cfg.hook_name):
            return cfg
        other = f" ({candidate} is of the hook {cfg.hook_name}, and the SAE reads {metadata.hook_name})"
    if text is None:
        raise ConfigError(
            f"{folder} has no {CONFIG_FILENAME} that names its held-out text{other}; give --text FILE_OR_DATASET."
        )
    if not (model_name or metadata.model_name) or not metadata.hook_name:
        lacking = "model_name; give --model NAME" if metadata.hook_name else "hook_name; add it to its cfg.json"
        raise ConfigError(f"{folder}: the SAE's metadata lack {lacking}.")
    kwargs = _loading_options(metadata.model_from_pretrained_kwargs or {}, folder, is_loaded=is_loaded)
    return TrainingConfig(
        **_text_keys(text),
        sae=StandardTrainingSAEConfig(d_in=sae.cfg.d_in, d_sae=sae.cfg.d_sae),  # only its width is looked at
        model_name=model_name or metadata.model_name,
        model_class_name=metadata.model_class_name or _class_of_model(metadata.hook_name, kwargs),
        model_from_pretrained_kwargs=kwargs,
        hook_name=metadata.hook_name,
        hook_head_index=metadata.hook_head_index,
        context_size=metadata.context_size or 128,
        prepend_bos=True if metadata.prepend_bos is None else metadata.prepend_bos,
        sequence_separator_token=metadata.get("sequence_separator_token", "bos"),
        seqpos_slice=tuple(metadata.seqpos_slice or (None,)),
        store_batch_size_prompts=8,
        train_batch_size_tokens=1,
        shuffle=False,
        perf_log_freq=0,
        device=device,
    )


def _loading_options(recorded: Mapping[str, Any], folder: Path, *, is_loaded: bool) -> dict[str, Any]:
    """What the metadata of the SAE in ``folder`` say of how its model is loaded; no more than an SAE may decide."""
    if not isinstance(recorded, Mapping):
        raise ConfigError(
            f"{folder}: model_from_pretrained_kwargs={recorded!r} in the SAE's metadata must be a mapping."
        )
    if is_loaded:
        return {key: value for key, value in recorded.items() if key in PROCESSING}
    runs_code = [key for key in ("trust_remote_code", "code_revision") if recorded.get(key)]
    if "/" in str(recorded.get("attn_implementation")):  # a kernel on the Hub
        runs_code.append("attn_implementation")
    if runs_code:
        raise ConfigError(
            f"{folder}: the SAE's metadata set {', '.join(runs_code)}, by which code from the Hub would run; an SAE does not "
            f"decide that. If you trust that code, load the model yourself and pass it to explore(model=...), or put the "
            f"{CONFIG_FILENAME} of the SAE's run, with this in its model_from_pretrained_kwargs, beside {SAE_CFG_FILENAME} in a "
            "local folder."
        )
    if ignored := sorted(key for key, value in recorded.items() if value and key not in _FROM_METADATA):
        warnings.warn(
            f"{folder}: {', '.join(map(repr, ignored))} of the SAE's model_from_pretrained_kwargs are ignored; the "
            f"{CONFIG_FILENAME} of its run, beside the SAE, can set them",
            stacklevel=3,
        )
    return {key: value for key, value in recorded.items() if key in _FROM_METADATA}


def was_held_out(cfg: TrainingConfig, source: str | Path, sae: SAE[Any]) -> bool:
    """
    Whether it is known that the run of ``sae`` kept back what is held out in ``cfg``.

    It is not where it started from other weights, whose own run may have been trained on that.
    """
    try:
        own = evaluation_config(Path(source), sae)
    except ConfigError:  # nothing tells what it was trained on
        return False
    return own.from_pretrained_path is None and all(getattr(own, key) == getattr(cfg, key) for key in HELD_OUT_BY)


def _read_as(text: str, raw: Mapping[str, Any]) -> dict[str, Any]:
    """Keys that have ``text`` read in place of the text of the run ``raw``: the same way where its columns allow, else as plain text."""
    keys: dict[str, Any] = {"dataset_name": None, "split": "train", **_text_keys(text)}
    if "column_name" in keys:
        return keys | {"use_chat_formatting": False, "is_dataset_tokenized": False}
    named = raw.get("column_name", "text")
    known = {"column_name": {named}} | {key: columns | ({named} - {"text"}) for key, columns in _COLUMNS.items()}
    plain = {"column_name": "text", "use_chat_formatting": False, "is_dataset_tokenized": False}
    if changed := [key for key, value in plain.items() if raw.get(key, value) != value]:
        path, name, split = keys["dataset_path"], keys["dataset_name"], keys["split"]
        with explaining_options(text):
            dataset = open_dataset(path, name=name, split=split, streaming=raw.get("streaming", True))
            columns = first_document(dataset, path).keys()
        keys |= {key: plain[key] for key in changed if not known[key] & columns}
    return keys


def _text_keys(text: str) -> dict[str, Any]:
    """
    The config keys that a text and its options set; what exists as it is spelled has no options.

    Raises:
        ConfigError: an option is unknown, or has no value.
    """
    text = os.path.expanduser(text)
    path, *options = [text] if Path(text).exists() else re.split(r",(?=\w+=)", text)
    keys = {"dataset_path": path}
    for option in options:
        name, _, value = option.partition("=")
        if name not in TEXT_OPTIONS or not value:
            raise ConfigError(
                f"text={text!r}: {option!r} is not understood; the path of a text may be followed by "
                f"{', '.join(f'{known}=VALUE' for known in TEXT_OPTIONS)}."
            )
        keys[TEXT_OPTIONS[name]] = value
    return keys


@contextmanager
def explaining_options(text: str | None) -> Iterator[None]:
    """An error in opening ``text``, where it is given, says how its configuration, split and column are named."""
    try:
        yield
    except ConfigError as error:
        if text is None:
            raise
        raise ConfigError(
            f"{error} Configuration, split and column of a text are named after its path: --text "
            "PATH,name=CONFIGURATION,split=SPLIT,column=COLUMN (text= in Python)."
        ) from error


def _class_of_model(hook_name: str, kwargs: Mapping[str, Any]) -> str:
    """The class of the model that an SAE of ``hook_name`` was trained on, where nobody says."""
    if "hook_" not in hook_name:
        return "AutoModelForCausalLM"
    return "HookedTransformer" if _OF_HOOKED_TRANSFORMER & kwargs.keys() else "TransformerBridge"
