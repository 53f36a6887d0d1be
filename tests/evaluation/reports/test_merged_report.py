"""Merging several results files into one report."""

import csv
import io
from pathlib import Path

import pytest

from sae_lens_abstopk.evaluation.reports.report_files import csv_report
from sae_lens_abstopk.evaluation.results.merging import merge_results
from sae_lens_abstopk.system.errors import ConfigError
from tests.evaluation.reports.markdown_tables import columns, markdown_of, row, section
from tests.evaluation.results_document import results_document


def test_the_same_sae_is_one_unless_its_numbers_differ() -> None:
    whole = results_document()
    tasks_only = whole.model_copy(update={"reconstruction": {}, "geometry": {}})
    assert merge_results([whole, tasks_only]).names == ["batch_abstopk", "topk"]
    assert [task.name for task in merge_results([whole, tasks_only]).tasks] == ["gender", "sentiment", "tense"]
    other = results_document(seed=1)
    merged = merge_results([whole, other])
    assert merged.names[:2] == ["batch_abstopk (result 1)", "topk (result 1)"]
    assert merged.tasks[0].name == "gender (result 1)", "another split is another measurement"


def test_one_name_for_different_weights_is_refused(tmp_path: Path) -> None:
    first, second = results_document(), results_document()
    second.saes["topk"].weights_sha256 = "f" * 64
    first.write(tmp_path / "a.json")
    with pytest.raises(ConfigError, match=r"a\.json and result 2 both have an SAE 'topk'.*sha256 000000000.*fffffffff"):
        merge_results([tmp_path / "a.json", second])
    first.saes["topk"].weights_sha256 = second.saes["topk"].weights_sha256 = None
    second.saes["topk"].folder = "release/other"
    with pytest.raises(ConfigError, match=r"result 1 and result 2 .*release/other"):
        markdown_of(first, second)


def test_one_name_at_several_hooks_is_told_apart_by_the_hook() -> None:
    first, second, third = (results_document(saes={"topk": "per token"}, seed=seed) for seed in range(3))
    second.hook, third.hook = "model.layers.22", "model.layers.8"
    for document, digest in ((second, "e"), (third, "f")):
        document.saes["topk"].weights_sha256 = digest * 64
    merged = merge_results([first, second, third])
    hooks = ("model.layers.15", "model.layers.22", "model.layers.8")
    assert merged.names == [f"topk ({hook})" for hook in hooks]
    assert [sae.variant for sae in merged.saes] == [f"per token ({hook})" for hook in hooks]
    assert [task.name for task in merged.tasks][::3] == [f"gender ({hook})" for hook in hooks]
    shown = markdown_of(first, second, third)
    for hook, document in zip(hooks, (first, second, third), strict=True):
        cells = columns(shown, "By SAE", f"topk ({hook})")
        assert cells["hook"] == hook
        assert cells["FVU"] == f"{document.reconstruction['topk'].fvu:.4f}"
    third.hook, third.model = second.hook, "EleutherAI/pythia-70m"
    assert merge_results([second, third]).names[1] == "topk (EleutherAI/pythia-70m, model.layers.22)"
    assert "EleutherAI/pythia-70m" in section(markdown_of(second, third), "By SAE")
    # of two results of one hook, that contradict each other, the hook says too little
    again = results_document(saes={"topk": "per token"}, seed=4)
    assert merge_results([first, second, again]).names == [f"topk (result {number})" for number in (1, 2, 3)]


def test_numbers_on_several_texts_say_which_is_whose() -> None:
    first, second = results_document(saes={"a": "v"}, tasks={}), results_document(saes={"b": "v"}, tasks={})
    assert "text" not in columns(markdown_of(first), "By SAE", "a")
    second.text, second.held_out = "other.jsonl", not first.held_out
    shown = markdown_of(first, second)
    assert columns(shown, "By SAE", "a")["text"].startswith(first.text)
    assert columns(shown, "By SAE", "b")["text"].startswith("other.jsonl, ")
    assert "By variant" not in shown, "two texts are not averaged"
    rows = list(csv.DictReader(io.StringIO(csv_report(merge_results([first, second])))))
    assert [each["measured_on"].split(",")[0] for each in rows] == [first.text, "other.jsonl"]


def test_saes_that_were_trained_in_other_ways_are_no_seeds_of_one_variant() -> None:
    """As where two comparisons, of other learning rates, are reported together."""
    document = results_document(saes={f"a k=9 seed {seed}": "a k=9" for seed in range(4)}, tasks={})
    for seed, record in enumerate(document.saes.values()):
        record.training |= {"lr": 1e-3 if seed < 2 else 5e-4, "training_tokens": 512}
    saes = merge_results([document]).saes
    assert [sae.variant for sae in saes] == ["a k=9 lr=0.001"] * 2 + ["a k=9 lr=0.0005"] * 2
    assert [sae.curve for sae in saes] == ["a lr=0.001"] * 2 + ["a lr=0.0005"] * 2
    for record in document.saes.values():
        record.training["lr"] = 1e-3
    assert {(sae.variant, sae.curve) for sae in merge_results([document]).saes} == {("a k=9", "a")}


def test_results_of_other_saes_and_suites_are_shown_together() -> None:
    first = results_document(saes={"a": None}, tasks={"gender": ("he", "she")})
    second = results_document(saes={"b": None}, tasks={"gender": ("he", "she"), "tense": ("past", "present")})
    second.tasks["gender"].digest = first.tasks["gender"].digest
    merged = merge_results([first, second])
    assert merged.names == ["a", "b"]
    assert [(task.name, list(task.saes)) for task in merged.tasks] == [("gender", ["a", "b"]), ("tense", ["b"])]
    shown = markdown_of(first, second)
    assert "Result 2:" in shown
    assert row(section(shown, "By SAE"), "b")[1] == "signed_jumprelu"
