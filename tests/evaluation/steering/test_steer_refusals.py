"""`steer` raises on a mistake before it touches the model."""

from typing import Any

import pytest
import torch
from sae_lens import (
    BatchTopKTrainingSAE,
    BatchTopKTrainingSAEConfig,
)

from sae_lens_abstopk import BatchAbsTopKTrainingSAE, BatchAbsTopKTrainingSAEConfig, ConfigError
from sae_lens_abstopk.evaluation.steering.latent_scale import latent_scale
from sae_lens_abstopk.evaluation.steering.steer import steer
from tests.evaluation.steerable import (
    GPT2,
    Models,
    random_tokens,
    signed_sae,
)


@pytest.mark.parametrize(
    ("kind", "options", "sentence"),
    [
        ("gpt2", {"latent": 64}, "latent=64 must be at least 0 and below 64"),
        ("gpt2", {"latent": 1, "direction": torch.ones(32)}, "do not go together"),
        ("gpt2", {}, "latent=None.* give a strength with latent="),
        ("gpt2", {"latent": 1, "strength": None}, "strength=None"),
        ("gpt2", {"latent": 1, "scale": None}, r"latent=1 needs scale=.* latent_scale\(.*scale=1"),
        ("gpt2", {"latent": 1, "pole": "positive"}, "pole='positive'.* only operator='ablate' takes a pole"),
        ("gpt2", {"direction": torch.ones(32), "operator": "clamp"}, "operator='clamp'.* can only be added"),
        ("gpt2", {"latent": 1, "operator": "Clamp"}, "operator='Clamp'.*'clamp'"),
        ("gpt2", {"latent": 1, "operator": "ablate", "pole": "neg"}, "pole='neg'.*'negative'"),
        ("gpt2", {"direction": torch.zeros(32)}, "direction is zero"),
        ("gpt2", {"latent": 1, "hook_name": "model.layers.3"}, r"transformer\.h\.0 to transformer\.h\.5"),
        ("gpt2", {"latent": 1, "hook_name": "blocks.26.hook_resid_post"}, "GPT2LMHeadModel"),
        ("gpt2", {"latent": 1, "hook_name": "blocks.1.hook_mlp_out"}, "TransformerBridge"),
        ("bridge", {"latent": 1, "hook_name": "blocks.1.hook_resid_mid"}, "MLP"),
        ("hooked", {"latent": 1, "hook_name": "blocks.9.hook_resid_post"}, r"blocks\.4\.hook_resid_post"),
        ("bridge", {"latent": 1, "hook_name": "blocks.3.hook_nothing"}, r"blocks\.3\.hook_"),
    ],
)
def test_what_does_not_go_together_is_refused_before_the_context_opens(
    kind: str, options: dict[str, Any], sentence: str, models: Models
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        steer(models(kind), signed_sae(GPT2), **{"strength": 1.0, "scale": 1.0, **options})


def test_saes_whose_latents_cannot_steer_are_refused(models: Models) -> None:
    def in_training(normalisation: Any) -> BatchAbsTopKTrainingSAE:
        cfg = BatchAbsTopKTrainingSAEConfig(d_in=32, d_sae=64, k=4, normalize_activations=normalisation)
        sae = BatchAbsTopKTrainingSAE(cfg)
        sae.topk_threshold.fill_(0.1)  # as after a step
        return sae

    of_batch = in_training("none")
    for sae, remedy in (
        (signed_sae(GPT2, hook_name_out="transformer.h.4"), "transcoder"),
        (in_training("expected_average_only_in").eval(), "rescaled"),
        (of_batch.train(), r"over the batch.*sae\.eval\(\)"),
        # before the first step, SAELens's own has no threshold either
        (BatchTopKTrainingSAE(BatchTopKTrainingSAEConfig(d_in=32, d_sae=64, k=4)).eval(), "over the batch"),
    ):
        with pytest.raises(ConfigError, match=remedy):
            steer(models("gpt2"), sae, latent=1, strength=1.0, scale=1.0, hook_name=GPT2)
        with pytest.raises(ConfigError, match=remedy):
            latent_scale(models("gpt2"), sae, [], latents=[1])
    steer(models("gpt2"), of_batch.eval(), latent=1, strength=1.0, scale=1.0, hook_name=GPT2)


def test_layers_that_run_without_word_of_their_tokens_are_not_steered_by_guess(models: Models) -> None:
    model = models("llama-3.1-8b")
    refused = pytest.raises(ConfigError, match=r"LlamaModel.* generate")
    with steer(model, signed_sae(), latent=5, strength=1.0, scale=1.0), refused:
        model.model.forward(random_tokens())
