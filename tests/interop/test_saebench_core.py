"""SAEBench's core metrics of a mirrored SAE are what this package measures of the signed one."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from sae_lens import SAE, ActivationsStore

from sae_lens_abstopk.equivalents.mirror import mirror
from sae_lens_abstopk.interop import saebench_evals
from sae_lens_abstopk.interop.saebench import SaeBenchResult, run_saebench
from sae_lens_abstopk.interop.saebench_evals import saebench_patches
from sae_lens_abstopk.model.model_passes import ModelPasses
from sae_lens_abstopk.model.reconstruction import evaluate_reconstruction
from sae_lens_abstopk.model.token_filter import TokenFilter
from tests.interop.conftest import BLOCKS, CONTEXT, F

pytestmark = pytest.mark.interop
SPECIAL = (0, 1)


class Recorded:
    """A run of core, with the batches of tokens that SAEBench took."""

    def __init__(self, result: SaeBenchResult, batches: list[torch.Tensor]) -> None:
        assert len(batches) % 2 == 0
        self.metrics = {name: value for group in result.metrics.values() for name, value in group.items()}
        self.file = result.file
        self.for_losses, self.for_codes = batches[: len(batches) // 2], batches[len(batches) // 2 :]


@pytest.fixture(scope="module")
def core(signed_folder: Path, texts: Path, tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    batches: list[torch.Tensor] = []
    plain = ActivationsStore.get_batch_tokens

    def recording(self: ActivationsStore, *args: Any, **kwargs: Any) -> torch.Tensor:
        batches.append(plain(self, *args, **kwargs))
        return batches[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(saebench_evals, "CODES_AT_ONCE", 3 * CONTEXT * 2 * F)
        patch.setattr(ActivationsStore, "get_batch_tokens", recording)
        (result,) = run_saebench(
            signed_folder, out=tmp_path_factory.mktemp("core"), evals=["core"], text=str(texts), n_tokens=1000
        )
    return Recorded(result, batches)


def masked(batches: list[torch.Tensor]) -> torch.Tensor:
    """Predictions that SAEBench keeps: those made at a token that is not special."""
    return torch.cat([~torch.isin(tokens[:, :-1], torch.tensor(SPECIAL)).flatten() for tokens in batches])


def test_contexts_begin_with_a_bos_and_no_batch_has_more_codes_than_are_held_at_once(core: Recorded) -> None:
    for tokens in (*core.for_losses, *core.for_codes):
        assert (tokens[:, 0] == 0).all(), "the SAE never saw position 0"
        assert tokens.shape[1] == CONTEXT
    assert [len(tokens) for tokens in core.for_codes] == [3] * 11


def test_l0_density_cosine_and_error_are_those_of_the_signed_sae(
    core: Recorded, passes: ModelPasses, signed: SAE[Any]
) -> None:
    kept = TokenFilter(special_tokens=SPECIAL)
    signed.fold_W_dec_norm()
    codes = []
    ours = evaluate_reconstruction(
        passes,
        {"signed": signed},
        core.for_codes,
        token_filter=kept,
        with_loss=False,
        observer=lambda _, found, *__: codes.append(found),
    )["signed"]
    theirs = core.metrics
    assert theirs["l0"] == pytest.approx(ours.l0, rel=1e-5)
    assert theirs["l1"] == pytest.approx(torch.cat(codes).abs().sum(-1).mean().item(), rel=1e-4)
    assert theirs["cossim"] == pytest.approx(ours.cosine, rel=1e-4)
    # SAEBench divides the squared error of each token by the tokens of its batch
    per_batch = [int((~torch.isin(tokens, torch.tensor(SPECIAL))).sum()) for tokens in core.for_codes]
    assert theirs["mse"] * sum(per_batch) / len(per_batch) == pytest.approx(ours.mse, rel=0.02)
    poles = ours.density.flatten()
    assert theirs["frac_alive"] == pytest.approx((poles > 0).double().mean().item())
    assert theirs["freq_over_10_percent"] == pytest.approx((poles > 0.1).double().mean().item())
    assert ours.l0 == pytest.approx(poles.sum().item(), rel=1e-5)
    details = json.loads(core.file.read_text())["eval_result_details"]
    found = torch.tensor([latent["feature_density"] for latent in details], dtype=torch.float64)
    torch.testing.assert_close(found, poles, rtol=1e-5, atol=1e-7)
    assert (ours.density > 0).all(dim=0).sum() > F // 2, "both poles are in use"


def test_cross_entropy_and_kl_are_those_of_the_signed_sae(
    core: Recorded, passes: ModelPasses, signed: SAE[Any]
) -> None:
    kept = TokenFilter(special_tokens=SPECIAL)
    clean, replaced, kl = [], [], []
    for tokens in core.for_losses:
        losses, x, logits = passes.clean(tokens, keep_logits=True)
        x_hat = torch.where(kept.keep(tokens, x)[..., None], signed(x), x)
        clean.append(losses)
        replaced.append(passes.replaced(tokens, x_hat).losses)
        moved = passes.model.run_with_hooks(tokens, fwd_hooks=[(BLOCKS, lambda *_, x_hat=x_hat, **__: x_hat)])
        log_p, log_q = (scores.log_softmax(-1) for scores in (logits, moved))
        # with the last prediction of a context, which no token of it checks
        kl.append((log_p.exp() * (log_p - log_q)).sum(-1)[~torch.isin(tokens, torch.tensor(SPECIAL))])
    mask = masked(core.for_losses)
    assert core.metrics["ce_loss_without_sae"] == pytest.approx(torch.cat(clean)[mask].mean().item(), rel=1e-5)
    assert core.metrics["ce_loss_with_sae"] == pytest.approx(torch.cat(replaced)[mask].mean().item(), rel=1e-5)
    assert core.metrics["kl_div_with_sae"] == pytest.approx(torch.cat(kl).mean().item(), rel=1e-3)
    assert abs(core.metrics["ce_loss_with_sae"] - core.metrics["ce_loss_without_sae"]) > 1e-4
    assert core.metrics["kl_div_with_sae"] > 1e-4


def test_feature_sparsity_is_the_density_of_poles_and_half_of_it_is_lost_without_the_mirror(
    core: Recorded, passes: ModelPasses, signed: SAE[Any]
) -> None:
    from sae_bench.sae_bench_utils.activation_collection import get_feature_activation_sparsity

    tokens = torch.cat(core.for_codes)
    ours = evaluate_reconstruction(
        passes, {"s": signed}, [tokens], token_filter=TokenFilter(special_tokens=SPECIAL), with_loss=False
    )["s"].density
    with saebench_patches(passes.model):
        args = (8, 2, BLOCKS, True)
        mirrored = get_feature_activation_sparsity(tokens, passes.model, mirror(signed), *args)
        as_is = get_feature_activation_sparsity(tokens, passes.model, signed, *args)
    torch.testing.assert_close(mirrored.double(), ours.flatten(), rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(as_is.double(), ours[0], rtol=1e-5, atol=1e-7)
    assert ours[1].sum() > 0.2 * ours.sum()
