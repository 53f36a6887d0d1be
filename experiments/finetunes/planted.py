"""Measure how much of a planted behaviour a direction brings to the base model, and removes from the tuned one."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence

from experiments.finetunes.behaviours import Behaviour
from experiments.finetunes.directions import Direction
from sae_lens_abstopk.diffs.patched_texts import patched_texts
from sae_lens_abstopk.evaluation.steering.doses import NEUTRAL_TEXTS
from sae_lens_abstopk.evaluation.steering.steer import steer
from sae_lens_abstopk.model.generation import TextModel
from sae_lens_abstopk.model.inference import casts_shared
from sae_lens_abstopk.model.model_pair import ModelPair
from sae_lens_abstopk.model.token_filter import TokenFilter

NOT_FIRST = TokenFilter((1, None))
BUDGET = 0.1
"""Rise of the NLL of neutral text, nats per token."""
STRENGTHS = [16 * 0.9**n for n in range(48, -1, -1)]
"""Norms to add, in root mean squares of the differences."""
BOTH_WAYS = 2
"""Directions that are removed too before one is chosen: those that bring most if patched in."""


@dataclass(frozen=True, eq=False)
class EditedPair:
    """The base model with a direction added at every token but the first, and the tuned model without a direction."""

    pair: ModelPair
    unit: float
    """Root mean square of the differences."""
    new_tokens: int

    @casts_shared()
    def with_added(self, prompts: list[str], direction: Direction | None = None, strength: float = 0.0) -> list[str]:
        """Return greedy answers of the base model."""
        with self.pair.base() as model:
            text_model = TextModel(model, chat=True, autocast=True)
            if direction is None:
                return text_model.greedy(text_model.encode(prompts), self.new_tokens)
            with steer(model, direction=direction.vector, strength=strength, hook_name=self.pair.spec.hook_name):
                return text_model.greedy(text_model.encode(prompts), self.new_tokens)

    @casts_shared()
    def with_removed(self, prompts: list[str], direction: Direction | None = None) -> list[str]:
        """Return greedy answers of the tuned model, without the part of the difference along a direction."""
        if direction is not None:
            return self._patched(prompts, direction, of="tuned")
        with self.pair.tuned() as model:
            text_model = TextModel(model, chat=True, autocast=True)
            return text_model.greedy(text_model.encode(prompts), self.new_tokens)

    @casts_shared()
    def with_patched(self, prompts: list[str], direction: Direction) -> list[str]:
        """Return greedy answers of the base model with the tuned model's part along a direction."""
        return self._patched(prompts, direction, of="base")

    def _patched(self, prompts: list[str], direction: Direction, **options: Any) -> list[str]:
        options |= {"token_filter": NOT_FIRST, "max_new_tokens": self.new_tokens, "chat": True, "autocast": True}
        return patched_texts(self.pair, prompts, direction.vector, **options)

    def cost_added(self, direction: Direction, strength: float) -> float:
        """Return the rise of the NLL of neutral text in the base model."""
        base = self.neutral[2]
        return self._nll(base + strength * direction.vector) - self._nll_base

    def strength(self, direction: Direction) -> float:
        """Return the largest of :data:`STRENGTHS` within the budget, or the smallest."""
        strengths = [share * self.unit for share in STRENGTHS]
        within = bisect_right(strengths, BUDGET, key=lambda strength: self.cost_added(direction, strength))
        return strengths[max(within - 1, 0)]

    @cached_property
    @torch.no_grad()
    def neutral(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Ids of neutral texts padded on the right, the same with -100 at padding, and the base model's activations."""
        rows = [torch.tensor(self.pair.tokenizer(text).input_ids) for text in NEUTRAL_TEXTS]
        ids, labels = (pad_sequence(rows, batch_first=True, padding_value=value) for value in (0, -100))
        return ids, labels, self.pair.activations(ids)[0]

    @cached_property
    def _nll_base(self) -> float:
        return self._nll(self.neutral[2])

    @torch.no_grad()
    def _nll(self, edited: torch.Tensor) -> float:
        ids, labels, base = self.neutral
        with self.pair.base() as model:
            # as in answers, the first token is not edited
            logits = self.pair.passes(model).logits_with(ids, torch.cat([base[:, :1], edited[:, 1:]], 1))
        return float(cross_entropy(logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten()))


@dataclass(frozen=True)
class Planted:
    """A behaviour of a fine-tune, in the base and in the tuned model."""

    edited: EditedPair
    behaviour: Behaviour

    def shares(self, prompts: list[str]) -> tuple[float, float]:
        """Return the share of answers that show it, in the base and in the tuned model."""
        return (
            self.behaviour.share(self.edited.with_added(prompts)),
            self.behaviour.share(self.edited.with_removed(prompts)),
        )

    def measured(self, directions: Sequence[Direction]) -> dict[str, Any]:
        """Choose a direction and its strength on the prompts for that, and measure it on held-out prompts."""
        edited, behaviour, chosen = self.edited, self.behaviour, self.behaviour.chosen
        brings = {each.name: behaviour.share(edited.with_patched(chosen, each)) for each in directions}
        most = sorted(directions, key=lambda each: -brings[each.name])[:BOTH_WAYS]
        left = {each.name: behaviour.share(edited.with_removed(chosen, each)) for each in most}
        best = max(most, key=lambda each: min(brings[each.name], 1 - left[each.name]))
        # too much of a direction ends in repetitions
        full = edited.strength(best)
        strength = max((full, full / 2), key=lambda each: behaviour.share(edited.with_added(chosen, best, each)))
        brought = edited.with_added(behaviour.held_out, best, strength)
        alone = edited.with_patched(behaviour.held_out, best)
        without = edited.with_removed(behaviour.held_out, best)
        return {
            "direction": best.name,
            "tried_patched": {name: round(share, 4) for name, share in brings.items()},
            "tried_removed": {name: round(share, 4) for name, share in left.items()},
            "share": {each.name: each.share for each in directions},
            "added": {"strength": round(strength, 2), "cost": round(edited.cost_added(best, strength), 4)}
            | self._shown(brought),
            "patched": self._shown(alone),
            "removed": self._shown(without),
        }

    def _shown(self, answers: Sequence[str]) -> dict[str, Any]:
        return {"share": round(self.behaviour.share(answers), 4), "answers": answers[:2]}
