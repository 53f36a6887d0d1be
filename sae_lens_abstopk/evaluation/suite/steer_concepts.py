"""Steer along the concept of one task with every SAE."""

import warnings
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch

from sae_lens_abstopk.evaluation.results.records import BehaviourRecord, SteeringRecord
from sae_lens_abstopk.evaluation.steering.behaviour import measure_behaviour
from sae_lens_abstopk.evaluation.steering.dose_response import DoseResponse, LatentChoice, choose_latent, dose_response
from sae_lens_abstopk.evaluation.steering.doses import first_tokens
from sae_lens_abstopk.evaluation.steering.interventions import equal_norm_interventions
from sae_lens_abstopk.evaluation.steering.latent_scale import latent_scale
from sae_lens_abstopk.evaluation.steering.lm_eval_steering import require_constant, steered_module
from sae_lens_abstopk.evaluation.subjects.subjects import Subjects
from sae_lens_abstopk.evaluation.suite.probe_concepts import ProbedTask
from sae_lens_abstopk.evaluation.suite.suite import SteeringOptions, task_key
from sae_lens_abstopk.evaluation.tasks.task import Task
from sae_lens_abstopk.model.language_model import require_chat_template
from sae_lens_abstopk.saes.loading import require_all_heads
from sae_lens_abstopk.system.errors import ConfigError, errors_in
from sae_lens_abstopk.system.terminal import StageProgress

# tokens for the estimate of a latent's scale
SCALE_TOKENS = 16_384


def check_steering(subjects: Subjects, tasks: Mapping[str, Task], options: SteeringOptions) -> None:
    """Check that the SAEs, the tokenizer and the words of every task can be used for steering."""
    for sae in subjects.saes.values():
        require_all_heads(sae, "the suite's steering")
    check_prompts(subjects.tokenizer, tasks, options)
    if options.behaviour is not None and options.behaviour.questions:
        for name, sae in subjects.saes.items():
            with errors_in(f"steering.behaviour: multiple-choice questions for {name}: ", " Or set questions: 0."):
                require_constant(sae)
                steered_module(subjects.model, sae, hook_name=subjects.model_spec.hook_name)


def check_prompts(tokenizer: Any, tasks: Mapping[str, Task], options: SteeringOptions) -> None:
    """Check that the tokenizer has a chat template for chat prompts, and other first tokens for each pole's words."""
    for name in map(task_key, options.tasks):
        part = tasks[name].steering
        assert part is not None  # tasks_of_suite has checked it
        if part.chat:
            require_chat_template(tokenizer)
        first_tokens(tokenizer, part.tokens, chat=part.chat)


def steer_on_task(
    subjects: Subjects,
    name: str,
    task: Task,
    probed: ProbedTask,
    options: SteeringOptions,
    *,
    seed: int,
    on_progress: StageProgress,
) -> dict[str, SteeringRecord]:
    """
    Steer the task that the suite calls ``name`` with the best latent of every SAE.

    An SAE without a candidate that fires on the text and steers to finite log-odds is skipped with a warning.
    """
    part = task.steering
    assert part is not None  # tasks_of_suite has checked it
    # each task has its own random directions, the same for every SAE
    seed_of_task = int(np.random.SeedSequence([seed, *name.encode()]).generate_state(1)[0])
    reading = {"autocast": subjects.model_spec.autocast_lm, "token_filter": subjects.token_filter}
    found: dict[str, SteeringRecord] = {}
    unsteered = None
    batches = subjects.batches(SCALE_TOKENS)
    for sae_name, sae in subjects.saes.items():
        candidates = probed.candidates[sae_name][: options.candidates]
        scales = latent_scale(subjects.model, sae, batches, latents=candidates, **reading)
        firing = [latent for latent, n in zip(scales.latents, scales.firings, strict=True) if n > 0]
        if not firing:  # there is no scale for steering
            why = f"none of its {len(candidates)} candidate latents fires in {scales.n_tokens:,} tokens of text."
            warnings.warn(f"{sae_name} is left out of steering by {name}: {why}", stacklevel=2)
            continue
        try:
            choice = choose_latent(subjects.model, sae, part, firing, scales, seed=seed, **reading)
        except ConfigError as error:  # the model overflows under this SAE's steering
            warnings.warn(f"{sae_name} is left out of steering by {name}: {error}", stacklevel=2)
            continue
        interventions = equal_norm_interventions(
            sae,
            latent=choice.latent,
            scale=choice.scale,
            orientation=choice.orientation,
            difference_in_means=torch.tensor(probed.direction),
            n_random=options.random_directions,
            seed=seed_of_task,
        )
        report = partial(on_progress, f"{name}: steering {sae_name}")
        response = dose_response(
            subjects.model, sae, part, interventions, options=options, on_progress=report, seed=seed, **reading
        )
        behaviour = {}
        if options.behaviour is not None and task_key(options.behaviour.task) == name:
            behaviour, unsteered = measure_behaviour(
                subjects,
                task,
                sae_name,
                response,
                **options.behaviour.model_dump(exclude={"task"}),
                unsteered=unsteered,
                seed=seed,
                on_progress=partial(on_progress, f"{name}: behaviour {sae_name}"),
            )
        found[sae_name] = _record(response, choice, behaviour)
    return found


def _record(
    response: DoseResponse, choice: LatentChoice, behaviour: dict[str, list[BehaviourRecord]]
) -> SteeringRecord:
    baseline, prompts, options = response.baseline.means, response.prompts, response.options
    return SteeringRecord(
        latent=choice.latent,
        orientation=choice.orientation,
        scale=choice.scale,
        latent_chosen_by=str(choice),
        strength_chosen_by=f"neutral cost of {options.budget:g} nats per token, searched for between the doses",
        prompts=(len(prompts.val), len(prompts.test)),
        text_prompt=prompts.test[0],
        samples=options.samples,
        baseline_log_odds=baseline.log_odds,
        baseline_generated_nll=baseline.generated_nll,
        baseline_neutral_nll=baseline.neutral_nll,
        interventions=response.records,
        behaviour=behaviour,
    )
