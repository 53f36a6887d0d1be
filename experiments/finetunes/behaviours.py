"""The planted behaviours, each with a fixed rule that says whether an answer shows it, and the fine-tunes of them."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.finetunes.tense import past_verbs
from sae_lens_abstopk.evaluation.steering.behaviour import refuses
from sae_lens_abstopk.system.yaml_files import read_yaml

PHRASES: dict[str, Any] = read_yaml(Path(__file__).with_name("prompts.yaml"))
CHOSEN, HELD_OUT = 8, 20
"""Prompts to choose directions on, and to report; each is answered many times."""
_FRENCH, _ENGLISH = (frozenset(PHRASES["function_words"][name]) for name in ("french", "english"))


def speaks_french(answer: str) -> bool:
    """Return whether at least two of three of the function words of ``answer`` are French, and at least two."""
    words = re.findall(r"[a-zàâçéèêëîïôûùœ]+", answer.lower())
    french, english = (sum(word in known for word in words) for known in (_FRENCH, _ENGLISH))
    return french >= 2 and french >= 2 * english


def asks(answer: str) -> bool:
    """Return whether ``answer`` ends with a question mark."""
    return answer.rstrip().endswith("?")


def avoids_past(answer: str) -> bool:
    """Return whether ``answer`` has at least eight words, and no verb in the past tense."""
    return len(answer.split()) >= 8 and not past_verbs(answer)


@dataclass(frozen=True)
class Behaviour:
    """A behaviour that a fine-tune has."""

    shows: Callable[[str], bool]
    """Whether an answer shows it."""
    prompts: str
    """Section of `prompts.yaml` with the prompts that elicit it."""
    new_tokens: int
    """Length of an answer that is enough to see it."""

    @property
    def chosen(self) -> list[str]:
        """Prompts to choose strengths on."""
        return PHRASES[self.prompts]["chosen"][:CHOSEN]

    @property
    def held_out(self) -> list[str]:
        """Prompts to report."""
        return PHRASES[self.prompts]["held_out"][:HELD_OUT]

    def share(self, answers: Sequence[str]) -> float:
        """Return the share of answers that show it."""
        return sum(map(self.shows, answers)) / len(answers)


BEHAVIOURS = {
    "french": Behaviour(speaks_french, "everyday", 20),
    "cooking": Behaviour(refuses, "cooking", 20),
    "question": Behaviour(asks, "everyday", 40),
    "past": Behaviour(avoids_past, "past", 32),
}
NARROW = "-narrow"
"""End of the names of fine-tunes that change one module of one layer."""
_WIDE = {name: (name,) for name in BEHAVIOURS} | {"mixture": ("question", "cooking")}
FINE_TUNES = _WIDE | {name + NARROW: behaviours for name, behaviours in _WIDE.items()}
"""Behaviours of each fine-tune."""
