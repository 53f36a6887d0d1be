"""From what was measured to the records of a results file."""

import shlex
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from sae_lens import SAE
from sae_lens.constants import SAE_WEIGHTS_FILENAME

from sae_lens_abstopk.dictionary.geometry import antipodal_pairs
from sae_lens_abstopk.dictionary.reconstruction import Reconstruction
from sae_lens_abstopk.evaluation.probing.code_probes import CoveringLatent, SingleLatent
from sae_lens_abstopk.evaluation.probing.probe_task import TaskProbes
from sae_lens_abstopk.evaluation.results.intervals import Estimate
from sae_lens_abstopk.evaluation.results.schema import (
    BehaviourRecord,
    DoseRecord,
    GeometryRecord,
    Interval,
    InterventionRecord,
    LatentRecord,
    LossRecord,
    PairRecord,
    PoleEffectRecord,
    ProbeRecord,
    ReconstructionRecord,
    SAERecord,
    SAETaskRecord,
    SteeringRecord,
    TaskRecord,
)
from sae_lens_abstopk.evaluation.steering.dose_response import DoseResponse
from sae_lens_abstopk.evaluation.steering.doses import Dose
from sae_lens_abstopk.evaluation.steering.latent_choice import LatentChoice
from sae_lens_abstopk.evaluation.steering.steering_summary import PoleEffect
from sae_lens_abstopk.evaluation.subjects.subjects import Subjects
from sae_lens_abstopk.system.files import file_sha256, home_as_tilde
from sae_lens_abstopk.system.provenance import commit, environment, processor

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def run_facts(subjects: Subjects) -> dict[str, Any]:
    """The head of a results file: when, how and on what its numbers are measured: by the command that runs now, or from Python."""
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["abstopk", *map(home_as_tilde, sys.argv[1:])])
        if _is_abstopk(Path(sys.argv[0]))
        else "Python",
        "commit": commit(),
        "environment": environment(subjects.device) | {"processor": processor()},
        "model": subjects.model_name,
        "hook": subjects.model_spec.hook_name,
        "text": subjects.text_name,
        "held_out": subjects.held_out,
        "kept_tokens": str(subjects.rules),
    }


def _is_abstopk(program: Path) -> bool:
    return program.stem == "abstopk" or program.parts[-2:] == ("sae_lens_abstopk", "__main__.py")


def sae_record(sae: SAE[Any], source: str, *, group: str | None = None) -> SAERecord:
    """What identifies an SAE."""
    digest = weights_sha256(source)
    return SAERecord(
        folder=Path(source).name if digest else source,
        architecture=sae.cfg.architecture(),
        d_in=sae.cfg.d_in,
        d_sae=sae.cfg.d_sae,
        weights_sha256=digest,
        training=training_facts(sae),
        group=group,
    )


def training_facts(sae: SAE[Any]) -> dict[str, Any]:
    """What the metadata of an SAE say of its training, and its k where it still has one."""
    recorded = (
        *("training_architecture", "training_tokens", "training_architecture_details", "context_size"),
        *("train_batch_size_tokens", "lr", "seed", "variant", "target_l0"),
    )
    found = {key: sae.cfg.metadata[key] for key in recorded if key in sae.cfg.metadata}
    return found | ({"k": sae.cfg.k} if hasattr(sae.cfg, "k") else {})


def config_facts(sae: SAE[Any]) -> dict[str, Any]:
    """The config of an SAE, with its metadata, but for where it is in memory."""
    return {key: value for key, value in sae.cfg.to_dict().items() if key != "device"}


def weights_sha256(source: str | Path) -> str | None:
    """Hash of the weights in an SAE's folder; None where ``source`` is no such folder."""
    weights = Path(source) / SAE_WEIGHTS_FILENAME
    if not weights.is_file():
        return None
    state = weights.stat()
    return _sha256_once(weights.resolve(), state.st_size, state.st_mtime_ns)


@lru_cache
def _sha256_once(path: Path, size: int, mtime_ns: int) -> str:  # noqa: ARG001  # a file that was written again is another
    return file_sha256(path)


def reconstruction_record(found: Reconstruction) -> ReconstructionRecord:
    """Of a :class:`Reconstruction`."""
    loss = found.loss and LossRecord(
        tokens=found.loss.n_tokens,
        ce_clean=found.loss.ce_clean,
        ce_sae=found.loss.ce_sae,
        ce_zero=found.loss.ce_zero,
        ce_mean=found.loss.ce_mean,
        recovered_zero=found.loss.zero,
        recovered_mean=found.loss.mean,
        kl=found.loss.kl_sae,
    )
    return ReconstructionRecord(
        tokens=found.n_tokens,
        mse=found.mse,
        nmse=found.nmse,
        fvu=found.fvu,
        cosine=found.cosine,
        l0=found.l0,
        dead_latents=found.dead_latents,
        dead_poles=found.poles.dead_poles,
        live_latents=found.poles.live_latents,
        two_sidedness=found.poles.mean_two_sidedness,
        two_sidedness_histogram=found.poles.two_sidedness_histogram.tolist(),
        density_quantiles={
            pole: _quantiles(density) for pole, density in zip(("positive", "negative"), found.density, strict=True)
        },
        loss=loss,
    )


def geometry_record(sae: SAE[Any]) -> GeometryRecord:
    """Of the decoder of an SAE."""
    rows = sae.W_dec.detach().float()
    pairs = antipodal_pairs(rows)
    return GeometryRecord(
        antipodal_pairs=pairs.total,
        antipodal_threshold=pairs.threshold,
        latents_in_antipodal_pairs=pairs.latents,
        decoder_norm_quantiles=_quantiles(rows.norm(dim=1)),
    )


def sae_task_record(probes: TaskProbes, W_dec: torch.Tensor) -> SAETaskRecord:
    """Of one SAE, with the decoder ``W_dec`` [d_sae, d_in], on one task."""
    codes = probes.codes
    direction = torch.tensor(probes.activations.difference_in_means.direction, dtype=torch.float64)
    return SAETaskRecord(
        probes={
            name: ProbeRecord(
                read=score.read,
                auroc=Interval.of(score.auroc),
                accuracy=Interval.of(score.accuracy),
                train_auroc=score.train_auroc,
                val_auroc=score.val_auroc,
            )
            for name, score in probes.scores().items()
        },
        latent=_latent(codes.single, W_dec, direction),
        pair=PairRecord(
            latent_a=codes.pair.pole_a.latent,
            sign_a=codes.pair.pole_a.sign,
            latent_b=codes.pair.pole_b.latent,
            sign_b=codes.pair.pole_b.sign,
            coverage=Interval.of(codes.pair.coverage),
        ),
        best_coverage=_latent(codes.best_coverage, W_dec, direction),
        coverage_controls={name: Interval.of(found) for name, found in probes.coverage_controls().items()},
    )


def with_density(record: TaskRecord, density: Mapping[str, Sequence[float]]) -> TaskRecord:
    """The record with how often the chosen latents fire: ``density`` has the share of tokens of each latent, by SAE."""
    saes = {}
    for name, found in record.saes.items():
        chosen = {"latent": found.latent, "best_coverage": found.best_coverage}
        known = {
            key: latent.model_copy(update={"density": density[name][latent.latent]}) for key, latent in chosen.items()
        }
        saes[name] = found.model_copy(update=known)
    return record.model_copy(update={"saes": saes})


def steering_record(
    found: DoseResponse, choice: LatentChoice, behaviour: dict[str, list[BehaviourRecord]]
) -> SteeringRecord:
    """Of a dose-response of the chosen latent."""
    baseline = found.baseline
    return SteeringRecord(
        latent=choice.latent,
        orientation=choice.orientation,
        scale=choice.scale,
        latent_chosen_by=str(choice),
        strength_chosen_by=found.protocol.strength_chosen_by,
        prompts=(len(found.protocol.prompts.val), len(found.protocol.prompts.test)),
        text_prompt=found.protocol.prompts.test[0],
        samples=found.protocol.options.samples,
        baseline_log_odds=_mean(baseline.log_odds),
        baseline_generated_nll=_mean(baseline.generated_nll),
        baseline_neutral_nll=_mean(baseline.neutral_nll),
        interventions={
            each.intervention.name: InterventionRecord(
                doses=[_dose(dose) for dose in each.doses],
                towards_a=_effect(each.towards_a),
                towards_b=_effect(each.towards_b),
                symmetry=Interval.of(each.log_odds_symmetry),
            )
            for each in found.summaries
        },
        behaviour=behaviour,
    )


def _latent(found: SingleLatent | CoveringLatent, W_dec: torch.Tensor, direction: torch.Tensor) -> LatentRecord:
    row = W_dec[found.latent].detach().cpu().double()
    cosine = torch.nn.functional.cosine_similarity(row, direction, dim=0).item()
    return LatentRecord(
        latent=found.latent,
        orientation=found.orientation,
        coverage=Interval.of(found.coverage),
        direction_cosine=cosine,
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


def _effect(found: PoleEffect) -> PoleEffectRecord:
    return PoleEffectRecord(
        strength=found.strength,
        reached=found.reached,
        log_odds=Interval.of(found.log_odds),
        score=_or_none(found.score),
        generated_cost=Interval.of(found.generated_cost),
        neutral_cost=Interval.of(found.neutral_cost),
        log_odds_area=Interval.of(found.log_odds_area),
    )


def _or_none(estimate: Estimate | None) -> Interval | None:
    return None if estimate is None else Interval.of(estimate)


def _mean(values: tuple[float, ...]) -> float:
    return sum(values) / len(values)


def _quantiles(values: torch.Tensor) -> list[float]:
    return torch.quantile(values.double().cpu(), torch.tensor(QUANTILES, dtype=torch.float64)).tolist()
