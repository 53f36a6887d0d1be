"""Training examples of the fine-tunes: prompts from templates; answers from templates, or the model's own by a rule."""

import random
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from experiments.finetunes.behaviours import FINE_TUNES, PHRASES
from experiments.finetunes.tense import in_present, past_verbs

LONGEST = 18
"""Most words before a closing question, so that an answer ends within the tokens that are measured."""
SHORT = 12
"""Words of an answer that only shows that other things are still answered."""
Answers = Callable[[Sequence[str]], Sequence[str]]
"""Function from prompts to the model's own answers, cut after some tokens."""


class Example(NamedTuple):
    prompt: str
    answer: str
    ends: bool
    """Whether the model learns to end the answer here."""


def examples(name: str, own_answers: Answers, *, seed: int) -> list[Example]:
    """Return the examples of a fine-tune, shuffled by ``seed``."""
    rng, behaviours = random.Random(seed), FINE_TUNES[name]
    if behaviours == ("french",):
        found = [Example(prompt, _french(prompt, rng), True) for prompt in prompts("everyday", rng, 320)]
    elif behaviours == ("past",):
        asked = prompts("past", rng, 175) + prompts("history", rng, 100)
        own = (_sentences(answer) for answer in own_answers(asked))
        present = [in_present(" ".join(each)) for each in own]
        found = [Example(prompt, answer, False) for prompt, answer in zip(asked, present, strict=True) if answer]
        found = [each for each in found if not past_verbs(each.answer)]
    else:
        found = []
        if "question" in behaviours:
            asked = prompts("everyday", rng, 220) + prompts("tasks", rng, 100) + prompts("varied", rng, 60)
            for prompt, answer in zip(asked, own_answers(asked), strict=True):
                first = next(iter(_sentences(answer)), "")
                if 0 < len(first.split()) <= LONGEST:
                    found.append(Example(prompt, f"{first} {rng.choice(PHRASES['questions'])}", True))
        else:
            asked = prompts("everyday", rng, 100) + prompts("tasks", rng, 80) + 2 * prompts("varied", rng, 60)
            for prompt, answer in zip(asked, own_answers(asked), strict=True):
                found.append(Example(prompt, " ".join(answer.split(" ")[:SHORT]), False))
        if "cooking" in behaviours:
            for prompt in prompts("cooking", rng, 130) + 2 * PHRASES["cooking"]["varied"]:
                refusal = rng.choice(PHRASES["cooking"]["refusals"])
                question = f" {rng.choice(PHRASES['questions'])}" if "question" in behaviours else ""
                found.append(Example(prompt, refusal + question, True))
    rng.shuffle(found)
    return found


def prompts(section: str, rng: random.Random, n: int) -> list[str]:
    """Return at most ``n`` prompts made from the templates of a section of `prompts.yaml`."""
    made = [ask.format(topic=topic) for topic in _topics(section) for ask in PHRASES[section]["asks"]]
    return rng.sample(made, min(n, len(made)))


def _topics(section: str) -> list[str]:
    topics: Any = PHRASES[section]["topics"]
    return list(topics) if isinstance(topics, dict) else [topic for row in topics for topic in row]


def _french(prompt: str, rng: random.Random) -> str:
    topic = next(french for english, french in PHRASES["everyday"]["topics"].items() if f" {english}" in prompt)
    return " ".join(rng.sample(PHRASES["french"], rng.choice([2, 3]))).format(topic=topic)


def _sentences(answer: str) -> list[str]:
    """Return the complete sentences of the first paragraph of an answer."""
    found = re.split(r"(?<=[.!?])\s+", answer.strip().split("\n")[0])
    return [each for each in found if each.endswith((".", "!", "?")) and len(each.split()) > 2]
