"""Which latents come first: those with a judge's verdict, a concept, or words of their own at both poles."""

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sae_lens_abstopk.evaluation.labelling.labeler import LabelRecord
from sae_lens_abstopk.explorer.exploration import Exploration
from sae_lens_abstopk.explorer.verdicts import BOTH, ORDER, SILENT, WordControl, own_coverage, rank
from tests.explorer.planted import PLANTED, QUIET

WORDS = {f"word{i}": 1 / (i + 1) for i in range(200)}
NO_WORDS = ("\n", " ", ",", " ...", "7", "1984", " a", "'t", "\\xef\\xbc", "\\x8c")


def test_a_pole_of_random_words_exceeds_the_control_about_once_in_a_hundred_times() -> None:
    control, drawn = WordControl(WORDS), random.Random(1)
    for n in (8, 32):
        samples = (drawn.choices(list(WORDS), weights=list(WORDS.values()), k=n) for _ in range(1000))
        above = sum(own_coverage((sample, []))[0] > control.coverage(n) for sample in samples)
        assert above <= 25
    assert WordControl({text: 1.0 for text in NO_WORDS}).coverage(8) == 0
    assert control.coverage(32) < own_coverage((["he"] * 20 + list(WORDS)[:12], []))[0] < 1


@given(st.lists(st.sampled_from(("he", " sie", "我", "я", *NO_WORDS)), max_size=40))
def test_punctuation_digits_single_letters_and_bytes_only_lower_the_coverage(pole: list[str]) -> None:
    words = [text for text in pole if text not in NO_WORDS]
    covered, _ = own_coverage((pole, ["the"]))
    assert covered * max(len(pole), 1) == pytest.approx(own_coverage((words, ["the"]))[0] * len(words))


def test_a_word_that_the_other_pole_has_as_often_tells_neither() -> None:
    assert own_coverage((["he"] * 9 + ["the"], ["she"] * 10)) == (1.0, 1.0)
    assert own_coverage((["the"] * 10, ["the"] * 5)) == (0.0, 0.0)
    assert own_coverage((["the"] * 8 + ["he"] * 2, ["the"] * 4 + ["an"])) == (0.2, 0.2)


def test_the_first_list_is_by_verdict(exploration: Exploration) -> None:
    signed = exploration.catalogue("signed")
    assert signed.verdict(QUIET) == SILENT
    assert signed.verdict(PLANTED) == BOTH
    keys = [(rank(signed.verdict(index)), -min(signed.clarity[index])) for index in signed.suggested(len(signed))]
    assert keys == sorted(keys)
    assert len(set(keys)) > len(ORDER)
    relations = {5: "opposites", PLANTED: "one-sided"}
    judged = signed.judged({i: LabelRecord(positive="a", negative="b", relation=r) for i, r in relations.items()})
    assert judged.suggested(1) == [5]
    assert judged.verdict(PLANTED) == "one-sided"
    assert ORDER.index("one-sided") > ORDER.index(BOTH)
    judged.covered = {6: "gender"}
    assert judged.suggested(2) == [5, 6]
    assert replace(exploration, saes={"signed": judged}).suggested(2) == [5, 6]
