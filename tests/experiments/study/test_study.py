"""The study on a tiny model: it trains, evaluates, records and resumes, and its record is of the study file."""

from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from types import ModuleType
from typing import Any

import pytest
import yaml

from experiments.study import (
    concept_tables,
    figures,
    record,
    report,
    runs,
    steered,
    study,
    tables,
)
from sae_lens_abstopk.system.provenance import processor
from tests.evaluation.task_files import CONCEPT

SMALL: dict[str, Any] = {
    "config": "config.yaml",
    "main": {"layer": 2, "expansion": 2, "k": 4},
    "k": [4],
    "variants": {
        "mixed": {"architecture": "batch_abstopk", "signed_share": 0.25},
        "topk_2F": {"architecture": "sparse_topk", "times_wider": 2},
    },
    "steered": ["mixed", "topk_2F"],
    "with_random_directions": ["mixed"],
    "runs": [
        {"layer": 2, "expansions": [2], "seeds": [0, 1], "variants": ["mixed", "topk_2F"]},
        {"layer": 2, "expansions": [8], "seeds": [0]},
    ],
}
MIXED, TOPK = "layer2_x2_k4_mixed_seed0", "layer2_x2_k4_topk_2F_seed0"


@dataclass
class SmallStudy:
    """A study of its own folder, whose commands run in this process."""

    here: Path
    work: Path
    text: Path
    model: Path
    patch: pytest.MonkeyPatch

    def command(self, module: ModuleType, *arguments: str) -> None:
        options = ["--model", str(self.model), "--work", str(self.work)]
        self.patch.setattr("sys.argv", ["it", *arguments, *options, "--text", str(self.text)])
        module.main()

    def write(self, **changes: Any) -> None:
        (self.here / "study.yaml").write_text(yaml.safe_dump(SMALL | changes, sort_keys=False))

    def sae(self, name: str) -> Path:
        return self.work / "saes" / f"{name}_lr0.001"


@pytest.fixture
def small_study(
    tmp_path: Path, texts: Path, tiny_models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> SmallStudy:
    base = yaml.safe_load((runs.HERE / "config.yaml").read_text()) | {"device": "cpu", "training_tokens": 2048}
    base |= {"context_size": 16, "train_batch_size_tokens": 64, "n_batches_in_buffer": 16}
    base |= {"lr_warm_up_steps": 2, "lr_decay_steps": 4, "checkpoint_freq": 16}
    here = tmp_path / "study"
    here.mkdir()
    concept = here / "temperature.yaml"
    concept.write_text(CONCEPT)
    part = {"reconstruction": {"tokens": 512}, "texts_per_pole": 60, "untrained": False}
    steering = {"tasks": [str(concept)], "strengths": [1], "samples": 1, "max_new_tokens": 2}
    files = {
        "config": base,
        "probing": {**part, "tasks": ["gender", "tense"]},
        "steering": {
            **part,
            "tasks": [str(concept)],
            "steering": {**steering, "random_directions": 1, "candidates": 1},
        },
    }
    for name, content in files.items():
        (here / f"{name}.yaml").write_text(yaml.safe_dump(content))
    for module in (runs, study):
        monkeypatch.setattr(module, "HERE", here)
    for module in (runs, tables):
        monkeypatch.setattr(module, "TUNING", here / "results" / "tuning.json")
    monkeypatch.setattr(record, "RECORD", here / "results" / "runs.jsonl")
    monkeypatch.setattr(concept_tables, "UNTRAINED", here / "results" / "random_directions.json")
    found = SmallStudy(here, tmp_path / "work", texts, tiny_models["llama-3.1-8b"], monkeypatch)
    found.write()
    return found


def test_the_runs_of_the_study_are_distinct_and_have_configs(texts: Path, tiny_models: dict[str, Path]) -> None:
    whole = runs.read_study()
    asked = list(runs.runs_of(whole))
    assert len({run.name for run in asked}) == len(asked)
    assert {run.layer for run in asked} == {8, 15, 22}
    assert sorted(run.variant for run in asked if runs.is_steered(run, whole)) == sorted(whole["steered"])
    assert set(whole["with_random_directions"]) <= set(whole["steered"])
    for variant in whole["variants"]:
        common = [f"model_name={tiny_models['llama-3.1-8b']}", f"dataset_path={texts}"]
        cfg = runs.config_of(runs.Run(15, 8, 29, variant, 1), whole, common, Path("work"), rates={variant: 5e-4})
        assert cfg.lr == 5e-4
        assert cfg.sae.d_sae == 32 * 8 * (2 if variant.endswith("2F") else 1)
        assert getattr(cfg.sae, "k", 29) == 29
        assert dict(cfg.target_l0) == ({"sae": 29} if variant in ("jumprelu", "standard", "gated") else {})


def test_the_record_is_of_this_study_at_the_chosen_rates() -> None:
    whole, lines = runs.read_study(), record.recorded()
    assert lines
    rates = runs.rates_of(whole)
    for run in runs.runs_of(whole):
        if run.name in lines:
            assert record.is_recorded(lines[run.name], settings=runs.settings_of(run, whole)), run.name
            assert lines[run.name]["training"]["lr"] == rates[run.variant], run.name


def test_bad_arguments_are_one_line_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (text := tmp_path / "c.gz").touch()
    for arguments, said in ((["--together", "0"], "2"), (["--model", str(tmp_path / "none")], "none")):
        monkeypatch.setattr("sys.argv", ["study", "--text", str(text), "--model", str(tmp_path), *arguments])
        with pytest.raises(SystemExit, match=said):
            study.main()


@pytest.mark.slow
def test_a_study_resumes_and_fills_the_pages(
    small_study: SmallStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small_study.command(study, "--limit", "1", "--no-steering", "--jobs", "1")
    assert list(record.recorded()) == [MIXED]
    assert "steering" not in record.recorded()[MIXED]
    weights = small_study.sae(MIXED) / "sae_weights.safetensors"
    first = weights.stat().st_mtime
    assert not list(small_study.work.rglob("checkpoints"))
    small_study.command(study, "--only", "_x2_", "--jobs", "2")
    assert weights.stat().st_mtime == first
    lines = record.recorded()
    assert len(lines) == 4
    check_lines(lines)

    # a line of an SAE that was trained elsewhere keeps its numbers, and gets the steering of the one here
    mixed = lines[MIXED]
    without = {key: of for key, of in mixed.items() if key not in ("steering", "steered_sae")}
    record.record({**without, "sae": {**mixed["sae"], "weights_sha256": "another"}, "reconstruction": {"fvu": 9.0}})
    small_study.command(study, "--only", MIXED, "--jobs", "1")
    again = record.recorded()[MIXED]
    assert (again["sae"]["weights_sha256"], again["reconstruction"]) == ("another", {"fvu": 9.0})
    assert again["steered_sae"]["weights_sha256"] == mixed["sae"]["weights_sha256"]
    assert (again["steered_sae"], again["steering"]) == (mixed["steered_sae"], mixed["steering"])
    assert [steered.all_steered([line])[0].label for line in (mixed, again)] == ["latent of mixed", "latent of mixed *"]
    record.record(mixed)

    capsys.readouterr()
    small_study.command(study, "--dry-run")
    assert "6 runs, 4 of them recorded" in capsys.readouterr().out

    monkeypatch.setattr(figures, "PICTURES", tmp_path / "pictures")
    monkeypatch.setattr(report, "CSV", tmp_path / "tables")
    monkeypatch.setattr(report, "DOSES_SHOWN", "temperature")
    pages = {name: tmp_path / f"{name}.md" for name in ("PAGE", "TABLES", "STUDY")}
    for name, page in pages.items():
        page.write_text(getattr(report, name).read_text())
        monkeypatch.setattr(report, name, page)
    report.main()
    assert "4 of the 6 runs" in pages["STUDY"].read_text()
    fvu = mean(lines[name]["reconstruction"]["fvu"] for name in lines if "topk" in name)
    assert f"| topk_2F | 2 | {fvu:.4f} (" in pages["TABLES"].read_text()
    assert (tmp_path / "tables" / "runs.csv").read_text().count("\n") == 5
    assert len(list((tmp_path / "pictures").glob("evidence-*.svg"))) == 6


def check_lines(lines: dict[str, dict[str, Any]]) -> None:
    mixed, topk = lines[MIXED], lines[TOPK]
    assert (mixed["sae"]["d_sae"], topk["sae"]["d_sae"]) == (64, 128)
    assert mixed["evaluation"]["held_out"]
    assert set(mixed["tasks"]) == {"gender", "tense"}
    assert topk["tasks"]["gender"]["coverage"][0] <= 0.5
    assert 0 < mixed["tasks"]["gender"]["best_density"] <= 1
    interventions = {"latent", "clamp", "difference_in_means"}
    assert set(mixed["steering"]["temperature"]["interventions"]) == {*interventions, "random_0"}
    assert set(topk["steering"]["temperature"]["interventions"]) == interventions
    assert (mixed["training"]["tokens"], mixed["training"]["dead_window_tokens"]) == (2048, 200 * 64)
    environments = [line["training"]["environment"] for line in lines.values()]
    assert {(one["device"], one["processor"]) for one in environments} == {("CPU, 1 threads", processor())}
    for line in (mixed, topk):  # whether or not both seeds were evaluated together
        other = lines[line["name"].replace("seed0", "seed1")]
        assert line["stability"] == {other["name"]: other["stability"][line["name"]]}
        assert 0 < line["stability"][other["name"]] < 1
