"""KL on a tiny fine-tune: against logits by hand, the ceiling, and latents left out one by one."""

from typing import Any

import numpy as np
import torch
from sae_lens import SAE
from scipy.stats import spearmanr

from sae_lens_abstopk.diffs.held_out import HeldOut
from sae_lens_abstopk.diffs.latent_kl import estimated_rises, measured_rises
from sae_lens_abstopk.diffs.patching import BASE, CEILING, MEAN, divergences, kl_of_logits, reconstruction
from sae_lens_abstopk.model.model_pair import ModelPair
from tests.diffs.conftest import HOOK


@torch.no_grad()
def test_divergences_are_those_of_whole_passes_by_hand(pair: ModelPair, held_out: HeldOut, sae: SAE[Any]) -> None:
    found = divergences(pair, held_out, {"sae": reconstruction(sae)})
    with pair.tuned() as model:
        tuned = pair.passes(model).clean(held_out.tokens, keep_logits=True).logits
    assert tuned is not None
    log_tuned = tuned.log_softmax(-1)
    added = {
        BASE: torch.zeros_like(held_out.x),
        CEILING: held_out.x,
        MEAN: held_out.x.mean(0).expand_as(held_out.x),
        "sae": sae.decode(sae.encode(held_out.x)),
    }
    with pair.base() as model:
        for name, by in added.items():
            activations = held_out.base.clone()
            activations[:, 1:] += by.view(activations[:, 1:].shape)

            def put(_: Any, hook: Any, new: torch.Tensor = activations) -> torch.Tensor:  # noqa: ARG001
                return new

            logits = model.run_with_hooks(held_out.tokens, fwd_hooks=[(HOOK, put)])
            expected = (log_tuned.exp() * (log_tuned - logits.log_softmax(-1))).sum(-1)[:, :-1]
            torch.testing.assert_close(torch.from_numpy(found.by_patch[name]), expected.double(), atol=1e-6, rtol=1e-3)
    assert found.tuned_next.equal(tuned.argmax(-1))
    totals = {name: each.sum() for name, each in found.by_patch.items()}
    assert totals[CEILING] < totals["sae"] < totals[BASE]


def test_kl_of_logits_is_exact_where_it_is_small_and_finite_where_it_is_large() -> None:
    p = 10 * torch.randn(3, 5000, generator=torch.Generator().manual_seed(0))
    near = p + 1e-3 * torch.randn(3, 5000, generator=torch.Generator().manual_seed(1))
    for q in (near, p.flip(1), 40 * p.flip(1)):
        exact = (p.double().softmax(-1) * (p.double().log_softmax(-1) - q.double().log_softmax(-1))).sum(-1)
        torch.testing.assert_close(kl_of_logits(p, q).double(), exact, rtol=2e-4, atol=1e-9)


def agreement(one: np.ndarray, other: np.ndarray) -> float:
    """Return Spearman's rank correlation."""
    found: Any = spearmanr(one, other)
    return found.statistic


def test_the_estimate_ranks_latents_as_leaving_them_out_does(pair: ModelPair, held_out: HeldOut, sae: SAE[Any]) -> None:
    estimated = estimated_rises(pair, held_out, sae)
    measured = measured_rises(pair, held_out, sae, range(12))
    exact = np.array([[measured[latent, side].sum() for latent in range(12)] for side in (0, 1, -1)])
    assert agreement(estimated.sum(0), exact[0]) > 0.9
    assert agreement(estimated.ravel(), exact[1:].ravel()) > 0.9
    # by hand, without the latent in all contexts at once
    whole = divergences(pair, held_out, {"sae": reconstruction(sae)}).by_patch["sae"]

    def without(x: torch.Tensor) -> torch.Tensor:
        codes = sae.encode(x)
        codes[:, 3] = codes[:, 3].clamp(max=0)
        return sae.decode(codes)

    rise = divergences(pair, held_out, {"without": without}).by_patch["without"] - whole
    np.testing.assert_allclose(measured[3, 1], rise, atol=1e-6)


def test_every_token_knows_its_document(held_out: HeldOut, pair: ModelPair) -> None:
    assert held_out.unit == "document"
    eos = pair.tokenizer.eos_token_id
    ids, documents = held_out.tokens[:, 1:], held_out.documents
    changes = documents[:, 1:] != documents[:, :-1]
    assert torch.equal(changes, ids == eos)
    assert documents.flatten().diff().unique().tolist() == [0, 1]
