"""Signed SAEs in SAELens's models with SAEs attached, and in its evaluation."""

from pathlib import Path
from typing import Any

import pytest
import torch
from sae_lens import SAE, ActivationsStore, HookedSAETransformer, SAETransformerBridge
from sae_lens.evals import get_eval_everything_config, run_evals
from sae_lens.training.activation_scaler import ActivationScaler
from transformers import AutoModelForCausalLM, AutoTokenizer

from sae_lens_abstopk.model.model_passes import ModelPasses
from sae_lens_abstopk.model.reconstruction import evaluate_reconstruction
from sae_lens_abstopk.model.token_filter import TokenFilter
from sae_lens_abstopk.text.documents import open_dataset
from tests.equivalents.test_mirror import ARCHITECTURES, signed
from tests.evaluation.steerable import logits_of, model_of, random_tokens

pytestmark = pytest.mark.filterwarnings("ignore:Dataset is not tokenized")
HOOK = "blocks.3.hook_resid_post"


def sae_for(name: str, hook: str = HOOK) -> Any:
    """An SAE of 8 dimensions on a model of 32 by four copies of it: what it does to each is known."""
    small = signed(name)
    cfg = small.cfg.to_dict() | {"d_in": 32, "d_sae": 24}
    sae: Any = SAE.from_dict(cfg)
    with torch.no_grad():
        for key, value in small.state_dict().items():
            copies = {"W_enc": (4, 1), "W_dec": (1, 4), "b_dec": (4,)}.get(key, (1,))
            sae.get_parameter(key).copy_(value.repeat(*copies))
    sae.cfg.metadata.hook_name = hook
    return sae


@pytest.fixture(scope="module", params=["hooked", "bridge"])
def model(request: pytest.FixtureRequest, tiny_models: dict[str, Path]) -> Any:
    if request.param == "hooked":
        return model_of("hooked", tiny_models)
    folder = str(tiny_models["llama-3.1-8b"])
    return SAETransformerBridge.boot_transformers(
        folder,
        hf_model=AutoModelForCausalLM.from_pretrained(folder).eval(),
        tokenizer=AutoTokenizer.from_pretrained(folder),
        device="cpu",
    )


def replaced_logits(model: Any, folder: Path, ids: torch.Tensor, sae: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits with the reconstruction in the activation's place, and the activation, without SAELens's doing."""
    seen: list[torch.Tensor] = []
    if isinstance(model, HookedSAETransformer):
        hooks = [(HOOK, lambda x, hook: seen.append(x) or sae(x))]  # noqa: ARG005  # TransformerLens names it
        return model.run_with_hooks(ids, fwd_hooks=hooks), seen[0]
    plain = AutoModelForCausalLM.from_pretrained(folder).eval()
    plain.model.layers[3].register_forward_hook(lambda _, __, x: seen.append(x) or sae(x))
    return logits_of(plain, ids), seen[0]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_attached_sae_replaces_the_activation_and_its_codes_are_cached_with_their_signs(
    model: Any, tiny_llama: Path, name: str
) -> None:
    sae, ids = sae_for(name), random_tokens()
    clean = logits_of(model, ids)
    with torch.no_grad():
        expected, x = replaced_logits(model, tiny_llama, ids, sae)
        found, cache = model.run_with_cache_with_saes(ids, saes=[sae])
        torch.testing.assert_close(model.run_with_saes(ids, saes=[sae]), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(expected, clean, rtol=1e-3, atol=1e-3)
    hooked = isinstance(model, HookedSAETransformer)
    codes = cache[f"{HOOK}.hook_sae_acts_post" if hooked else model.get_sae_hook_name(sae)]
    torch.testing.assert_close(codes, sae.encode(x), rtol=1e-4, atol=1e-4)
    assert (codes < 0).any()
    assert (codes > 0).any()
    torch.testing.assert_close(logits_of(model, ids), clean)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_run_evals_counts_both_poles(tiny_models: dict[str, Path], texts: Path, name: str) -> None:
    bridge, sae = model_of("bridge", tiny_models), sae_for(name)
    sae.cfg.metadata.prepend_bos = True
    store = ActivationsStore.from_sae(
        bridge, sae, open_dataset(str(texts)), context_size=16, store_batch_size_prompts=4, n_batches_in_buffer=4
    )
    batches: list[torch.Tensor] = []
    plain = store.get_batch_tokens
    store.get_batch_tokens = lambda *args, **kwargs: batches.append(plain(*args, **kwargs)) or batches[-1]
    config = get_eval_everything_config(4, n_eval_reconstruction_batches=1, n_eval_sparsity_variance_batches=2)
    scalars, features = run_evals(sae, store, bridge, ActivationScaler(), config, exclude_special_tokens=[0, 1])
    ours = evaluate_reconstruction(
        ModelPasses(bridge, HOOK),
        {"sae": sae},
        batches[-2:],
        token_filter=TokenFilter(special_tokens=(0, 1)),
        with_loss=False,
    )["sae"]
    assert scalars["sparsity"]["l0"] == pytest.approx(ours.l0, rel=1e-5)
    assert ours.pole_counts[1].sum() > 0
    torch.testing.assert_close(
        torch.tensor(features["feature_density"], dtype=torch.float64), ours.density.sum(0), rtol=1e-5, atol=1e-7
    )
    assert scalars["reconstruction_quality"]["cossim"] == pytest.approx(ours.cosine, rel=1e-4)
