"""The blocks of the pages on SAEBench and on tools that need the interop environment run, on a tiny model."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from sae_lens import SAE
from transformers import AutoModelForCausalLM

from sae_lens_abstopk.interop.saebench import run_saebench
from tests.cli.test_cli import invoke
from tests.conftest import at_layer_3
from tests.interop.conftest import HOOK

pytestmark = pytest.mark.interop
DOCS = Path(__file__).parents[2] / "docs"


def blocks(page: str) -> list[tuple[str, str]]:
    return re.findall(r"```(bash|python)\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)


@pytest.fixture
def run_folder(
    signed_folder: Path, texts: Path, tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """runs/tokens in an empty folder, as a run leaves it."""
    monkeypatch.chdir(tmp_path)
    SAE.load_from_disk(signed_folder).save_model("runs/tokens")
    Path("runs/tokens/config.yaml").write_text(
        f"model_name: {tiny_llama}\nhook_name: {HOOK}\ndataset_path: {texts}\ncontext_size: 32\n"
        "seqpos_slice: [1, null]\nstore_batch_size_prompts: 4\ntraining_tokens: 384\ntrain_batch_size_tokens: 64\n"
        "device: cpu\nprepend_bos: false\nsae: {architecture: abstopk, d_in: 32, d_sae: 64, k: 4}\n"
    )
    return tmp_path


def test_the_blocks_about_saebench_run(run_folder: Path) -> None:
    kinds = [kind for kind, _ in blocks("saebench.md")]
    assert kinds == ["bash", "python"]
    scope: dict[str, Any] = {}
    for kind, code in blocks("saebench.md"):
        if kind == "bash":
            done = invoke(*shlex.split(code)[1:], "--tokens", "500")
            assert done.exit_code == 0, done.output
            assert "ce_loss_score" in done.output
            assert "tpp_threshold_2_total_metric" in done.output
        else:
            exec(code, scope)
    assert 0 < scope["core"].metrics["sparsity"]["l0"] < 64
    assert len(list((run_folder / "saebench").rglob("*_eval_results.json"))) == 3


def test_all_blocks_on_other_tools_run(run_folder: Path, tiny_llama: Path) -> None:
    """In a process of their own: nnsight reads the source of what it traces, and changes torch for all."""
    sae = SAE.load_from_disk("runs/tokens")
    sae.cfg.metadata.hook_name = "model.layers.3"
    sae.save_model("runs/tokens")
    page = (DOCS / "in-your-tool.md").read_text()
    commands, python = (
        re.findall(rf"```{kind}\n(.*?)```", page, re.DOTALL) for kind in ("bash", "python(?: interop)?")
    )
    assert [command.split()[1] for command in commands] == ["mirror", "neuronpedia"]
    assert len(python) == len(re.findall("```python", page))
    python = [block for block in python if "import convert" not in block]  # reads files of another project
    assert len(python) == 10
    assert invoke(*shlex.split(commands[0])[1:]).exit_code == 0
    script = run_folder / "page.py"
    names = ("tokens", "latent", "traced_codes", "logits_without_pole")
    kept = f"torch.save({{key: globals()[key] for key in {names}}}, 'kept.pt')"
    code = "\n".join([*python, kept]).replace("HuggingFaceTB/SmolLM2-135M-Instruct", str(tiny_llama))
    script.write_text(at_layer_3(code))
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, cwd=run_folder, check=False)
    assert done.returncode == 0, done.stderr[-3000:]

    found = torch.load("kept.pt", weights_only=True)
    model = AutoModelForCausalLM.from_pretrained(tiny_llama).eval()
    with torch.no_grad():
        clean = model(found["tokens"], output_hidden_states=True)
        x = clean.hidden_states[4]
        codes = sae.encode(x)
        change = codes[..., [found["latent"]]].clamp(max=0) * sae.W_dec[found["latent"]]
        assert change.any()
        model.model.layers[3].register_forward_hook(lambda *_: x - change)
        expected = model(found["tokens"]).logits
    torch.testing.assert_close(found["traced_codes"], codes, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(found["logits_without_pole"], expected, rtol=1e-3, atol=1e-3)
    assert not torch.allclose(expected, clean.logits, rtol=1e-3, atol=1e-3)
    (probes,) = (run_folder / "probes").rglob("*.json")
    assert [entry["k"] for entry in json.loads(probes.read_text())] == [1, 5]


def test_a_non_negative_sae_is_taken_as_it_is(run_folder: Path) -> None:
    assert invoke("mirror", "runs/tokens", "--out", "mirrored").exit_code == 0
    (direct,) = run_saebench("mirrored", out=run_folder / "a", evals=["core"], n_tokens=500)
    (through,) = run_saebench("runs/tokens", out=run_folder / "b", evals=["core"], n_tokens=500)
    assert direct.metrics["sparsity"] == pytest.approx(through.metrics["sparsity"], rel=1e-5)
