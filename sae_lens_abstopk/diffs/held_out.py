"""Held-out contexts with the activations of both models at the hook."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Self

import torch
from jaxtyping import Bool, Float, Int

from sae_lens_abstopk.model.inference import casts_shared
from sae_lens_abstopk.model.model_pair import ModelPair
from sae_lens_abstopk.model.template_tokens import unmarked
from sae_lens_abstopk.model.text_store import NumberedTextStore, token_batches, unnumbered
from sae_lens_abstopk.model.token_filter import TokenFilter
from sae_lens_abstopk.text.text_spec import TextPart, TextSpec


@dataclass(frozen=True, eq=False)
class HeldOut:
    """N contexts, on the CPU; b of them fit in one pass with their logits."""

    tokens: Int[torch.Tensor, "N context"]
    documents: Int[torch.Tensor, "N context"]
    """The document, or without documents the context, of each token."""
    unit: Literal["document", "context"]
    base: Float[torch.Tensor, "N context d_in"]
    tuned: Float[torch.Tensor, "N context d_in"]
    kept: Bool[torch.Tensor, "N context"]
    per_pass: int

    @classmethod
    @torch.no_grad()
    @casts_shared()
    def read(
        cls,
        pair: ModelPair,
        text: TextSpec,
        n_tokens: int,
        *,
        token_filter: TokenFilter,
        d_sae: int,
        part: TextPart = "held_out",
    ) -> Self:
        """
        Run both models up to the hook on at least ``n_tokens`` held-out tokens, or all there are.

        The norm limit of ``token_filter`` is for the base model. Codes of width ``d_sae`` have to fit in a pass.

        Raises:
            ConfigError: there is too little text, no token is kept, or an activation is not finite.
        """
        batches = token_batches(
            *(pair.base_model, pair.spec, text, n_tokens),
            part=part,
            d_sae=d_sae,
            with_logits=True,
            store=NumberedTextStore,
        )
        ids, documents = unnumbered(torch.cat([batch.cpu() for batch in batches]))
        unit = "document" if documents.any() else "context"
        if unit == "context":
            documents = torch.arange(len(ids))[:, None].expand_as(ids)
        found = [pair.read(tokens, token_filter) for tokens in ids.split(len(batches[0]))]
        base, tuned = (
            torch.cat([getattr(each.activations, name).cpu() for each in found]) for name in ("base", "tuned")
        )
        kept = torch.cat([each.kept.cpu() for each in found])
        token_filter.require_any(int(kept.sum()))
        return cls(unmarked(ids), documents, unit, base, tuned, kept, len(batches[0]))

    @property
    def x(self) -> Float[torch.Tensor, "n d_in"]:
        """Differences of the kept tokens, float32: tuned minus base."""
        return self.tuned[self.kept].float() - self.base[self.kept].float()

    @property
    def mean(self) -> Float[torch.Tensor, " d_in"]:
        """The mean of the differences, float32."""
        return self.x.mean(0, dtype=torch.float64).float()

    @property
    def documents_of_kept(self) -> list[int]:
        """The document of each kept token."""
        return self.documents[self.kept].tolist()

    @property
    def documents_of_predictions(self) -> list[int]:
        """The document of each token that a prediction follows; the last of a context has none."""
        return self.documents[:, :-1].flatten().tolist()

    def rows(self, chosen: slice | torch.Tensor) -> Self:
        """Return some of the contexts."""
        parts = (self.tokens, self.documents, self.base, self.tuned, self.kept)
        tokens, documents, base, tuned, kept = (part[chosen] for part in parts)
        return type(self)(tokens, documents, self.unit, base, tuned, kept, self.per_pass)

    def passes(self) -> Iterator[Self]:
        """Yield the contexts of one pass after the other."""
        for start in range(0, len(self.tokens), self.per_pass):
            yield self.rows(slice(start, start + self.per_pass))

    def moved(self, by: Float[torch.Tensor, "n d_in"]) -> Float[torch.Tensor, "N context d_in"]:
        """Return the base activations, those of kept tokens moved ``by``."""
        moved = self.base.to(torch.float32, copy=True)
        moved[self.kept] += by.to(moved)
        return moved
