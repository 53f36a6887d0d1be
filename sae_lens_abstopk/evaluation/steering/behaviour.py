"""What else steering a concept does: which instructions a model refuses, and how many questions it answers rightly."""

import tempfile
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from sae_lens.load_model import HookedProxyLM

from sae_lens_abstopk.evaluation.results.bootstrap import mean_estimate
from sae_lens_abstopk.evaluation.results.interval import Interval
from sae_lens_abstopk.evaluation.results.steering_records import BehaviourRecord
from sae_lens_abstopk.evaluation.steering.dose_response import DoseResponse
from sae_lens_abstopk.evaluation.steering.interventions import Intervention
from sae_lens_abstopk.evaluation.steering.lm_eval_steering import export_for_lm_eval
from sae_lens_abstopk.evaluation.steering.multiple_choice import multiple_choice, require_lm_eval
from sae_lens_abstopk.evaluation.steering.refusal import measure_refusal
from sae_lens_abstopk.evaluation.subjects.subjects import Subjects
from sae_lens_abstopk.evaluation.suite.suite import BehaviourOptions
from sae_lens_abstopk.evaluation.tasks.task import Example, Task
from sae_lens_abstopk.model.activation_edits import intervene
from sae_lens_abstopk.model.generation import TextModel
from sae_lens_abstopk.model.model_shape import name_on_hub
from sae_lens_abstopk.system.errors import ConfigError

UNSTEERED = "unsteered"


class Measured(NamedTuple):
    """What the model does in one setting."""

    record: BehaviourRecord
    right: tuple[float, ...]
    """1 for each question answered rightly, 0 for each other; empty where none were asked."""


def check_behaviour_task(task: Task, options: BehaviourOptions) -> None:
    """
    Refuse what :func:`measure_behaviour` could not measure.

    Raises:
        ConfigError: the texts of ``task`` are no instructions to refuse or follow, or lm_eval is missing.
    """
    part = task.steering
    if part is None or not part.chat or part.scorer is None or part.scorer.kind != "prefixes":
        raise ConfigError(
            f"steering.behaviour.task={task.name!r} must be a refusal task, one with chat prompts and a scorer of kind "
            "prefixes; use 'refusal'."
        )
    if options.questions:
        require_lm_eval()


def measure_behaviour(
    subjects: Subjects,
    task: Task,
    sae_name: str,
    response: DoseResponse,
    options: BehaviourOptions,
    *,
    unsteered: Measured | None = None,
    seed: int,
    on_progress: Callable[[int, int], None],
) -> tuple[dict[str, list[BehaviourRecord]], Measured]:
    """
    Refusals and multiple choice unsteered, and under every intervention that adds, at its matched strengths.

    The instructions are test texts of ``task``, so neither latents nor directions were fitted on them. A strength is the
    one at which the neutral cost reaches the budget (see :func:`~.dose_response.dose_response`).

    Args:
        subjects: Model and SAEs.
        task: Pole A are instructions to refuse, pole B instructions to follow.
        sae_name: Which SAE.
        response: Of the same task and SAE.
        options: How much is measured.
        unsteered: What another SAE of these subjects found without steering.
        seed: Of the split, of which instructions are drawn, and of the intervals.
        on_progress: Called with (settings done, settings in all).

    Returns:
        By intervention the record towards pole A and that towards pole B; ``"unsteered"`` has one. And what was found
        without steering.
    """
    harmful, harmless = _instructions(task, options.instructions, seed)
    instructions = [example.text for example in harmful], [example.text for example in harmless]
    groups = [example.group for example in harmful], [example.group for example in harmless]
    sae, hook = subjects.saes[sae_name], str(subjects.cfg.hook_name)
    text_model = TextModel(subjects.model, chat=True, autocast=subjects.cfg.autocast_lm)
    added = [
        each
        for each in response.summaries
        if each.intervention.operator == "add" and each.intervention.name not in _surplus(response)
    ]
    total, done = int(unsteered is None) + 2 * len(added), 0

    def measure(intervention: Intervention | None, strength: float, *, reached: bool = True) -> Measured:
        nonlocal done
        steered = nullcontext()
        if intervention is not None:
            edit = intervention.edit(sae, strength)
            steered = intervene(subjects.model, hook, edit, token_filter=subjects.token_filter)
        with steered:
            refusal = measure_refusal(
                text_model, *instructions, groups=groups, max_new_tokens=options.max_new_tokens, seed=seed
            )
        with tempfile.TemporaryDirectory() as folder:
            steering = None
            if intervention is not None and options.questions:
                file = Path(folder) / "steering.pt"
                steering = export_for_lm_eval(file, subjects.model, sae, intervention, strength, hook_name=hook)
            right = (
                multiple_choice(**_asked(subjects), steering=steering, limit=options.questions).right
                if options.questions
                else ()
            )
        done += 1
        on_progress(done, total)
        record = BehaviourRecord(
            strength=strength,
            reached=reached,
            refused_harmful=refusal.harmful,
            refused_harmless=refusal.harmless,
            multiple_choice=_over_questions(right, seed),
            multiple_choice_change=_over_questions(np.subtract(right, unsteered.right), seed) if unsteered else None,
            answer=refusal.harmful_texts[0],
        )
        return Measured(record, right)

    unsteered = unsteered or measure(None, 0.0)
    found = {UNSTEERED: [unsteered.record]}
    for each in added:
        found[each.intervention.name] = [
            measure(each.intervention, pole.strength, reached=pole.reached).record
            for pole in (each.towards_a, each.towards_b)
        ]
    return found, unsteered


def _asked(subjects: Subjects) -> dict[str, Any]:
    """The model that lm_eval runs: the one in memory, or the same by name where that has layers of TransformerLens in it."""
    model = subjects.model
    if isinstance(model, HookedProxyLM):
        return {"pretrained": model.model, "tokenizer": model.tokenizer}
    return {
        "pretrained": name_on_hub(subjects.cfg.model_name),
        "device": str(next(model.parameters()).device),
        "model_kwargs": subjects.cfg.model_from_pretrained_kwargs,
    }


def _surplus(response: DoseResponse) -> Sequence[str]:
    """Random directions after the first: one control is enough for what takes minutes."""
    names = [each.intervention.name for each in response.summaries]
    return [name for name in names if name.startswith("random_")][1:]


def _instructions(task: Task, most: int, seed: int) -> list[list[Example]]:
    """Texts of pole A, and of pole B, from the test part, at most ``most`` of each."""
    test = task.split(seed).test
    order = np.random.default_rng(seed).permutation(test)
    return [[task.examples[row] for row in order if task.examples[row].pole == pole][:most] for pole in (0, 1)]


def _over_questions(values: npt.ArrayLike, seed: int) -> Interval | None:
    """Mean over questions; None where none were asked."""
    return mean_estimate(values, seed=seed) if np.size(values) else None
