"""The tokens that an SAE was trained on and is measured on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import torch
from sae_lens import SAE
from sae_lens.util import get_special_token_ids

from sae_lens_abstopk.system.errors import ConfigError
from sae_lens_abstopk.system.typed_values import one_or_more


class TokenSelection(NamedTuple):
    """The tokens that an SAE was trained on according to its metadata, without its norm limit."""

    prepend_bos: bool | None
    """Whether texts start with BOS; None: as the tokenizer does, as SAEs of texts read them."""
    seqpos_slice: tuple[int | None, ...]
    exclude_special_tokens: bool | tuple[int, ...]

    @classmethod
    def of_sae(cls, sae: SAE[Any]) -> Self:
        """
        Return the selection in the metadata of ``sae``.

        If they say nothing, as in most releases, texts have a BOS (SAELens's default), and position 0 and special
        tokens are left out, as in SAELens's ``run_evals``.
        """
        metadata = sae.cfg.metadata
        unsaid = None if metadata.get("reading") else True
        bos = unsaid if metadata.prepend_bos is None else bool(metadata.prepend_bos)
        left_out = bos is not False and metadata.seqpos_slice is None
        slice_ = metadata.seqpos_slice or ((1, None) if left_out else (None,))
        special = True if metadata.exclude_special_tokens is None else metadata.exclude_special_tokens
        return cls(bos, tuple(slice_), special if isinstance(special, bool) else tuple(sorted(special)))


@dataclass(frozen=True)
class TokenFilter:
    """Filter for the tokens that training kept; at the others the model stays unchanged."""

    seqpos_slice: tuple[int | None, ...] = (None,)
    """Kept positions of a context: the arguments of ``slice``."""
    special_tokens: tuple[int, ...] = ()
    """Token ids that are left out."""
    max_norm: float | None = None
    """Largest activation norm that is kept."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "special_tokens", tuple(int(token) for token in one_or_more(self.special_tokens)))
        object.__setattr__(self, "seqpos_slice", tuple(self.seqpos_slice))

    @classmethod
    def of_sae(cls, sae: SAE[Any], tokenizer: Any) -> Self:
        """Return the filter with the selection and the norm limit in the metadata of ``sae``."""
        _, seqpos_slice, special = TokenSelection.of_sae(sae)
        if isinstance(special, bool):
            special = tuple(sorted(get_special_token_ids(tokenizer))) if special else ()
        return cls(seqpos_slice, special, sae.cfg.metadata.max_activation_norm)

    def __str__(self) -> str:
        positions = ":".join("" if end is None else str(end) for end in self.seqpos_slice)
        special = f"without special tokens {', '.join(map(str, self.special_tokens))}" if self.special_tokens else ""
        limit = f"norms up to {self.max_norm:.4g}" if self.max_norm is not None else ""
        return ", ".join(filter(None, [f"positions {positions}" if positions else "all positions", special, limit]))

    def keep(self, tokens: torch.Tensor, activations: torch.Tensor) -> torch.Tensor:
        """
        Return a boolean [batch, context] for tokens [batch, context] and activations [batch, context, d_in].

        The norm limit keeps NaN and infinite activations, so that they are reported. Tokens marked as those of a chat
        template (:mod:`.template_tokens`) are left out.
        """
        kept = torch.zeros_like(tokens, dtype=torch.bool)
        kept[:, slice(*self.seqpos_slice)] = True
        kept &= tokens >= 0
        if self.special_tokens:
            kept &= ~torch.isin(tokens, torch.tensor(self.special_tokens, device=tokens.device))
        if self.max_norm is not None:
            kept &= self.within_norm(activations).to(kept.device)
        return kept

    def within_norm(self, activations: torch.Tensor) -> torch.Tensor:
        """Return which activations [..., d_in] the norm limit keeps; it keeps those that are not finite."""
        assert self.max_norm is not None
        norms = activations.float().norm(dim=-1)
        return ~(norms > self.max_norm) | norms.isinf()

    def mask_and_rows(
        self, tokens: torch.Tensor, activations: torch.Tensor, hook_name: str
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the mask of :meth:`keep` and the kept rows, float32 [n, d_in]; a ``ConfigError`` if one is NaN."""
        kept = self.keep(tokens, activations).to(activations.device)
        x = activations[kept].float()
        require_finite(x, hook_name)
        return kept, x

    def require_any(self, n_tokens: int) -> None:
        """Raise a :class:`ConfigError` if ``n_tokens``, the number of kept tokens, is 0."""
        if n_tokens == 0:
            raise ConfigError(
                f"no token of the text is kept ({self}), so nothing can be measured; is this the model that the SAE "
                "was trained on, loaded in the same way, and is the text longer than the positions that are left out?"
            )


def require_tokens(text: str, ids: Sequence[int]) -> None:
    """Raise a :class:`ConfigError` if a text has no token."""
    if not ids:
        raise ConfigError(f"the text {text!r} has no token; leave it out.")


def require_finite(x: torch.Tensor, hook_name: str) -> None:
    """Raise a :class:`ConfigError` if one of the activations [n, d_in] of a model is NaN or infinite."""
    if not x.isfinite().all():
        raise ConfigError(
            f"{int((~x.isfinite()).any(1).sum())} of {len(x)} activations of a batch at {hook_name} are NaN or "
            "infinite, as in float16, which overflows; load the model in bfloat16 or float32."
        )
