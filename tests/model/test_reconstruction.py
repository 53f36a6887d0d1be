"""Reconstruction metrics against plain formulas, SAELens's own score, and each other."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from sae_lens import SAE, TopKSAE, TopKSAEConfig
from sae_lens.evals import get_recons_loss
from sae_lens.load_model import load_model
from sae_lens.saes.sae import SAEMetadata
from sae_lens.training.activation_scaler import ActivationScaler

from sae_lens_abstopk import ConfigError
from sae_lens_abstopk.model import model_passes
from sae_lens_abstopk.model.model_passes import ModelPasses
from sae_lens_abstopk.model.reconstruction import ReconstructionSums, evaluate_reconstruction
from sae_lens_abstopk.model.token_filter import TokenFilter, TokenSelection
from sae_lens_abstopk.saes.poles import live_poles, pole_counts, pole_statistics
from sae_lens_abstopk.training.config.config_file import build_config
from tests.conftest import VOCABULARY
from tests.saes.test_signed_saes import with_random_weights
from tests.specs import model_of

HOOK = "model.layers.2"
FOREIGN = {"llama-3.1-8b": "model.layers.3", "gpt2": "transformer.h.3", "gpt-neo": "transformer.h.3"}


def token_batches(n: int = 3) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(2, VOCABULARY, (4, 16), generator=generator) for _ in range(n)]


@pytest.fixture
def passes(raw_config: dict[str, Any]) -> ModelPasses:
    return ModelPasses(model_of(build_config(raw_config)), HOOK)


@pytest.fixture
def sae() -> TopKSAE:
    return with_random_weights(TopKSAE(TopKSAEConfig(d_in=32, d_sae=64, k=8, metadata=SAEMetadata(hook_name=HOOK))))


def test_streamed_sums_equal_the_formulas() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(90, 8, generator=generator) + 3
    x_hat = x + 0.3 * torch.randn(90, 8, generator=generator)
    x[0], x_hat[0] = 0, 0.1  # has no relative error
    sums = ReconstructionSums()
    for a, b in zip(x.split(25), x_hat.split(25), strict=True):
        sums.update(a, b)
    errors = (x - x_hat).square().sum(-1)
    assert sums.mse() == pytest.approx(errors.mean().item(), rel=1e-5)
    assert sums.nmse() == pytest.approx((errors / x.square().sum(-1))[1:].mean().item(), rel=1e-5)
    assert sums.fvu() == pytest.approx((errors.sum() / (x - x.mean(0)).square().sum()).item(), rel=1e-5)
    assert sums.cosine() == pytest.approx(torch.nn.functional.cosine_similarity(x, x_hat).mean().item(), rel=1e-5)


def test_sums_of_no_token_are_no_perfect_reconstruction() -> None:
    sums = ReconstructionSums()
    sums.update(torch.empty(0, 8), torch.empty(0, 8))
    assert all(math.isnan(value) for value in (sums.mse(), sums.nmse(), sums.fvu(), sums.cosine()))


def test_variance_that_is_small_beside_the_mean_is_not_rounded_away() -> None:
    generator = torch.Generator().manual_seed(0)
    x = 1e4 * torch.randn(8, generator=generator) + torch.randn(500, 8, generator=generator)
    x_hat = x + 0.3 * torch.randn(500, 8, generator=generator)
    sums, constant = ReconstructionSums(), ReconstructionSums()
    for a, b in zip(x.split(130), x_hat.split(130), strict=True):
        sums.update(a, b)
        constant.update(x[:1].expand_as(a), b)
    exact = x.double()
    variance = (exact - exact.mean(0)).square().sum()
    assert sums.fvu() == pytest.approx(((exact - x_hat.double()).square().sum() / variance).item(), rel=1e-5)
    assert math.isnan(constant.fvu())


def test_activations_that_overflowed_are_not_taken_for_massive_ones(passes: ModelPasses, sae: TopKSAE) -> None:
    tokens = token_batches(1)
    layer = passes.model.get_submodule("model.model.layers.0")
    for value in (torch.nan, torch.inf):
        handle = layer.register_forward_hook(
            lambda _, __, out, value=value: out.index_fill(1, torch.tensor([5]), value)
        )
        with pytest.raises(ConfigError, match=rf"activations of a batch at {HOOK} are NaN or infinite"):
            evaluate_reconstruction(passes, {"sae": sae}, tokens, token_filter=TokenFilter(max_norm=1e3))
        handle.remove()
    with pytest.raises(ConfigError, match="no token of the text is kept"):
        evaluate_reconstruction(passes, {"sae": sae}, tokens, token_filter=TokenFilter(max_norm=1e-9))


def test_pole_statistics_of_known_codes() -> None:
    codes = torch.tensor([[1.0, -1.0, 0.0, 2.0]] * 50 + [[-1.0, -1.0, 0.0, 2.0]] * 150 + [[0.0, 0.0, 0.0, -1.0]])
    counts = pole_counts(codes)
    assert counts.tolist() == [[50, 0, 0, 200], [150, 200, 0, 1]]
    found = pole_statistics(counts)
    assert found.live_latents == 3
    assert found.dead_poles == 2  # the one-sided latent, and the one with 1 firing of 201 on its weaker side
    torch.testing.assert_close(found.two_sidedness, torch.tensor([0.25, 0.0, torch.nan, 1 / 201]), equal_nan=True)
    assert found.mean_two_sidedness == pytest.approx((0.25 + 1 / 201) / 3)
    assert found.two_sidedness_histogram.tolist() == [2, 0, 0, 0, 0, 1, 0, 0, 0, 0]
    assert live_poles(counts).tolist() == [[True, False, False, True], [True, True, False, False]]
    # an even latent is in the last bin
    counts = torch.tensor([[7, 44, 0], [7, 56, 3]])
    assert pole_statistics(counts).two_sidedness_histogram.tolist() == [1, 0, 0, 0, 0, 0, 0, 0, 1, 1]


def test_ablations_score_zero(passes: ModelPasses) -> None:
    batches = token_batches()
    mean_x = torch.cat([passes.activations(tokens).flatten(0, 1) for tokens in batches]).mean(0)

    saes: dict[str, Any] = {
        name: SimpleNamespace(encode=lambda x: x, decode=value.expand_as)
        for name, value in (("zero", torch.zeros(32)), ("mean", mean_x))
    }
    found = evaluate_reconstruction(passes, saes, batches, token_filter=TokenFilter())
    assert found["zero"].loss.zero == pytest.approx(0, abs=1e-6)
    assert found["mean"].loss.mean == pytest.approx(0, abs=1e-4)
    assert found["mean"].fvu == pytest.approx(1, rel=1e-4)


def test_scoring_a_few_predictions_at_a_time_changes_nothing(
    passes: ModelPasses, sae: TopKSAE, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = token_batches(1)[0]
    clean = passes.clean(tokens, keep_logits=True)
    at_once = passes.replaced(tokens, sae(clean.activations), clean_logits=clean.logits)
    monkeypatch.setattr(model_passes, "SCORED_ENTRIES", 4 * VOCABULARY)
    in_parts = passes.replaced(tokens, sae(clean.activations), clean_logits=clean.logits)
    assert len(at_once.losses) == tokens[:, 1:].numel()
    torch.testing.assert_close(in_parts, at_once)


@pytest.mark.parametrize(("preset", "hook"), FOREIGN.items())
def test_a_stock_sae_on_a_model_of_another_class_needs_nothing_else(
    preset: str, hook: str, tiny_models: dict[str, Path], tmp_path: Path
) -> None:
    made = with_random_weights(TopKSAE(TopKSAEConfig(d_in=32, d_sae=64, k=8, metadata=SAEMetadata(hook_name=hook))))
    made.save_model(tmp_path)
    stock = SAE.load_from_disk(tmp_path)
    model = load_model("AutoModelForCausalLM", str(tiny_models[preset]), device="cpu", hook_names=[hook]).eval()
    passes, batches = ModelPasses(model, hook), token_batches()
    found = evaluate_reconstruction(passes, {"s": stock}, batches, token_filter=TokenFilter(), with_kl=True)["s"]
    x = torch.cat([passes.activations(tokens).flatten(0, 1) for tokens in batches])
    assert found.fvu == pytest.approx(((x - stock(x)).square().sum() / (x - x.mean(0)).square().sum()).item(), rel=1e-4)
    assert found.l0 == pytest.approx((stock.encode(x) != 0).sum().item() / len(x), rel=1e-6)
    assert int(found.pole_counts[1].sum()) == 0
    theirs = [get_recons_loss(stock, model, ActivationScaler(), tokens, True, True) for tokens in batches]
    kl = torch.cat([one["kl_div_with_sae"] for one in theirs])[:, :-1].mean().item()
    assert found.loss.kl_sae == pytest.approx(kl, rel=1e-4)
    for ours, key in (("ce_clean", "without_sae"), ("ce_sae", "with_sae"), ("ce_zero", "with_ablation")):
        expected = torch.cat([one[f"ce_loss_{key}"] for one in theirs]).mean().item()
        assert getattr(found.loss, ours) == pytest.approx(expected, abs=1e-5)


def test_tokens_that_are_left_out_keep_their_activation(passes: ModelPasses) -> None:
    seen: list[torch.Tensor] = []
    recorder: Any = SimpleNamespace(encode=lambda x: seen.append(x) or x, decode=torch.zeros_like)
    batches = [token_batches(1)[0][:2, :5]]
    batches[0][0, 3] = 1  # a special token
    only = TokenFilter(seqpos_slice=(1, None), special_tokens=(0, 1))
    loss = evaluate_reconstruction(passes, {"r": recorder}, batches, token_filter=only)["r"].loss
    assert len(seen[0]) == 2 * 4 - 1
    clean = passes.clean(batches[0]).activations
    kept = torch.ones(2, 5, dtype=torch.bool)
    kept[:, 0] = kept[0, 3] = False
    for ce, constant in ((loss.ce_sae, 0.0), (loss.ce_zero, 0.0), (loss.ce_mean, clean[kept].mean(0))):
        expected = torch.where(kept[..., None], constant, clean)
        assert ce == pytest.approx(passes.replaced(batches[0], expected).losses.mean().item())


def test_the_filter_of_an_sae_is_what_its_metadata_say_or_that_of_run_evals(tokenizer: Any, sae: TopKSAE) -> None:
    assert TokenFilter.of_sae(sae, tokenizer) == TokenFilter(seqpos_slice=(1, None), special_tokens=(0, 1))
    sae.cfg.metadata = SAEMetadata(prepend_bos=False)
    assert TokenFilter.of_sae(sae, tokenizer) == TokenFilter(special_tokens=(0, 1))
    sae.cfg.metadata = SAEMetadata(seqpos_slice=(None,), exclude_special_tokens=False, max_activation_norm=9.0)
    assert TokenFilter.of_sae(sae, tokenizer) == TokenFilter(max_norm=9.0)
    sae.cfg.metadata = SAEMetadata(reading="mean")  # of texts, read as the tokenizer makes them
    assert TokenSelection.of_sae(sae) == (None, (1, None), True)
    filters = [TokenFilter(), TokenFilter((1, None)), TokenFilter((1, -1), (0, 5), 839.4273)]
    assert list(map(str, filters)) == [
        "all positions",
        "positions 1:",
        "positions 1:-1, without special tokens 0, 5, norms up to 839.4",
    ]
