"""Summarise the doses of an intervention: effect at matched cost, area under the effect-cost curve, symmetry."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import isotonic_regression, root_scalar

from sae_lens_abstopk.evaluation.results.bootstrap import bootstrap, mean_estimate
from sae_lens_abstopk.evaluation.results.records import Interval, InterventionRecord, PoleEffectRecord
from sae_lens_abstopk.evaluation.steering.doses import Dose

Floats = npt.NDArray[np.float64]
# nats per token that replace an infinite or NaN cost: more than any dose that the model survives
_BROKEN = 1e6


def matched_strength(
    baseline: Dose, doses: Sequence[Dose], budget: float, cost_at: Callable[[float], float]
) -> tuple[float, bool]:
    """
    The strength at which the neutral cost of ``doses``, strength 0 and those of one direction, reaches ``budget``.

    Isotonic regression makes the cost rise with the strength. Between the two doses that enclose the budget, the root
    is found with ``cost_at``, which measures the cost of any strength. With False if no strength costs the budget: the
    largest that was tried, or 0 if a clamp to 0 costs more.
    """
    ordered = sorted(doses, key=lambda dose: abs(dose.strength))
    strengths = [abs(dose.strength) for dose in ordered]
    measured = [float(_neutral_cost(baseline, dose).mean()) for dose in ordered]
    costs = _rising(np.array([measured]))[0]
    if costs[-1] < budget:
        return strengths[-1], False
    at = int(np.argmax(costs >= budget))
    if at == 0:
        return strengths[0], False
    below, above = strengths[at - 1], strengths[at]
    # a pooled block starts at or above its mean and ends at or below it: the measured costs enclose the budget too
    known = {below: measured[at - 1], above: measured[at]}
    found = root_scalar(
        lambda strength: _finite(known[strength] if strength in known else cost_at(strength)) - budget,
        bracket=(below, above),
        method="brentq",
        xtol=1e-6 * above,
        rtol=1e-3,
    )
    return found.root, True


def summarise(
    baseline: Dose, doses: Sequence[Dose], matched: Sequence[tuple[Dose, bool]], *, budget: float, seed: int = 0
) -> InterventionRecord:
    """
    Summarise one intervention on test prompts; every interval resamples prompts.

    ``doses`` have strength 0 and both signs, ascending. ``matched`` has, towards A (negative) and towards B, the dose
    at the matched strength and whether it costs the budget.
    """

    def change(dose: Dose, field: str) -> Floats:
        return np.subtract(getattr(dose, field), getattr(baseline, field))

    def effect(sign: int, dose: Dose, reached: bool) -> PoleEffectRecord:
        def mean(values: Floats) -> Interval:
            return mean_estimate(values, seed=seed)

        one_side = [d for d in doses if d.strength * sign >= 0 and np.isfinite(d.log_odds).all()]
        rising = sorted(one_side, key=lambda d: abs(d.strength))
        effects = np.stack([sign * change(d, "log_odds") for d in rising])
        costs = np.stack([_neutral_cost(baseline, d) for d in rising])
        return PoleEffectRecord(
            strength=dose.strength,
            reached=reached,
            log_odds=mean(sign * change(dose, "log_odds")),
            score=mean(sign * change(dose, "scores")) if dose.scores is not None else None,
            generated_cost=mean(_finite(change(dose, "generated_nll"))),
            neutral_cost=mean(change(dose, "neutral_nll")),
            log_odds_area=bootstrap(lambda w: _areas(w, effects, costs, budget), effects.shape[1], seed=seed),
        )

    minus, plus = (change(dose, "log_odds") for dose, _ in matched)
    return InterventionRecord(
        doses=[dose.means for dose in doses],
        towards_a=effect(-1, *matched[0]),
        towards_b=effect(1, *matched[1]),
        symmetry=bootstrap(lambda w: _symmetries(w @ plus, w @ minus), len(plus), seed=seed),
    )


def _neutral_cost(baseline: Dose, dose: Dose) -> Floats:
    """One cost per prompt, [n]; neutral texts belong to no prompt, so each has their mean."""
    return np.full(len(dose.log_odds), _finite(np.subtract(dose.neutral_nll, baseline.neutral_nll).mean()))


def _finite(cost: npt.ArrayLike) -> Any:
    return np.nan_to_num(cost, nan=_BROKEN, posinf=_BROKEN)


def _rising(costs: Floats) -> Floats:
    """The rising sequence nearest to each row of costs [n, doses], at least 0; sampled costs are not monotonic."""
    return np.stack([np.maximum(isotonic_regression(row).x, 0) for row in costs])


def _areas(weights: Floats, effects: Floats, costs: Floats, budget: float) -> Floats:
    """
    Mean effect over costs in [0, budget], for each row of weights [resamples, prompts].

    Effects and costs [doses, prompts] are ordered by strength from 0. The effect is 0 below the cost of the first dose,
    and constant above the largest cost; of doses with equal cost the strongest counts.
    """
    share = weights / weights.sum(1, keepdims=True)
    mean_effects, mean_costs = share @ effects.T, _rising(share @ costs.T)
    grid = np.linspace(0, budget, 101)
    along = np.stack([np.interp(grid, c, e, left=0) for c, e in zip(mean_costs, mean_effects, strict=True)])
    return (along[:, 1:] + along[:, :-1]).mean(1) / 2  # trapezoids of one width


def _symmetries(plus: Floats, minus: Floats) -> Floats:
    """min / max of the magnitudes of two effects on the log-odds towards B; 0 unless their signs differ."""
    sizes = np.abs([plus, minus])
    largest = sizes.max(0)
    ratio = sizes.min(0) / np.where(largest > 0, largest, 1)
    return np.where(plus * minus < 0, ratio, 0.0)
