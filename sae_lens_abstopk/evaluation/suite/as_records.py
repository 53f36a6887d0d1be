"""The records of a probed and a steered task, from what was measured."""

from collections.abc import Mapping, Sequence

import torch

from sae_lens_abstopk.evaluation.probing.code_probes import CoveringLatent, SingleLatent
from sae_lens_abstopk.evaluation.probing.probe_task import TaskProbes
from sae_lens_abstopk.evaluation.results.steering_records import (
    BehaviourRecord,
    DoseRecord,
    InterventionRecord,
    PoleEffectRecord,
    SteeringRecord,
)
from sae_lens_abstopk.evaluation.results.task_records import (
    LatentRecord,
    PairRecord,
    ProbeRecord,
    SAETaskRecord,
    TaskRecord,
)
from sae_lens_abstopk.evaluation.steering.dose_response import DoseResponse
from sae_lens_abstopk.evaluation.steering.doses import Dose
from sae_lens_abstopk.evaluation.steering.latent_choice import LatentChoice


def sae_task_record(probes: TaskProbes, W_dec: torch.Tensor) -> SAETaskRecord:
    """The record of one SAE with the decoder ``W_dec`` [d_sae, d_in] on one task."""
    codes = probes.codes
    direction = torch.tensor(probes.activations.difference_in_means.direction, dtype=torch.float64)

    def latent(found: SingleLatent | CoveringLatent) -> LatentRecord:
        row = W_dec[found.latent].detach().cpu().double()
        return LatentRecord(
            latent=found.latent,
            orientation=found.orientation,
            coverage=found.coverage,
            direction_cosine=torch.nn.functional.cosine_similarity(row, direction, dim=0).item(),
        )

    return SAETaskRecord(
        probes={name: ProbeRecord(**vars(score)) for name, score in probes.scores().items()},
        latent=latent(codes.single),
        pair=PairRecord(
            latent_a=codes.pair.pole_a.latent,
            sign_a=codes.pair.pole_a.sign,
            latent_b=codes.pair.pole_b.latent,
            sign_b=codes.pair.pole_b.sign,
            coverage=codes.pair.coverage,
        ),
        best_coverage=latent(codes.best_coverage),
        coverage_controls=probes.coverage_controls(),
    )


def with_density(record: TaskRecord, density: Mapping[str, Sequence[float]]) -> TaskRecord:
    """The record with how often the chosen latents fire: ``density`` has the share of tokens of each latent, by SAE."""
    saes = {}
    for name, found in record.saes.items():
        known = {
            key: latent.model_copy(update={"density": density[name][latent.latent]})
            for key, latent in {"latent": found.latent, "best_coverage": found.best_coverage}.items()
        }
        saes[name] = found.model_copy(update=known)
    return record.model_copy(update={"saes": saes})


def steering_record(
    found: DoseResponse, choice: LatentChoice, behaviour: dict[str, list[BehaviourRecord]]
) -> SteeringRecord:
    """The record of a dose-response of the chosen latent."""
    baseline, prompts = found.baseline, found.protocol.prompts
    return SteeringRecord(
        latent=choice.latent,
        orientation=choice.orientation,
        scale=choice.scale,
        latent_chosen_by=str(choice),
        strength_chosen_by=found.protocol.strength_chosen_by,
        prompts=(len(prompts.val), len(prompts.test)),
        text_prompt=prompts.test[0],
        samples=found.protocol.options.samples,
        baseline_log_odds=_mean(baseline.log_odds),
        baseline_generated_nll=_mean(baseline.generated_nll),
        baseline_neutral_nll=_mean(baseline.neutral_nll),
        interventions={
            each.intervention.name: InterventionRecord(
                doses=[_dose(dose) for dose in each.doses],
                towards_a=PoleEffectRecord(**vars(each.towards_a)),
                towards_b=PoleEffectRecord(**vars(each.towards_b)),
                symmetry=each.log_odds_symmetry,
            )
            for each in found.summaries
        },
        behaviour=behaviour,
    )


def _dose(dose: Dose) -> DoseRecord:
    return DoseRecord(
        strength=dose.strength,
        log_odds=_mean(dose.log_odds),
        score=None if dose.scores is None else _mean(dose.scores),
        generated_nll=_mean(dose.generated_nll),
        neutral_nll=_mean(dose.neutral_nll),
        text=dose.texts[0][0],
    )


def _mean(values: tuple[float, ...]) -> float:
    return sum(values) / len(values)
