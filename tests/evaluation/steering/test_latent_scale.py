import math
from pathlib import Path

import pytest
import torch

from sae_lens_abstopk import ConfigError
from sae_lens_abstopk.evaluation.steering.latent_scale import LatentScaleFitter, latent_scale
from sae_lens_abstopk.model.token_filter import TokenFilter
from tests.evaluation.steerable import model_of, random_tokens, signed_sae


def test_the_streamed_quantile_is_the_exact_one_within_a_percent() -> None:
    generator = torch.Generator().manual_seed(0)
    codes = torch.randn(20_000, 6, generator=generator) * torch.tensor([1e-2, 1.0, 30.0, 5e3, 1.0, 1.0])
    codes[:, 4] *= torch.rand(20_000, generator=generator) < 0.02  # fires seldom
    codes[:, 5] = 0
    fitter = LatentScaleFitter(range(6))
    for part in codes.split(3_000):
        fitter.update(part)
    found = fitter.result
    for latent in range(5):
        fired = codes[:, latent][codes[:, latent] != 0].abs().sort().values
        exact = fired[math.ceil(0.99 * len(fired)) - 1].item()
        assert found(latent) == pytest.approx(exact, rel=0.0101)
        assert found.firings[latent] == len(fired)
    assert math.isnan(found.values[5])
    assert found.n_tokens == 20_000
    with pytest.raises(ConfigError, match=r"latent 5 .*did not fire in 20,000 tokens"):
        found(5)
    with pytest.raises(ConfigError, match=r"latent 6 .*not measured"):
        found(6)


@pytest.mark.parametrize("size", [1e-11, 2e-5, 5e6, 1e11])
def test_codes_of_any_unit_have_a_scale(size: float) -> None:
    assert LatentScaleFitter([0]).update(torch.full((5, 1), size)).result(0) == pytest.approx(size, rel=0.011)


def test_the_scale_of_a_model_is_that_of_its_kept_tokens(
    tiny_models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, sae = model_of("llama-3.1-8b", tiny_models), signed_sae()
    batches = [random_tokens(4, 16, seed) for seed in range(3)]
    monkeypatch.setattr("sae_lens_abstopk.evaluation.steering.latent_scale.QUANTILE", 1.0)
    found = latent_scale(model, sae, batches, latents=[5], token_filter=TokenFilter(seqpos_slice=(1, None)))
    with torch.no_grad():
        hidden = [model.model(batch, output_hidden_states=True).hidden_states[4][:, 1:] for batch in batches]
    codes = sae.encode(torch.cat(hidden).flatten(0, 1))[:, 5].abs()
    assert found.n_tokens == 180
    assert found(5) == pytest.approx(codes.max().item(), rel=0.0101)
    sae.cfg.metadata.seqpos_slice = (1, None)
    assert latent_scale(model, sae, batches, latents=[5]) == found, "the SAE's tokens by default"
    sae.device = torch.device("meta")  # as nn.Module.cuda leaves it where it was
    assert latent_scale(model, sae, batches, latents=[5]) == found
    sae.b_enc.data[5] = torch.inf
    with pytest.raises(ConfigError, match="NaN or infinite"):
        latent_scale(model, sae, batches, latents=[5])
