"""What a suite passes on to steering, and what it leaves out."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sae_lens_abstopk import ConfigError
from sae_lens_abstopk.evaluation.steering.dose_response import LatentChoice
from sae_lens_abstopk.evaluation.steering.latent_scale import LatentScales
from sae_lens_abstopk.evaluation.suite import steer_concepts
from sae_lens_abstopk.evaluation.suite.steer_concepts import steer_on_task
from sae_lens_abstopk.evaluation.suite.suite import SteeringOptions
from sae_lens_abstopk.model.token_filter import TokenFilter
from tests.evaluation.steerable import topk_sae


def steered_on(
    scales: LatentScales, monkeypatch: pytest.MonkeyPatch, *, name: str = "size", n_random: int = 0
) -> dict[str, Any]:
    """``steer_on_task`` by the task ``name`` with one SAE, the best of whose candidates have these scales."""

    def measured(*_: Any, latents: list[int], **__: Any) -> LatentScales:
        assert latents == list(scales.latents)
        return scales

    monkeypatch.setattr(steer_concepts, "latent_scale", measured)
    subjects: Any = SimpleNamespace(
        saes={"mine": topk_sae()},
        model=None,
        model_spec=SimpleNamespace(autocast_lm=False),
        token_filter=TokenFilter(),
        batches=lambda _: [],
    )
    task: Any = SimpleNamespace(steering="part")
    probed: Any = SimpleNamespace(candidates={"mine": [*scales.latents, 7]}, direction=[1.0] * 32)
    options = SteeringOptions(tasks=(name,), random_directions=n_random, candidates=len(scales.latents))
    return steer_on_task(subjects, name, task, probed, options, seed=4, on_progress=lambda *_: None)


def test_an_sae_that_cannot_steer_is_left_out_with_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    def overflows(*_: Any, **__: Any) -> None:
        raise ConfigError("the model overflows")

    monkeypatch.setattr(steer_concepts, "choose_latent", overflows)
    nothing, something = LatentScales((3, 5), (float("nan"),) * 2, (0, 0), 16_384), LatentScales((3,), (2.0,), (9,), 99)
    for scales, why in ((nothing, "none of its 2 .* in 16,384 tokens"), (something, "the model overflows")):
        with pytest.warns(UserWarning, match=f"mine is left out of steering by size: {why}"):
            assert steered_on(scales, monkeypatch) == {}


def test_each_task_has_random_directions_of_its_own_which_the_seed_draws_again(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[torch.Tensor] = []
    monkeypatch.setattr(steer_concepts, "choose_latent", lambda *_, **__: LatentChoice(5, 1, 2.0, (5,), (0.1,)))
    monkeypatch.setattr(steer_concepts, "dose_response", lambda *of, **_: given.append(of[3][-1].direction))
    monkeypatch.setattr(steer_concepts, "_record", lambda *_: None)
    for name in ("size", "gender", "size"):
        steered_on(LatentScales((5,), (2.0,), (9,), n_tokens=99), monkeypatch, name=name, n_random=1)
    size, gender, again = given
    assert torch.equal(size, again)
    assert abs(torch.nn.functional.cosine_similarity(size, gender, dim=0)) < 0.6
