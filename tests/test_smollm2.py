"""The quickstart on the real language model, as a user runs it."""

import csv
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, float]:
    """Folder that the quickstart ran in, what it printed, and the seconds it took with the model on disk."""
    folder = tmp_path_factory.mktemp("quickstart")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    fetch = "from sae_lens_abstopk.model.quickstart_model import quickstart_model; quickstart_model(print)"
    subprocess.run([sys.executable, "-c", fetch], check=True, env=environment, cwd=folder)
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "sae_lens_abstopk", "quickstart"],
        capture_output=True,
        text=True,
        env={**environment, "HF_HUB_OFFLINE": "1", "COLUMNS": "80"},
        cwd=folder,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done.stdout, time.perf_counter() - started


@pytest.mark.slow
def test_the_signed_sae_reconstructs_and_stays_alive(quickstart: tuple[Path, str, float]) -> None:
    run = quickstart[0] / "runs" / "quickstart"
    for folder in (run, run / "batchtopk"):
        with (folder / "metrics.csv").open() as file:
            last = list(csv.DictReader(file))[-1]
        assert 200_000 <= int(last["tokens"]) <= 205_000
        assert float(last["fvu"]) < 0.30
        assert float(last["l0"]) == pytest.approx(57)
        assert int(last["dead_latents"]) < 0.05 * 4608
    cfg = json.loads((run / "cfg.json").read_text())
    assert (cfg["architecture"], cfg["d_sae"]) == ("signed_jumprelu", 4608)


@pytest.mark.slow
def test_it_prints_both_rows_two_sided_latents_and_how_to_load(quickstart: tuple[Path, str, float]) -> None:
    printed = quickstart[1]
    rows = {
        line.split()[0]: line.split()[1:]
        for line in printed.splitlines()
        if line.startswith(("batch_abstopk ", "batchtopk ")) and "4,608" in line
    }
    assert set(rows) == {"batch_abstopk", "batchtopk"}
    for _, l0, fvu, _, recovered_zero, recovered_mean, dead, *_ in rows.values():
        assert float(l0) == pytest.approx(57, rel=0.1)
        assert float(fvu) < 0.30
        assert float(recovered_zero) > 0.95
        assert float(recovered_mean) > 0.9
        assert float(dead.rstrip("%")) < 5
    kept = re.search(r"([\d,]+) kept tokens", printed)
    assert int(kept[1].replace(",", "")) > 50_000
    assert len(re.findall(r"^latent \d+", printed, re.MULTILINE)) == 3
    assert len(re.findall(r"^  positive", printed, re.MULTILINE)) == 9
    assert len(re.findall(r"^  negative", printed, re.MULTILINE)) == 9
    lines = printed.strip().splitlines()[-3:]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join([*lines, "print(type(sae).__name__)"])],
        capture_output=True,
        text=True,
        cwd=quickstart[0],
    )
    assert done.stdout.strip() == "SignedJumpReLUSAE", done.stderr


@pytest.mark.slow
def test_it_takes_minutes(quickstart: tuple[Path, str, float]) -> None:
    # README.md says 7 to 13 on two cores; the rest is room for a machine that is busy
    assert quickstart[2] < 2 * 13 * 60
