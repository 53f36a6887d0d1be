"""Texts that a tiny pair of models writes with latents added or taken away."""

from typing import Any

import pytest
import torch
from sae_lens import SAE

from sae_lens_abstopk.diffs.held_out import HeldOut
from sae_lens_abstopk.diffs.measuring import measure
from sae_lens_abstopk.diffs.writing import NEW_TOKENS, with_writing
from sae_lens_abstopk.model.generation import TextModel
from sae_lens_abstopk.model.inference import casts_shared
from sae_lens_abstopk.model.model_pair import ModelPair
from sae_lens_abstopk.model.token_filter import TokenFilter

pytestmark = pytest.mark.slow


def test_models_write_with_the_first_latents_added_and_taken_away(
    pair: ModelPair, held_out: HeldOut, sae: SAE[Any]
) -> None:
    facts: dict[str, Any] = {"kind": "signed", "k": 6, "train_x": held_out.x, "data": "texts", "training": {}}
    diff = measure(pair, {"signed": [sae]}, held_out, **facts, n_latents=2, tokens_of_latents=96)
    kept = TokenFilter((1, None))
    found = with_writing(diff, pair, sae, kept, n_latents=2).contexts
    writing = found.writing
    assert writing is not None
    assert len(writing.prompts) == 3
    first = found.parting[0]
    if first.at >= 8:
        assert writing.prompts[0] == "".join(first.tokens[: first.at + 1])
    assert [each.latent for each in writing.latents] == [each.latent for each in diff.results.latents[:2]]
    with casts_shared(), pair.tuned() as model:
        text_model = TextModel(model, prepend_bos=False, autocast=True)
        assert writing.tuned == text_model.greedy(text_model.encode(writing.prompts), NEW_TOKENS)
    record, written = diff.results.latents[0], writing.latents[0]
    pole = record.positive if written.side > 0 else record.negative
    assert written.code == written.side * pole.scale

    # a code so large that a model writes one token only, and the latent's sign decides which
    large = diff.results.latents[0].model_copy(
        update={name: pole.model_copy(update={"scale": 1e6}) for name in ("positive", "negative")}
    )
    results = diff.results.model_copy(update={"latents": [large]})
    pushed = with_writing(diff._replace(results=results), pair, sae, kept, prompts=["Where is it?"]).contexts
    assert pushed.writing is not None
    assert pushed.writing.prompts == ["Where is it?"]
    assert pushed.writing.latents[0].base_with != pushed.writing.base
    assert pushed.writing.latents[0].base_with != pushed.writing.latents[0].tuned_without

    # the side that fires is written with, though the KL falls without it
    silent, harmful = (
        record.positive.model_copy(update={"scale": scale, "kl_share": None, "kl_estimate": -scale})
        for scale in (0.0, 0.1)
    )
    one_sided = record.model_copy(update={"positive": silent, "negative": harmful})
    results = diff.results.model_copy(update={"latents": [one_sided]})
    of_side = with_writing(diff._replace(results=results), pair, sae, kept, prompts=["Where is it?"]).contexts.writing
    assert of_side is not None
    assert of_side.latents[0].code == pytest.approx(-0.1)

    row = sae.W_dec[record.latent].detach()
    with torch.no_grad(), pair.tuned() as model:
        inner: Any = model
        final = [module for module in inner.model.modules() if type(module).__name__.endswith("Norm")][-1]
        logits = inner.model.get_output_embeddings()(final(1e3 * row[None]))[0, : len(pair.tokenizer)]
    contexts = next(each for each in found.latents if each.latent == record.latent)
    assert contexts.positive_promotes[0] == pair.tokenizer.decode([int(logits.argmax())])
