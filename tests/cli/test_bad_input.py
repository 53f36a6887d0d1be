"""What a user gets wrong: one clear sentence, a non-zero exit, no traceback, and no file changed."""

import hashlib
import json
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

# ---- configs: changes to a config that is right, and what is said about them

# what tests/config/test_config_file.py and those of the SAEs do not have
CONFIGS: dict[str, tuple[dict[str, Any], str]] = {
    "d_in of another model": ({"sae.d_in": 31}, "sae.d_in=31"),
    "architecture is a number": ({"sae.architecture": 3}, "architecture"),
    "k_fraction above 1": ({"sae.k": None, "sae.k_fraction": 3.0}, "sae.k=96 must lie between"),
    "unknown backend": ({"sae.sparse_backend": "fast"}, "sparse_backend='fast' .*'sparse' or 'dense'"),
    "unknown selection": ({"sae.selection_dtype": "int8"}, "selection_dtype='int8' .*'auto', 'float32' or 'bfloat16'"),
    "unknown dtype": ({"sae.dtype": "int8"}, "dtype='int8'"),
    "a key that the architecture does not have": (
        {"sae.architecture": "standard"},
        r"sae\.k is no key of the architecture standard, but of abstopk, .*leave it out and set target_l0\.sae \(in a sweep",
    ),
    "no tokens": ({"training_tokens": 0}, "training_tokens=0 must be at least 1"),
    "no step": ({"training_tokens": 32}, "not one step would be taken"),
    "empty batch": ({"train_batch_size_tokens": 0}, "train_batch_size_tokens=0 must be at least 1"),
    "context of one": ({"context_size": 1}, "context_size=1 must be at least 2"),
    "no prompts": ({"store_batch_size_prompts": 0}, "store_batch_size_prompts=0 must be at least 1"),
    "no buffer": ({"n_batches_in_buffer": 0}, "n_batches_in_buffer=0 must be at least 1"),
    "checkpoints below 0": ({"checkpoint_freq": -1}, "checkpoint_freq=-1 must be at least 0"),
    "no tokens to measure on": ({"perf_tokens": 0}, "perf_tokens=0 must be at least 1"),
    "companion of unknown kind": ({"companions": {"a": {"architecture": "x"}}}, r"companions\.a\.architecture='x'"),
    "companions is a list": ({"companions": ["topk"]}, "companions=.* must be a section of keys"),
    "logger is a word": ({"logger": "wandb"}, "logger='wandb' must be a section of keys"),
    "hook that is not there": ({"hook_name": "model.layer.2"}, "hook_name='model.layer.2'"),
    "layer that is not there": ({"hook_name": "model.layers.99"}, "hook_name='model.layers.99'"),
    "text that is not there": ({"dataset_path": "{dir}/none.jsonl"}, r"none\.jsonl"),
    "column that is not there": ({"column_name": "body"}, "column_name='body'.*text"),
    "split that is not there": ({"split": "validation"}, "split='validation'"),
    "model folder that is not there": ({"model_name": "{dir}/none"}, "model_name='.*none'"),
    "model folder without a model": ({"model_name": "{dir}/empty_folder"}, r"is a local path without a config\.json"),
    "checkpoint that is not there": (
        {"resume_from_checkpoint": "{dir}/none"},
        "is no whole checkpoint: there is no such folder",
    ),
    "SAE to go on with that is not there": ({"from_pretrained_path": "{dir}/none"}, "from_pretrained_path"),
    "output path is a file": ({"output_path": "{dir}/a_file"}, "is a file; name a folder"),
    "output path below a file": ({"output_path": "{dir}/a_file/run"}, "a_file"),
    "output path with a run in it": ({"output_path": "{dir}/sae"}, "already holds a run"),
}


def changed(config: dict[str, Any], changes: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The config with dotted keys replaced; None takes a key of ``sae`` away."""
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
def test_a_config_that_cannot_be_meant_is_refused_in_a_sentence(
    case: str, desk: Path, raw_config: dict[str, Any]
) -> None:
    changes, sentence = CONFIGS[case]
    (desk / "bad.yaml").write_text(yaml.safe_dump(changed(raw_config, changes, desk)))
    refused(["train", str(desk / "bad.yaml")], sentence, desk)


# ---- files: how one is spoilt, the command that meets it, and what is said


def text_of(content: str | bytes, name: str = "text.jsonl") -> Arrange:
    return lambda folder: (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def weights(change: Callable[[dict[str, torch.Tensor]], object]) -> Arrange:
    def arrange(folder: Path) -> None:
        state = load_file(folder / "sae" / "sae_weights.safetensors")
        change(state)
        save_file(state, folder / "sae" / "sae_weights.safetensors")

    return arrange


def config_of_sae(change: Callable[[dict[str, Any]], object]) -> Arrange:
    def arrange(folder: Path) -> None:
        path = folder / "sae" / "cfg.json"
        content = json.loads(path.read_text())
        change(content)
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


TRAIN_ON = ["train", "{dir}/good.yaml", "dataset_path={dir}/text.jsonl"]
TRAIN_WITH = ["train", "{dir}/good.yaml", "model_name={dir}/bad_model"]
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
FILES: dict[str, tuple[Arrange, list[str], str]] = {
    "no such config": (nothing, ["train", "{dir}/none.yaml"], r"none\.yaml"),
    "config is a folder": (nothing, ["train", "{dir}/empty_folder"], "is neither a .yaml file nor a preset"),
    "config is empty": (text_of("", "c.yaml"), ["train", "{dir}/c.yaml"], "the top level must be a mapping"),
    "config is a list": (text_of("- 1", "c.yaml"), ["train", "{dir}/c.yaml"], "the top level must be a mapping"),
    "config is no YAML": (text_of("a: [1", "c.yaml"), ["train", "{dir}/c.yaml"], r"c\.yaml.*line"),
    "config is binary": (text_of(b"\xff\xfe\x00", "c.yaml"), ["train", "{dir}/c.yaml"], r"c\.yaml"),
    "config builds an object": (
        text_of("!!python/object/apply:os.system ['true']", "c.yaml"),
        ["train", "{dir}/c.yaml"],
        r"c\.yaml",
    ),
    "a key twice": (
        text_of("lr: 1.0\nlr: 2.0\n", "c.yaml"),
        ["train", "{dir}/c.yaml"],
        "the key 'lr' is there twice, again in line 2",
    ),
    "override without a value": (nothing, ["train", "{dir}/good.yaml", "lr"], "'lr'.*KEY=VALUE|key=value"),
    "override of nothing": (nothing, ["train", "{dir}/good.yaml", "lrr=1"], "unknown key 'lrr'"),
    "override that is no YAML": (nothing, ["train", "{dir}/good.yaml", "lr=[1"], "lr=.* has the wrong type"),
    "text is empty": (text_of(""), TRAIN_ON, r"text\.jsonl' is empty"),
    "text is binary": (text_of(bytes(range(256))), TRAIN_ON, r"text\.jsonl' cannot be read: JSON"),
    "text is no UTF-8": (
        text_of(b"\xff\xfehello\n", "text.txt"),
        [*TRAIN_ON[:2], "dataset_path={dir}/text.txt"],
        "is not UTF-8 text",
    ),
    "text is no JSON": (text_of("{not json}\n"), TRAIN_ON, r"text\.jsonl' cannot be read: JSON"),
    "text is too short": (text_of('{"text": "short"}\n' * 30), TRAIN_ON, "does not fill one batch"),
    "text of an unknown kind": (
        text_of("x", "text.docx"),
        [*TRAIN_ON[:2], "dataset_path={dir}/text.docx"],
        r"text\.docx.*\.jsonl",
    ),
    "a folder without texts": (
        nothing,
        [*TRAIN_ON[:2], "dataset_path={dir}/empty_folder"],
        "empty_folder' holds no text; known endings",
    ),
    "a data set while offline": (nothing, [*TRAIN_ON[:2], "dataset_path=no/such-set"], "no/such-set"),
    "a model while offline": (
        nothing,
        [*TRAIN_ON[:2], "model_name=no/such-model"],
        "no/such-model' could not be loaded from",
    ),
    "model without weights": (
        model_with(lambda folder: [path.unlink() for path in folder.glob("*.safetensors")]),
        TRAIN_WITH,
        "bad_model' could not be loaded .*no file named model.safetensors",
    ),
    "model with torn weights": (
        model_with(lambda folder: [path.write_bytes(b"torn") for path in folder.glob("*.safetensors")]),
        TRAIN_WITH,
        "bad_model' could not be loaded .*deserializing header",
    ),
    "model of unknown kind": (
        model_with(edited_json("config.json", model_type="unheard")),
        TRAIN_WITH,
        "could not be loaded .*unheard",
    ),
    "model that is not causal": (
        model_with(edited_json("config.json", model_type="bert", architectures=["BertModel"])),
        TRAIN_WITH,
        "is not a module of .*nearest: bert",
    ),
    "model without a tokenizer": (
        model_with(lambda folder: [path.unlink() for path in folder.glob("tokenizer*")]),
        TRAIN_WITH,
        "has no tokenizer files that can be read",
    ),
    "config of the model is no JSON": (
        model_with(lambda folder: (folder / "config.json").write_text("{")),
        TRAIN_WITH,
        "bad_model' could not be loaded .*config file",
    ),
    "no such SAE": (nothing, ["inspect", "{dir}/none"], "none: no such folder"),
    "SAE is a file": (nothing, ["inspect", "{dir}/a_file"], "a_file: no such folder"),
    "SAE with torn weights": (truncated, MEASURE, "could not be loaded as an SAE: .*header"),
    "SAE with pickled weights": (pickled, MEASURE, "could not be loaded as an SAE: .*header"),
    "SAE without a decoder": (weights(lambda state: state.pop("W_dec")), MEASURE, "W_dec"),
    "SAE with a decoder of another shape": (
        weights(lambda state: state.update(W_dec=torch.ones(3, 32))),
        MEASURE,
        "W_dec",
    ),
    "SAE with NaN": (weights(lambda state: state["W_dec"].fill_(torch.nan)), MEASURE, "NaN"),
    "SAE whose config is no JSON": (text_of("{", "sae/cfg.json"), MEASURE, "could not be loaded as an SAE"),
    "SAE whose config lacks a key": (config_of_sae(lambda cfg: cfg.pop("d_sae")), MEASURE, "d_sae"),
    "SAE that reads another width": (
        config_of_sae(lambda cfg: cfg["metadata"].update(hook_name="lm_head")),
        MEASURE,
        "lm_head of this model is 300 wide and the SAE reads 32",
    ),
    "SAE without a model": (
        config_of_sae(lambda cfg: cfg["metadata"].pop("model_name")),
        ["inspect", "{dir}/sae", "--text", "{dir}/good.jsonl"],
        "lack model_name; give --model NAME",
    ),
    "mirror of a non-negative SAE": (nothing, ["mirror", "{dir}/sae", "--out", "{dir}/out"], "topk"),
    "mirror over a file": (
        nothing,
        ["mirror", "{dir}/sae", "--out", "{dir}/a_file"],
        "a_file is not an empty folder; give another with --out",
    ),
    "three SAEs to explore": (
        nothing,
        ["explore", "{dir}/sae", "{dir}/sae", "{dir}/sae", "--out", "{dir}/out"],
        "3 SAEs were given",
    ),
    "labeler without a model": (
        nothing,
        ["explore", "{dir}/sae", "--labeler", "http://x", "--out", "{dir}/out"],
        "add --labeler-model NAME",
    ),
    "unknown suite": (nothing, [*EVALUATE, "--suite", "ful"], "suite 'ful' is neither"),
    "suite with an unknown task": (suite_with(TASK, tasks=["gendr"]), SUITE, "gendr"),
    "suite that steers a task without prompts": (
        lambda folder: suite_with(TASK, steering={"tasks": [str(folder / "t.yaml")]})(folder),
        SUITE,
        "has no steering part",
    ),
    "task is no YAML": (suite_with("a: [1"), SUITE, r"t\.yaml"),
    "task without poles": (suite_with({k: v for k, v in TASK.items() if k != "poles"}), SUITE, r"t\.yaml.*poles"),
    "no such results": (nothing, ["report", "{dir}/none.json"], "no such results file"),
    "results are no JSON": (text_of("{", "r.json"), ["report", "{dir}/r.json"], "is not a results file"),
    "no such comparison": (nothing, ["compare", "none"], "comparison 'none' is neither a .yaml file nor one of"),
    "variant of a file": (
        nothing,
        ["train", "{dir}/good.yaml/topk"],
        "variants are of the presets .* configs gemma-2-2b/topk",
    ),
    "variant of a preset with companions": (
        nothing,
        ["configs", "quickstart/jumprelu"],
        "so no variant can be laid over it",
    ),
    "no such sweep": (nothing, ["sweep", "none"], "'none' is neither a .yaml file nor one of paper"),
    "no such preset": (nothing, ["configs", "gpt3"], "did you mean 'gpt2'"),
    "publishing to no name": (nothing, ["publish", "{dir}/sae", "--repo", "a b/c", "--dry-run"], "a b/c"),
    "publishing without a token": (nothing, ["publish", "{dir}/sae", "--repo", "user/name"], "HF_HUB_OFFLINE is set"),
    "publishing NaN": (
        weights(lambda state: state["W_dec"].fill_(torch.nan)),
        ["publish", "{dir}/sae", "--repo", "user/name", "--dry-run"],
        "NaN",
    ),
    "pulling while offline": (nothing, ["pull", "user/name", "sae"], "user/name"),
    "converting what is no checkpoint": (
        nothing,
        ["convert", "{dir}/empty_folder", "--out", "{dir}/out"],
        "empty_folder",
    ),
    "unknown command": (nothing, ["trian"], "No such command 'trian'"),
    "unknown option": (nothing, ["train", "{dir}/good.yaml", "--outptu", "x"], "No such option: --outptu"),
    "no argument": (nothing, ["train"], "Missing argument 'config'"),
    "no folder for the results": (
        nothing,
        [*MEASURE, "--json", "{dir}/nowhere/n.json"],
        r"nowhere/n\.json: there is no folder .*nowhere; make it, or name another file",
    ),
    "results of an evaluation in place of an inspection": (
        lambda folder: results_document().write(folder / "r.json"),
        [*MEASURE, "--json", "{dir}/r.json"],
        r"r\.json has the results of the suite 'full', which would be written over",
    ),
    "another file in place of the results": (
        nothing,
        [*MEASURE, "--json", "{dir}/good.yaml"],
        r"good\.yaml is not a results file of this version.* Move that file away, or name another",
    ),
    "a seed below 0": (nothing, [*EVALUATE, "--seed", "-1"], "--seed.*greater than or equal to 0"),
    "text too short to measure on": (
        text_of('{"text": "short"}'),
        ["inspect", "{dir}/sae", "--model", "{dir}/model", "--text", "{dir}/text.jsonl"],
        r"the text of '.*text\.jsonl' does not fill one batch of \d+ tokens; give more text, or lower store_batch",
    ),
    "a folder in place of the results": (
        nothing,
        [*MEASURE, "--json", "{dir}/empty_folder"],
        r"--json .*empty_folder is a folder; name a file to write",
    ),
    "options of a labeler that is not there": (
        nothing,
        ["explore", "{dir}/sae", "--labeler-model", "m", "--yes", "--out", "{dir}/out"],
        "--labeler-model and --yes would be ignored without --labeler; add --labeler",
    ),
    "latents of nothing": (
        nothing,
        ["explore", "{dir}/sae", "--latents", "50", "--out", "{dir}/out"],
        "--latents would be ignored without --steer or --labeler",
    ),
    "tokens that no evaluation reads": (
        nothing,
        ["saebench", "{dir}/sae", "--evals", "tpp", "--tokens", "5", "--out", "{dir}/out"],
        "--tokens would be ignored without core in --evals",
    ),
    "activations that nothing needs": (
        nothing,
        ["convert", "{dir}/sae", "--activations", "{dir}/a_file", "--out", "{dir}/out"],
        "SAEs of sparsify have what they need; leave out --activations",
    ),
    "a port where nothing is served": (
        nothing,
        ["explore", "{dir}/sae", "--port", "8000", "--out", "{dir}/out"],
        "--port would be ignored without --serve",
    ),
    "no tokens": (nothing, ["inspect", "{dir}/sae", "--tokens", "0"], "--tokens.*greater than or equal to 1"),
    "a port that is none": (
        nothing,
        ["explore", "{dir}/sae", "--port", "99999"],
        "--port.*less than or equal to 65535",
    ),
    "tokens in words": (nothing, ["inspect", "{dir}/sae", "--tokens", "many"], "--tokens.*integer"),
}


@pytest.mark.parametrize("case", FILES)
def test_a_file_or_argument_that_will_not_do_is_refused_in_a_sentence(case: str, desk: Path) -> None:
    arrange, arguments, sentence = FILES[case]
    arrange(desk)
    refused([argument.replace("{dir}", str(desk)) for argument in arguments], sentence, desk)


@pytest.mark.parametrize(
    ("number", "words", "remedy"),
    [
        (28, "No space left on device", "free some space"),
        (13, "Permission denied", "change its permissions"),
        (30, "Read-only", "choose another path"),
        (21, "Is a directory", "choose another path"),
    ],
)
def test_a_disk_that_takes_nothing_is_a_sentence(
    number: int, words: str, remedy: str, desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, *_: Any, **__: Any) -> None:
        raise OSError(number, f"{words} here", str(path))

    monkeypatch.setattr(Path, "write_text", refuse)
    refused(
        ["train", str(desk / "good.yaml"), f"output_path={desk}/out"],
        f"{words} here: .*/out/.*; .*{remedy}",
        desk,
        leaves={"out"},
    )


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            SafetensorError("Error while serializing: I/O error: No space left (os error 28)"),
            "No space left.*; free some",
        ),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB."),
            r"allocate 2 GiB\)\. Free .* lower store_b",
        ),
        (TRANSPORT_ERRORS[0]("slow"), r"network failed \(HTTPError: slow\); run the command again"),
        (ConnectionError("Server Disconnected"), r"network failed \(ConnectionError: Server Dis.*--resume"),
    ],
)
def test_what_the_machine_does_to_a_command_is_a_sentence(
    error: Exception, sentence: str, desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("sae_lens_abstopk.training.runner.load_language_model", fail)
    refused(["train", str(desk / "good.yaml")], sentence, desk)


# ---- the desk


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
    """A folder with a config, a text, a model and an SAE that are right, and things that are none of these."""
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
    done = CliRunner(env={"COLUMNS": "400", "TERM": "dumb"}).invoke(app, arguments)
    said = done.stderr
    assert done.exit_code in (1, 2), said + done.output
    assert done.exception is None or isinstance(done.exception, SystemExit), repr(done.exception)
    assert "Traceback" not in said
    assert re.search(sentence, " ".join(said.split())), said
    errors = [line for line in said.splitlines() if line.startswith("error:")]
    assert len(errors) <= 1
    assert len(errors) == 1 or "Usage:" in said, said
    after = {name: digest for name, digest in contents(desk).items() if not any(f"/{part}/" in name for part in leaves)}
    assert after == before, "a file was changed or written"
