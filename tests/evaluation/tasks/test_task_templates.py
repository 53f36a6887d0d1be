import contextlib

from hypothesis import given
from hypothesis import strategies as st

from sae_lens_abstopk import ConfigError
from sae_lens_abstopk.evaluation.tasks.task_templates import expand


def test_a_template_makes_minimal_pairs() -> None:
    pairs = expand("{Day} [{he|she}] saw {thing}.", {"day": ["today", "now"], "thing": ["a dog|two dogs"]})
    assert [p.texts for p in pairs] == [
        ("Today he saw a dog.", "Today she saw two dogs."),
        ("Now he saw a dog.", "Now she saw two dogs."),
    ]
    assert pairs[0].markers == ((6, 8), (6, 9))


def test_slots_of_one_filler_share_a_row_and_a_shift_takes_another() -> None:
    rows = [["France", "Paris"], ["Italy", "Rome"], ["Spain", "Madrid"]]
    pairs = expand("{c.1}: {{c.2}|{c.2~1}}", {"c": rows})
    assert [p.texts for p in pairs] == [
        ("France: Paris", "France: Rome"),
        ("Italy: Rome", "Italy: Madrid"),
        ("Spain: Madrid", "Spain: Paris"),
    ]


def test_a_draw_of_fillings_is_the_same_everywhere() -> None:
    drawn = expand("{a|b} {n}", {"n": [str(i) for i in range(100)]}, most=5)
    assert [p.texts[0] for p in drawn] == ["a 27", "a 42", "a 54", "a 62", "a 81"]


@given(st.text(alphabet="{}[]|~.1a ", max_size=20))
def test_no_template_raises_anything_but_config_error(template: str) -> None:
    with contextlib.suppress(ConfigError):
        expand(template, {"a": ["x", "y|z"], "a1": [["p", "q"]]}, most=3)
