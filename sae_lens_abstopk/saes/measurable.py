"""Whether an evaluation can measure an SAE, and the attention heads that it reads."""

import copy
from typing import Any

from sae_lens import SAE, TrainingSAE

from sae_lens_abstopk.system.errors import ConfigError

ESTIMATED = ("expected_average_only_in", "covariance_whitening")
"""Values of ``normalize_activations`` that need statistics of the activations."""


def require_measurable(sae: SAE[Any], *, where: str) -> None:
    """Raise a ConfigError unless ``sae`` reconstructs its own raw input, token by token."""
    architecture, metadata = sae.cfg.architecture(), sae.cfg.metadata
    if isinstance(sae, TrainingSAE):
        problem = "is an SAE in training; give the folder of its run, or what save_inference_model(FOLDER) writes"
    elif architecture.endswith("transcoder") or metadata.hook_name_out not in (None, metadata.hook_name):
        problem = (
            f"is a transcoder: it reads {metadata.hook_name} and writes at {metadata.hook_name_out or 'another hook'}; "
            "give an SAE that reconstructs the activations it reads"
        )
    elif architecture == "temporal":
        problem = "is a temporal SAE, whose codes depend on earlier tokens; give an SAE of another architecture"
    else:
        require_scale(sae, where=where)
        return
    raise ConfigError(f"{where} {problem}.")


def require_scale(sae: SAE[Any], *, where: str) -> None:
    """Raise a ConfigError if ``sae`` was trained on rescaled activations and its weights lack the scale."""
    if sae.cfg.normalize_activations in ESTIMATED:
        fold = "norm_scaling_factor" if sae.cfg.normalize_activations == ESTIMATED[0] else "whitening"
        raise ConfigError(
            f"{where} was trained on rescaled activations (normalize_activations={sae.cfg.normalize_activations!r}), "
            "and the scale is not in its weights yet, as in a checkpoint; take the SAE that the run saved at its end, "
            f"or fold the scale in: sae.fold_activation_{fold}(...), then sae.save_model(FOLDER)."
        )


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
