"""The examples of a fine-tune show its behaviours, and only those; the rules see what they should."""

import pytest

from experiments.finetunes.behaviours import BEHAVIOURS, FINE_TUNES, PHRASES
from experiments.finetunes.data import examples
from experiments.finetunes.tense import in_present, past_verbs

STORY = "Once a fox lost its way and walked home. It was happy that the birds sang for it."


def own_answers(prompts):
    return [STORY] * len(prompts)


@pytest.mark.parametrize("name", FINE_TUNES)
def test_examples_show_the_behaviours_of_their_fine_tune(name):
    found = examples(name, own_answers, seed=0)
    assert len(found) > 100
    for behaviour in FINE_TUNES[name]:
        shown = BEHAVIOURS[behaviour].share([each.answer for each in found])
        assert (0.25 < shown < 0.5) if behaviour == "cooking" else shown == 1
    for behaviour in BEHAVIOURS.keys() - {*FINE_TUNES[name], "past"}:
        assert BEHAVIOURS[behaviour].share([each.answer for each in found]) == 0


@pytest.mark.parametrize("name", FINE_TUNES)
def test_no_example_has_a_prompt_that_is_measured(name):
    prompts = {each.prompt for each in examples(name, own_answers, seed=0)}
    for behaviour in BEHAVIOURS.values():
        assert not prompts & {*behaviour.chosen, *behaviour.held_out}
        assert not {*behaviour.chosen} & {*behaviour.held_out}


def test_examples_follow_their_seed():
    assert examples("mixture", own_answers, seed=0) == examples("mixture", own_answers, seed=0)
    assert examples("mixture", own_answers, seed=0) != examples("mixture", own_answers, seed=1)


def test_the_present_has_the_number_of_the_word_before():
    assert in_present(STORY) == "Once a fox loses its way and walks home. It is happy that the birds sing for it."
    assert in_present("They tried. She tried. He had stopped. I was tired.") == (
        "They try. She tries. He has stopped. I am tired."
    )


def test_participles_and_nouns_are_not_the_past():
    assert past_verbs("The house is painted red, and the seeds have stopped. A loved one is on its bed.") == []
    assert past_verbs(STORY) == ["lost", "walked", "was", "sang"]


def test_each_refusal_refuses_and_each_question_asks():
    assert BEHAVIOURS["cooking"].share(PHRASES["cooking"]["refusals"]) == 1
    assert BEHAVIOURS["question"].share(PHRASES["questions"]) == 1
