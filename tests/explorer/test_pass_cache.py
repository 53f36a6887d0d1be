"""Saved passes: resumed, reused, bounded, and never a reason for a run to fail."""

from pathlib import Path
from typing import Any

import pytest
import torch

from sae_lens_abstopk import explore
from sae_lens_abstopk.explorer import pass_cache
from sae_lens_abstopk.explorer.collection import CollectionSettings
from sae_lens_abstopk.explorer.pass_cache import PASSES_KEPT
from sae_lens_abstopk.model.model_passes import ModelPasses
from tests.explorer.streams import FakePasses, run


def equal(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a.nan_to_num(), b.nan_to_num())
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(equal, a, b))
    return equal(vars(a), vars(b)) if hasattr(a, "__dict__") else a == b


def test_a_resumed_pass_ends_where_one_pass_ends(
    stream_saes: dict[str, Any], batches: list[torch.Tensor], tmp_path: Path
) -> None:
    whole = run(stream_saes, batches)
    run(stream_saes, batches[:4], checkpoint=tmp_path)
    passes, steps = FakePasses(), []
    resumed = run(
        stream_saes,
        batches,
        passes=passes,
        checkpoint=tmp_path,
        on_progress=lambda done, total: steps.append((done, total)),
    )
    assert passes.calls == 2
    assert steps == [(5, 6), (6, 6)]
    again = run(stream_saes, batches, passes=passes, checkpoint=tmp_path)
    assert passes.calls == 2
    for name in stream_saes:
        assert equal(resumed[name], whole[name])
        assert equal(again[name], whole[name])


def test_an_interrupted_pass_resumes_from_the_last_save(
    stream_saes: dict[str, Any], batches: list[torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end_at_4(done: int, _: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    for seconds, calls in ((300.0, 6), (0.0, 2)):
        monkeypatch.setattr("sae_lens_abstopk.explorer.collection.SECONDS_BETWEEN_SAVES", seconds)
        with pytest.raises(KeyboardInterrupt):
            run(stream_saes, batches, checkpoint=tmp_path / str(seconds), on_progress=end_at_4)
        assert len(list(tmp_path.rglob("*.safetensors"))) == (seconds == 0), "each save replaces the one before"
        passes = FakePasses()
        run(stream_saes, batches, passes=passes, checkpoint=tmp_path / str(seconds))
        assert passes.calls == calls
        for path in tmp_path.rglob("*.safetensors"):
            path.unlink()


def test_a_torn_file_is_not_used(stream_saes: dict[str, Any], batches: list[torch.Tensor], tmp_path: Path) -> None:
    whole = run(stream_saes, batches, checkpoint=tmp_path)
    (file,) = tmp_path.iterdir()
    for content in (file.read_bytes()[:-100], b"", b"text"):
        file.write_bytes(content)
        with pytest.warns(UserWarning, match=r"\.safetensors cannot be read \(.+\)"):
            again = run(stream_saes, batches, checkpoint=tmp_path)
        assert all(equal(again[name], whole[name]) for name in stream_saes)


def test_a_pass_that_cannot_be_saved_goes_on(
    stream_saes: dict[str, Any], batches: list[torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(stream_saes, batches)

    def full(_: object, path: Path, __: object) -> None:
        path.write_text("as far as it went")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pass_cache, "save_file", full)
    with pytest.warns(UserWarning, match=r"could not be written \(No space left on device\); the pass goes on"):
        unsaved = run(stream_saes, batches, checkpoint=tmp_path / "passes")
    assert all(equal(unsaved[name], whole[name]) for name in stream_saes)
    assert list((tmp_path / "passes").iterdir()) == []
    (tmp_path / "file").write_text("not a folder")
    with pytest.warns(UserWarning, match="could not be written"):
        run(stream_saes, batches, checkpoint=tmp_path / "file")


@pytest.mark.parametrize("change", ["weights", "settings", "text", "model", "autocast", "code"])
def test_a_pass_of_something_else_is_not_reused(
    change: str,
    stream_saes: dict[str, Any],
    batches: list[torch.Tensor],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run(stream_saes, batches[:4], checkpoint=tmp_path)
    passes = FakePasses()
    options: dict[str, Any] = {"checkpoint": tmp_path, "passes": passes}
    if change == "weights":
        with torch.no_grad():
            stream_saes["topk"].W_dec[0, 0] += 1
    elif change == "settings":
        options["settings"] = CollectionSettings(strongest=2)
    elif change == "text":
        batches[0][0, 0] += 1
    elif change == "code":
        monkeypatch.setattr(pass_cache, "code_digest", lambda: "another")
    elif change == "autocast":
        passes.autocast = True
    else:
        with torch.no_grad():
            passes.model.weight[0, 0] += 1
    run(stream_saes, batches, **options)
    assert passes.calls == 6


def test_only_the_last_used_passes_are_kept(
    stream_saes: dict[str, Any], batches: list[torch.Tensor], tmp_path: Path
) -> None:
    for number in range(PASSES_KEPT + 2):
        run(stream_saes, [(batches[0] + number) % 50], checkpoint=tmp_path)
        passes = FakePasses()
        run(stream_saes, batches[:1], checkpoint=tmp_path, passes=passes)
        assert passes.calls == 0, "a pass that is used stays"
    assert len(list(tmp_path.iterdir())) == PASSES_KEPT


def test_a_second_exploration_does_not_run_the_model(
    folders: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = explore(folders, n_tokens=256, checkpoint=tmp_path)
    monkeypatch.setattr(ModelPasses, "activations", None)
    second = explore(folders, n_tokens=256, checkpoint=tmp_path)
    for name in first.saes:
        assert equal(first.saes[name].collected, second.saes[name].collected)
    assert second.write(tmp_path / "site").is_file()
