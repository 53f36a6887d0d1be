"""SAEs of attention heads: of one head, or of all side by side."""

import copy
from typing import Any

from sae_lens import SAE

from sae_lens_abstopk.system.errors import ConfigError


def read_by(sae: SAE[Any]) -> str:
    """The hook that an SAE reads, or the head of it, in words."""
    metadata = sae.cfg.metadata
    head = metadata.hook_head_index
    return str(metadata.hook_name) if head is None else f"head {head} of {metadata.hook_name}"


def require_all_heads(sae: SAE[Any], what: str) -> None:
    """Raise a ConfigError for an SAE of one attention head, where ``what`` edits or reads a hook whole."""
    if sae.cfg.metadata.hook_head_index is not None:
        raise ConfigError(
            f"this SAE reads only {read_by(sae)}, but {what} is for all heads together; use an SAE of all heads "
            "(hook_head_index: null)."
        )


def with_flat_heads(sae: SAE[Any]) -> SAE[Any]:
    """``sae``, or its twin that reads activations of all heads side by side, as they are read here."""
    if not sae.hook_z_reshaping_mode:
        return sae
    twin = copy.copy(sae)
    twin.turn_off_forward_pass_hook_z_reshaping()
    return twin
