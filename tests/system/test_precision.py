"""bfloat16 only where a trial finds it clearly faster, and the same answer ever after."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from sae_lens_abstopk.system import precision
from sae_lens_abstopk.system.precision import bfloat16_pays, precision_of, remembered_precision


@pytest.mark.parametrize(("seconds", "pays"), [((0.3, 0.2), True), ((0.3, 0.29), False), ((0.01, 0.001), False)])
def test_bfloat16_has_to_be_clearly_faster_in_passes_that_take_time(
    seconds: tuple[float, float], pays: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = 0.0
    monkeypatch.setattr(precision, "LEAST_SECONDS", 0.02)
    monkeypatch.setattr(precision, "time", SimpleNamespace(perf_counter=lambda: clock))

    def trial(autocast: bool) -> None:
        nonlocal clock
        clock += seconds[autocast]

    assert bfloat16_pays(trial) == pays
    assert precision_of(trial, "float32") == ("bfloat16" if pays else "float32")
    assert precision_of(trial, "float16") == "float16"


def test_the_result_of_a_trial_is_kept_for_the_next_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ABSTOPK_CACHE", str(tmp_path))
    found = iter(["bfloat16", "float32"])

    def find() -> str:
        return next(found)

    assert remembered_precision("model", [], "cpu", find) == "bfloat16"
    monkeypatch.setattr(precision, "_FOUND", {})  # as in a later process
    assert remembered_precision("model", [], "cpu", find) == "bfloat16"
    assert remembered_precision("model", [["weights", "changed"]], "cpu", find) == "float32"
    assert len(list((tmp_path / "precisions").iterdir())) == 2


def test_a_folder_that_cannot_be_written_costs_a_trial_in_each_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("ABSTOPK_CACHE", str(tmp_path / "file"))
    found = iter(["bfloat16"])
    for _ in range(2):
        assert remembered_precision("model", [], "cpu", lambda: next(found)) == "bfloat16"


def test_precision_of_weights() -> None:
    assert precision.weights_precision(torch.nn.Linear(2, 2)) == "float32"
    assert precision.weights_precision(torch.nn.Linear(2, 2).bfloat16()) == "bfloat16"
