"""Seeds of one variant, matched with each other."""

from pathlib import Path

import pytest
import torch
import yaml

from sae_lens_abstopk.evaluation.suite import match_seeds as matching
from sae_lens_abstopk.evaluation.suite.match_seeds import match_seeds, seed_groups
from sae_lens_abstopk.saes.geometry import DictionaryMatch
from tests.evaluation.steerable import topk_sae


def test_seeds_of_many_latents_are_not_matched_with_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    small, large = (topk_sae() for _ in range(2))
    large.cfg.d_sae = 99
    monkeypatch.setattr(matching, "LARGEST_MATCHED", 64)
    with pytest.warns(UserWarning, match="stability of [ab] and c is not measured: of 99 latents") as warned:
        found = match_seeds({"a": small, "b": small, "c": large}, dict.fromkeys("abc", "topk"))
    assert len(warned) == 2
    assert [(pair.first, pair.second) for pair in found] == [("a", "b")]
    assert found[0].mean_cosine == pytest.approx(1, abs=1e-6)
    similarity, latents = torch.tensor([0.8, 0.95]), torch.arange(2)
    monkeypatch.setattr(matching, "match_saes", lambda *_: DictionaryMatch(latents, latents, -similarity, similarity))
    (pair,) = match_seeds({"a": small, "b": small}, dict.fromkeys("ab", "topk"))
    assert (pair.mean_cosine, pair.share_above_0_7, pair.share_above_0_9) == (pytest.approx(0.875), 1.0, 0.5)


def test_saes_whose_runs_differ_in_their_seed_alone_are_seeds_of_one_variant(tmp_path: Path) -> None:
    config = {"hook_name": "h", "lr": 1e-3, "sae": {"k": 8}}
    runs = {
        "zero": {"seed": 0, "output_path": "runs/zero", "activation_cache": "a", "logger": {"run_name": "zero"}},
        "one": {"seed": 1, "output_path": "runs/one", "activation_cache": "b", "logger": {"run_name": "one"}},
        "zero-faster": {"seed": 0, "lr": 2e-3},
        "zero-sparser": {"seed": 1, "lr": 2e-3, "sae": {"k": 4}},
        "alone": {"seed": 2, "lr": 5e-3},
        "copied": {"seed": 2, "lr": 5e-3},
    }
    sources = {"hub": "release:id", "elsewhere": str(tmp_path)}
    for name, changes in runs.items():
        for part in ("", "topk") if name in ("zero", "one") else ("",):
            folder = tmp_path / name / part
            folder.mkdir(parents=True)
            (folder / "cfg.json").write_text("{}")
            sources[f"{name}/{part}".rstrip("/")] = str(folder)
        (tmp_path / name / "config.yaml").write_text(yaml.safe_dump(config | changes))
    saes = dict.fromkeys(sources, topk_sae())
    pairs = {"zero": "zero", "one": "zero", "zero/topk": "zero/topk", "one/topk": "zero/topk"}
    assert seed_groups(saes, sources) == {name: f"{first} and other seeds" for name, first in pairs.items()}
    (tmp_path / "one" / "config.yaml").write_text("- not YAML of a run")
    (tmp_path / "zero" / "config.yaml").write_text("1: of another tool")
    assert seed_groups(saes, sources) == {}
