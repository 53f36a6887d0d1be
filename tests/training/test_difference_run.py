"""SAEs on the differences of two models: resumed, cached, filtered by the base model, on conversations."""

import csv
import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from sae_lens import SAE

from sae_lens_abstopk import ConfigError, train
from sae_lens_abstopk.evaluation.subjects.subjects import load_subject_saes
from sae_lens_abstopk.model.template_tokens import marked_conversation, unmarked
from sae_lens_abstopk.model.token_filter import TokenFilter
from sae_lens_abstopk.system.ranks import barrier, this_rank
from sae_lens_abstopk.training import training_loop as loop_module
from sae_lens_abstopk.training.config.config_file import build_config, load_config
from sae_lens_abstopk.training.runner import DifferenceRun
from tests.training.rank_processes import on_ranks
from tests.training.runs import differences, final_state, signals_in

pytestmark = pytest.mark.slow

QUIET = Console(quiet=True)


@pytest.fixture
def raw(raw_config: dict[str, Any], tiny_adapter: Path) -> dict[str, Any]:
    sae = raw_config["sae"] | {"architecture": "batch_abstopk"}
    return raw_config | {"source": "model_difference", "adapter": str(tiny_adapter), "sae": sae}


def trained(raw: dict[str, Any], **changes: Any) -> SAE[Any]:
    return train(build_config(raw | changes), console=QUIET).sae


def equal(one: SAE[Any], other: SAE[Any]) -> bool:
    return all(torch.equal(one.state_dict()[name], weights) for name, weights in other.state_dict().items())


def batches(raw: dict[str, Any], n: int = 3, **changes: Any) -> torch.Tensor:
    run = DifferenceRun(build_config(raw | changes), console=QUIET)
    stream = run.source.batches()
    found = torch.cat([next(stream) for _ in range(n)])
    run.source.close()
    return found


def test_a_run_resumes_exactly_and_records_both_models_and_what_was_held_out(
    raw: dict[str, Any], tmp_path: Path, tiny_adapter: Path, tiny_llama: Path
) -> None:
    whole = trained(raw)
    short = raw | {"output_path": str(tmp_path / "short"), "checkpoint_freq": 3, "checkpoints_kept": 9}
    trained(short)
    changes = {"output_path": str(tmp_path / "resumed"), "checkpoint_freq": 3, "checkpoints_kept": 9}
    changes["resume_from_checkpoint"] = str(tmp_path / "short" / "checkpoints" / "192")
    assert equal(trained(raw, **changes), whole)
    saved = json.loads((tmp_path / "run" / "cfg.json").read_text())["metadata"]
    assert (saved["source"], saved["model_name"], saved["adapter"]) == (
        *("model_difference", str(tiny_llama)),
        str(tiny_adapter),
    )
    rows = list(csv.DictReader((tmp_path / "run" / "metrics.csv").read_text().splitlines()))
    assert [float(row["held_out_fvu"]) > 0 for row in rows if row["held_out_fvu"]] == [True, True]
    assert not any(row["loss_recovered_zero"] for row in rows)
    with pytest.raises(ConfigError, match="was trained on model_difference"):
        load_subject_saes(tmp_path / "run")
    assert build_config(raw).to_dict() == load_config(tmp_path / "run" / "config.yaml").to_dict()


def test_ranks_share_a_run_with_companions_and_go_on_to_the_same_bits_after_one_was_killed(
    raw: dict[str, Any], tmp_path: Path
) -> None:
    raw |= {"companions": {"topk": {"architecture": "topk"}}, "max_norm_multiple": 1.2, "perf_log_freq": 3}
    raw |= {"checkpoint_freq": 2, "resume_from_checkpoint": "newest"}

    def state_of(folder: str, *, killed_at: int | None = None) -> dict[str, Any]:
        run = DifferenceRun(build_config(raw | {"output_path": str(tmp_path / folder)}), console=QUIET)
        if killed_at and this_rank() == 1:
            loop_module.step_metrics = signals_in(killed_at, signal.SIGKILL)
        run.run()
        barrier()
        return final_state(run)

    whole = on_ranks(2, lambda: state_of("whole"), tmp_path / "a")
    kinds = (" weights", " optimiser", " saved")
    first, second = ({key: of[key] for key in of if key.endswith(kinds)} for of in whole)
    assert differences(first, second) == []
    with pytest.raises(AssertionError, match="exit codes"):
        on_ranks(2, lambda: state_of("killed", killed_at=5), tmp_path / "b")
    assert not (tmp_path / "killed" / "sae_weights.safetensors").exists()
    again = on_ranks(2, lambda: state_of("killed"), tmp_path / "c")
    assert differences(whole, again) == []


def test_an_adapter_and_the_merged_model_give_the_same_batches_with_and_without_a_cache(
    raw: dict[str, Any], tiny_tuned: Path, tmp_path: Path
) -> None:
    expected = batches(raw)
    merged = {"adapter": None, "tuned_model": str(tiny_tuned), "tuned_device": "cpu"}
    torch.testing.assert_close(batches(raw, **merged), expected)
    cache = {"activation_cache": str(tmp_path / "cache")}
    first, second = batches(raw, **cache), batches(raw, **cache)
    assert torch.equal(first, second)
    torch.testing.assert_close(first, expected, atol=0, rtol=2**-8)  # rounded to bfloat16
    with pytest.raises(ConfigError, match=r"holds other activations: .*adapter is"):
        batches(raw, **cache, **merged)


def test_tokens_are_left_out_by_the_norm_of_the_base_model(raw: dict[str, Any]) -> None:
    run = DifferenceRun(build_config(raw | {"max_norm_multiple": 1.05}), console=QUIET)
    tokens = torch.cat([next(run.source.iterable_sequences)[None] for _ in range(8)])
    found = run.pair.read(tokens, TokenFilter((1, None), (), run.source.max_norm))
    norms = found.activations.base[:, 1:].norm(dim=-1)
    assert found.kept[:, 1:].equal(norms <= run.source.max_norm)
    assert 0 < len(found.x) < norms.numel()
    torch.testing.assert_close(found.x, (found.activations.tuned - found.activations.base)[found.kept])


def test_conversations_are_read_in_the_template_of_the_tuned_model_without_its_own_tokens(
    raw: dict[str, Any], tmp_path: Path
) -> None:
    said = ["The old lighthouse", "We loved the film"]
    turns = [{"role": role, "content": text} for role, text in zip(("user", "assistant"), said, strict=True)]
    data = tmp_path / "chats.jsonl"
    data.write_text("".join(json.dumps({"messages": turns}) + "\n" for _ in range(300)))
    chat = {"dataset_path": str(data), "use_chat_formatting": True, "prepend_bos": False, "seqpos_slice": [None]}
    chat |= {"sequence_separator_token": None}
    run = DifferenceRun(build_config(raw | chat | {"exclude_chat_template": True}), console=QUIET)
    tokenizer = run.pair.tokenizer
    marked = marked_conversation(turns, tokenizer)
    plain = tokenizer.apply_chat_template(turns, return_dict=False)
    assert unmarked(marked).tolist() == plain
    assert tokenizer.decode(marked[marked >= 0]) == "".join(said)
    assert tokenizer.decode(unmarked(marked[marked < 0])) == "[user] </s>[assistant] </s>"
    short = [{"role": "user", "content": "user"}, {"role": "assistant", "content": "s"}]
    kept = marked_conversation(short, tokenizer)
    assert tokenizer.decode(kept[kept >= 0]) == "user s", "not those of the template"
    assert kept[0] < 0
    tokenizer.chat_template = tokenizer.chat_template.replace("m['content']", "m['content'] | trim")
    assert "trim" in tokenizer.chat_template
    again = [{"role": "user", "content": "film "}, {"role": "assistant", "content": "We loved the film again"}]
    kept = marked_conversation(again, tokenizer)
    assert tokenizer.decode(kept[kept >= 0]) == " filmWe loved the film again", "the first of both that is there"
    share = float((marked >= 0).float().mean())
    kept, everything = len(run.source.get_filtered_llm_batch()), 4 * 32
    assert kept / everything == pytest.approx(share, abs=0.1)
    trained(raw | chat, exclude_chat_template=True)


def test_two_models_that_differ_only_above_the_hook_are_refused(
    raw: dict[str, Any], tiny_llama: Path, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model: Any = AutoModelForCausalLM.from_pretrained(tiny_llama)
    model.model.layers[5].mlp.down_proj.weight.data += 1
    model.save_pretrained(tmp_path / "above")
    AutoTokenizer.from_pretrained(tiny_llama).save_pretrained(tmp_path / "above")
    with pytest.raises(ConfigError, match=r"nothing differs at model.layers.2: .*take a later layer"):
        trained(raw, adapter=None, tuned_model=str(tmp_path / "above"))
    with pytest.raises(ConfigError, match=r"adapter='x' has no effect here; .*source: model_difference"):
        build_config(raw | {"source": "tokens", "adapter": "x"})
