import pytest

from sae_lens_abstopk.evaluation.tasks.task import Scorer
from sae_lens_abstopk.evaluation.tasks.text_scorers import pole_score

GENDER = Scorer(kind="words", patterns=(("he", "his", "not at all"), ("she", "her", "not")))
REFUSAL = Scorer(kind="prefixes", patterns=(("I'm sorry", "I cannot"), ()))


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("She said that HE and his dog left; she stayed.", 0.0),
        ("She stayed.", 1.0),
        ("He said: his.", -1.0),
        ("He said that she and her dog left.", 1 / 3),
        ("The shepherd heard the others.", 0.0),  # no whole word
        ("not at all", -1.0),  # the longer one of A, not the "not" of B
        ("", 0.0),
    ],
)
def test_words_are_counted_whole_and_whatever_the_case(text: str, score: float) -> None:
    assert pole_score(GENDER, text) == pytest.approx(score)


@pytest.mark.parametrize(
    ("words", "text", "score"),
    [
        ((("不好",), ("好",)), "今天天气不好。", -1.0),
        ((("悲しい",), ("嬉しい", "he")), "彼は嬉しいと言ったhe", 1.0),
        ((("ร้อน",), ("เย็น",)), "วันนี้อากาศร้อนมาก", -1.0),
        ((("गर",), ("गरम",)), "पानी गरम है", 1.0),
        ((("लड़क",), ("पानी",)), "लड़की", 0.0),  # a vowel sign follows, so no whole word
        ((("cafe",), ("the",)), "cafe\u0301 ❤\ufe0fthe", 1.0),
    ],
)
def test_words_of_scripts_without_spaces_are_found_anywhere_and_signs_belong_to_words(
    words: tuple[tuple[str, ...], tuple[str, ...]], text: str, score: float
) -> None:
    assert pole_score(Scorer(kind="words", patterns=words), text) == score


@pytest.mark.parametrize(
    ("text", "score"),
    [
        (" I’m sorry, but no.", -1.0),
        ('"i cannot do that', -1.0),
        ("“I cannot", -1.0),
        ("Sure. I cannot wait!", 0.0),
        ("", 0.0),
    ],
)
def test_prefixes_are_looked_for_at_the_start(text: str, score: float) -> None:
    assert pole_score(REFUSAL, text) == score


def test_a_pole_without_words_scores_for_the_other_alone() -> None:
    assert pole_score(Scorer(kind="words", patterns=((), (" she",))), "she and he") == 1
