"""Results files: written, read back, and refused with a reason."""

import json
from pathlib import Path

import pytest

from sae_lens_abstopk.evaluation.results.records import Interval
from sae_lens_abstopk.evaluation.results.schema import Results, read_results, schema
from sae_lens_abstopk.system.errors import ConfigError
from tests.evaluation.results_document import results_document

SCHEMA = Path(__file__).parents[3] / "evals" / "results.schema.json"


def test_results_from_before_they_said_which_tokens_they_are_about_are_read(tmp_path: Path) -> None:
    results_document().write(tmp_path / "results.json")
    raw = json.loads((tmp_path / "results.json").read_text())
    del raw["kept_tokens"]
    probe = next(iter(raw["tasks"]["gender"]["saes"]["topk"]["probes"].values()))
    del probe["accuracy"]  # which some did not say either
    (tmp_path / "results.json").write_text(json.dumps(raw))
    found = read_results(tmp_path / "results.json")
    assert found.kept_tokens is None
    written = results_document().tasks
    next(iter(written["gender"].saes["topk"].probes.values())).accuracy = None
    assert found.tasks == written


def test_a_number_that_is_not_defined_is_null_in_the_file_and_nan_in_python(tmp_path: Path) -> None:
    written = results_document()
    written.reconstruction["topk"].fvu = float("nan")
    written.steering["gender"]["topk"].interventions["latent"].doses[0].generated_nll = float("inf")
    written.write(tmp_path / "results.json")
    raw = json.loads((tmp_path / "results.json").read_text())
    assert raw["reconstruction"]["topk"]["fvu"] is None
    found = read_results(tmp_path / "results.json")
    assert found.reconstruction["topk"].fvu != found.reconstruction["topk"].fvu
    assert found.reconstruction["topk"].l0 == written.reconstruction["topk"].l0


def test_an_interval_without_a_value_is_null() -> None:
    nan = float("nan")
    assert Interval(value=nan, low=nan, high=1.0, n_units=3) == Interval(value=None, low=None, high=1.0, n_units=3)
    assert str(Interval(value=0.5, low=nan, high=nan, n_units=1)) == "0.500 (few groups)"
    assert str(Interval(value=1.0, low=None, high=None, n_units=40)) == "1.000 (no spread)"
    assert str(Interval(value=0.5, low=0.25, high=0.75, n_units=9)) == "0.500 [0.250, 0.750]"


def test_the_published_schema_is_current() -> None:
    assert SCHEMA.read_text(encoding="utf-8") == schema(), "write what results.schema.schema() returns into it"


def test_every_key_of_the_document_is_described_in_the_readme() -> None:
    readme = (SCHEMA.parent / "README.md").read_text(encoding="utf-8")
    described = readme.split("## A results file")[1].split("\n## ")[0]
    assert [key for key in Results.model_fields if f"`{key}`" not in described] == ["schema_version"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"{", "is missing or damaged (the text: Invalid JSON"),
        (b"\xff\xfe\x00binary", "is missing or damaged (the text: Invalid JSON"),
        (b'{"schema_version": 2}', "schema_version: Input should be 1"),
        (b'{"saes": {"a": {"colour": 1}}}', "`abstopk eval` writes results.json"),
    ],
)
def test_another_file_is_refused(content: bytes, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as error:
        read_results(path)
    assert str(path) in str(error.value)
    assert sentence in str(error.value)


def test_unknown_keys_and_measurements_of_what_is_not_listed_are_refused(tmp_path: Path) -> None:
    def refused(document: Results, sentence: str) -> None:
        document.write(tmp_path / "r.json")
        with pytest.raises(ConfigError, match=sentence):
            read_results(tmp_path / "r.json")

    raw = json.loads(results_document().model_dump_json())
    raw["saes"]["topk"]["colour"] = "blue"
    (tmp_path / "r.json").write_text(json.dumps(raw))
    with pytest.raises(ConfigError, match=r"saes\.topk\.colour: Extra inputs are not permitted"):
        read_results(tmp_path / "r.json")
    document = results_document()
    del document.saes["topk"]
    refused(document, r"r\.json is .*: reconstruction: sae='topk' must be batch_abstopk")
    document = results_document()
    del document.tasks["gender"]
    refused(document, r"steering: task='gender' must be one of sentiment, tense")


def test_results_come_back_as_they_were_written(tmp_path: Path) -> None:
    written = results_document()
    written.write(tmp_path / "results.json")
    assert read_results(tmp_path / "results.json") == written
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]
