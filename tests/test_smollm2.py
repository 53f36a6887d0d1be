"""The quickstart and the run on tokens with the real language model, as a user runs them."""

import json
import os
import re
import resource
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

FETCH = "from sae_lens_abstopk.model.quickstart_model import quickstart_model; quickstart_model(print)"
# as `abstopk tokens`, but that it trains and measures on a tenth
FEW_TOKENS = """
from sae_lens_abstopk.workflows import tokens
tokens.MEASURED = 2048
tokens.tokens(["training_tokens=20480"])
"""


class Ran(NamedTuple):
    """A command that has run."""

    folder: Path
    printed: str
    progress: str
    processor_seconds: float


@pytest.fixture(scope="module", autouse=True)
def _model() -> None:
    """The model is on the disk."""
    subprocess.run([sys.executable, "-c", FETCH], check=True)


def run(folder: Path, *arguments: str) -> Ran:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        env={**environment, "HF_HUB_OFFLINE": "1", "COLUMNS": "80"},
        cwd=folder,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Ran(folder, done.stdout, done.stderr, after.ru_utime - before.ru_utime)


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    return run(tmp_path_factory.mktemp("quickstart"), "-m", "sae_lens_abstopk", "quickstart")


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    return run(tmp_path_factory.mktemp("tokens"), "-c", FEW_TOKENS)


@pytest.mark.slow
def test_the_signed_axes_of_the_quickstart_cover_both_poles_of_the_concepts(quickstart: Ran) -> None:
    (means,) = re.findall(r"^mean +(.*)", quickstart.printed, re.MULTILINE)
    auroc, cover, pair_auroc, pair_cover, twice_auroc, twice_cover, _, _ = map(float, means.split())
    assert cover >= 0.85
    assert cover >= max(pair_cover, twice_cover)
    assert auroc >= max(pair_auroc, twice_auroc)
    folder = quickstart.folder / "runs" / "quickstart"
    concepts = json.loads((folder / "concepts.json").read_text())["concepts"]
    for kind in ("one_sided_F", "one_sided_2F"):  # one latent of it
        assert sum(concept["saes"][kind]["coverage"] for concept in concepts) / len(concepts) <= 0.5
    found = json.loads((folder / "pairs.json").read_text())
    labels = [axis["label"] for axis in found["axes"] if axis["label"]]
    assert any({"he", "she"} <= {*label["positive"].split(", "), *label["negative"].split(", ")} for label in labels)
    assert max(map(len, quickstart.printed.splitlines())) <= 80


@pytest.mark.slow
def test_the_quickstart_says_where_its_page_is_and_shows_no_bars_of_libraries(quickstart: Ran) -> None:
    assert "runs/quickstart/index.html" in quickstart.printed.splitlines()
    assert (quickstart.folder / "runs" / "quickstart" / "index.html").is_file()
    assert not re.search("Loading|Converting|Warning|it/s", quickstart.progress)


@pytest.mark.slow
def test_the_quickstart_takes_150_seconds_on_two_cores(quickstart: Ran) -> None:
    assert quickstart.processor_seconds < 2 * 150


@pytest.mark.slow
def test_a_run_on_tokens_prints_both_rows_two_sided_latents_and_how_to_load(tokens: Ran) -> None:
    lines = tokens.printed.splitlines()
    rows = {
        line.split()[0]: line.split()[1:]
        for line in lines
        if line.startswith(("batch_abstopk ", "batchtopk ")) and "4,608" in line
    }
    assert set(rows) == {"batch_abstopk", "batchtopk"}
    for _, l0, fvu, _, recovered_zero, *_ in rows.values():
        assert 57 / 3 < float(l0) < 57 * 3, "80 steps are few for the threshold"
        assert float(fvu) < 0.6
        assert float(recovered_zero) > 0.5
    assert len(re.findall(r"^latent \d+", tokens.printed, re.MULTILINE)) == 3
    assert len(re.findall(r"^  (?:positive|negative)", tokens.printed, re.MULTILINE)) == 18
    cfg = json.loads((tokens.folder / "runs" / "tokens" / "cfg.json").read_text())
    assert (cfg["architecture"], cfg["d_sae"]) == ("signed_jumprelu", 4608)
    load = "\n".join([*lines[-3:], "print(type(sae).__name__)"])
    assert run(tokens.folder, "-c", load).printed.strip() == "SignedJumpReLUSAE"
