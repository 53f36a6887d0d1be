"""``abstopk mirror`` on the folder of a run."""

import re
import shutil
from pathlib import Path

import pytest
import torch
from rich.console import Console
from sae_lens import SAE

from sae_lens_abstopk import ConfigError, train
from sae_lens_abstopk.equivalents.mirror import mirror_folder, mirrored_latents
from sae_lens_abstopk.evaluation.subjects.pole_measurement import measure_poles
from sae_lens_abstopk.evaluation.subjects.subjects import open_subjects
from sae_lens_abstopk.saes.poles import PoleActivity
from sae_lens_abstopk.training.config.config_file import build_config
from tests.cli.test_cli import invoke
from tests.conftest import six_steps


@pytest.fixture(scope="module")
def trained(tiny_llama: Path, texts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    raw = six_steps(tiny_llama, texts, tmp_path_factory.mktemp("mirror") / "run")
    raw["sae"]["architecture"] = "batch_abstopk"
    raw["companions"] = {"topk": {"architecture": "topk"}}
    return train(build_config(raw), console=Console(quiet=True)).folders["sae"]


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return shutil.copytree(trained, tmp_path / "run")


def test_the_command_writes_a_stock_sae_that_inspects_as_the_signed_one_does(run: Path, tmp_path: Path) -> None:
    done = invoke("mirror", str(run), "--out", str(tmp_path / "m"))
    assert done.exit_code == 0, done.output
    assert "jumprelu, 128 latents for the 128 poles of signed_jumprelu; loads with SAELens alone" in done.output
    assert "sae_lens_abstopk" not in (tmp_path / "m" / "README.md").read_text()
    shown = invoke("inspect", str(tmp_path / "m"), "--tokens", "200", "--out", str(tmp_path / "m.json"))
    assert shown.exit_code == 0, shown.output
    invoke("inspect", str(run), "--tokens", "200", "--out", str(tmp_path / "s.json"))
    mirrored, signed = ((tmp_path / name).read_text() for name in ("m.json", "s.json"))
    for key in ("l0", "fvu"):
        value, expected = (float(re.search(rf'"{key}": ([\d.e-]+)', text)[1]) for text in (mirrored, signed))  # type: ignore[index]
        assert value == pytest.approx(expected, rel=1e-5)


def test_pruning_measures_firings_or_reads_those_beside_the_weights(run: Path, tmp_path: Path) -> None:
    done = invoke("mirror", str(run), "--out", str(tmp_path / "m"), "--prune-dead-poles", "--tokens", "200")
    assert done.exit_code == 0, done.output
    assert "the poles left out held " in done.output
    measured = measure_poles(run, n_tokens=200)
    dead = measured.counts < 0.01 * measured.counts.sum(0)
    live = ~dead & (measured.counts > 0)
    assert SAE.load_from_disk(tmp_path / "m").cfg.d_sae == int(live.sum()) < 128
    only = torch.zeros(2, 64, dtype=torch.int64)
    only[1, 5] = 9
    PoleActivity(only, only.double(), 9).save(run)
    latents = mirrored_latents(mirror_folder(run, tmp_path / "recorded", prune_dead_poles=True))
    assert (latents.latent.tolist(), latents.pole.tolist()) == ([5], [1])
    done = invoke("mirror", str(run), "--out", str(tmp_path / "counted"), "--prune-dead-poles", "--tokens", "200")
    assert SAE.load_from_disk(tmp_path / "counted").cfg.d_sae == int(live.sum()), "a count is given, so it measures"


def test_what_is_measured_is_what_the_codes_say(run: Path) -> None:
    steps: list[tuple[int, int]] = []
    measured = measure_poles(run, n_tokens=256, on_progress=lambda done, total: steps.append((done, total)))
    assert steps == [(1, 2), (2, 2)]
    assert measured.n_tokens == 2 * 4 * 31, "position 0 is left out, as in training"
    subjects = open_subjects([run])
    (sae,) = subjects.saes.values()
    batches = [subjects.passes.activations(tokens)[:, 1:].flatten(0, 1) for tokens in subjects.batches(256)]
    codes = torch.cat([sae.encode(x) for x in batches]).detach().double()
    assert torch.equal(measured.counts, torch.stack([(codes > 0).sum(0), (codes < 0).sum(0)]))
    energy = torch.stack([codes.relu().square().sum(0), (-codes).relu().square().sum(0)])
    torch.testing.assert_close(measured.energy, energy, rtol=1e-4, atol=0)


def test_mistakes_are_answered_in_a_sentence_and_nothing_is_overwritten(run: Path, tmp_path: Path) -> None:
    done = invoke("mirror", str(run / "topk"), "--out", str(tmp_path / "m"))
    assert (done.exit_code, (tmp_path / "m").exists()) == (2, False)
    assert "needs a signed SAE for inference" in done.stderr
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="is not an empty folder"):
        mirror_folder(run, tmp_path / "full")
    done = invoke("mirror", str(run), "--out", str(tmp_path / "m"), "--tokens", "200")
    assert done.exit_code == 2
    assert "--tokens" in done.stderr
    assert "--prune-dead-poles" in done.stderr
