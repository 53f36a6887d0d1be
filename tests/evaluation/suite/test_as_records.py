"""Every number that was measured stands under its own name in the records of a results file."""

import pytest
import torch

from sae_lens_abstopk.evaluation.probing.activation_probes import ActivationProbes, DenseProbe, MeansProbe
from sae_lens_abstopk.evaluation.probing.code_probes import (
    CodeProbes,
    CoveringLatent,
    LatentPair,
    Side,
    SingleLatent,
    SparseProbe,
)
from sae_lens_abstopk.evaluation.probing.probe_score import ProbeScore
from sae_lens_abstopk.evaluation.probing.probe_task import TaskProbes
from sae_lens_abstopk.evaluation.results.interval import Interval
from sae_lens_abstopk.evaluation.steering.dose_response import DoseProtocol, DoseResponse, PromptSplit
from sae_lens_abstopk.evaluation.steering.doses import Dose, DoseOptions
from sae_lens_abstopk.evaluation.steering.interventions import Intervention
from sae_lens_abstopk.evaluation.steering.latent_choice import LatentChoice
from sae_lens_abstopk.evaluation.steering.steering_summary import InterventionSummary, PoleEffect
from sae_lens_abstopk.evaluation.suite.as_records import sae_task_record, steering_record


def estimate(value: float) -> Interval:
    return Interval(value=value, low=value - 0.5, high=value + 0.5, n_units=7)


def effect(strength: float) -> PoleEffect:
    """With estimates of one, two, ... more than ``strength``."""
    return PoleEffect(strength, strength > 0, *(estimate(strength + more) for more in range(1, 6)))


def test_each_number_of_a_dose_response_has_its_own_field() -> None:
    dose = Dose(1.0, (1.0, 2.0), (3.0, 4.0), (5.0, 6.0), (7.0, 8.0), (("said", "so"), ("then",)))
    baseline = Dose(0.0, (0.1, 0.3), (0.4, 0.6), (0.7, 0.9), None, (("",), ("",)))
    protocol = DoseProtocol(
        prompts=PromptSplit(("a",), ("b", "c")),
        options=DoseOptions(strengths=(1.0,), budget=0.1, samples=2, max_new_tokens=4),
        seed=0,
    )
    latent, choice = Intervention("latent", "add", 12.5, 3), LatentChoice(3, -1, 12.5, (3, 4), (-1.0, 0.5))
    summary = InterventionSummary(latent, (dose,), effect(-10.0), effect(10.0), estimate(0.25))
    record = steering_record(DoseResponse(protocol, baseline, (summary,)), choice, {})
    assert (record.latent, record.orientation, record.scale, record.samples) == (3, -1, 12.5, 2)
    assert (record.latent_chosen_by, record.strength_chosen_by) == (str(choice), protocol.strength_chosen_by)
    assert (record.prompts, record.text_prompt) == ((1, 2), "b")
    of_baseline = (record.baseline_log_odds, record.baseline_neutral_nll, record.baseline_generated_nll)
    assert of_baseline == pytest.approx((0.2, 0.5, 0.8))
    found = record.interventions["latent"]
    assert found.doses[0].model_dump() == {
        "strength": 1.0,
        "log_odds": 1.5,
        "neutral_nll": 3.5,
        "generated_nll": 5.5,
        "score": 7.5,
        "text": "said",
    }
    assert found.symmetry.value == 0.25
    for pole, strength in ((found.towards_a, -10.0), (found.towards_b, 10.0)):
        assert (pole.strength, pole.reached) == (strength, strength > 0)
        shown = [pole.log_odds, pole.score, pole.generated_cost, pole.neutral_cost, pole.log_odds_area]
        assert shown == [estimate(strength + more) for more in range(1, 6)]


def score(number: float) -> ProbeScore:
    return ProbeScore(f"read {number}", number + 0.1, number + 0.2, estimate(number + 0.3), estimate(number + 0.4))


def code_probes(number: int) -> CodeProbes:
    """Every number in it is another for each ``number``."""
    return CodeProbes(
        single=SingleLatent(2, -1, score(number), estimate(number + 0.5)),
        pair=LatentPair(Side(5, 1), Side(6, -1), 1.0, score(number + 1), estimate(number + 0.6)),
        sparse=(SparseProbe(2, (0, 1), (1.0, 2.0), 1.0, score(number + 2)),),
        best_coverage=CoveringLatent(0, 1, "last", 0.9, estimate(number + 0.7)),
    )


def activation_probes(number: int) -> ActivationProbes:
    return ActivationProbes(MeansProbe((0.6, 0.8), 1.0, score(number)), DenseProbe(1.0, score(number + 1)))


def test_each_number_of_a_probed_task_has_its_own_field() -> None:
    probes = TaskProbes(
        n=(6, 2, 2),
        n_test_groups=2,
        majority=0.5,
        codes=code_probes(0),
        activations=activation_probes(3),
        permuted_codes=(code_probes(10), code_probes(20)),
        permuted_activations=(activation_probes(13), activation_probes(23)),
        untrained=code_probes(30),
    )
    found = sae_task_record(probes, torch.tensor([[2.0, 0.0], [1.0, 1.0], [0.0, -3.0]]))
    names = ("single latent", "pair", "2-sparse", "difference in means", "logistic regression")
    numbers = {name: number for number, name in enumerate(names)}
    assert len(found.probes) == 5 + 5 + 3
    for name, record in found.probes.items():
        method, _, control = name.partition(", ")
        first = numbers[method] + {"": 0, "permuted": 10, "untrained SAE": 30}[control]
        both = (first, first + 10) if control == "permuted" else (first,)
        mean = sum(both) / len(both)
        assert record.read == " or ".join(score(number).read for number in both)
        assert (record.train_auroc, record.val_auroc) == pytest.approx((mean + 0.1, mean + 0.2))
        assert record.accuracy is not None
        assert (record.auroc.value, record.accuracy.value) == pytest.approx((mean + 0.3, mean + 0.4))
    assert found.latent.model_dump() == {
        "latent": 2,
        "orientation": -1,
        "coverage": dict(estimate(0.5)),
        "direction_cosine": pytest.approx(-0.8),
        "density": None,
    }
    assert found.pair.model_dump() == {
        "latent_a": 5,
        "sign_a": 1,
        "latent_b": 6,
        "sign_b": -1,
        "coverage": dict(estimate(0.6)),
    }
    assert found.best_coverage.model_dump() == {
        "latent": 0,
        "orientation": 1,
        "coverage": dict(estimate(0.7)),
        "direction_cosine": pytest.approx(0.6),
        "density": None,
    }
    controls = {name: control.value for name, control in found.coverage_controls.items()}
    assert controls == pytest.approx({"permuted": 15.7, "untrained SAE": 30.7})
