"""Which tokens a run trains on: documents, special and massive tokens, and what a text must hold."""

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Array2D, Dataset, Features, Sequence, Value
from transformers import PreTrainedTokenizerFast

from sae_lens_abstopk import ConfigError
from tests.training.runs import one_epoch, run_of


def test_a_run_trains_on_no_document_that_is_held_out(
    raw_config: dict[str, Any], tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    documents = [{"text": ("~" if i % 20 == 19 else "-") * 200} for i in range(60)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(document) + "\n" for document in documents))
    run = run_of(raw_config | {"dataset_path": str(tmp_path / "a.jsonl")})
    for tokens, character in ((one_epoch(run), "-"), (torch.cat(run.held_out.batches).flatten(), "~")):
        assert set(tokenizer.decode(tokens, skip_special_tokens=True)) == {character}


@pytest.mark.parametrize("prepend_bos", [True, False])
def test_no_document_begins_with_a_bos_that_the_config_does_not_ask_for(
    raw_config: dict[str, Any],
    tmp_path: Path,
    tiny_llama: Path,
    bos_tokenizer: PreTrainedTokenizerFast,
    prepend_bos: bool,
) -> None:
    shutil.copytree(tiny_llama, tmp_path / "model")
    bos_tokenizer.save_pretrained(tmp_path / "model")
    changes = {"model_name": str(tmp_path / "model"), "prepend_bos": prepend_bos, "sequence_separator_token": "eos"}
    tokens = one_epoch(run_of(raw_config | changes)).view(-1, 32)
    assert (tokens[:, 0] == bos_tokenizer.bos_token_id).all() == prepend_bos
    assert not (tokens[:, 1:] == bos_tokenizer.bos_token_id).any()


def test_turns_that_do_not_fit_the_chat_template_are_told_of(
    raw_config: dict[str, Any], tmp_path: Path, tiny_llama: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    shutil.copytree(tiny_llama, tmp_path / "model")
    of_model = copy.deepcopy(tokenizer)
    of_model.chat_template = (
        "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system turns') }}{% endif %}"
        "{{ 'User: ' + m['content'] }}{% endfor %}"
    )
    of_model.save_pretrained(tmp_path / "model")
    turns = [{"role": "user", "content": "It was a dark and stormy night. " * 40}]
    changes = {"use_chat_formatting": True, "held_out_every": None, "perf_log_freq": 0, "shuffle": False}
    changes |= {"model_name": str(tmp_path / "model"), "dataset_path": str(tmp_path / "chat.jsonl")}

    def read(conversations: list[Any]) -> None:
        lines = [json.dumps({"messages": messages}) for messages in conversations]
        (tmp_path / "chat.jsonl").write_text("\n".join(lines))
        one_epoch(run_of(raw_config | changes))

    read([*[turns] * 5, None, [], turns])
    with pytest.raises(ConfigError, match=r"does not fit the chat template of the model \(.*no system turns"):
        read([*[turns] * 5, [{"role": "system", "content": "Be brief."}, *turns]])


def test_a_tokenizer_without_the_token_that_the_config_names_is_warned_of(
    raw_config: dict[str, Any], tmp_path: Path, tiny_llama: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    model = shutil.copytree(tiny_llama, tmp_path / "model")
    without = copy.deepcopy(tokenizer)
    without.bos_token = None
    without.save_pretrained(model)
    raw = raw_config | {"model_name": str(model), "perf_log_freq": 0}
    joined = r"begin without a BOS; set prepend_bos=false; documents are joined without a boundary"
    with pytest.warns(UserWarning, match=joined):
        run = run_of(raw)
    separated = run_of(raw, prepend_bos=False, sequence_separator_token="eos")
    for each, expected in ((run, False), (separated, True)):
        assert (one_epoch(each) == tokenizer.eos_token_id).any() == expected


@pytest.mark.parametrize("named", [True, False])
def test_tokens_that_the_config_excludes_are_left_out(
    raw_config: dict[str, Any], tokenizer: PreTrainedTokenizerFast, named: bool
) -> None:
    ids = [tokenizer.vocab[token] for token in ([".", ","] if named else ["<s>", "</s>"])]
    raw_config |= {"exclude_special_tokens": ids if named else True, "seqpos_slice": [0, None], "perf_log_freq": 0}
    raw_config |= {"sequence_separator_token": "eos", "store_batch_size_prompts": 16}
    store, plain = (run_of(raw_config).activations_store for _ in range(2))
    activations, tokens = plain.get_raw_llm_batch()
    assert set(ids) < set(tokens.tolist())
    assert torch.equal(store.get_filtered_llm_batch(), activations[~torch.isin(tokens, torch.tensor(ids))])


def test_special_tokens_are_left_out_of_cached_activations_that_have_their_ids(
    raw_config: dict[str, Any], tmp_path: Path
) -> None:
    hook = raw_config["hook_name"]
    column = {hook: torch.randn(8, 32, 32).tolist()}
    for name, ids in (("with", {"token_ids": [[1] + [5] * 31] * 8}), ("without", {})):
        kinds = {hook: Array2D((32, 32), "float32")} | {key: Sequence(Value("int32")) for key in ids}
        Dataset.from_dict(column | ids, features=Features(kinds)).save_to_disk(tmp_path / name)
    raw_config |= {"use_cached_activations": True, "held_out_every": None, "seqpos_slice": [None]}
    raw_config |= {"exclude_special_tokens": [1], "cached_activations_path": str(tmp_path / "with")}
    assert len(run_of(raw_config).activations_store.get_filtered_llm_batch()) == 4 * 31
    with pytest.raises(ConfigError, match="holds no token_ids, which exclude_special_tokens needs"):
        run_of(raw_config | {"cached_activations_path": str(tmp_path / "without")})


def test_massive_tokens_are_left_out(raw_config: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    store, everything = (run_of(raw_config, **keys).activations_store for keys in ({"max_norm_multiple": 1.05}, {}))
    assert store.max_norm == pytest.approx(1.05 * everything.median_norm())
    kept, all_norms = (torch.cat([next(each).norm(dim=-1) for _ in range(4)]) for each in (store, everything))
    assert kept.max() <= store.max_norm < all_norms.max()
    few_massive = torch.ones(100, 4)
    few_massive[0], store.max_norm = 1e4, None
    monkeypatch.setattr(store, "get_raw_llm_batch", lambda **_: (few_massive, None))
    assert store.median_norm() == 2.0, "whatever the massive ones are"


def test_token_ids_of_another_tokenizer_are_refused(
    raw_config: dict[str, Any], tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    folder, other = tmp_path / "tokens", copy.deepcopy(tokenizer)
    other.add_tokens(["lighthouses"])
    other.save_pretrained(tmp_path / "other")
    Dataset.from_dict({"tokens": [list(range(2, 34))] * 200}).save_to_disk(folder)
    raw = raw_config | {"dataset_path": str(folder), "is_dataset_tokenized": True, "column_name": "tokens"}
    for name in (str(tmp_path / "gone"), raw["model_name"]):
        (folder / "sae_lens.json").write_text(json.dumps({"tokenizer_name": name}))
        run_of(raw)
    (folder / "sae_lens.json").write_text(json.dumps({"tokenizer_name": str(tmp_path / "other")}))
    with pytest.raises(ConfigError, match=r"was tokenised by the tokenizer of '.*other' \(sae_lens\.json\)"):
        run_of(raw)


def test_a_later_row_that_is_too_short_is_told_of(raw_config: dict[str, Any], tmp_path: Path) -> None:
    rows = [list(range(2, 34))] * 200 + [[3] * 20]
    Dataset.from_dict({"tokens": rows}).save_to_disk(tmp_path / "tokens")
    changes = {"dataset_path": str(tmp_path / "tokens"), "is_dataset_tokenized": True, "column_name": "tokens"}
    run = run_of(raw_config | changes | {"held_out_every": None, "perf_log_freq": 0})
    with pytest.raises(ConfigError, match=r"has a row of 20 tokens \(row \d+\), fewer than context_size=32"):
        one_epoch(run)
