"""A mistake of a user is answered in one sentence and a non-zero exit: no traceback, and no file changed."""

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from sae_lens_abstopk.system.errors import TRANSPORT_ERRORS
from tests.cli.conftest import refused
from tests.evaluation.results_document import results_document

Arrange = Callable[[Path], object]
MEASURE = "inspect {dir}/sae --model {dir}/model --text {dir}/good.jsonl --tokens 64"
EVALUATE = "eval {dir}/sae --model {dir}/model --text {dir}/good.jsonl --out {dir}/out"
EXPLORE = "explore --out {dir}/out {dir}/sae"
RETRIEVE = "retrieval {dir}/sae --queries {dir}/good.jsonl --documents {dir}/good.jsonl --qrels {dir}/none.tsv"
TRAIN_ON, TRAIN_WITH = (
    "train {dir}/good.yaml dataset_path={dir}/text.jsonl",
    "train {dir}/good.yaml model_name={dir}/bad_model",
)

# wrong command lines, and key words of the answer; wrong config keys are in tests/training/config
COMMANDS: dict[str, str] = {
    "trian": "No such command 'trian'",
    "train": "Missing argument 'config'",
    "train {dir}/good.yaml --outptu x": "No such option: --outptu",
    "train {dir}/none.yaml": r"none\.yaml",
    "train {dir}/empty_folder": "empty_folder.*preset",
    "train {dir}/good.yaml lr": "lr.*(KEY=VALUE|key=value)",
    "train {dir}/good.yaml dataset_path={dir}/text.docx": r"text\.docx",
    "train {dir}/good.yaml dataset_path={dir}/empty_folder": "empty_folder.*no text",
    "train {dir}/good.yaml dataset_path=no/such-set": "no/such-set",
    "train {dir}/good.yaml model_name=no/such-model": "no/such-model",
    "train {dir}/good.yaml sae.d_in=31": "SAE takes 31; set sae.d_in=32",
    "train {dir}/good.yaml sae.k_fraction=3.0": "sae.k=96",
    "train {dir}/good.yaml context_size=1": "context_size=1 .*2",
    "train {dir}/good.yaml 'companions={a: {architecture: x}}'": r"companions\.a\.architecture='x'",
    "train {dir}/good.yaml hook_name=model.layer.2": "model.layer.2",
    "train {dir}/good.yaml column_name=body": "column_name='body'.*text",
    "train {dir}/good.yaml split=validation": "split.* validation",
    "train {dir}/good.yaml model_name={dir}/empty_folder": r"empty_folder.*config\.json",
    "train {dir}/good.yaml resume_from_checkpoint={dir}/none": "none.*no such folder",
    "train {dir}/good.yaml from_pretrained_path={dir}/none": "from_pretrained_path",
    "train {dir}/good.yaml output_path={dir}/a_file": "a_file.*folder",
    "train {dir}/good.yaml output_path={dir}/a_file/run": "a_file",
    "train {dir}/good.yaml output_path={dir}/sae": "already holds a run",
    "train {dir}/good.yaml/topq": "variant='topq' .*did you mean 'topk'",
    "train pythia-70m sae.k=0": r"sae\.k=0.* 1 .*8192",
    "train pythia-70m logger=wandb": r"logger\.log_to_wandb=true",
    "train pythia-70m --allow-changes lr": "--resume",
    "train pythia-70m hook_name=transformer.h.{layer} layer=null": "layer=N",
    "train gpt2 layer=3 output_path=x --out y": "--out and output_path=",
    "quickstart sae.k=16 lr=1e-3": "unexpected extra argument",
    "configs gpt3": "'gpt2'",
    "sweep none": "'none' .*paper",
    "sweep paper layer=3 --dry-run": "layer.* grid",
    "sweep paper output_path=x --dry-run": "output_path|--out",
    "compare none": "'none'",
    "inspect {dir}/none": "none: no such folder",
    "inspect {dir}/sae --tokens 0": "--tokens.* 1",
    f"{MEASURE} --out {{dir}}/nowhere/n.json": r"--out .*nowhere/n\.json",
    f"{MEASURE} --out {{dir}}/empty_folder": "--out .*empty_folder",
    f"{MEASURE} --out {{dir}}/good.yaml": r"good\.yaml",
    f"{EVALUATE} --suite ful": "'ful'",
    f"{EVALUATE} --seed -1": "--seed.* 0",
    "report {dir}/none.json": r"none\.json is missing",
    "mirror {dir}/sae --out {dir}/out": "topk",
    "mirror sae --out {dir}/m --device cpu": "--device .*without --prune-dead-poles",
    f"{EXPLORE} {{dir}}/sae {{dir}}/sae": "number of SAEs=3 .*at most 2",
    "explore {dir}/sae --out {dir}": "is neither empty nor an explorer's site",
    f"{EXPLORE} --labeler http://x": "--labeler-model NAME",
    f"{EXPLORE} --labeler-model m --yes": "--labeler-model and --yes .*without --labeler",
    f"{EXPLORE} --latents 50": "--latents .*without --steer or --labeler",
    f"{EXPLORE} --port 8000": "--port .*without --serve",
    f"{EXPLORE} --port 99999": "--port.* 65535",
    "embed {dir}/model {dir}/good.jsonl --out {dir}/a_file": r"a_file: the ending='' must be \.parquet",
    "embed {dir}/empty_folder {dir}/good.jsonl --out {dir}/e.parquet": "empty_folder.* could not be loaded",
    "embed {dir}/model {dir}/good.jsonl --column number --out {dir}/e.parquet": "column of text='number' must be text",
    "encode {dir}/sae {dir}/good.jsonl --out {dir}/c.parquet": "no column of lists of floats among text, number",
    "encode {dir}/sae {dir}/good.jsonl --out {dir}/out --shard 9/8": "shard='9/8' must be I/N",
    "encode {dir}/sae {dir}/good.jsonl --out {dir}/out --workers 2": "--workers .*without --ray",
    "encode {dir}/sae {dir}/good.jsonl --out {dir}/a_file --ray": "a_file is a file",
    "decode {dir}/sae {dir}/good.jsonl --out {dir}/v.npy": "column='indices'",
    f"{RETRIEVE} --similarity euclid": "--similarity.*'cosine', 'dot'",
    f"{RETRIEVE} --out {{dir}}/sae": "sae is not an empty folder",
    f"{RETRIEVE} --out {{dir}}/out": "good.jsonl.* no column of lists of floats among text, number",
    f"{RETRIEVE} --out {{dir}}/out --model {{dir}}/none": "column='_id' must be one of text, number",
    "saebench {dir}/sae --evals tpp --tokens 5 --out {dir}/out": "--tokens .*without core in --evals",
    "publish {dir}/sae --repo 'a b/c' --dry-run": "a b/c",
    "publish {dir}/sae --repo user/name": "HF_HUB_OFFLINE",
    "pull user/name sae": "user/name",
    "convert {dir}/empty_folder --out {dir}/out": "empty_folder",
    "convert {dir}/sae --activations {dir}/a_file --out {dir}/out": r"no conversion; .*SAE\.load_from_disk\('.*/sae'\)",
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_bad_command_line_is_refused_in_a_sentence(command: str, desk: Path) -> None:
    refused(command, COMMANDS[command], desk)


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


def bad_model(change: Callable[[Path], object]) -> Arrange:
    def arrange(folder: Path) -> None:
        shutil.copytree(folder / "model", folder / "bad_model")
        change(folder / "bad_model")

    return arrange


def edit(model: Path, **changes: Any) -> None:
    content = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(content | changes))


def unlink(model: Path, pattern: str) -> None:
    for path in model.glob(pattern):
        path.unlink()


NOT_LOADED = "bad_model.* could not be loaded"
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


SUITE = f"{EVALUATE} --suite {{dir}}/suite.yaml"
# how a file is spoilt, the command that reads it, and key words of the answer
FILES: dict[str, tuple[Arrange, str, str]] = {
    "config is empty": (text_of("", "c.yaml"), "train {dir}/c.yaml", "mapping"),
    "config is not YAML": (text_of("a: [1", "c.yaml"), "train {dir}/c.yaml", r"c\.yaml.*line"),
    "config is binary": (text_of(b"\xff\xfe\x00", "c.yaml"), "train {dir}/c.yaml", r"c\.yaml"),
    "a key twice": (text_of("lr: 1.0\nlr: 2.0\n", "c.yaml"), "train {dir}/c.yaml", "'lr'.*twice.*line 2"),
    "text is empty": (text_of(""), TRAIN_ON, r"text\.jsonl.* empty"),
    "text is not UTF-8": (
        text_of(b"\xff\xfehello\n", "text.txt"),
        "train {dir}/good.yaml dataset_path={dir}/text.txt",
        "UTF-8",
    ),
    "text is not JSON": (text_of("{not json}\n"), TRAIN_ON, r"text\.jsonl.* cannot be read"),
    "text is too short": (text_of('{"text": "short"}\n' * 30), TRAIN_ON, "fill one batch"),
    "text is too short to measure on": (
        text_of('{"text": "short"}'),
        MEASURE.replace("good.jsonl", "text.jsonl"),
        r"text\.jsonl.* fill one batch",
    ),
    "model without weights": (bad_model(lambda it: unlink(it, "*.safetensors")), TRAIN_WITH, NOT_LOADED),
    "model of unknown kind": (bad_model(lambda it: edit(it, model_type="unheard")), TRAIN_WITH, "unheard"),
    "model that is not causal": (
        bad_model(lambda it: edit(it, model_type="bert", architectures=["BertModel"])),
        TRAIN_WITH,
        "bert",
    ),
    "model without a tokenizer": (bad_model(lambda it: unlink(it, "tokenizer*")), TRAIN_WITH, "tokenizer"),
    "SAE with torn weights": (truncated, MEASURE, "could not be loaded as an SAE"),
    "SAE with a decoder of another shape": (weights(lambda it: it.update(W_dec=torch.ones(3, 32))), MEASURE, "W_dec"),
    "SAE with NaN": (weights(lambda state: state["W_dec"].fill_(torch.nan)), MEASURE, "NaN"),
    "SAE whose config is not JSON": (text_of("{", "sae/cfg.json"), MEASURE, "could not be loaded as an SAE"),
    "SAE whose config lacks a key": (text_of('{"d_in": 32}', "sae/cfg.json"), MEASURE, r"cfg\.json"),
    "SAE that reads another width": (sae_metadata(hook_name="lm_head"), MEASURE, "lm_head.* 300 .*32"),
    "SAE without a model": (sae_metadata(model_name=None), "inspect {dir}/sae --text {dir}/good.jsonl", "--model NAME"),
    "suite with an unknown task": (suite_with(TASK, tasks=["gendr"]), SUITE, "gendr"),
    "suite that steers a task without prompts": (
        lambda folder: suite_with(TASK, steering={"tasks": [str(folder / "t.yaml")]})(folder),
        SUITE,
        "no steering part",
    ),
    "task is not YAML": (suite_with("a: [1"), SUITE, r"t\.yaml"),
    "task without poles": (suite_with({k: v for k, v in TASK.items() if k != "poles"}), SUITE, r"t\.yaml.*poles"),
    "results are not JSON": (text_of("{", "r.json"), "report {dir}/r.json", r"r\.json is missing or damaged"),
    "results of an evaluation in place of an inspection": (
        lambda folder: results_document().write(folder / "r.json"),
        f"{MEASURE} --out {{dir}}/r.json",
        r"r\.json .*'full'",
    ),
}


@pytest.mark.parametrize("case", FILES)
def test_a_bad_file_or_argument_is_refused_in_a_sentence(case: str, desk: Path) -> None:
    arrange, command, sentence = FILES[case]
    arrange(desk)
    refused(command, sentence, desk)


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
    refused(
        "train {dir}/good.yaml output_path={dir}/out",
        f"{os.strerror(number)}: .*/out/.*; .*{remedy}",
        desk,
        leaves={"out"},
    )


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
    refused("train {dir}/good.yaml", sentence, desk)
