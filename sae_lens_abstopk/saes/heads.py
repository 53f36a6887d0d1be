"""SAEs of attention heads: one head, or all side by side."""

import copy
from typing import Any

from sae_lens import SAE

from sae_lens_abstopk.system.errors import ConfigError


def read_by(sae: SAE[Any]) -> str:
    """Describe the hook, or the head of it, that an SAE reads."""
    metadata = sae.cfg.metadata
    head = metadata.hook_head_index
    return str(metadata.hook_name) if head is None else f"head {head} of {metadata.hook_name}"


def require_all_heads(sae: SAE[Any], what: str) -> None:
    """Raise a ConfigError for an SAE of one attention head, because ``what`` needs the whole hook."""
    if sae.cfg.metadata.hook_head_index is not None:
        raise ConfigError(
            f"this SAE reads only {read_by(sae)}, but {what} is for all heads together; use an SAE of all heads "
            "(hook_head_index: null)."
        )


def with_flat_heads(sae: SAE[Any]) -> SAE[Any]:
    """Return ``sae``, or its twin that reads all heads side by side."""
    if not sae.hook_z_reshaping_mode:
        return sae
    twin = copy.copy(sae)
    twin.turn_off_forward_pass_hook_z_reshaping()
    return twin
