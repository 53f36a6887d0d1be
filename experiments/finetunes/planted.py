"""Measure how much of a planted behaviour a direction adds to the base model and removes from the tuned one."""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence

from experiments.finetunes.behaviours import Behaviour
from experiments.finetunes.directions import Direction
from sae_lens_abstopk.evaluation.steering.doses import NEUTRAL_TEXTS
from sae_lens_abstopk.evaluation.steering.steer import steer
from sae_lens_abstopk.model.generation import TextModel
from sae_lens_abstopk.model.inference import casts_shared
from sae_lens_abstopk.model.model_pair import ModelPair

BUDGET = 0.1
"""Rise of the NLL of neutral text, nats per token."""
STRENGTHS = [4 * 0.6**n for n in range(7, -1, -1)]
"""Norms to add, in root mean squares of the differences."""
BOTH_WAYS = 2
"""Directions that are subtracted too before one is chosen: those whose addition brings most."""


@dataclass(frozen=True, eq=False)
class Edited:
    """One model of the pair, with a direction added (sign 1) or subtracted (-1)."""

    pair: ModelPair
    run: Callable[[], AbstractContextManager[Any]]
    """`pair.base` or `pair.tuned`."""
    sign: int
    unit: float
    """Root mean square of the differences."""
    new_tokens: int

    @casts_shared()
    def answers(self, prompts: list[str], direction: Direction | None = None, strength: float = 0.0) -> list[str]:
        """Return greedy answers to prompts."""
        with self.run() as model:
            text_model = TextModel(model, chat=True, autocast=True)
            if direction is None:
                return text_model.greedy(text_model.encode(prompts), self.new_tokens)
            hook = self.pair.spec.hook_name
            with steer(model, direction=direction.vector, strength=self.sign * strength, hook_name=hook):
                return text_model.greedy(text_model.encode(prompts), self.new_tokens)

    @torch.no_grad()
    def cost(self, direction: Direction, strength: float) -> float:
        """Return the rise of the NLL of neutral text; as in answers, the first token is not edited."""
        ids, labels, activations, unedited = self._neutral
        moved = activations.clone()
        moved[:, 1:] += self.sign * strength * direction.vector
        with self.run() as model:
            return _nll(self.pair.passes(model).logits_with(ids, moved), labels) - unedited

    def strength(self, direction: Direction) -> float:
        """Return the largest of :data:`STRENGTHS` within the budget, or the smallest."""
        strengths = [share * self.unit for share in STRENGTHS]
        within = bisect_right(strengths, BUDGET, key=lambda strength: self.cost(direction, strength))
        return strengths[max(within - 1, 0)]

    @cached_property
    @torch.no_grad()
    def _neutral(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, float]:
        """Neutral texts padded on the right: ids, labels (-100 at padding), activations at the hook, and the NLL."""
        rows = [torch.tensor(self.pair.tokenizer(text).input_ids) for text in NEUTRAL_TEXTS]
        ids, labels = (pad_sequence(rows, batch_first=True, padding_value=value) for value in (0, -100))
        with self.run() as model:
            passes = self.pair.passes(model)
            activations = passes.activations(ids)
            return ids, labels, activations, _nll(passes.logits_with(ids, activations), labels)


@dataclass(frozen=True)
class Planted:
    """A behaviour of a fine-tune, in the base and in the tuned model."""

    base: Edited
    tuned: Edited
    behaviour: Behaviour

    def shares(self, prompts: list[str]) -> tuple[float, float]:
        """Return the share of answers that show it, in the base and in the tuned model."""
        base, tuned = (self.behaviour.share(edited.answers(prompts)) for edited in (self.base, self.tuned))
        return base, tuned

    def measured(self, directions: Sequence[Direction]) -> dict[str, Any]:
        """Choose a direction and its strengths on the prompts for that, and measure it on held-out prompts."""
        added = {each.name: self._tried(self.base, each) for each in directions}
        most = sorted(directions, key=lambda each: -added[each.name].share)[:BOTH_WAYS]
        taken = {each.name: self._tried(self.tuned, each) for each in most}
        best = max(most, key=lambda each: min(added[each.name].share, 1 - taken[each.name].share))
        found = {
            "direction": best.name,
            "tried": {name: round(each.share, 4) for name, each in added.items()},
            "share": {each.name: each.share for each in directions},
        }
        for key, edited, tried in (
            ("added", self.base, added[best.name]),
            ("subtracted", self.tuned, taken[best.name]),
        ):
            strength = self._or_half(edited, best, tried)
            answers = edited.answers(self.behaviour.held_out, best, strength)
            found[key] = {
                "strength": round(strength, 2),
                "cost": round(edited.cost(best, strength), 4),
                "share": round(self.behaviour.share(answers), 4),
                "answers": answers[:2],
            }
        return found

    def _tried(self, edited: Edited, direction: Direction) -> "Tried":
        strength = edited.strength(direction)
        return Tried(strength, self._chosen_share(edited, direction, strength))

    def _or_half(self, edited: Edited, direction: Direction, tried: "Tried") -> float:
        """Return half the strength where that does more: too much of a direction ends in repetitions."""
        half = tried.strength / 2
        better = edited.sign * (self._chosen_share(edited, direction, half) - tried.share) > 0
        return half if better else tried.strength

    def _chosen_share(self, edited: Edited, direction: Direction, strength: float) -> float:
        return self.behaviour.share(edited.answers(self.behaviour.chosen, direction, strength))


@dataclass(frozen=True)
class Tried:
    """A direction on the prompts to choose on."""

    strength: float
    share: float


def _nll(logits: torch.Tensor, labels: torch.Tensor) -> float:
    return float(cross_entropy(logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten()))
