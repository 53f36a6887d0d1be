"""SAEs of vectors are evaluated: reconstruction, stability over seeds, and probes of a column of labels."""

from pathlib import Path
from typing import Any

import pytest
import torch
from sae_lens import SAE

from sae_lens_abstopk import ConfigError, evaluate
from sae_lens_abstopk.evaluation.results.schema import Results, read_results
from sae_lens_abstopk.evaluation.subjects.measured import load_measured
from sae_lens_abstopk.evaluation.suite.label_tasks import OTHERS, tasks_of_labels
from sae_lens_abstopk.evaluation.suite.suite import ReconstructionOptions, Suite
from sae_lens_abstopk.system.yaml_files import yaml_document
from tests.cli.test_cli import invoke
from tests.evaluation.vector_saes import EVERY, N, Planted, planted, save_sae

QUICK = Suite(reconstruction=ReconstructionOptions(tokens=40), untrained=False)


@pytest.fixture(scope="module")
def on_disk(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    return planted(tmp_path_factory.mktemp("vectors"))


def subjects_of(source: str, **options: Any) -> Any:
    return load_measured(source, **options)


def test_the_command_probes_a_column_and_finds_the_latent_that_carries_it(on_disk: Planted, tmp_path: Path) -> None:
    options = ("--labels", "mood", "--out", str(tmp_path))
    done = invoke("eval", f"mine={on_disk.sae}", *options)
    assert done.exit_code == 0, done.output
    assert "mine: mood +0." in done.output
    assert "mine FVU 0.00" in done.output
    assert "nats" not in done.output
    results = read_results(tmp_path / "results.json")
    assert (results.suite, results.settings["tasks"], results.steering) == ("vectors", ["mood"], {})
    task = results.tasks["mood"]
    assert task.poles == ("glad", "sad")
    assert sum(task.texts) == N
    assert task.texts[2] == N // EVERY
    found = task.saes["mine"]
    assert (found.latent.latent, found.latent.orientation) == (0, -1), "glad is on its positive side, and sad is B"
    assert found.latent.coverage.value == 1
    assert found.probes["single latent"].auroc.value == 1
    assert 0.3 < found.probes["single latent, permuted"].auroc.value < 0.7
    assert found.probes["single latent, untrained SAE"].auroc.value < 1
    report = (tmp_path / "report.md").read_text()
    assert "none, the SAEs are of vectors" in report
    assert "40 rows" in report


def test_test_rows_are_those_that_the_run_held_out(on_disk: Planted, tmp_path: Path) -> None:
    (task,) = tasks_of_labels(subjects_of(on_disk.sae), "mood").values()
    rows = [[int(task.texts[i]) for i in part] for part in task.split()]
    assert sorted(row for part in rows for row in part) == list(range(N))
    assert rows[2] == list(range(EVERY - 1, N, EVERY))
    directions = SAE.load_from_disk(on_disk.sae).W_dec.detach()
    data = str(on_disk.folder / "x.parquet")
    save_sae(tmp_path / "grouped", directions, dataset_path=data, group="writer")
    (task,) = tasks_of_labels(subjects_of(str(tmp_path / "grouped")), "mood").values()
    writers = [{task.groups[i] for i in part} for part in task.split()]
    assert all(a.isdisjoint(b) for a, b in zip(writers, writers[1:] + writers[:1], strict=True))
    assert "writer 9" in writers[2]
    # of other vectors nothing is known, so that they are split at random
    (task,) = tasks_of_labels(subjects_of(on_disk.sae, data=data), "mood", per_pole=50).values()
    assert [len(part) for part in task.split()] == [60, 20, 20]


def test_texts_of_another_column_are_shown_in_the_same_folder(on_disk: Planted, tmp_path: Path) -> None:
    for column in ("mood", "topic"):
        results = evaluate(on_disk.sae, suite=QUICK, show=column, out=tmp_path)
        shown = {example.token for of_sae in results.examples.values() for example in of_sae}
        assert shown <= ({"glad", "sad", "calm"} if column == "mood" else {"up", "down", "none"})


def test_of_several_values_each_is_probed_against_the_others(on_disk: Planted) -> None:
    tasks = tasks_of_labels(subjects_of(on_disk.sae), "topic")
    assert list(tasks) == ["topic=down", "topic=none", "topic=up"]
    up = tasks["topic=up"]
    assert up.poles == (OTHERS, "up")
    signs = on_disk.codes[[int(text) for text in up.texts], 1].sign()
    assert torch.equal(torch.from_numpy(up.labels), (signs > 0).long())
    with pytest.warns(UserWarning, match="'season=autumn'.*needs at least .*It is left out"):
        assert list(tasks_of_labels(subjects_of(on_disk.sae), "season")) == ["season=spring", "season=summer"]


def test_seeds_of_one_run_are_matched(on_disk: Planted, tmp_path: Path) -> None:
    directions = SAE.load_from_disk(on_disk.sae).W_dec.detach()
    recorded = {"dataset_path": str(on_disk.folder / "x.parquet"), "column_name": "vector", "held_out_every": EVERY}
    for seed in (0, 1):
        save_sae(tmp_path / f"seed{seed}", directions[torch.randperm(len(directions))] * (-1) ** seed, **recorded)
        config = {"source": "vectors", "sae": {}, "seed": seed} | recorded
        (tmp_path / f"seed{seed}" / "config.yaml").write_text(yaml_document(config))
    results = evaluate([tmp_path / "seed0", tmp_path / "seed1"], suite=QUICK, out=tmp_path / "out")
    (pair,) = results.stability
    assert pair.mean_cosine == pytest.approx(1)
    assert results.held_out
    assert isinstance(results, Results)
    assert results.tasks == {}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"labels": "mod"}, "column='mod' .*did you mean 'mood'"),
        ({"labels": "writer"}, "different values=80 must be at least 2 and at most 20"),
        ({"suite": "quick"}, "the suite 'quick' are texts for a language model.*--labels COLUMN"),
        ({"labels": "mood", "local": {"mood": "x"}}, "--local"),
        ({"text": "x.jsonl"}, "--text: these SAEs were trained on vectors"),
    ],
)
def test_what_cannot_be_evaluated_is_said_in_a_sentence(
    on_disk: Planted, tmp_path: Path, options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        evaluate(on_disk.sae, out=tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_labels_are_of_vectors_only(folders: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--labels: these SAEs were trained on a language model"):
        evaluate(folders[0], labels="mood", out=tmp_path / "out")
