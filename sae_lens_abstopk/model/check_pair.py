"""Checks of a base model and its fine-tune before any weight of a model is read; the tokenizer of both."""

import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from sae_lens_abstopk.model.check_hook import check_hook
from sae_lens_abstopk.model.generation import chat_prompt
from sae_lens_abstopk.model.language_model import load_tokenizer, require_chat_template, require_tokenizer
from sae_lens_abstopk.model.model_shape import LOADING_ERRORS, model_files, model_shape, read_model_config
from sae_lens_abstopk.model.model_spec import ModelPairSpec
from sae_lens_abstopk.system.errors import ConfigError, as_config_error, require_package, require_same_width
from sae_lens_abstopk.text.text_spec import TextSpec

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json")


def check_pair(spec: ModelPairSpec, text: TextSpec, *, d_in: int | None = None) -> Any:
    """
    Return the tokenizer that both models read ``text`` with: the tuned model's, whose chat template it has.

    Raises:
        ConfigError: the models are the same, differ in width, give a token different ids, or one lacks the hook or a
            token of the text; or the adapter was made for another base, or cannot be switched off.
    """
    width = model_shape(spec.model_name, spec.model_class_name, spec.load_options).width
    check_hook(spec, d_in=d_in or width, context_size=text.context_size)
    if spec.adapter is not None:
        _require_fitting_adapter(spec, spec.adapter)
    else:
        tuned = spec.tuned_spec
        folder, files = Path(tuned.model_name), model_files(spec.model_name)
        if (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file():
            raise ConfigError(f"tuned_model={tuned.model_name!r} is a PEFT adapter; give it as adapter.")
        if spec.model_name == tuned.model_name or (files and files == model_files(tuned.model_name)):
            raise ConfigError(
                f"nothing differs: {tuned.model_name!r} has the weights of {spec.model_name!r}; give a fine-tune of it."
            )
        tuned_width = model_shape(tuned.model_name, tuned.model_class_name, tuned.load_options).width
        require_same_width(f"tuned_model={tuned.model_name!r}", tuned_width, spec.model_name, width)
        check_hook(tuned, d_in=d_in or width, context_size=text.context_size)
        configs = [read_model_config(each.model_name, each.load_options) for each in (spec, tuned)]
        dtypes = [getattr(config.get_text_config(), "dtype", None) for config in configs]
        if dtypes[0] != dtypes[1] and not spec.load_options.keys() & {"dtype", "torch_dtype"}:
            warnings.warn(
                f"{spec.model_name} is stored as {dtypes[0]} and {tuned.model_name} as {dtypes[1]}, so rounding is "
                "part of their difference",
                stacklevel=3,
            )
    return _shared_tokenizer(spec, text)


def _shared_tokenizer(spec: ModelPairSpec, text: TextSpec) -> Any:
    plain = replace(text, use_chat_formatting=False, exclude_chat_template=False)
    for each in (spec, spec.tuned_spec):
        require_tokenizer(each, plain)
    base, options = load_tokenizer(spec.model_name, spec.load_options), spec.load_options
    if not spec.tuned_model and not any((Path(spec.tuned) / file).is_file() for file in TOKENIZER_FILES):
        tuned = base
    else:
        tuned = load_tokenizer(spec.tuned, options)
    ours, theirs = base.get_vocab(), tuned.get_vocab()
    if differing := next((token for token, i in theirs.items() if ours.get(token, i) != i), None):
        raise ConfigError(
            f"the tokenizers of {spec.model_name} and {spec.tuned} differ: {differing!r} is token {ours[differing]} of "
            f"the one and {theirs[differing]} of the other; give two models that read the same tokens."
        )
    read = {tuned.bos_token_id, tuned.eos_token_id, tuned.sep_token_id} - {None}
    if text.use_chat_formatting:
        require_chat_template(tuned)
        read |= {*tuned(chat_prompt(tuned, "a", "b"), add_special_tokens=False).input_ids}
    rows = read_model_config(spec.model_name, options).get_text_config().vocab_size
    if read and max(read) >= rows:
        raise ConfigError(
            f"{spec.tuned} reads text with {tuned.convert_ids_to_tokens(max(read))!r}, a token that {spec.model_name} "
            "has no embedding of; give a base model that has it."
        )
    return tuned


def _require_fitting_adapter(spec: ModelPairSpec, adapter: str) -> None:
    require_package("peft", "an adapter")
    from peft import PeftConfig
    from peft.utils import load_peft_weights

    def unreadable(error: Exception) -> str:
        return (
            f"adapter={adapter!r} is not a PEFT adapter that can be read ({str(error).splitlines()[0]}); give a folder "
            "with adapter_config.json, and a whole model as tuned_model."
        )

    with as_config_error((*LOADING_ERRORS, KeyError), unreadable):
        config = PeftConfig.from_pretrained(adapter)
        weights = load_peft_weights(adapter, device="cpu")
    biases = getattr(config, "bias", "none")
    if config.is_prompt_learning or config.is_adaption_prompt:
        trained = "a prompt"
    else:
        trained = f"biases of the base model itself (bias={biases!r})" if biases != "none" else ""
    if trained:
        problem = (
            f"trains {trained}, which cannot be switched off at a hook; merge it into the base and give the result as "
            "tuned_model"
        )
    elif _is_another(config.base_model_name_or_path, spec.model_name):
        problem = f"was made for {config.base_model_name_or_path}, not {spec.model_name}; give that as the base model"
    elif detail := _misfit(config, weights, spec):
        problem = f"does not fit {spec.model_name} ({detail}); give its own base model"
    else:
        return
    raise ConfigError(f"adapter={adapter!r} {problem}.")


def _misfit(config: Any, weights: Mapping[str, torch.Tensor], spec: ModelPairSpec) -> str:
    """Return a weight of an adapter whose shape is not the one that its config gives it in the base model, or ""."""
    from peft import get_peft_model, get_peft_model_state_dict

    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore")  # peft's and transformers' own, about training
        model: Any = AutoModelForCausalLM.from_config(read_model_config(spec.model_name, spec.load_options))
        try:
            expected = get_peft_model_state_dict(get_peft_model(model, config, low_cpu_mem_usage=True))
        except ValueError as error:  # no module has a name that the adapter targets
            return str(error).splitlines()[0]
    shapes, wanted = ({name: tuple(w.shape) for name, w in each.items()} for each in (weights, expected))
    wrong = sorted(name for name in shapes | wanted if shapes.get(name) != wanted.get(name))
    return f"{wrong[0]}: {shapes.get(wrong[0], 'none')} and {wanted.get(wrong[0], 'none')}" if wrong else ""


def _is_another(recorded: str | None, base: str) -> bool:
    """Return whether an adapter's note of its base names another model; a folder and a Hub id cannot be compared."""
    if not recorded or Path(recorded).is_dir() != Path(base).is_dir():
        return False
    if Path(base).is_dir():
        return model_files(recorded) != model_files(base)
    return recorded.rpartition("/")[2].casefold() != base.rpartition("/")[2].casefold()
