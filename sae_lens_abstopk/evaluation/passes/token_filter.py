"""Which tokens an SAE was trained on, so that it is measured on the same kind."""

from dataclasses import dataclass
from typing import Any, Self

import torch
from sae_lens import SAE
from sae_lens.util import get_special_token_ids


@dataclass(frozen=True)
class TokenFilter:
    """Keeps the tokens that training kept; at the others the model is left alone."""

    seqpos_slice: tuple[int | None, ...] = (None,)
    """Positions of a context, as ``slice`` takes them."""
    special_tokens: tuple[int, ...] = ()
    """Token ids that are left out."""
    max_norm: float | None = None
    """Largest norm of an activation that is kept."""

    @classmethod
    def of_sae(cls, sae: SAE[Any], tokenizer: Any) -> Self:
        """
        The filter recorded in the metadata of ``sae``.

        Those of most releases say nothing. Special tokens are then left out, as SAELens's ``run_evals`` does, and so is
        position 0, where a BOS stands.
        """
        metadata = sae.cfg.metadata
        special, slice_ = metadata.exclude_special_tokens, metadata.seqpos_slice
        ids = get_special_token_ids(tokenizer) if special in (None, True) else special or ()
        if slice_ is None and metadata.prepend_bos is not False:
            slice_ = (1, None)
        return cls(
            seqpos_slice=tuple(slice_ or (None,)),
            special_tokens=tuple(sorted(ids)),
            max_norm=metadata.max_activation_norm,
        )

    def __str__(self) -> str:
        positions = ":".join("" if end is None else str(end) for end in self.seqpos_slice)
        special = f"without special tokens {', '.join(map(str, self.special_tokens))}" if self.special_tokens else ""
        limit = f"norms up to {self.max_norm:.4g}" if self.max_norm is not None else ""
        return ", ".join(filter(None, [f"positions {positions}" if positions else "all positions", special, limit]))

    def keep(self, tokens: torch.Tensor, activations: torch.Tensor) -> torch.Tensor:
        """Boolean [batch, context] for tokens [batch, context] and activations [batch, context, d_in]."""
        kept = torch.zeros_like(tokens, dtype=torch.bool)
        kept[:, slice(*self.seqpos_slice)] = True
        if self.special_tokens:
            kept &= ~torch.isin(tokens, torch.tensor(self.special_tokens, device=tokens.device))
        if self.max_norm is not None:
            kept &= (activations.float().norm(dim=-1) <= self.max_norm).to(kept.device)
        return kept
