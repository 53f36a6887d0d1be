"""The code on the card of a release loads its SAEs in another process, with SAELens alone and with this package."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from rich.console import Console

from sae_lens_abstopk import pull, train
from sae_lens_abstopk.training.config.config_file import build_config
from tests.cli.test_cli import invoke
from tests.hub.published import REPO
from tests.hub.server import READER, HubServer
from tests.hub.test_round_trip import card_of


@pytest.fixture
def run(raw_config: dict[str, Any]) -> Path:
    raw_config["sae"]["architecture"] = "batch_abstopk"
    raw_config["companions"] = {"abstopk": {"architecture": "abstopk"}}
    return train(build_config(raw_config), console=Console(quiet=True)).folders["sae"]


def stranger(
    script: str, server: HubServer, cache: Path, token: str | None = READER
) -> subprocess.CompletedProcess[str]:
    """Another process with the real HF_ENDPOINT, and its own empty cache."""
    env = {**os.environ, "HF_ENDPOINT": server.endpoint, "HF_HOME": str(cache), "HF_HUB_OFFLINE": "0"}
    env |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    env.pop("HF_TOKEN", None)
    env |= {} if token is None else {"HF_TOKEN": token}
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=env, cwd=cache.parent)


@pytest.mark.slow
def test_a_run_is_measured_published_and_loaded_by_the_code_of_its_card(
    hub: HubServer, run: Path, tmp_path: Path
) -> None:
    done = invoke(
        "publish",
        f"batch={run}",
        f"token={run / 'abstopk'}",
        *("--repo", REPO, "--mirror", "--measure", "--tokens", "256", "--license", "mit"),
    )
    assert done.exit_code == 0, done.output
    card = card_of(hub)
    header = yaml.safe_load(card.split("---")[1])
    assert header == {
        "library_name": "saelens",
        "license": "mit",
        "tags": ["saelens", "sparse-autoencoder", "mechanistic-interpretability", "abstopk"],
    }
    alone, with_package = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    assert "sae_lens_abstopk" not in alone
    x = torch.randn(20, 32, generator=torch.Generator().manual_seed(0))
    expected = {sae_id: pull(REPO, sae_id).sae.encode(x) for sae_id in ("batch", "token")}
    torch.save({"x": x, **expected}, tmp_path / "expected.pt")
    script = f"""
import sys, torch
sys.modules["sae_lens_abstopk"] = None  # as where it is not installed: importing it fails
{alone}
expected = torch.load({str(tmp_path / "expected.pt")!r}, weights_only=True)
x = expected["x"]
both = lambda codes: torch.cat([codes.relu(), (-codes).relu()], -1)
close = lambda a, b: torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
close(sae.encode(x), both(expected["batch"]))
close(SAE.from_pretrained({REPO!r}, "token").encode(x), expected["token"])
close(SAE.from_pretrained({REPO!r}, "token_mirror").encode(x), both(expected["token"]))
assert sys.modules.pop("sae_lens_abstopk") is None
{with_package}
close(sae.encode(x), expected["batch"])
"""
    loaded = stranger(script, hub, tmp_path / "home")
    assert loaded.returncode == 0, loaded.stderr
    shown = invoke("pull", REPO, "batch")
    assert shown.exit_code == 0, shown.output
    record = pull(REPO, "batch").record
    assert f"{record.results.numbers['fvu'].value:.3f}" in shown.output
    assert f"| {record.results.numbers['fvu'].value:.3f} |" in card
    assert "canonical gauge" in shown.output
    assert "256 tokens" not in card
    examples = record.results.examples
    assert examples
    assert all((example.code > 0) == (example.pole == 0) for example in examples)
    assert f"| {examples[0].latent} | positive |" in card
