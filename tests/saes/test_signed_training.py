"""Options, centring, row norms, pole counts, threshold, files."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from sae_lens import SAE, AbsTopKSAE, BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig, SAETrainer, TopKSAE, TrainingSAE
from sae_lens.config import SAETrainerConfig
from sae_lens.training.activation_scaler import ActivationScaler
from safetensors.torch import load_file

from sae_lens_abstopk import AbsTopKTrainingSAEConfig as Token
from sae_lens_abstopk import BatchAbsTopKTrainingSAE, SignedJumpReLUSAE
from sae_lens_abstopk import BatchAbsTopKTrainingSAEConfig as Batch
from sae_lens_abstopk import MatryoshkaBatchAbsTopKTrainingSAEConfig as Nested
from sae_lens_abstopk.saes.centring import geometric_median, initialize_b_dec
from sae_lens_abstopk.saes.codec import ScaledCodec
from tests.saes.test_signed_saes import per_batch, per_token, step, tokens
from tests.saes.test_sparse_step import batchtopk, matryoshka, topk

NORMALISATIONS = ["none", "expected_average_only_in", "constant_norm_rescale", "layer_norm", "covariance_whitening"]


BAD_OPTIONS: list[tuple[Any, dict[str, Any], str]] = [
    (Token, {"k": 0}, "k=0 must be at least 1 and at most 24"),
    (Token, {"k": 2.5}, "k=2.5 has the wrong type .*integer"),
    (Token, {"aux_loss_coefficient": float("inf")}, "aux_loss_coefficient=inf must be finite"),
    (Token, {"use_sparse_activations": True}, "use_sparse_activations=True has no effect"),
    (Token, {"normalize_activations": "layer_norm"}, "scales each activation by itself, and the dead-latent loss"),
    (Token, {"normalize_activations": "z_score"}, "normalize_activations must be none"),
    (Token, {"b_dec_init_method": "median"}, "'mean', 'geometric_median' or 'zeros'"),
    (Token, {"pole_window": 0}, "pole_window=0 must be at least 1"),
    (Batch, {"k": float("nan")}, "k=nan must be at least 1"),
    (Batch, {"k": "many"}, "k='many' has the wrong type"),
    (Batch, {"topk_threshold_lr": 0}, "topk_threshold_lr=0.0 must be above 0 and at most 1"),
    (Batch, {"signed_share": 1.5}, "signed_share=1.5 must be at least 0 and at most 1"),
    (Batch, {"signed_share": 0.02}, "signs none of d_sae=24 .* at least 0.0416667, or 0"),
    (Nested, {"matryoshka_widths": [8, 4]}, "must increase from at least 1 to d_sae=24"),
    (Nested, {"matryoshka_widths": [8, 48]}, "must increase from at least 1"),
    (Nested, {"use_matryoshka_aux_loss": True}, "does not exist for signed codes"),
    (Nested, {"normalize_activations": "layer_norm", "aux_loss_coefficient": 0}, "nested losses undo"),
]


@pytest.mark.parametrize(("config", "options", "sentence"), BAD_OPTIONS)
def test_bad_options_are_refused_when_the_config_is_made(config: Any, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        config(**{"d_in": 8, "d_sae": 24, "k": 5} | options)


def test_the_last_prefix_is_the_whole() -> None:
    for given, widths in (([], [4, 16, 64]), ([8], [8, 64]), ([8, 64], [8, 64])):
        cfg = Nested(d_in=8, d_sae=64, k=5, matryoshka_widths=given)
        assert cfg.matryoshka_widths == widths


def test_the_threshold_stays_double_in_half_precision_and_in_files(tmp_path: Path) -> None:
    sae = per_batch()
    sae.topk_threshold.fill_(1 + 1e-9)
    sae.half()
    assert sae.W_dec.dtype == torch.float16
    assert sae.topk_threshold.item() == 1 + 1e-9
    sae.save_model(tmp_path)
    assert TrainingSAE.load_from_disk(tmp_path).to(torch.float32).topk_threshold.dtype == torch.float64


def test_the_first_batch_centres_the_decoder_bias() -> None:
    x = tokens(64) + 5
    for method, expected in (("mean", x.mean(0)), ("geometric_median", geometric_median(x)), ("zeros", torch.zeros(8))):
        cfg: Any = {"d_in": 8, "d_sae": 24, "k": 5, "b_dec_init_method": method}
        sae = BatchAbsTopKTrainingSAE(Batch(**cfg))
        step(sae, x, n=0)
        torch.testing.assert_close(sae.b_dec.data, expected)
        step(sae, x + 9, n=0)
        assert method == "zeros" or (sae.b_dec.data < 9).all(), "a bias that is there already stays"


def test_the_geometric_median_withstands_an_outlier() -> None:
    x = torch.cat([tokens(99), torch.full((1, 8), 1e4)])
    median = geometric_median(x)
    assert median.norm() < 1
    distance = lambda point: (x - point).norm(dim=1).sum()  # noqa: E731
    assert all(distance(median) <= distance(median + 0.05 * direction) for direction in torch.eye(8))


def test_an_sae_that_normalises_its_input_is_centred_on_normalised_rows() -> None:
    sae, x = per_token(normalize_activations="layer_norm", aux_loss_coefficient=0), 3 * tokens(64) + torch.arange(8)
    sae.b_dec.data.zero_()
    initialize_b_dec(sae, x, "mean")
    rows = (x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True)
    torch.testing.assert_close(sae.b_dec.data, rows.mean(0), rtol=1e-4, atol=1e-4)


def test_an_sae_that_does_not_subtract_its_bias_is_centred_by_that_of_the_encoder() -> None:
    sae, x = per_token(apply_b_dec_to_input=False), tokens(64) + torch.arange(8)
    sae.b_dec.data.zero_()
    before = sae.b_enc.detach().clone()
    initialize_b_dec(sae, x, "mean")
    torch.testing.assert_close(sae.b_dec.data, x.mean(0))
    torch.testing.assert_close(x.mean(0) @ sae.W_enc + sae.b_enc, before, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("make", [per_token, per_batch])
def test_rows_are_held_at_unit_norm_through_training_and_saving(make: Any, tmp_path: Path) -> None:
    sae = make(unit_norm_encoder=True, unit_norm_decoder=True, rescale_acts_by_decoder_norm=False)
    train_a_little(sae, steps=3)
    sae.save_inference_model(tmp_path)
    weights = load_file(tmp_path / "sae_weights.safetensors")
    torch.testing.assert_close(weights["W_enc"].norm(dim=0), torch.ones(24))
    torch.testing.assert_close(weights["W_dec"].norm(dim=1), torch.ones(24))


def test_measurements_between_two_steps_are_of_rows_at_unit_norm_and_leave_the_weights_to_the_bit() -> None:
    sae = per_token(unit_norm_encoder=True)
    step(sae, tokens(6))
    sae.W_enc.data.mul_(1.5)  # as an optimiser step moves them
    moved = sae.W_enc.detach().clone()
    with sae.vectors_normalized():
        torch.testing.assert_close(sae.W_enc.detach().norm(dim=0), torch.ones(24))
    assert torch.equal(sae.W_enc.detach(), moved)
    step(sae, tokens(6))
    torch.testing.assert_close(sae.W_enc.detach().norm(dim=0), torch.ones(24))


def test_folding_the_activation_scale_is_not_undone_by_the_unit_norm(tmp_path: Path) -> None:
    sae = per_token(unit_norm_encoder=True, normalize_activations="expected_average_only_in")
    train_a_little(sae, steps=2)
    folded = sae.W_enc.detach().norm(dim=0)
    torch.testing.assert_close(folded, folded.mean().expand(24))
    assert abs(folded.mean() - 1) > 0.1
    sae.save_model(tmp_path)
    assert torch.equal(sae.W_enc.detach().norm(dim=0), folded)
    again: Any = TrainingSAE.load_from_disk(tmp_path)
    assert again.W_enc.T.is_contiguous()
    again.save_inference_model(tmp_path / "inference")
    # the layout in memory rounds
    torch.testing.assert_close(again.W_enc.detach().norm(dim=0), folded, rtol=1e-6, atol=0)


@pytest.mark.parametrize("make", [per_token, per_batch])
def test_folding_the_decoder_norms_is_not_undone_by_the_unit_norm(make: Any, tmp_path: Path) -> None:
    sae = make(unit_norm_encoder=True, rescale_acts_by_decoder_norm=True)
    x = train_a_little(sae, steps=3)
    sae.eval()
    with sae.vectors_normalized():
        codes, x_hat = sae.encode(x), sae(x)
    sae.fold_W_dec_norm()
    sae.save_inference_model(tmp_path)
    saved = SAE.load_from_disk(tmp_path)
    torch.testing.assert_close(saved.encode(x), codes, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(saved(x), x_hat, rtol=1e-4, atol=1e-4)


def test_the_counts_of_a_loaded_sae_are_whole_numbers_that_go_on(tmp_path: Path) -> None:
    sae = per_token(dtype="bfloat16")
    sae.pole_counts += 2
    sae.save_model(tmp_path)
    loaded: Any = TrainingSAE.load_from_disk(tmp_path)
    assert loaded.pole_counts.dtype == torch.int64
    loaded.pole_counts += 254
    fired = step(loaded, tokens(10).bfloat16()).feature_acts
    assert torch.equal(loaded.pole_counts, 256 + torch.stack([(fired > 0).sum(0), (fired < 0).sum(0)]))
    sae.pole_counts += 70_000  # more than half precision can hold
    sae.save_model(tmp_path)
    again: Any = type(sae).load_from_disk(tmp_path, dtype="float16")
    assert again.pole_counts.dtype == torch.int64
    assert (again.pole_counts == 65_504).all()


def test_poles_are_counted_and_old_counts_fade() -> None:
    sae = per_token(pole_window=2)
    first = step(sae, tokens(10), n=1).feature_acts.to_dense()
    counts = torch.stack([(first > 0).sum(0), (first < 0).sum(0)])
    assert torch.equal(sae.pole_counts, counts)
    output = step(sae, tokens(10), n=2)
    assert torch.equal(sae.pole_counts, counts // 2 + counts)
    assert output.metrics["dead_poles"]() == sae.pole_statistics().dead_poles  # type: ignore[operator]


def train_a_little(sae: Any, *, steps: int = 60) -> torch.Tensor:
    """Train with SAELens's own trainer, folds included; returns the raw activations it saw."""
    x = tokens(256, seed=2) * 2 + 3
    schedule: dict[str, Any] = {"lr": 1e-2, "lr_end": 1e-2, "n_batches_for_norm_estimate": 2}
    cfg = SAETrainerConfig(total_training_samples=steps * len(x), train_batch_size_samples=len(x), **schedule)
    SAETrainer(cfg=cfg, sae=sae, data_provider=iter([x] * (steps + 4))).fit()
    return x


@pytest.mark.parametrize("rescale", [False, True])
@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_the_saved_threshold_selects_what_the_batch_selected(normalisation: str, rescale: bool, tmp_path: Path) -> None:
    options = {"normalize_activations": normalisation, "rescale_acts_by_decoder_norm": rescale}
    sae = per_batch(**options, aux_loss_coefficient=0, topk_threshold_lr=0.5)
    x = train_a_little(sae)
    sae.save_inference_model(tmp_path)
    saved = SAE.load_from_disk(tmp_path)
    assert isinstance(saved, SignedJumpReLUSAE)
    codes = saved.encode(x)
    l0 = (codes != 0).sum(-1).float().mean().item()
    assert l0 == pytest.approx(5, rel=0.1), "k latents per token on the data that the threshold was estimated on"
    # where both are on, both give the same reconstruction up to the few latents at the threshold
    sae.eval()
    reference = sae.decode(sae.encode(x))
    torch.testing.assert_close(saved(x), reference, rtol=1e-3, atol=1e-3)


def test_the_threshold_follows_the_least_kept_magnitude() -> None:
    sae = per_batch(topk_threshold_lr=0.25)
    first = step(sae, tokens(10)).feature_acts.to_dense()
    least = first[first != 0].abs().min().double()
    assert sae.topk_threshold == least
    step(sae, 3 * tokens(10))
    second = sae.encode(3 * tokens(10))
    assert sae.topk_threshold == pytest.approx((0.75 * least + 0.25 * second[second != 0].abs().min().double()).item())


@pytest.mark.parametrize("signed", [True, False])
def test_in_evaluation_mode_hooks_see_the_codes_that_are_used(signed: bool) -> None:
    sae: Any = per_batch() if signed else batchtopk()
    step(sae, tokens(64))
    sae.eval()
    codes, cache = sae.run_with_cache(tokens(12))
    assert torch.equal(cache["hook_sae_acts_post"], sae.encode(tokens(12)))
    off = [("hook_sae_acts_post", lambda acts, hook: acts * 0)]  # noqa: ARG005
    nothing = sae.run_with_hooks(tokens(12), fwd_hooks=off)
    torch.testing.assert_close(nothing, sae.b_dec.expand(12, 8))
    assert not torch.allclose(codes, nothing)


def test_saelens_own_batchtopk_is_measured_as_what_it_saves(tmp_path: Path) -> None:
    sae = BatchTopKTrainingSAE(BatchTopKTrainingSAEConfig(d_in=8, d_sae=24, k=5))
    train_a_little(sae, steps=5)
    sae.eval()
    codec = ScaledCodec(sae, ActivationScaler())
    assert int((codec.encode(tokens(50)) != 0).sum()) != 250, "not by the batch that it is given"
    sae.save_inference_model(tmp_path)
    saved = SAE.load_from_disk(tmp_path)
    torch.testing.assert_close(saved(tokens(50)), codec.decode(codec.encode(tokens(50))))


@pytest.mark.parametrize("backend", ["sparse", "dense"])
@pytest.mark.parametrize("make", [per_token, partial(per_batch, signed_share=0.25), matryoshka])
def test_training_checkpoints_round_trip(make: Any, backend: str, tmp_path: Path) -> None:
    sae, x, dead = make(sparse_backend=backend), tokens(16), torch.arange(24) % 3 == 0
    step(sae, x)
    sae.save_model(tmp_path)
    loaded: Any = TrainingSAE.load_from_disk(tmp_path)
    assert type(loaded) is type(sae)
    assert torch.equal(loaded.pole_counts, sae.pole_counts)
    ours, theirs = (step(one, x, dead=dead) for one in (sae, loaded))
    assert torch.equal(ours.feature_acts.to_dense(), theirs.feature_acts.to_dense())
    assert torch.equal(ours.loss, theirs.loss)
    assert torch.equal(sae.eval().encode(x), loaded.eval().encode(x))


@pytest.mark.parametrize("signed", [True, False])
def test_what_was_saved_in_training_loads_for_inference_as_the_stock_sae(signed: bool, tmp_path: Path) -> None:
    sae: Any = per_token() if signed else topk()
    step(sae, tokens(10))
    sae.save_model(tmp_path / "training")
    loaded = SAE.load_from_disk(tmp_path / "training")
    assert loaded.cfg.architecture() == ("abstopk" if signed else "topk")
    loaded.save_model(tmp_path / "inference")
    again = SAE.load_from_disk(tmp_path / "inference")
    assert type(again) is (AbsTopKSAE if signed else TopKSAE)
    for inference in (loaded, again):
        torch.testing.assert_close(inference.encode(tokens(6)), sae.encode(tokens(6)))
        torch.testing.assert_close(inference(tokens(6)), sae(tokens(6)))


def test_a_new_architecture_is_saved_with_the_import_that_its_reader_needs(tmp_path: Path) -> None:
    per_batch().save_inference_model(tmp_path / "batch")
    per_token().save_inference_model(tmp_path / "token")
    per_token().save_model(tmp_path / "checkpoint")
    assert "import sae_lens_abstopk" in (tmp_path / "batch" / "README.md").read_text()
    assert "import sae_lens_abstopk" in (tmp_path / "checkpoint" / "README.md").read_text()
    stock = (tmp_path / "token" / "README.md").read_text()
    assert "import sae_lens_abstopk" not in stock
    assert f'SAE.load_from_disk("{tmp_path}/token")' in stock
    (tmp_path / "token" / "README.md").write_text("a model card")
    per_token().save_inference_model(tmp_path / "token")
    assert (tmp_path / "token" / "README.md").read_text() == "a model card"
