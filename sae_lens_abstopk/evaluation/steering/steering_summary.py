"""What a dose-response comes to: effect at matched cost, area under the effect-cost curve, symmetry."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import isotonic_regression, root_scalar

from sae_lens_abstopk.evaluation.results.bootstrap import bootstrap, mean_estimate
from sae_lens_abstopk.evaluation.results.interval import Interval
from sae_lens_abstopk.evaluation.steering.doses import Dose
from sae_lens_abstopk.evaluation.steering.interventions import Intervention

Floats = npt.NDArray[np.float64]
_GRID = 101
# what a dose counts as that costs infinity or NaN, in nats per token: more than any that the model survives
_BROKEN = 1e6


@dataclass(frozen=True)
class MatchedStrength:
    """The strength at which the cost reaches the budget."""

    strength: float
    """Its magnitude; 0 where a latent that is clamped to 0 costs more already."""
    reached: bool
    """False: no strength costs just the budget. It is then the largest that was tried, or 0."""


@dataclass(frozen=True)
class PoleEffect:
    """One direction on test prompts, at its matched strength; effects are counted towards the pole."""

    strength: float
    """Signed."""
    reached: bool
    """See :class:`MatchedStrength`."""
    log_odds: Interval
    """Change of the log-odds."""
    score: Interval | None
    """Change of the score of generated text."""
    generated_cost: Interval
    """Rise of the unsteered model's NLL of generated text, nats per token."""
    neutral_cost: Interval
    """Rise of the steered model's NLL of neutral text, nats per token; its interval is over those texts."""
    log_odds_area: Interval
    """Mean change of the log-odds over costs from 0 to the budget, from the doses on test prompts."""


@dataclass(frozen=True)
class InterventionSummary:
    """One intervention, its doses, and what both directions come to."""

    intervention: Intervention
    doses: tuple[Dose, ...]
    """In ascending strength."""
    towards_a: PoleEffect
    towards_b: PoleEffect
    log_odds_symmetry: Interval
    """min(abs(effect+), abs(effect-)) / max, of the log-odds; 0 where both directions go to the same pole."""


def matched_strength(
    baseline: Dose,
    doses: Sequence[Dose],
    budget: float,
    cost_at: Callable[[float], float],
) -> MatchedStrength:
    """
    Where the neutral cost of ``doses``, strength 0 and those of one direction, first reaches ``budget``.

    The cost is made to rise with the strength (isotonic regression, from 0). Between the two doses that enclose the
    budget the strength is searched for with ``cost_at``, which measures the cost of any.
    """
    ordered = sorted(doses, key=lambda dose: abs(dose.strength))
    strengths = [abs(dose.strength) for dose in ordered]
    measured = [float(_neutral_cost(baseline, dose).mean()) for dose in ordered]
    costs = _rising(np.array([measured]))[0]
    if costs[-1] < budget:
        return MatchedStrength(strengths[-1], reached=False)
    at = int(np.argmax(costs >= budget))
    if at == 0:
        return MatchedStrength(strengths[0], reached=False)
    below, above = strengths[at - 1], strengths[at]
    # what regression pools begins at or over its mean and ends at or under it: the measured costs enclose the budget too
    known = {below: measured[at - 1], above: measured[at]}
    found = root_scalar(
        lambda strength: _finite(known[strength] if strength in known else cost_at(strength)) - budget,
        bracket=(below, above),
        method="brentq",
        xtol=1e-6 * above,
        rtol=1e-3,
    )
    return MatchedStrength(found.root, reached=True)


def summarise(
    intervention: Intervention,
    baseline: Dose,
    doses: Sequence[Dose],
    matched: Sequence[tuple[Dose, bool]],
    *,
    budget: float,
    seed: int = 0,
) -> InterventionSummary:
    """
    Summary of one intervention; every interval resamples prompts.

    Args:
        intervention: What was measured.
        baseline: The unsteered model on the test prompts.
        doses: On the test prompts, in ascending strength, strength 0 and both signs.
        matched: Towards A (negative), then towards B: the dose on the test prompts at the matched strength, and whether it
            met the budget.
        budget: Neutral cost up to which the area goes.
        seed: Of the bootstrap.
    """

    def effect_of(sign: int, dose: Dose, reached: bool) -> PoleEffect:
        whole = (d for d in doses if d.strength * sign >= 0 and np.isfinite(d.log_odds).all())
        rising = sorted(whole, key=lambda d: abs(d.strength))

        effects = np.stack([sign * _change(baseline, d, _log_odds) for d in rising])
        costs = np.stack([_neutral_cost(baseline, d) for d in rising])

        def mean(kind: Callable[[Dose], tuple[float, ...]]) -> Interval:
            return mean_estimate(sign * _change(baseline, dose, kind), seed=seed)

        neutral = np.subtract(dose.neutral_nll, baseline.neutral_nll)
        return PoleEffect(
            strength=dose.strength,
            reached=reached,
            log_odds=mean(_log_odds),
            score=mean(_scores) if dose.scores is not None else None,
            generated_cost=mean_estimate(_finite(_change(baseline, dose, _generated_nll)), seed=seed),
            neutral_cost=mean_estimate(neutral, seed=seed),
            log_odds_area=bootstrap(lambda w: _areas(w, effects, costs, budget), effects.shape[1], seed=seed),
        )

    minus, plus = (_change(baseline, dose, _log_odds) for dose, _ in matched)
    return InterventionSummary(
        intervention,
        tuple(doses),
        towards_a=effect_of(-1, *matched[0]),
        towards_b=effect_of(1, *matched[1]),
        log_odds_symmetry=bootstrap(lambda w: _symmetries(w @ plus, w @ minus), len(plus), seed=seed),
    )


def _log_odds(dose: Dose) -> tuple[float, ...]:
    return dose.log_odds


def _scores(dose: Dose) -> tuple[float, ...]:
    assert dose.scores is not None
    return dose.scores


def _generated_nll(dose: Dose) -> tuple[float, ...]:
    return dose.generated_nll


def _change(baseline: Dose, dose: Dose, kind: Callable[[Dose], tuple[float, ...]]) -> Floats:
    return np.subtract(kind(dose), kind(baseline))


def _neutral_cost(baseline: Dose, dose: Dose) -> Floats:
    """One cost a prompt, [n]; neutral texts belong to no prompt, so their mean stands for each."""
    return np.full(len(dose.log_odds), _finite(np.subtract(dose.neutral_nll, baseline.neutral_nll).mean()))


def _finite(cost: npt.ArrayLike) -> Any:
    return np.nan_to_num(cost, nan=_BROKEN, posinf=_BROKEN)


def _rising(costs: Floats) -> Floats:
    """The rising sequence nearest to each row of costs [n, doses], not below 0: samples make a cost go up and down."""
    return np.stack([np.maximum(isotonic_regression(row).x, 0) for row in costs])


def _areas(weights: Floats, effects: Floats, costs: Floats, budget: float) -> Floats:
    """
    Mean effect over costs in [0, budget], for each row of weights [resamples, prompts].

    Effects and costs [doses, prompts] rise with the strength from 0. Below the cost of the first dose the effect is 0
    (nothing is done), beyond the dearest it is held; of doses that cost the same the strongest counts.
    """
    share = weights / weights.sum(1, keepdims=True)
    mean_effects, mean_costs = share @ effects.T, _rising(share @ costs.T)
    grid = np.linspace(0, budget, _GRID)
    along = np.stack([np.interp(grid, c, e, left=0) for c, e in zip(mean_costs, mean_effects, strict=True)])
    return (along[:, 1:] + along[:, :-1]).mean(1) / 2  # trapezoids of one width


def _symmetries(plus: Floats, minus: Floats) -> Floats:
    """min / max of the magnitudes of two effects on the log-odds towards B; 0 unless they are of opposite sign."""
    sizes = np.stack([np.abs(plus), np.abs(minus)])
    largest = sizes.max(0)
    ratio = sizes.min(0) / np.where(largest > 0, largest, 1)
    return np.where(plus * minus < 0, ratio, 0.0)
