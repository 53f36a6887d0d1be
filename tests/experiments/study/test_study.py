"""The study on a tiny model: it trains, evaluates, records, goes on, and its page is up to date."""

import json
import math
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
import torch
import yaml
from sae_lens import SAE
from sae_lens.constants import SAE_WEIGHTS_FILENAME
from safetensors.torch import load_file, save_file

from experiments.study import (
    csv_tables,
    figures,
    random_directions,
    record,
    release,
    report,
    runs,
    steered,
    study,
    tables,
    tune,
)
from sae_lens_abstopk.evaluation.results.records import weights_sha256
from sae_lens_abstopk.system.errors import ConfigError
from sae_lens_abstopk.system.provenance import processor
from sae_lens_abstopk.training.config.training_config import TrainingConfig
from sae_lens_abstopk.training.divergence import DivergedError
from tests.equivalents.test_mirror import inputs, signed
from tests.evaluation.task_files import CONCEPT

SMALL = {
    "config": "config.yaml",
    "main": {"layer": 2, "expansion": 2, "k": 4},
    "k": [4],
    "rates": [1e-3, 2e-3],
    "tuned": ["mixed", "topk_2F", "standard"],
    "variants": {
        "mixed": {"architecture": "batch_abstopk", "signed_share": 0.25},
        "topk_2F": {"architecture": "sparse_topk", "times_wider": 2},
        "standard": {"architecture": "standard", "l1_coefficient": 1.0},
    },
    "steered": ["mixed", "topk_2F"],
    "with_random_directions": ["mixed"],
    "runs": [
        {"layer": 2, "expansions": [2], "seeds": [0, 1], "variants": ["mixed", "topk_2F"]},
        {"layer": 2, "expansions": [8], "seeds": [0]},
    ],
}


def test_the_runs_of_the_study_are_told_apart_and_can_be_made(texts: Path, tiny_models: dict[str, Path]) -> None:
    whole = yaml.safe_load((runs.HERE / "study.yaml").read_text())
    asked = list(runs.runs_of(whole))
    assert len({run.name for run in asked}) == len(asked)
    assert {run.layer for run in asked} == {8, 15, 22}
    assert set(whole["tuned"]) <= whole["variants"].keys()
    steered = [run.variant for run in asked if runs.is_steered(run, whole)]
    assert sorted(steered) == sorted(whole["steered"])
    assert set(whole["with_random_directions"]) <= set(whole["steered"])
    for variant in whole["variants"]:
        run = runs.Run(15, 8, 29, variant, 1)
        common = [f"model_name={tiny_models['llama-3.1-8b']}", f"dataset_path={texts}"]
        cfg = runs.config_of(run, whole, common, Path("work"), rates={variant: 5e-4})
        assert cfg.lr == 5e-4
        assert cfg.sae.d_sae == 32 * 8 * (2 if variant.endswith("2F") else 1)
        assert getattr(cfg.sae, "k", 29) == 29
        assert dict(cfg.target_l0) == ({"sae": 29} if variant in ("jumprelu", "standard", "gated") else {})


def test_every_variant_is_tuned_or_derived_from_one_that_is() -> None:
    whole = yaml.safe_load((runs.HERE / "study.yaml").read_text())
    assert sorted([*whole["tuned"], *whole["rate_of"]]) == sorted(whole["variants"])
    assert set(whole["rate_of"].values()) <= set(whole["tuned"])
    assert runs.rate_of("abstopk_unit_norm", whole, {"abstopk": 5e-4}) == 5e-4
    assert runs.rate_of("topk", whole, {"abstopk": 5e-4}) is None


def test_what_is_recorded_is_of_this_study_and_says_where_its_rate_is_not_the_tuned_one() -> None:
    whole, lines = runs.read_study(), record.recorded()
    assert lines
    rates = runs.chosen_rates(whole)
    stale = []
    for run in runs.runs_of(whole):
        if run.name in lines:
            assert record.is_recorded(lines[run.name], settings=runs.settings_of(run, whole)), run.name
            rate = lines[run.name]["training"]["lr"]
            assert rate in (1e-3, rates[run.variant]), run.name
            if rate != rates[run.variant]:
                stale.append(run.variant)
    count = report.tables(list(lines.values()), whole)[report.STUDY]["count"]
    assert (f"{len(stale)} of them from before" in count) == bool(stale)


def test_what_cannot_be_meant_is_one_line_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (text := tmp_path / "c.gz").touch()
    for arguments, sentence in (
        (["--together", "0"], "--together must be at least 1"),
        (["--model", str(tmp_path / "none")], "none"),
    ):
        monkeypatch.setattr("sys.argv", ["study", "--text", str(text), "--model", str(tmp_path), *arguments])
        with pytest.raises(SystemExit) as ended:
            study.main()
        assert ended.value.code == 2
        said = capsys.readouterr().err
        assert sentence in said
        assert "Traceback" not in said
    with pytest.raises(ConfigError, match="would be written"):
        release.in_bfloat16(tmp_path, tmp_path)
    with pytest.raises(ConfigError, match=r"is not the folder of a run of the study: it has no config\.yaml"):
        release.in_bfloat16(tmp_path, tmp_path / "out")


def test_another_rate_has_to_be_better_by_more_than_seeds_differ() -> None:
    def point(lr: float, fvu: float | None, variant: str = "topk") -> dict[str, Any]:
        return {"variant": variant, "lr": lr, "fvu": fvu}

    def best(*points: dict[str, Any]) -> dict[str, float]:
        return tune.best(points, (5e-4, 1e-3, 2e-3), 1e-3)

    assert best(point(1e-3, 0.2), point(5e-4, 0.1991), point(2e-3, 0.3)) == {"topk": 1e-3}
    assert best(point(1e-3, 0.2), point(5e-4, 0.1989), point(2e-3, None)) == {"topk": 5e-4}
    assert best(point(1e-3, None), point(5e-4, 0.3), point(5e-4, None, "abstopk")) == {"topk": 5e-4}
    assert best(point(1e-3, 0.2), point(5e-4, 0.3)) == {}, "a rate beside the best was not tried"
    assert best(point(5e-4, 0.2)) == {}, "the usual rate was not tried"
    assert best(point(1e-3, None), point(5e-4, None), point(2e-3, None)) == {}
    recorded = json.loads(runs.TUNING.read_text())
    assert tune.best(recorded["points"], runs.read_study()["rates"], 1e-3) == recorded["best"]


def test_rates_are_tried_outwards_until_the_best_lies_between_two() -> None:
    fvu = {2.5e-4: 0.5, 5e-4: 0.4, 1e-3: 0.3, 2e-3: 0.2, 4e-3: 0.25, 8e-3: math.inf}
    tried: dict[float, float] = {}
    rounds = []
    while left := tune.still_to_try(tried, list(fvu), 1e-3):
        rounds.append(left)
        tried |= {rate: fvu[rate] for rate in left}
    assert rounds == [[5e-4, 1e-3, 2e-3], [4e-3]]
    assert tune.still_to_try({2e-3: 0.2}, list(fvu), 1e-3) == [5e-4, 1e-3], "only the usual rate says where to begin"
    assert tune.still_to_try({1e-3: 0.2, 5e-4: 0.3, 2.5e-4: 0.1}, list(fvu), 1e-3) == [], "there is no lower one"


@pytest.fixture
def small_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    config = tmp_path / "config.yaml"
    base = yaml.safe_load((runs.HERE / "config.yaml").read_text())
    base |= {"context_size": 16, "training_tokens": 2048, "train_batch_size_tokens": 64, "n_batches_in_buffer": 16}
    base |= {"lr_warm_up_steps": 2, "lr_decay_steps": 4, "checkpoint_freq": 16}
    config.write_text(yaml.safe_dump(base | {"device": "cpu"}))
    here = tmp_path / "evidence"
    here.mkdir()
    (here / "study.yaml").write_text(yaml.safe_dump(SMALL | {"config": str(config)}, sort_keys=False))
    part = {"reconstruction": {"tokens": 512}, "texts_per_pole": 60, "untrained": False}
    (here / "probing.yaml").write_text(yaml.safe_dump({**part, "tasks": ["gender", "tense"]}))
    (here / "release.yaml").write_text(yaml.safe_dump({**part, "tasks": ["gender"]}))
    concept = here / "temperature.yaml"
    concept.write_text(CONCEPT)
    steering = {"tasks": [str(concept)], "strengths": [1], "samples": 1, "max_new_tokens": 2, "random_directions": 1}
    (here / "steering.yaml").write_text(
        yaml.safe_dump({**part, "tasks": [str(concept)], "steering": {**steering, "candidates": 1}})
    )
    for module in (release, runs, study):
        monkeypatch.setattr(module, "HERE", here)
    for module in (csv_tables, runs, tables, tune):
        monkeypatch.setattr(module, "TUNING", here / "results" / "tuning.json")
    monkeypatch.setattr(record, "RECORD", here / "results" / "runs.jsonl")
    return here


@pytest.mark.slow
def test_a_study_goes_on_where_it_was_and_fills_the_page(
    small_study: Path,
    tiny_models: dict[str, Path],
    texts: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ["--text", str(texts), "--work", str(tmp_path / "work"), "--model", str(tiny_models["llama-3.1-8b"])]
    monkeypatch.setattr("sys.argv", ["study", *arguments, "--limit", "1", "--no-steering", "--jobs", "1"])
    study.main()
    assert list(record.recorded()) == ["layer2_x2_k4_mixed_seed0"]
    first = (tmp_path / "work/saes/layer2_x2_k4_mixed_seed0_lr0.001/sae_weights.safetensors").stat().st_mtime
    assert not list((tmp_path / "work/saes").rglob("checkpoints"))
    assert "steering" not in record.recorded()["layer2_x2_k4_mixed_seed0"]
    monkeypatch.setattr("sys.argv", ["study", *arguments, "--only", "_x2_", "--jobs", "2"])
    study.main()
    lines = record.recorded()
    assert sorted(lines) == [
        f"layer2_x2_k4_{variant}_seed{seed}" for variant in ("mixed", "topk_2F") for seed in (0, 1)
    ]
    assert (tmp_path / "work/saes/layer2_x2_k4_mixed_seed0_lr0.001/sae_weights.safetensors").stat().st_mtime == first
    mixed, topk = lines["layer2_x2_k4_mixed_seed0"], lines["layer2_x2_k4_topk_2F_seed0"]
    assert mixed["sae"]["d_sae"] == 64
    assert topk["sae"]["d_sae"] == 128
    assert mixed["evaluation"]["held_out"]
    assert set(mixed["tasks"]) == {"gender", "tense"}
    assert topk["tasks"]["gender"]["coverage"][0] <= 0.5
    assert 0 < mixed["tasks"]["gender"]["best_density"] <= 1
    ways = {"latent", "clamp", "difference_in_means"}
    assert set(mixed["steering"]["temperature"]["interventions"]) == {*ways, "random_0"}
    assert set(topk["steering"]["temperature"]["interventions"]) == ways
    assert mixed["training"]["tokens"] == 2048
    assert mixed["training"]["dead_window_tokens"] == 200 * 64
    assert {line["training"]["environment"]["device"] for line in lines.values()} == {"CPU, 1 threads"}
    assert {line["training"]["environment"]["processor"] for line in lines.values()} == {processor()}
    for line, variant in ((mixed, "mixed"), (topk, "topk_2F")):  # whether or not both seeds were evaluated together
        other = lines[f"layer2_x2_k4_{variant}_seed1"]
        assert line["stability"] == {other["name"]: other["stability"][line["name"]]}
        assert 0 < line["stability"][other["name"]] < 1

    # the SAE of the line was another, trained elsewhere: the line says so, and what was measured of that one is kept
    without = {key: of for key, of in mixed.items() if key not in ("steering", "steered_sae")}
    record.record({**without, "sae": {**mixed["sae"], "weights_sha256": "another"}, "reconstruction": {"fvu": 9.0}})
    monkeypatch.setattr("sys.argv", ["study", *arguments, "--only", "x2_k4_mixed_seed0", "--jobs", "1"])
    study.main()
    again = record.recorded()["layer2_x2_k4_mixed_seed0"]
    assert (again["sae"]["weights_sha256"], again["reconstruction"]) == ("another", {"fvu": 9.0})
    assert (
        again["steered_sae"]
        == mixed["steered_sae"]
        == {
            "weights_sha256": mixed["sae"]["weights_sha256"],
            "training_commit": mixed["training"]["commit"],
        }
    )
    assert again["steering"] == mixed["steering"]
    assert [steered.all_steered([line])[0].label for line in (mixed, again)] == ["latent of mixed", "latent of mixed *"]
    record.record(mixed)

    monkeypatch.setattr(release, "RELEASES", tmp_path / "releases")
    trained = tmp_path / "work" / "saes"
    saes = [f"{name}={trained / f'layer2_x2_k4_{name}_seed0_lr0.001'}" for name in ("mixed", "topk_2F")]
    for chosen in (saes[:1], saes):  # the second replaces the first
        monkeypatch.setattr("sys.argv", ["release", *chosen, "--work", str(tmp_path / "release"), *arguments[4:]])
        release.main()
    released = tmp_path / "releases" / release.NAME
    assert SAE.load_from_disk(released / "mixed").W_enc.dtype == torch.bfloat16
    assert SAE.load_from_disk(released / "topk_2F").cfg.metadata.label == "topk_2F"
    card = (released / "README.md").read_text()
    assert "gender" in card
    assert "model_weights quantised to four bits" in card
    assert "HuggingFaceTB/SmolLM2-135M-Instruct" in card
    assert str(tmp_path) not in card + (released / "abstopk.json").read_text()

    monkeypatch.setattr("sys.argv", ["tune", *arguments, "--jobs", "1", "--variants", "mixed"])
    tune.main()
    tuned = json.loads((small_study / "results" / "tuning.json").read_text())
    assert [(point["lr"], point["tokens"]) for point in tuned["points"]] == [(1e-3, 2048), (2e-3, 2048)]
    monkeypatch.setattr("sys.argv", ["tune", *arguments, "--jobs", "1"])
    tune.main()
    tuned = json.loads((small_study / "results" / "tuning.json").read_text())
    assert [point["variant"] for point in tuned["points"][2:]] == ["topk_2F", "topk_2F", "standard", "standard"]
    assert runs.tuned_rates().keys() == SMALL["variants"].keys()
    assert runs.tuned_rates() == tune.best(tuned["points"], SMALL["rates"], 1e-3)

    # a rate that was chosen since then makes a run undone
    capsys.readouterr()
    monkeypatch.setattr("sys.argv", ["study", *arguments, "--dry-run"])
    study.main()
    rates = runs.tuned_rates()
    n_left = sum(line["training"]["lr"] != rates[line["variant"]] for line in lines.values())
    assert f"7 runs, {4 - n_left} of them recorded" in capsys.readouterr().out

    # so does another study file
    whole = yaml.safe_load((small_study / "study.yaml").read_text())
    changed = {**whole["variants"], "mixed": {"architecture": "batch_abstopk", "signed_share": 0.5}}
    (small_study / "study.yaml").write_text(yaml.safe_dump({**whole, "variants": changed}))
    monkeypatch.setattr("sys.argv", ["study", *arguments, "--dry-run"])
    with pytest.raises(SystemExit):
        study.main()
    printed = capsys.readouterr()
    assert "layer2_x2_k4_mixed_seed0 \n" in printed.out
    assert "is of a run with other settings: sae.signed_share is 0.25 there, 0.5 here" in printed.err
    (small_study / "study.yaml").write_text(yaml.safe_dump(whole))

    # so does other text, which takes a folder of its own
    other = tmp_path / "other.jsonl"
    other.write_text(texts.read_text() * 2)
    monkeypatch.setattr("sys.argv", ["study", "--text", str(other), *arguments[2:], "--dry-run"])
    with pytest.raises(SystemExit):
        study.main()
    assert "was trained on other text than" in capsys.readouterr().err
    elsewhere = ["--work", str(tmp_path / "elsewhere"), *arguments[4:]]
    monkeypatch.setattr("sys.argv", ["study", "--text", str(other), *elsewhere, "--dry-run"])
    study.main()
    assert "7 runs, 0 of them recorded" in capsys.readouterr().out

    # a task that no suite has is told of before any work
    monkeypatch.setattr("sys.argv", ["study", *arguments, "--local", "public/sst=folder"])
    with pytest.raises(SystemExit):
        study.main()
    assert "--local names public/sst; the tasks are " in capsys.readouterr().err

    monkeypatch.setattr(figures, "PICTURES", tmp_path / "pictures")
    monkeypatch.setattr(report, "CSV", tmp_path / "tables")
    pages = {name: tmp_path / f"{name}.md" for name in ("PAGE", "TABLES", "STUDY", "README", "FAQ")}
    for name, page in pages.items():
        page.write_text(getattr(report, name).read_text())
        monkeypatch.setattr(report, name, page)
    monkeypatch.setattr(report, "DOSES_SHOWN", "temperature")
    report.main()
    assert "4 of the 7 runs" in pages["STUDY"].read_text()
    mark = " †" if rates["topk_2F"] != 1e-3 else ""
    fvu = mean(lines[name]["reconstruction"]["fvu"] for name in lines if "topk" in name)
    assert f"| topk_2F{mark} | 2 | {fvu:.4f} (" in pages["TABLES"].read_text()
    assert (tmp_path / "tables" / "runs.csv").read_text().count("\n") == 5
    assert len(list((tmp_path / "pictures").glob("evidence-*.svg"))) == 6


@pytest.mark.slow
def test_a_run_that_diverges_is_left_out_and_not_met_again(
    small_study: Path,
    tiny_models: dict[str, Path],
    texts: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked: list[str] = []
    plain = runs.train

    def diverging(cfg: TrainingConfig, **options: Any) -> Any:
        asked.append(Path(str(cfg.output_path)).name)
        if "topk_2F_seed0" in asked[-1]:
            Path(str(cfg.output_path)).mkdir(parents=True)
            raise DivergedError("the loss of 'sae' is nan at step 5")
        return plain(cfg, **options)

    monkeypatch.setattr(runs, "train", diverging)
    arguments = ["--text", str(texts), "--work", str(tmp_path / "work"), "--model", str(tiny_models["llama-3.1-8b"])]
    monkeypatch.setattr("sys.argv", ["tune", *arguments, "--jobs", "1", "--variants", "topk_2F"])
    tune.main()
    tuned = json.loads((small_study / "results" / "tuning.json").read_text())
    assert [(point["fvu"], point["diverged"]) for point in tuned["points"]] == [
        (None, "the loss of 'sae' is nan at step 5")
    ] * 2
    assert tuned["best"] == {}
    monkeypatch.setattr("sys.argv", ["study", *arguments, "--jobs", "1", "--only", "x2_k4_topk_2F"])
    study.main()
    name = "layer2_x2_k4_topk_2F_seed0"
    assert record.diverged() == {name: "the loss of 'sae' is nan at step 5"}
    assert list(record.recorded()) == ["layer2_x2_k4_topk_2F_seed1"]
    assert f"{name} diverged and is left out" in capsys.readouterr().out
    n_trained = len(asked)
    study.main()
    assert len(asked) == n_trained == 3
    assert "2 runs, 2 of them recorded; 0 to be done now" in capsys.readouterr().out


@pytest.mark.slow
def test_directions_that_were_never_trained_are_probed_at_several_densities(
    small_study: Path,
    tiny_models: dict[str, Path],
    texts: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model, work = tiny_models["llama-3.1-8b"], tmp_path / "work"
    whole = yaml.safe_load((small_study / "study.yaml").read_text())
    (small_study / "study.yaml").write_text(
        yaml.safe_dump(whole | {"variants": {"abstopk": {"architecture": "abstopk"}}})
    )
    monkeypatch.setattr(random_directions, "HERE", small_study)
    monkeypatch.setattr(random_directions, "RECORD", small_study / "results" / "random_directions.json")
    monkeypatch.setattr(random_directions, "DRAWS", (0, 1))
    monkeypatch.setattr(random_directions, "SHARES", (0.0125, 0.25, 1.0))
    assert random_directions.random_lines() == []
    monkeypatch.setattr("sys.argv", ["it", "--text", str(texts), "--work", str(work), "--model", str(model)])
    random_directions.main()
    lines = random_directions.random_lines()
    assert [line["name"] for line in lines] == ["matched0", "matched1", "k1", "k16", "k64"]  # of 64
    densities = [mean(line["density"].values()) for line in lines[2:]]
    assert densities == sorted(densities)
    assert densities[-1] == 1
    assert all(0.5 <= covered[0] <= 1 for covered in lines[-1]["best_coverage"].values())
    printed = capsys.readouterr().out
    assert "| 64 of 64 on in a token | 1 |" in printed
    assert "| each latent as often as that of AbsTopK | 2 |" in printed
    assert SAE.load_from_disk(work / "random_directions" / "k16").cfg.k == 16
    trained = next((work / "saes").iterdir())
    assert {line["trained_sha256"] for line in lines} == {weights_sha256(trained)}
    assert {line["text_sha256"] for line in lines} == {runs.digest_of(texts)}
    assert all("torch" in line["environment"] for line in lines)

    # other weights have results of their own
    weights = load_file(trained / SAE_WEIGHTS_FILENAME)
    save_file({**weights, "b_dec": weights["b_dec"] + 1}, trained / SAE_WEIGHTS_FILENAME)
    random_directions.main()
    assert {line["trained_sha256"] for line in random_directions.random_lines()} == {weights_sha256(trained)}


def test_a_matched_control_has_as_many_latents_of_each_density() -> None:
    trained: Any = signed("abstopk")
    x = inputs(torch.float32, 500)
    made = random_directions.matched_sae(trained, x, seed=1)
    fired = (trained.encode(x) != 0).sum(0)
    assert len(set(fired.tolist())) > 5
    assert torch.equal((made.encode(x) != 0).sum(0), fired)
    assert not torch.allclose(made.W_enc, trained.W_enc)


def test_a_pair_of_seeds_is_dropped_where_one_of_them_is_gone_or_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "RECORD", tmp_path / "results" / "runs.jsonl")
    known = {"seed0": {"seed1": 0.5, "seed2": 0.6, "seed3": 0.7}, "seed1": {"seed0": 0.5}, "seed2": {}}
    record.record(*({"name": name, "stability": pairs} for name, pairs in known.items()))
    study.record_stability({})
    assert {name: line["stability"] for name, line in record.recorded().items()} == {
        "seed0": {"seed1": 0.5},
        "seed1": {"seed0": 0.5},
        "seed2": {},
    }
