"""Stretches of held-out text: where each side of a latent is strongest, and where the two models part."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from sae_lens import SAE
from scipy.sparse import csc_array

from sae_lens_abstopk.diffs.diff_results import DiffContext, DiffContexts, LatentContexts
from sae_lens_abstopk.diffs.fit_measures import ROWS
from sae_lens_abstopk.diffs.held_out import HeldOut
from sae_lens_abstopk.diffs.patching import BASE, Divergences
from sae_lens_abstopk.text.token_text import TokenText

PER_SIDE, PARTING = 10, 24
BEFORE, AFTER = 24, 12


@torch.no_grad()
def codes_of_tokens(sae: SAE[Any], held_out: HeldOut) -> csc_array:
    """Return the codes [N * context, F]: sparse, and 0 at tokens that are left out."""
    places = held_out.kept.flatten().nonzero()[:, 0]
    rows, latents, values = [], [], []
    for block, place in zip(held_out.x.split(ROWS), places.split(ROWS), strict=True):
        codes = sae.encode(block.to(sae.W_dec.device)).float().cpu()
        row, latent = codes.nonzero(as_tuple=True)
        rows.append(place[row])
        latents.append(latent)
        values.append(codes[row, latent])
    where = (torch.cat(rows).numpy(), torch.cat(latents).numpy())
    return csc_array((torch.cat(values).numpy(), where), shape=(held_out.kept.numel(), sae.cfg.d_sae))


def token_contexts(
    held_out: HeldOut, codes: csc_array, found: Divergences, latents: list[int], tokenizer: Any
) -> DiffContexts:
    """Choose the contexts of the latents and of the tokens on which the models part most."""
    shown = _Shown(held_out, found, TokenText(tokenizer))
    of_latents = []
    for latent in latents:
        column = codes[:, [latent]].toarray()[:, 0]
        sides = ([shown.context(at, column) for at in shown.strongest(sign * column, PER_SIDE)] for sign in (1, -1))
        positive, negative = sides
        of_latents.append(LatentContexts(latent=latent, positive=positive, negative=negative))
    parting = [shown.context(at) for at in shown.strongest(np.nan_to_num(shown.kl).ravel(), PARTING)]
    return DiffContexts(latents=of_latents, parting=parting)


class _Shown:
    """The held-out text as words."""

    def __init__(self, held_out: HeldOut, found: Divergences, text: TokenText) -> None:
        self.tokens, self.kept, self.found, self.text = held_out.tokens, held_out.kept, found, text
        self.size = held_out.tokens.shape[1]
        self.kl = np.pad(found.by_patch[BASE], ((0, 0), (0, 1)), constant_values=np.nan)

    def strongest(self, scores: Float[np.ndarray, " tokens"], n: int) -> Int[np.ndarray, " m"]:
        """Return up to n tokens of highest score above 0, at most one a context."""
        by_context = scores.reshape(-1, self.size)
        best = by_context.argmax(1) + np.arange(len(by_context)) * self.size
        best = best[scores[best] > 0]
        return best[np.argsort(-scores[best], kind="stable")][:n]

    def context(self, at: int, codes: Float[np.ndarray, " tokens"] | None = None) -> DiffContext:
        """Return the text around the token number ``at`` of all, with its codes."""
        row, position = divmod(int(at), self.size)
        start, stop = max(position - BEFORE, 0), min(position + AFTER + 1, self.size)
        pieces = self.text.pieces(self.tokens[row, start:stop].tolist())
        # of tokens that make up one character, the last one's numbers are shown
        last = [start + there[-1] for _, there in pieces]
        shown: list[float] = []
        if codes is not None:
            there = codes.reshape(-1, self.size)[row, last].astype(float)
            shown = np.where(self.kept[row, last].numpy(), there, np.nan).tolist()
        return DiffContext(
            tokens=[text for text, _ in pieces],
            at=next(i for i, (_, there) in enumerate(pieces) if position - start in there),
            kl=self.kl[row, last].tolist(),
            codes=shown,
            tuned_next=self.text(int(self.found.tuned_next[row, position])),
            base_next=self.text(int(self.found.base_next[row, position])),
        )
