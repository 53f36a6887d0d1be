"""Steering on every kind of model: what it adds, to which tokens, and that nothing stays behind."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from sae_lens import (
    SAE,
    GatedSAE,
    GatedSAEConfig,
    JumpReLUSAE,
    JumpReLUSAEConfig,
    StandardSAE,
    StandardSAEConfig,
)
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from sae_lens_abstopk.evaluation.steering.steer import steer, steering_edit, written_by
from sae_lens_abstopk.model.activation_edits import _SITES, intervene
from sae_lens_abstopk.model.generation import TextModel
from sae_lens_abstopk.model.token_filter import TokenFilter
from tests.evaluation.steerable import (
    GPT2,
    KINDS,
    Models,
    activations_of,
    hook_of,
    logits_of,
    model_of,
    random_tokens,
    signed_sae,
    tiny_gemma4,
    topk_sae,
)
from tests.saes.test_signed_saes import with_random_weights

EVERYWHERE = TokenFilter()


@pytest.mark.parametrize("kind", KINDS)
def test_add_moves_the_activation_by_the_latent_and_leaves_the_first_token(kind: str, models: Models) -> None:
    model, hook, tokens = models(kind), hook_of(kind), random_tokens()
    sae = signed_sae(hook, seqpos_slice=(1, None))
    clean, clean_logits = activations_of(model, hook, tokens), logits_of(model, tokens)
    with steer(model, sae, latent=5, strength=-2.0, scale=3.0):
        steered, logits = activations_of(model, hook, tokens), logits_of(model, tokens)
    expected = clean - 6.0 * sae.W_dec[5].detach()
    expected[:, 0] = clean[:, 0]
    torch.testing.assert_close(steered, expected)
    assert torch.equal(logits[:, 0], clean_logits[:, 0])
    assert (logits - clean_logits)[:, 1:].abs().amax(-1).min() > 1e-6
    assert torch.equal(logits_of(model, tokens), clean_logits)  # nothing is left behind
    assert not _SITES


@pytest.mark.parametrize("kind", ["gpt2", "bridge", "hooked"])
def test_a_strength_of_zero_changes_no_bit(kind: str, models: Models) -> None:
    model, sae, tokens = models(kind), signed_sae(hook_of(kind)), random_tokens()
    clean = logits_of(model, tokens)
    with steer(model, sae, latent=5, strength=0.0, scale=3.0), steer(model, sae, direction=torch.ones(32), strength=0):
        assert torch.equal(logits_of(model, tokens), clean)
    with steer(model, sae, latent=5, strength=0.0, operator="ablate"):
        assert torch.equal(logits_of(model, tokens), clean)


@pytest.mark.parametrize("kind", KINDS)
def test_each_generated_token_is_steered_with_the_cache_as_without(kind: str, models: Models) -> None:
    model, sae, tokens = models(kind), signed_sae(hook_of(kind), seqpos_slice=(1, None)), random_tokens()
    written, found = sae.W_dec[5].detach() * 4, []
    # with a cache, a bridge's layers (TransformerLens 3.9, transformers 5.24) see only the newest token
    for cached in (False, True) if kind != "bridge" else (False,):
        with steer(model, sae, latent=5, strength=4.0, scale=1.0):
            found.append(generated(model, tokens, cached))
    assert all(torch.equal(tokens, found[0]) for tokens in found)
    # an edit written by hand: at every position but the first, without a cache
    known = tokens
    for _ in range(6):
        edit = torch.zeros(known.shape[1], 32)
        edit[1:] = written
        with intervene(model, hook_of(kind), lambda x, edit=edit: x + edit.repeat(len(x) // len(edit), 1)):
            known = torch.cat([known, logits_of(model, known)[:, -1].argmax(-1, keepdim=True)], dim=1)
    assert torch.equal(found[0], known)
    assert not torch.equal(known, generated(model, tokens, False))
    seen, count = counted()
    with intervene(model, hook_of(kind), count, token_filter=TokenFilter((1, None))):
        generated(model, tokens, True)
    assert seen == [12, 2, 2, 2, 2, 2]


def counted() -> tuple[list[int], Callable[[torch.Tensor], torch.Tensor]]:
    """An edit that changes nothing, and how many tokens it is given in each pass."""
    seen: list[int] = []

    def count(x: torch.Tensor) -> torch.Tensor:
        seen.append(len(x))
        return x

    return seen, count


def generated(model: Any, tokens: torch.Tensor, cached: bool) -> torch.Tensor:
    """Six greedy tokens after ``tokens``, by the generate of the model."""
    if hasattr(model, "hook_dict") and not hasattr(model, "named_modules_dict"):
        options: dict[str, Any] = {"use_past_kv_cache": cached, "stop_at_eos": False, "verbose": False}
        return model.generate(tokens, max_new_tokens=6, do_sample=False, **options)
    plain = getattr(model, "model", model) if hasattr(model, "named_modules_dict") else model
    options = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False, "eos_token_id": -1}
    return plain.generate(tokens, attention_mask=torch.ones_like(tokens), use_cache=cached, **options)


@pytest.mark.parametrize("kind", ["gpt2", "llama-3.1-8b", "bridge", "hooked"])
def test_left_padding_moves_the_first_position_and_is_not_steered(kind: str, models: Models) -> None:
    model, hook, tokens = models(kind), hook_of(kind), random_tokens(1)
    sae = signed_sae(hook, seqpos_slice=(1, None))
    padded = torch.cat([torch.ones(1, 3, dtype=torch.int64), tokens], dim=1)
    mask = (torch.arange(10) >= 3).long()[None]
    with steer(model, sae, latent=5, strength=20.0, scale=1.0):
        steered = activations_of(model, hook, padded, attention_mask=mask)
    change = (steered - activations_of(model, hook, padded, attention_mask=mask))[0]
    assert not change[:4].any()
    torch.testing.assert_close(change[4:], 20 * sae.W_dec[5].detach().expand(6, -1), atol=1e-4, rtol=1e-4)


def test_special_tokens_and_massive_activations_are_left_alone(models: Models) -> None:
    model, hook, tokens = models("llama-3.1-8b"), "model.layers.3", random_tokens(1)
    tokens[0, 4] = model.config.eos_token_id
    norms = activations_of(model, hook, tokens)[0].norm(dim=-1)
    limit = norms[[2, 3, 5, 6]].max().item() * 0.999
    sae = signed_sae(exclude_special_tokens=True, max_activation_norm=limit, seqpos_slice=(1, None))
    clean = activations_of(model, hook, tokens)
    with steer(model, sae, latent=5, strength=20.0, scale=1.0):
        changed = (activations_of(model, hook, tokens) - clean)[0].any(-1)
    assert changed.tolist() == [False, *(norms[1:4] <= limit).tolist(), False, *(norms[5:] <= limit).tolist()]
    assert changed.any()
    with steer(model, sae, latent=5, strength=20.0, scale=1.0, token_filter=EVERYWHERE):
        assert bool((activations_of(model, hook, tokens) - clean)[0].any(-1).all())


def test_a_model_that_runs_its_last_layers_on_the_last_tokens_is_steered_there(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    model, hook = AutoModelForCausalLM.from_pretrained(tiny_gemma4(tmp_path, tokenizer)).eval(), "model.layers.4"
    texts = TextModel(model, tokenizer)
    prompts, kept = texts.encode(["He went to the sea", "He"]), TokenFilter((1, None), special_tokens=(0, 1))
    clean = texts.next_logits(prompts)
    with steer(model, signed_sae(hook), latent=5, strength=20.0, scale=1.0, token_filter=kept):
        steered = texts.next_logits(prompts)
    assert (steered - clean).any(-1).tolist() == [True, prompts.mask[1].sum() > 1]


def test_without_the_prompt_only_the_last_position_of_a_pass_is_steered(models: Models) -> None:
    model, hook, tokens, sae = models("gpt2"), GPT2, random_tokens(), signed_sae(GPT2)
    clean = activations_of(model, hook, tokens)
    with steer(model, sae, latent=5, strength=20.0, scale=1.0, prompt=False):
        changed = (activations_of(model, hook, tokens) - clean).any(-1)
        right = activations_of(model, hook, tokens, attention_mask=(torch.arange(7) < 5).long().expand(2, -1))
    assert changed.tolist() == [[False] * 6 + [True]] * 2
    assert (right - clean).abs().amax(-1)[0].gt(1e-2).tolist() == [False] * 4 + [True] + [False] * 2
    seen, count = counted()
    with intervene(model, hook, count, prompt=False):
        generated(model, tokens, True)
    assert seen == [2] * 6


def test_nested_steers_add_up_and_exceptions_leave_nothing(models: Models) -> None:
    model, hook, tokens, sae = models("gpt2"), GPT2, random_tokens(), signed_sae(GPT2)
    clean = activations_of(model, hook, tokens)
    limit = clean.norm(dim=-1).max().item() * 1.01
    limited = TokenFilter(max_norm=limit)
    outer = steer(model, sae, latent=5, strength=200.0, scale=1.0, token_filter=limited)
    inner = steer(model, sae, latent=6, strength=-30.0, scale=1.0, token_filter=limited)

    with pytest.raises(RuntimeError), outer:  # noqa: PT012  # what is open when it fails matters
        with inner:
            both = activations_of(model, hook, tokens)
        one = activations_of(model, hook, tokens)
        raise RuntimeError
    assert (one.norm(dim=-1) > limit).all(), "the first pushes every norm over the limit, and yet the second applies"
    torch.testing.assert_close(both, clean + 200 * sae.W_dec[5] - 30 * sae.W_dec[6], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(one, clean + 200 * sae.W_dec[5], atol=1e-4, rtol=1e-4)
    assert torch.equal(activations_of(model, hook, tokens), clean)
    assert not _SITES


def test_an_edit_runs_outside_the_autocast_of_the_model(models: Models) -> None:
    model, seen = models("proxy"), []

    def look(activations: torch.Tensor) -> torch.Tensor:
        seen.append((activations.float() @ torch.eye(activations.shape[-1])).dtype)
        return activations

    with torch.autocast("cpu", dtype=torch.bfloat16), intervene(model, hook_of("proxy"), look):
        model(random_tokens())
    assert seen == [torch.float32]


CODES: dict[str, tuple[dict[str, Any], Callable[[torch.Tensor], torch.Tensor]]] = {
    "clamp": ({"operator": "clamp", "strength": -1.5, "scale": 2.0}, lambda z: torch.full_like(z, -3.0)),
    "both poles": ({"operator": "ablate"}, torch.zeros_like),
    "positive pole": ({"operator": "ablate", "pole": "positive"}, lambda z: z.clamp(max=0)),
    "negative pole": ({"operator": "ablate", "pole": "negative"}, lambda z: z.clamp(min=0)),
}


@pytest.mark.parametrize("name", CODES)
def test_clamp_and_ablate_change_one_code_and_keep_the_error_term(name: str, models: Models) -> None:
    model, sae, tokens = models("gpt2"), signed_sae(GPT2), random_tokens(4, 12)
    options, expected = CODES[name]
    clean = activations_of(model, GPT2, tokens)
    codes = sae.encode(clean)
    latent = int(((codes > 0).sum((0, 1)).minimum((codes < 0).sum((0, 1)))).argmax())  # one that is on both sides here
    with steer(model, sae, latent=latent, token_filter=EVERYWHERE, **options):
        steered = activations_of(model, GPT2, tokens)
    changed = codes.clone()
    changed[..., latent] = expected(codes[..., latent])
    torch.testing.assert_close(steered, clean - sae.decode(codes) + sae.decode(changed), atol=1e-4, rtol=1e-4)
    same = changed[..., latent] == codes[..., latent]
    assert same.any() == (name in ("positive pole", "negative pole"))
    assert torch.equal(steered[same], clean[same])


@pytest.mark.parametrize("strength", [0.5, -0.5])
def test_cap_bounds_the_projection_and_leaves_tokens_beyond_it_alone(strength: float, models: Models) -> None:
    model, sae, tokens = models("gpt2"), signed_sae(GPT2), random_tokens(4, 12)
    clean, rows = activations_of(model, GPT2, tokens), sae.W_dec.detach()
    found = (clean - sae.b_dec.detach()) @ rows.T / rows.square().sum(1)  # of all latents, in codes
    largest = found.amax((0, 1)).minimum(-found.amin((0, 1)))
    latent = int(largest.argmax())  # one on which tokens project to both sides
    assert largest[latent] > 0
    d, scale, sign = rows[latent], float(largest[latent]), 1 if strength > 0 else -1
    with steer(model, sae, latent=latent, operator="cap", strength=strength, scale=scale, token_filter=EVERYWHERE):
        capped = activations_of(model, GPT2, tokens)
    before, bound = found[..., latent], strength * scale
    after = (capped - sae.b_dec.detach()) @ d / d.square().sum()
    beyond = sign * before >= sign * bound
    assert 0 < beyond.sum() < beyond.numel()
    assert torch.equal(capped[beyond], clean[beyond])
    torch.testing.assert_close(after[~beyond], torch.full_like(after[~beyond], bound), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(capped - clean, (after - before)[..., None] * d, atol=1e-4, rtol=0)


def saes() -> dict[str, SAE[Any]]:
    sizes: dict[str, Any] = {"d_in": 32, "d_sae": 64}
    return {
        "standard": with_random_weights(StandardSAE(StandardSAEConfig(**sizes))),
        "jumprelu": with_random_weights(JumpReLUSAE(JumpReLUSAEConfig(**sizes))),
        "gated": with_random_weights(GatedSAE(GatedSAEConfig(**sizes))),
        "topk": topk_sae(),
        "topk, rescaled": topk_sae(rescale_acts_by_decoder_norm=True),
        "topk, layer_norm": topk_sae(normalize_activations="layer_norm"),
        "topk, constant norm": topk_sae(normalize_activations="constant_norm_rescale"),
        "signed_jumprelu": signed_sae(),
    }


@pytest.mark.parametrize("name", saes())
def test_what_a_latent_writes_is_what_its_sae_decodes(name: str, models: Models) -> None:
    model, hook, tokens, sae = models("llama-3.1-8b"), "model.layers.3", random_tokens(), saes()[name]
    clean = activations_of(model, hook, tokens)
    with torch.no_grad():
        codes = sae.encode(clean)
        decoded = sae.decode(codes)
        sae.encode(clean)  # an SAE that normalises as it runs decodes once for each encoding
        raised = codes.clone()
        raised[..., 7] += 1.7
        expected = sae.decode(raised) - decoded
    with steer(model, sae, latent=7, strength=1.7, scale=1.0, hook_name=hook, token_filter=EVERYWHERE):
        torch.testing.assert_close(activations_of(model, hook, tokens) - clean, expected, atol=2e-5, rtol=1e-3)


def test_an_sae_of_differences_of_texts_adds_its_scale_to_activations_of_any_norm() -> None:
    sae = topk_sae(normalize_activations="constant_norm_rescale")
    sae.cfg.metadata.reading = "mean"
    torch.nn.init.zeros_(sae.b_dec)
    x = torch.randn(5, sae.cfg.d_in) * torch.tensor([[1.0], [10.0], [100.0], [1000.0], [0.1]])
    d = written_by(sae, 7)
    torch.testing.assert_close(steering_edit(sae, latent=7, strength=1.5, scale=2.0)(x), x + 3 * d)
    capped = steering_edit(sae, latent=7, strength=1.5, scale=2.0, operator="cap")(x)
    along = x @ d / d.square().sum()
    torch.testing.assert_close(capped @ d / d.square().sum(), along.clamp(min=3), atol=1e-3, rtol=1e-4)
    removed = steering_edit(sae, latent=7, operator="ablate")(x)
    before, codes = sae.decode(sae.encode(x)), sae.encode(x)
    codes[:, 7] = 0
    torch.testing.assert_close(removed - x, sae.decode(codes) - before, atol=1e-3, rtol=1e-3)


def test_a_hooked_transformer_with_its_sae_attached_is_steered_after_the_sae(tiny_models: dict[str, Path]) -> None:
    model, hook, tokens = model_of("hooked", tiny_models), "blocks.3.hook_resid_post", random_tokens()
    sae = signed_sae(hook)
    clean = logits_of(model, tokens)
    model.add_sae(sae, use_error_term=True)
    with steer(model, sae, latent=5, strength=20.0, scale=1.0):
        attached = logits_of(model, tokens)
    model.reset_saes()
    with steer(model, sae, latent=5, strength=20.0, scale=1.0):
        torch.testing.assert_close(attached, logits_of(model, tokens), atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(logits_of(model, tokens), clean, atol=1e-4, rtol=1e-3)
