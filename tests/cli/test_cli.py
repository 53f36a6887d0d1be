"""The command as a user types it, in a process of its own where that matters."""

import errno
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from typer.testing import CliRunner

from sae_lens_abstopk.cli import app
from sae_lens_abstopk.cli.app import COMMANDS, HOME, named, named_folders
from sae_lens_abstopk.cli.errors import errors_as_sentences
from sae_lens_abstopk.evaluation.inspection import inspect_saes as inspection
from sae_lens_abstopk.training.config.config_file import preset_names, read_raw
from sae_lens_abstopk.training.config.keys import key_docs


def invoke(*arguments: str, answer: str = "") -> Any:
    return CliRunner(env={"COLUMNS": "200", "TERM": "dumb"}).invoke(app, list(arguments), input=answer)


def test_the_version_and_all_commands_are_shown() -> None:
    assert re.match(r"sae-lens-abstopk \d+\.\d+\.\d+, sae-lens \d", invoke("--version").output)
    output = invoke("--help").output
    places = [output.index(f"│ {command} ") for command in COMMANDS]
    assert places == sorted(places)


@pytest.mark.parametrize(("arguments", "code"), [(["train", "--help"], 0), (["train"], 2)])
def test_help_and_usage_errors_wait_for_neither_torch_nor_saelens(arguments: list[str], code: int) -> None:
    program = f"""
import sys
sys.argv = ["abstopk"]  # as the installed command has it
from typer.testing import CliRunner
from sae_lens_abstopk.cli import app
done = CliRunner().invoke(app, {arguments})
heavy = {{"torch", "sae_lens", "transformers", "huggingface_hub"}}
print(done.output, done.exit_code, sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "Usage: " in done.stdout
    assert done.stdout.endswith(f"{code} []\n")


@pytest.mark.parametrize("given", [None, "7"])
def test_threads_that_wait_do_not_spin_unless_the_user_has_set_it(given: str | None) -> None:
    program = """
import os, sys
from importlib.abc import MetaPathFinder

class Seen(MetaPathFinder):
    def find_spec(self, name, *_):
        if name == "torch":
            print(os.environ.get("GOMP_SPINCOUNT"), flush=True)
            os._exit(0)  # before torch is read

sys.meta_path.insert(0, Seen())
import sae_lens_abstopk
"""
    environment = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    environment |= {} if given is None else {"GOMP_SPINCOUNT": given}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split() == [given or "1000"]


def test_configs_are_listed_shown_and_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    listing = invoke("configs")
    assert listing.exit_code == 0
    assert "EleutherAI/pythia-70m" in listing.output
    shown = invoke("configs", "pythia-70m/topk")
    assert yaml.safe_load(shown.output)["sae"]["architecture"] == "sparse_topk"
    keys = invoke("configs", "--keys")
    assert "max_norm_multiple" in keys.output
    monkeypatch.setenv("COLUMNS", "300")
    assert "list[int]" in invoke("configs", "--keys").output, "a type is not markup"
    narrow = CliRunner(env={"COLUMNS": "80", "TERM": "dumb"}).invoke(app, ["configs", "--keys"]).output
    assert all(f"{key} " in narrow for key in key_docs()), "every key can be searched for"


def test_a_run_from_a_file_with_overrides(raw_config: dict[str, Any], tmp_path: Path) -> None:
    del raw_config["output_path"]
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(raw_config))
    # a name that is a date in YAML, and would end in a comment
    output = tmp_path / "2026-10-01 #2"
    done = invoke("train", str(tmp_path / "c.yaml"), "sae.k=3", "--out", str(output))
    assert done.exit_code == 0, done.output
    assert re.fullmatch(r"(\w+: .*\n)+", done.stdout), "progress is on standard error"
    assert yaml.safe_load((output / "config.yaml").read_text())["sae"]["k"] == 3
    shown = invoke("inspect", str(output), "--tokens", "200", "--latents", "1", "--out", str(tmp_path / "n.json"))
    assert shown.exit_code == 0, shown.output
    assert "latent " in shown.output
    assert (tmp_path / "n.json").is_file()


def test_a_config_is_shown_whole_and_a_hook_without_a_layer_leaves_the_layer_out() -> None:
    hook = "hook_name=blocks.12.hook_resid_post"
    shown = invoke("train", "gemma-2-2b", "model_class_name=TransformerBridge", hook, "lr=1e-4", "--dry-run")
    assert shown.exit_code == 0, shown.output
    config = yaml.safe_load(shown.output)
    assert (config["hook_name"], config["lr"], config["sae"]["d_sae"]) == ("blocks.12.hook_resid_post", 1e-4, 16 * 2304)


def test_a_tilde_that_a_shell_leaves_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "r.json").write_text("{")
    for argument in ("~/r.json", "--out=~/none/n.json"):
        done = invoke("inspect", "~/sae", argument)
        assert str(tmp_path) in done.stderr
        assert "~" not in done.stderr
    assert "a~/b" in invoke("configs", "a~/b").stderr
    assert [HOME.sub("H", path) for path in (r"~\runs", "~", "~x", r"a~\b")] == [r"H\runs", "H", "~x", r"a~\b"]


def test_what_configs_shows_is_a_config(tmp_path: Path) -> None:
    for name in (*preset_names(), "pythia-70m/batch_abstopk", "gpt2/topk"):
        shown = tmp_path / "shown.yaml"
        shown.write_text(invoke("configs", name).output)
        assert read_raw(shown)[0] == read_raw(name)[0]
    path = tmp_path / "mine.yaml"
    path.write_text("lr: 1e-3  # my own\n")
    assert invoke("configs", str(path)).output == path.read_text()


def test_a_folder_with_an_equals_sign_in_its_name_is_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lr=1e-3").mkdir()
    assert named(["lr=1e-3"]) == ["lr=1e-3"]
    assert named(["mine=lr=1e-3"]) == {"mine": "lr=1e-3"}
    assert named_folders(["lr=1e-3", "mine=lr=1e-3"]) == {name: Path("lr=1e-3") for name in ("lr=1e-3", "mine")}


MEASURING = {
    "inspect": (),
    "eval": ("--suite", "quick", "--out", "out"),
    "explore": ("--out", "out"),
    "mirror": ("--out", "out", "--prune-dead-poles"),
    "publish": ("--repo", "me/mine", "--measure", "--dry-run", "--out", "out"),
    "neuronpedia": ("--out", "out", "--model-id", "tiny", "--set", "mine"),
    "saebench": ("--out", "out", "--evals", "core"),
}


@pytest.mark.parametrize("command", MEASURING)
def test_every_command_that_runs_a_model_takes_a_device_and_refuses_one_that_is_not_there(
    command: str, folders: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("sae_lens_abstopk.interop.saebench.find_spec", bool)
    done = invoke(command, str(folders[0]), *MEASURING[command], "--device", "cuda:1")
    assert done.exit_code == 2
    assert re.search("cuda:1.*CUDA", " ".join(done.output.split()))


@pytest.mark.usefixtures("default_signals")
def test_sigterm_ends_a_command_by_an_exception_so_that_temporary_files_are_removed() -> None:
    def is_sent_it() -> None:
        with errors_as_sentences():
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(SystemExit) as ended:
        is_sent_it()
    assert ended.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_what_was_measured_is_shown_where_its_file_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    found = SimpleNamespace(results=SimpleNamespace(write=full))
    monkeypatch.setattr(inspection, "inspect_saes", lambda *_, **__: found)
    monkeypatch.setattr(inspection, "print_inspection", lambda _, console, **__: console.print("numbers"))
    done = invoke("inspect", str(tmp_path), "--out", str(tmp_path / "n.json"))
    assert done.stdout == "numbers\n"
    assert "No space left on device" in done.stderr
