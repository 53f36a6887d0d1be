"""An exploration of planted latents: what it should show is known."""

from typing import Any

import torch
from sae_lens import TopKSAE, TopKSAEConfig

from sae_lens_abstopk import SignedJumpReLUSAE, SignedJumpReLUSAEConfig
from sae_lens_abstopk.explorer.catalogue import Catalogue
from sae_lens_abstopk.explorer.collection import CollectionSettings, Collector, collect
from sae_lens_abstopk.explorer.directions import axis_matches
from sae_lens_abstopk.explorer.exploration import Exploration
from sae_lens_abstopk.explorer.latents import Provenance
from sae_lens_abstopk.model.logit_lens import TokenEffects
from sae_lens_abstopk.model.token_filter import TokenFilter
from sae_lens_abstopk.text.token_text import TokenText

WORDS = ("<s>", " he", " she", " <script>alert(1)</script>", "&amp;", "\n", " river", " <img src=x onerror=alert(2)>")
D_SAE = 300
PLANTED, QUIET, CLOSED = 7, 9, 22


class Words:
    """A tokenizer whose tokens are ``WORDS``."""

    def decode(self, ids: list[int], **_: Any) -> str:
        return "".join(WORDS[i] for i in ids)

    def convert_ids_to_tokens(self, token: int) -> str:
        return WORDS[token]


class OneHot:
    """A model whose activation is the token, one axis each."""

    hook_name = "hook"
    autocast = False
    model = torch.nn.Module()

    def activations(self, tokens: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.one_hot(tokens, len(WORDS)).float()


@torch.no_grad()
def planted_signed() -> SignedJumpReLUSAE:
    """Latent 7 is " she" against " he"; 9 never fires; 22 has no negative side; every tenth is almost dead."""
    sae = SignedJumpReLUSAE(SignedJumpReLUSAEConfig(d_in=len(WORDS), d_sae=D_SAE, pole_thresholds=True))
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(D_SAE, len(WORDS), generator=generator)
    rows[PLANTED] = torch.tensor([0.0, -2, 2, 0, 0, 0, 0, 0])
    sae.W_dec.copy_(rows)
    sae.W_enc.copy_(rows.T)
    sae.threshold.fill_(1.2)
    sae.threshold[::10] = 2.0
    sae.threshold[QUIET] = 100.0
    sae.negative_threshold.copy_(sae.threshold)
    sae.negative_threshold[CLOSED] = torch.inf
    return sae


@torch.no_grad()
def planted_topk() -> TopKSAE:
    """Latent 3 is " he", latent 4 " she"."""
    sae = TopKSAE(TopKSAEConfig(d_in=len(WORDS), d_sae=40, k=3))
    rows = torch.randn(40, len(WORDS), generator=torch.Generator().manual_seed(1))
    rows[3], rows[4] = torch.tensor([0.0, 4, -4, 0, 0, 0, 0, 0]), torch.tensor([0.0, -4, 4, 0, 0, 0, 0, 0])
    sae.W_dec.copy_(rows)
    sae.W_enc.copy_(rows.T)
    return sae


def planted_exploration() -> Exploration:
    """A signed and a one-sided SAE with planted latents."""
    torch.manual_seed(0)
    saes: dict[str, Any] = {"signed": planted_signed(), "topk": planted_topk()}
    batches = [torch.randint(0, len(WORDS), (4, 16), generator=torch.Generator().manual_seed(i)) for i in range(4)]
    passes: Any = OneHot()
    collected = collect(
        passes,
        saes,
        batches,
        token_filter=TokenFilter(seqpos_slice=(1, None)),
        settings=CollectionSettings(strongest=4, sampled=6, before=6, after=3, tokens_sampled=12, bins=8),
    )
    # an unembedding that is the identity: a row promotes the tokens of its largest entries
    found = {}
    for name, other in (("signed", "topk"), ("topk", "signed")):
        rows = saes[name].W_dec.detach()
        up, down = rows.topk(3), rows.topk(3, largest=False)
        found[name] = Catalogue(
            name,
            saes[name],
            collected[name],
            TokenText(Words()),
            source="runs/planted",
            effects=TokenEffects(torch.stack([up.indices, down.indices]), torch.stack([up.values, down.values])),
            compared_with=other,
            matches=axis_matches(rows, saes[other].W_dec, fires=collected[other].pole_counts > 0),
        )
    return Exploration(
        found, Provenance("planted", "planted", "hook", "words <b>", held_out=False, tokens_read=256, context_size=16)
    )


def exploration_of(collector: Collector) -> Exploration:
    """One SAE with random weights and the collection given."""
    sae = SignedJumpReLUSAE(SignedJumpReLUSAEConfig(d_in=8, d_sae=collector.d_sae))
    with torch.no_grad():
        sae.W_dec.copy_(torch.randn(sae.W_dec.shape, generator=torch.Generator().manual_seed(0)))
    catalogue = Catalogue("random", sae, collector, TokenText(Words()), source="runs/random")
    return Exploration(
        {"random": catalogue},
        Provenance("random", "random", "hook", "words", held_out=True, tokens_read=1, context_size=1),
    )
