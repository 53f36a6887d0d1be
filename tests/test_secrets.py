"""Text of a model is text on every page, and keys are in no file and on no screen."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from sae_lens_abstopk import train
from sae_lens_abstopk.evaluation.reports.html_report import html_report
from sae_lens_abstopk.evaluation.results.merging import merge_results
from sae_lens_abstopk.explorer.exploration import explore
from sae_lens_abstopk.training.config.config_file import build_config
from tests.cli.test_cli import invoke
from tests.evaluation.results_document import results_document
from tests.training.runs import QUIET

HOSTILE = "<script>alert(1)</script>"


KEYS = {
    "HF_TOKEN": "hf_canaryCanaryCanaryCanaryCanary",
    "WANDB_API_KEY": "0123456789canary0123456789canary01234567",
    "OPENAI_API_KEY": "sk-canarycanarycanary",
    "MLFLOW_TRACKING_PASSWORD": "canary-of-mlflow",
}


def test_text_of_a_model_is_text_on_every_page(raw_config: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "hostile.jsonl").write_text(f"{json.dumps({'text': f'He said {HOSTILE} to her. ' * 12})}\n" * 60)
    raw = raw_config | {"dataset_path": str(tmp_path / "hostile.jsonl"), "perf_log_freq": 0}
    folder = train(build_config(raw), console=QUIET).folders["sae"]
    shown = explore(folder, n_tokens=200)
    site = tmp_path / "site"
    shown.write(site)
    html = "".join(path.read_text() for path in site.rglob("*.html"))
    cards = "".join(latent._repr_html_() for latent in (shown.latent(i) for i in range(8)))
    document = results_document(tasks={HOSTILE: (HOSTILE, HOSTILE)}, text=HOSTILE)
    report = html_report(merge_results([document]))
    for page in (html, cards, report):
        assert HOSTILE not in page
    assert "<script" not in cards
    assert "&lt;" in cards
    assert "&lt;script" in report


@pytest.mark.slow
@pytest.mark.usefixtures("wandb_folder")
def test_keys_are_in_no_file_and_on_no_screen(
    raw_config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    logger = {"wandb_log_frequency": 1, "log_to_wandb": True, "log_to_mlflow": True, "log_to_tensorboard": True}
    raw = raw_config | {"logger": logger, "checkpoint_freq": 2}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(raw))
    said = invoke("train", str(tmp_path / "c.yaml")).output
    said += invoke("train", str(tmp_path / "c.yaml"), "model_name=someone/gated", "-o", str(tmp_path / "no")).output
    said += invoke("inspect", raw["output_path"], "--tokens", "100", "--latents", "1").output
    said += "".join(capfd.readouterr())
    assert "sae: " in said
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"wandb", "mlflow.db", "tensorboard", "checkpoints"} <= {part for path in files for part in path.parts}
    for name, value in KEYS.items():
        assert value not in said, name
        assert [path for path in files if value.encode() in path.read_bytes()] == [], name
