"""A mistake in a command on two models is answered in one sentence, and before weights are read where it can be."""

import json
import re
import shlex
import shutil
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from peft import LoraConfig, PromptTuningConfig, TaskType, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

from sae_lens_abstopk.model import model_pair
from tests.cli.test_cli import invoke

SIZES = (
    "--base lm --data texts.jsonl --out new --seeds 1 --no-baselines --tokens 2048 --d-sae 8 --k 2 --context-size 32"
)
TRAIN = "train diff model_name=lm layer=3 dataset_path=texts.jsonl output_path=new/run"

# what is added to `abstopk diff SIZES` (a second value takes the place of the first), or a whole command; and key words
# of the answer in order
MISTAKES: dict[str, str] = {
    # the models
    "": "give tuned_model or adapter, not neither",
    "--tuned tuned --adapter adapter": "give tuned_model or adapter, not both",
    "--base no/such --adapter adapter": "'no/such'.* path of a local folder",
    "--base bare --adapter adapter": "'bare' has no tokenizer files",
    "--tuned adapter": "'adapter' is a PEFT adapter; give it as adapter",
    "--tuned lm": "nothing differs: 'lm'",
    "--tuned copy": "nothing differs: 'copy' has the weights of 'lm'",
    "--tuned wide": "is 48 wide, and lm takes 32",
    "--tuned gpt2": "hook_name='model.layers.3' is not in gpt2",
    "--tuned shallow": "hook_name='model.layers.3' is not in shallow",
    "--tuned swapped": "the tokenizers of lm and swapped differ",
    # the adapter
    "--adapter missing": "'missing' is not a PEFT adapter",
    "--adapter cut": "'cut' is not a PEFT adapter",
    "--adapter badjson": "'badjson' is not a PEFT adapter",
    "--adapter deep": "'deep' does not fit lm",
    "--adapter gpt2_adapter": "was made for .*gpt2, not lm",
    "--adapter biased": "bias='all'.* merge it",
    "--adapter prompted": "trains a prompt.* merge it",
    # the hook
    "--adapter adapter --layer 6": "layer=6 .*below 6",
    # the text
    "--adapter adapter --data none.jsonl": "none.jsonl.*no such file",
    "--adapter adapter --data few.jsonl": "few.jsonl' has too few documents",
    "--adapter adapter --data texts.jsonl,column=body": "no column body among text",
    "--adapter adapter --data chats.jsonl": "no column text among messages",
    "--adapter adapter --chat --data badchats.jsonl": "must hold turns with a role and content",
    "--tuned plain --chat --data chats.jsonl": "chat template is missing",
    "--adapter adapter --template": "--template would be ignored without --chat",
    "--adapter adapter --prompt ''": "--prompt '' is empty",
    "--adapter adapter --show one-sided-F": "--show one-sided-F needs the SAE that --no-baselines leaves",
    # sizes and places
    "--adapter adapter --tokens 10": r"at most 10 \(training_tokens\)",
    "--adapter adapter --tuned-device cpu": "give adapter or tuned_device, not both",
    "--tuned tuned --tuned-device tpu": "tuned_device='tpu'",
    "--adapter adapter --set lr": "must have the form key=value",
    "--adapter adapter --set sae.kk=3": "unknown key 'kk'",
    "--adapter adapter --set sae.architecture=topk": "sae.architecture is set by the comparison itself",
    "--adapter adapter --set held_out_every=null": "held_out_every",
    "--adapter adapter --out file": "file/run' cannot be written",
    "--adapter adapter --out full": "--out full holds other files",
    TRAIN: "give tuned_model or adapter, not neither",
    f"{TRAIN} adapter=adapter source=tokens": "adapter='adapter' has no effect here",
    "report missing": "in missing is missing",
    "report full": "in full is missing",
    "patch missing --latent 0 --prompt a": "missing/sae: no such folder",
}
# mistakes that are only seen in weights or in tokens
LATER: dict[str, str] = {
    "--tuned resaved": "nothing differs at model.layers.3: all differences",
    "--adapter zero": "nothing differs at model.layers.3: all differences",
    "--adapter above": "nothing differs at model.layers.3: .*take a later layer",
    "--tuned cutweights": "'cutweights' could not be loaded",
    "--adapter adapter --data blank.jsonl": "does not fill one batch",
    "--adapter adapter --hook lm_head": "lm_head.* is 300 wide.* sae.d_in=300",
    f"{TRAIN} adapter=adapter model_from_pretrained_kwargs={{dtype:float99}}": "float99",
}


def adapter_of(folder: Path, config: LlamaConfig, lora: Any, base: str = "lm") -> None:
    model: Any = get_peft_model(AutoModelForCausalLM.from_config(config), deepcopy(lora))
    model.peft_config["default"].base_model_name_or_path = base
    model.save_pretrained(str(folder), save_embedding_layers=False)


@pytest.fixture(scope="module")
def work(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_models: dict[str, Path],
    tiny_llama: Path,
    tiny_adapter: Path,
    tiny_tuned: Path,
    texts: Path,
) -> Path:
    """A folder with models, adapters and texts, most of them wrong in one way."""
    root = tmp_path_factory.mktemp("bad")
    for name, source in {"lm": tiny_llama, "copy": tiny_llama, "tuned": tiny_tuned, "adapter": tiny_adapter}.items():
        shutil.copytree(source, root / name)
    shutil.copytree(tiny_models["gpt2"], root / "gpt2")
    shutil.copy(texts, root / "texts.jsonl")
    config, lora = LlamaConfig.from_pretrained(tiny_llama), LoraConfig(r=2, target_modules=["q_proj"])
    tokenizer = AutoTokenizer.from_pretrained(tiny_llama)

    def altered(name: str, **changes: Any) -> None:
        LlamaConfig.from_dict(config.to_dict() | changes).save_pretrained(root / name)
        tokenizer.save_pretrained(root / name)

    altered("wide", hidden_size=48)
    altered("shallow", num_hidden_layers=2)
    plain = shutil.copytree(tiny_tuned, root / "plain")
    (plain / "chat_template.jinja").unlink()
    shutil.copytree(tiny_llama, root / "bare", ignore=shutil.ignore_patterns("*token*"))
    cut = shutil.copytree(tiny_tuned, root / "cutweights") / "model.safetensors"
    cut.write_bytes(cut.read_bytes()[:5000])
    swapped = shutil.copytree(tiny_tuned, root / "swapped") / "tokenizer.json"
    vocabulary = json.loads(swapped.read_text())
    ids = vocabulary["model"]["vocab"]
    ids["Ġthe"], ids["Ġa"] = ids["Ġa"], ids["Ġthe"]
    swapped.write_text(json.dumps(vocabulary))
    AutoModelForCausalLM.from_pretrained(tiny_llama).save_pretrained(root / "resaved", max_shard_size="100KB")
    tokenizer.save_pretrained(root / "resaved")

    adapter_of(root / "deep", LlamaConfig.from_dict(config.to_dict() | {"num_hidden_layers": 7}), lora)
    adapter_of(root / "gpt2_adapter", config, lora, base=str(root / "gpt2"))
    adapter_of(root / "biased", config, LoraConfig(r=2, target_modules=["q_proj"], bias="all"))
    adapter_of(root / "prompted", config, PromptTuningConfig(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=3))
    adapter_of(root / "zero", config, lora)
    adapter_of(
        root / "above",
        config,
        LoraConfig(r=2, target_modules=["q_proj"], layers_to_transform=[5], init_lora_weights=False),
    )
    cut = shutil.copytree(tiny_adapter, root / "cut") / "adapter_model.safetensors"
    cut.write_bytes(cut.read_bytes()[:300])
    (shutil.copytree(tiny_adapter, root / "badjson") / "adapter_config.json").write_text("{")

    turns = [{"role": "user", "content": "We loved the film"}, {"role": "assistant", "content": "The old lighthouse"}]
    for name, row in {
        "chats": {"messages": turns},
        "badchats": {"messages": [{"who": "me"}]},
        "blank": {"text": ""},
    }.items():
        (root / f"{name}.jsonl").write_text((json.dumps(row) + "\n") * 300)
    (root / "few.jsonl").write_text(json.dumps({"text": "We loved the film"}) + "\n")
    for folder in ("full", "new"):
        (root / folder).mkdir()
    (root / "full" / "diff.json").write_text("{")
    (root / "file").touch()
    return root


def sentence(arguments: str, work: Path) -> str:
    """The answer to a command, which writes nothing."""
    before, given = sorted(work.rglob("*")), shlex.split(arguments)
    if not arguments.startswith("train"):
        given = ["diff", *([] if arguments.startswith(("report", "patch")) else shlex.split(SIZES)), *given]
    done = invoke(*given)
    assert done.exit_code in (1, 2), done.output
    assert isinstance(done.exception, SystemExit), repr(done.exception)
    (said,) = (line for line in done.output.splitlines() if line.startswith("error: "))
    assert sorted(work.rglob("*")) == before
    return said


@pytest.mark.parametrize("arguments", MISTAKES)
def test_a_mistake_gets_one_sentence_before_weights_are_read(
    arguments: str, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(work)
    monkeypatch.setattr(model_pair, "load_language_model", lambda *_: pytest.fail("weights were read"))
    said = sentence(arguments, work)
    assert re.search(MISTAKES[arguments], said), said


@pytest.mark.parametrize("arguments", LATER)
def test_a_mistake_in_weights_or_tokens_gets_one_sentence(
    arguments: str, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(work)
    said = sentence(arguments, work)
    assert re.search(LATER[arguments], said), said
