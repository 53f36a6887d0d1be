"""A mistake of a user is answered in one sentence and a non-zero exit: no traceback, and no file changed."""

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from sae_lens import TopKSAE, TopKSAEConfig
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from sae_lens_abstopk.cli import app
from sae_lens_abstopk.system.errors import TRANSPORT_ERRORS
from tests.evaluation.results_document import results_document

Arrange = Callable[[Path], object]

# changes to a good config, and key words of the answer; more are in tests/training/config and those of the SAEs
CONFIGS: dict[str, tuple[dict[str, Any], str]] = {
    "d_in of another model": ({"sae.d_in": 31}, "sae.d_in=31"),
    "architecture is a number": ({"sae.architecture": 3}, "architecture"),
    "k_fraction above 1": ({"sae.k": None, "sae.k_fraction": 3.0}, "sae.k=96"),
    "unknown backend": ({"sae.sparse_backend": "fast"}, "sparse_backend='fast' .*'sparse' or 'dense'"),
    "unknown selection": ({"sae.selection_dtype": "int8"}, "selection_dtype='int8' .*float32"),
    "unknown dtype": ({"sae.dtype": "int8"}, "dtype='int8'"),
    "a key that the architecture does not have": ({"sae.architecture": "standard"}, r"sae\.k .*standard"),
    "no tokens": ({"training_tokens": 0}, "training_tokens=0 .*1"),
    "no step": ({"training_tokens": 32}, "step"),
    "empty batch": ({"train_batch_size_tokens": 0}, "train_batch_size_tokens=0 .*1"),
    "context of one": ({"context_size": 1}, "context_size=1 .*2"),
    "no prompts": ({"store_batch_size_prompts": 0}, "store_batch_size_prompts=0 .*1"),
    "no buffer": ({"n_batches_in_buffer": 0}, "n_batches_in_buffer=0 .*1"),
    "checkpoints below 0": ({"checkpoint_freq": -1}, "checkpoint_freq=-1 .*0"),
    "no tokens to measure on": ({"perf_tokens": 0}, "perf_tokens=0 .*1"),
    "companion of unknown kind": ({"companions": {"a": {"architecture": "x"}}}, r"companions\.a\.architecture='x'"),
    "companions is a list": ({"companions": ["topk"]}, "companions"),
    "logger is a word": ({"logger": "wandb"}, "logger='?wandb"),
    "hook that is not there": ({"hook_name": "model.layer.2"}, "model.layer.2"),
    "layer that is not there": ({"hook_name": "model.layers.99"}, "model.layers.99"),
    "text that is not there": ({"dataset_path": "{dir}/none.jsonl"}, r"none\.jsonl"),
    "column that is not there": ({"column_name": "body"}, "column_name='body'.*text"),
    "split that is not there": ({"split": "validation"}, "split.* validation"),
    "model folder that is not there": ({"model_name": "{dir}/none"}, "none"),
    "model folder without a model": ({"model_name": "{dir}/empty_folder"}, r"empty_folder.*config\.json"),
    "checkpoint that is not there": ({"resume_from_checkpoint": "{dir}/none"}, "none.*no such folder"),
    "SAE to go on with that is not there": ({"from_pretrained_path": "{dir}/none"}, "from_pretrained_path"),
    "output path is a file": ({"output_path": "{dir}/a_file"}, "a_file.*folder"),
    "output path below a file": ({"output_path": "{dir}/a_file/run"}, "a_file"),
    "output path with a run in it": ({"output_path": "{dir}/sae"}, "already holds a run"),
}


def changed(config: dict[str, Any], changes: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The config with dotted keys replaced; None removes a key of ``sae``."""
    config = json.loads(json.dumps(config))
    for key, value in changes.items():
        section = config["sae"] if key.startswith("sae.") else config
        name = key.removeprefix("sae.")
        if value is None and key.startswith("sae."):
            section.pop(name)
        else:
            section[name] = value.replace("{dir}", str(folder)) if isinstance(value, str) else value
    return config


@pytest.mark.parametrize("case", CONFIGS)
def test_a_bad_config_is_refused_in_a_sentence(case: str, desk: Path, raw_config: dict[str, Any]) -> None:
    changes, sentence = CONFIGS[case]
    (desk / "bad.yaml").write_text(yaml.safe_dump(changed(raw_config, changes, desk)))
    refused(["train", "{dir}/bad.yaml"], sentence, desk)


def text_of(content: str | bytes, name: str = "text.jsonl") -> Arrange:
    return lambda folder: (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def weights(change: Callable[[dict[str, torch.Tensor]], object]) -> Arrange:
    def arrange(folder: Path) -> None:
        state = load_file(folder / "sae" / "sae_weights.safetensors")
        change(state)
        save_file(state, folder / "sae" / "sae_weights.safetensors")

    return arrange


def sae_metadata(**changes: Any) -> Arrange:
    def arrange(folder: Path) -> None:
        path = folder / "sae" / "cfg.json"
        content = json.loads(path.read_text())
        content["metadata"] |= changes
        path.write_text(json.dumps(content))

    return arrange


def truncated(folder: Path) -> None:
    path = folder / "sae" / "sae_weights.safetensors"
    path.write_bytes(path.read_bytes()[:200])


def pickled(folder: Path) -> None:
    torch.save({"W_dec": torch.ones(2)}, folder / "sae" / "sae_weights.safetensors")


def model_with(change: Callable[[Path], object]) -> Arrange:
    def arrange(folder: Path) -> None:
        shutil.copytree(folder / "model", folder / "bad_model")
        change(folder / "bad_model")

    return arrange


def edited_json(name: str, **changes: Any) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(content | changes))

    return change


def nothing(_: Path) -> None: ...


def train_with(override: str) -> list[str]:
    return ["train", "{dir}/good.yaml", override]


TRAIN_ON, TRAIN_ON_TXT = train_with("dataset_path={dir}/text.jsonl"), train_with("dataset_path={dir}/text.txt")
TRAIN_WITH = train_with("model_name={dir}/bad_model")
TRAIN_OUT = train_with("output_path={dir}/out")
EXPLORE = ["explore", "--out", "{dir}/out", "{dir}/sae"]
MEASURE = ["inspect", "{dir}/sae", "--model", "{dir}/model", "--text", "{dir}/good.jsonl", "--tokens", "64"]
EVALUATE = ["eval", "{dir}/sae", "--model", "{dir}/model", "--text", "{dir}/good.jsonl", "--out", "{dir}/out"]
TASK = {
    "name": "t",
    "poles": ["a", "b"],
    "licence": "MIT",
    "source": "here",
    "reads": ["last"],
    "templates": [f"It was {word} {{thing}} {{good|bad}}." for word in ("a", "the", "no", "one", "my", "his")],
    "fillers": {"thing": ["cat", "dog", "cow", "hen"]},
}


def suite_with(task: Any, **suite: Any) -> Arrange:
    def arrange(folder: Path) -> None:
        (folder / "t.yaml").write_text(task if isinstance(task, str) else yaml.safe_dump(task))
        content = {"reconstruction": {"tokens": 64}, "tasks": [str(folder / "t.yaml")], "untrained": False} | suite
        (folder / "suite.yaml").write_text(yaml.safe_dump(content))

    return arrange


SUITE = [*EVALUATE, "--suite", "{dir}/suite.yaml"]
# how a file is spoilt, the command that reads it, and key words of the answer
FILES: dict[str, tuple[Arrange, list[str], str]] = {
    "no such config": (nothing, ["train", "{dir}/none.yaml"], r"none\.yaml"),
    "config is a folder": (nothing, ["train", "{dir}/empty_folder"], "empty_folder.*preset"),
    "config is empty": (text_of("", "c.yaml"), ["train", "{dir}/c.yaml"], "mapping"),
    "config is a list": (text_of("- 1", "c.yaml"), ["train", "{dir}/c.yaml"], "mapping"),
    "config is not YAML": (text_of("a: [1", "c.yaml"), ["train", "{dir}/c.yaml"], r"c\.yaml.*line"),
    "config is binary": (text_of(b"\xff\xfe\x00", "c.yaml"), ["train", "{dir}/c.yaml"], r"c\.yaml"),
    "a key twice": (text_of("lr: 1.0\nlr: 2.0\n", "c.yaml"), ["train", "{dir}/c.yaml"], "'lr'.*twice.*line 2"),
    "override without a value": (nothing, ["train", "{dir}/good.yaml", "lr"], "lr.*(KEY=VALUE|key=value)"),
    "override of nothing": (nothing, ["train", "{dir}/good.yaml", "lrr=1"], "lrr"),
    "override that is not YAML": (nothing, ["train", "{dir}/good.yaml", "lr=[1"], "lr="),
    "text is empty": (text_of(""), TRAIN_ON, r"text\.jsonl.* empty"),
    "text is binary": (text_of(bytes(range(256))), TRAIN_ON, r"text\.jsonl.* cannot be read"),
    "text is not UTF-8": (text_of(b"\xff\xfehello\n", "text.txt"), TRAIN_ON_TXT, "UTF-8"),
    "text is not JSON": (text_of("{not json}\n"), TRAIN_ON, r"text\.jsonl.* cannot be read"),
    "text is too short": (text_of('{"text": "short"}\n' * 30), TRAIN_ON, "fill one batch"),
    "text of an unknown kind": (nothing, train_with("dataset_path={dir}/text.docx"), r"text\.docx"),
    "a folder without texts": (nothing, train_with("dataset_path={dir}/empty_folder"), "empty_folder.*no text"),
    "a data set while offline": (nothing, train_with("dataset_path=no/such-set"), "no/such-set"),
    "a model while offline": (nothing, train_with("model_name=no/such-model"), "no/such-model"),
    "model without weights": (
        model_with(lambda folder: [path.unlink() for path in folder.glob("*.safetensors")]),
        TRAIN_WITH,
        "bad_model.* could not be loaded",
    ),
    "model with torn weights": (
        model_with(lambda folder: [path.write_bytes(b"torn") for path in folder.glob("*.safetensors")]),
        TRAIN_WITH,
        "bad_model.* could not be loaded",
    ),
    "model of unknown kind": (model_with(edited_json("config.json", model_type="unheard")), TRAIN_WITH, "unheard"),
    "model that is not causal": (
        model_with(edited_json("config.json", model_type="bert", architectures=["BertModel"])),
        TRAIN_WITH,
        "bert",
    ),
    "model without a tokenizer": (
        model_with(lambda folder: [path.unlink() for path in folder.glob("tokenizer*")]),
        TRAIN_WITH,
        "tokenizer",
    ),
    "config of the model is not JSON": (
        model_with(lambda folder: (folder / "config.json").write_text("{")),
        TRAIN_WITH,
        "bad_model.* could not be loaded",
    ),
    "no such SAE": (nothing, ["inspect", "{dir}/none"], "none: no such folder"),
    "SAE is a file": (nothing, ["inspect", "{dir}/a_file"], "a_file: no such folder"),
    "SAE with torn weights": (truncated, MEASURE, "could not be loaded as an SAE"),
    "SAE with pickled weights": (pickled, MEASURE, "could not be loaded as an SAE"),
    "SAE without a decoder": (weights(lambda state: state.pop("W_dec")), MEASURE, "W_dec"),
    "SAE with a decoder of another shape": (weights(lambda it: it.update(W_dec=torch.ones(3, 32))), MEASURE, "W_dec"),
    "SAE with NaN": (weights(lambda state: state["W_dec"].fill_(torch.nan)), MEASURE, "NaN"),
    "SAE whose config is not JSON": (text_of("{", "sae/cfg.json"), MEASURE, "could not be loaded as an SAE"),
    "SAE whose config lacks a key": (text_of('{"d_in": 32}', "sae/cfg.json"), MEASURE, r"cfg\.json"),
    "SAE that reads another width": (sae_metadata(hook_name="lm_head"), MEASURE, "lm_head.* 300 .*32"),
    "SAE without a model": (
        sae_metadata(model_name=None),
        ["inspect", "{dir}/sae", "--text", "{dir}/good.jsonl"],
        "--model NAME",
    ),
    "mirror of a non-negative SAE": (nothing, ["mirror", "{dir}/sae", "--out", "{dir}/out"], "topk"),
    "mirror over a file": (nothing, ["mirror", "{dir}/sae", "--out", "{dir}/a_file"], "a_file.*empty folder.*--out"),
    "three SAEs to explore": (nothing, [*EXPLORE, "{dir}/sae", "{dir}/sae"], "3 SAEs"),
    "labeler without a model": (nothing, [*EXPLORE, "--labeler", "http://x"], "--labeler-model NAME"),
    "unknown suite": (nothing, [*EVALUATE, "--suite", "ful"], "'ful'"),
    "suite with an unknown task": (suite_with(TASK, tasks=["gendr"]), SUITE, "gendr"),
    "suite that steers a task without prompts": (
        lambda folder: suite_with(TASK, steering={"tasks": [str(folder / "t.yaml")]})(folder),
        SUITE,
        "no steering part",
    ),
    "task is not YAML": (suite_with("a: [1"), SUITE, r"t\.yaml"),
    "task without poles": (suite_with({k: v for k, v in TASK.items() if k != "poles"}), SUITE, r"t\.yaml.*poles"),
    "no such results": (nothing, ["report", "{dir}/none.json"], r"none\.json.*no such"),
    "results are not JSON": (text_of("{", "r.json"), ["report", "{dir}/r.json"], r"r\.json.*results file"),
    "no such comparison": (nothing, ["compare", "none"], "'none'"),
    "no such variant": (nothing, ["train", "{dir}/good.yaml/topq"], "'topq' is not a variant; did you mean 'topk'"),
    "no such sweep": (nothing, ["sweep", "none"], "'none' .*paper"),
    "no such preset": (nothing, ["configs", "gpt3"], "'gpt2'"),
    "publishing to no name": (nothing, ["publish", "{dir}/sae", "--repo", "a b/c", "--dry-run"], "a b/c"),
    "publishing without a token": (nothing, ["publish", "{dir}/sae", "--repo", "user/name"], "HF_HUB_OFFLINE"),
    "publishing NaN": (
        weights(lambda state: state["W_dec"].fill_(torch.nan)),
        ["publish", "{dir}/sae", "--repo", "user/name", "--dry-run"],
        "NaN",
    ),
    "pulling while offline": (nothing, ["pull", "user/name", "sae"], "user/name"),
    "converting an empty folder": (nothing, ["convert", "{dir}/empty_folder", "--out", "{dir}/out"], "empty_folder"),
    "converting an SAE of SAELens": (
        nothing,
        ["convert", "{dir}/sae", "--out", "{dir}/out"],
        r"needs no conversion; .*SAE\.load_from_disk\('.*/sae'\)",
    ),
    "unknown command": (nothing, ["trian"], "No such command 'trian'"),
    "unknown option": (nothing, ["train", "{dir}/good.yaml", "--outptu", "x"], "No such option: --outptu"),
    "no argument": (nothing, ["train"], "Missing argument 'config'"),
    "no folder for the results": (nothing, [*MEASURE, "--json", "{dir}/nowhere/n.json"], r"--json .*nowhere/n\.json"),
    "a folder in place of the results": (nothing, [*MEASURE, "--json", "{dir}/empty_folder"], "--json .*empty_folder"),
    "results of an evaluation in place of an inspection": (
        lambda folder: results_document().write(folder / "r.json"),
        [*MEASURE, "--json", "{dir}/r.json"],
        r"r\.json .*'full'",
    ),
    "another file in place of the results": (nothing, [*MEASURE, "--json", "{dir}/good.yaml"], r"good\.yaml"),
    "a seed below 0": (nothing, [*EVALUATE, "--seed", "-1"], "--seed.* 0"),
    "text too short to measure on": (
        text_of('{"text": "short"}'),
        ["inspect", "{dir}/sae", "--model", "{dir}/model", "--text", "{dir}/text.jsonl"],
        r"text\.jsonl.* fill one batch",
    ),
    "options of a labeler that is not there": (
        nothing,
        [*EXPLORE, "--labeler-model", "m", "--yes"],
        "--labeler-model and --yes .*without --labeler",
    ),
    "latents of nothing": (nothing, [*EXPLORE, "--latents", "50"], "--latents .*without --steer or --labeler"),
    "a port where nothing is served": (nothing, [*EXPLORE, "--port", "8000"], "--port .*without --serve"),
    "a port out of range": (nothing, [*EXPLORE, "--port", "99999"], "--port.* 65535"),
    "tokens that no evaluation reads": (
        nothing,
        ["saebench", "{dir}/sae", "--evals", "tpp", "--tokens", "5", "--out", "{dir}/out"],
        "--tokens .*without core in --evals",
    ),
    "no tokens": (nothing, ["inspect", "{dir}/sae", "--tokens", "0"], "--tokens.* 1"),
    "tokens in words": (nothing, ["inspect", "{dir}/sae", "--tokens", "many"], "--tokens.*integer"),
}


@pytest.mark.parametrize("case", FILES)
def test_a_bad_file_or_argument_is_refused_in_a_sentence(case: str, desk: Path) -> None:
    arrange, arguments, sentence = FILES[case]
    arrange(desk)
    refused(arguments, sentence, desk)


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EACCES, "permissions"),
        (errno.EROFS, "another path"),
        (errno.EISDIR, "another path"),
    ],
)
def test_a_disk_error_is_a_sentence(number: int, remedy: str, desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, *_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(Path, "write_text", refuse)
    refused(TRAIN_OUT, f"{os.strerror(number)}: .*/out/.*; .*{remedy}", desk, leaves={"out"})


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (SafetensorError("Error while serializing: (os error 28)"), "No space left.*free some space"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB."), r"2 GiB\).*store_batch_size_prompts"),
        (TRANSPORT_ERRORS[0]("slow"), r"HTTPError: slow.*run the command again"),
        (ConnectionError("Server Disconnected"), "ConnectionError: Server Dis.*--resume"),
    ],
)
def test_an_error_of_the_machine_is_a_sentence(
    error: Exception, sentence: str, desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("sae_lens_abstopk.training.runner.load_language_model", fail)
    refused(["train", "{dir}/good.yaml"], sentence, desk)


@pytest.fixture(scope="module")
def new_desk(tiny_llama: Path, texts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("new") / "desk"
    (folder / "empty_folder").mkdir(parents=True)
    (folder / "a_file").write_text("kept as it is")
    shutil.copy(texts, folder / "good.jsonl")
    (folder / "model").symlink_to(tiny_llama)
    sae = TopKSAE(TopKSAEConfig(d_in=32, d_sae=64, k=4))
    metadata = {"hook_name": "model.layers.2", "model_name": str(tiny_llama), "context_size": 32}
    for key, value in (metadata | {"model_class_name": "AutoModelForCausalLM"}).items():
        sae.cfg.metadata[key] = value
    sae.save_model(folder / "sae")
    return folder


@pytest.fixture
def desk(tmp_path: Path, raw_config: dict[str, Any], new_desk: Path, monkeypatch: Any) -> Path:
    """A folder with a good config, text, model and SAE, and a file and a folder that are none of these."""
    folder = shutil.copytree(new_desk, tmp_path / "desk", symlinks=True)
    (folder / "good.yaml").write_text(yaml.safe_dump(raw_config | {"output_path": str(folder / "run")}))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return folder


def contents(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def refused(arguments: list[str], sentence: str, desk: Path, leaves: set[str] = frozenset()) -> None:  # type: ignore[assignment]
    before = contents(desk)
    arguments = [argument.replace("{dir}", str(desk)) for argument in arguments]
    done = CliRunner(env={"COLUMNS": "400", "TERM": "dumb"}).invoke(app, arguments)
    said = done.stderr
    assert done.exit_code in (1, 2), said + done.output
    assert done.exception is None or isinstance(done.exception, SystemExit), repr(done.exception)
    assert "Traceback" not in said
    assert re.search(sentence, " ".join(said.split())), said
    assert len(re.findall("^error: ", said, re.MULTILINE)) == 1 or "Usage:" in said, said
    after = {name: digest for name, digest in contents(desk).items() if not any(f"/{part}/" in name for part in leaves)}
    assert after == before, "a file was changed or written"
