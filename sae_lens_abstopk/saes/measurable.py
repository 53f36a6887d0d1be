"""Check that an evaluation can measure an SAE: it reconstructs its own raw input."""

from typing import Any

from sae_lens import SAE, TrainingSAE

from sae_lens_abstopk.system.errors import ConfigError

ESTIMATED = ("expected_average_only_in", "covariance_whitening")
"""Values of ``normalize_activations`` that need statistics of the activations."""


def require_measurable(sae: SAE[Any], *, where: str) -> None:
    """
    Raise a ConfigError if ``sae`` is in training (its codes may depend on the batch), a transcoder or a temporal SAE,
    or lacks the scale of its training activations.
    """
    if isinstance(sae, TrainingSAE):
        raise ConfigError(
            f"{where} is an SAE in training; give the folder of its run, or save it by save_inference_model(FOLDER) "
            "and load it by SAE.load_from_disk(FOLDER)."
        )
    architecture, metadata = sae.cfg.architecture(), sae.cfg.metadata
    if architecture.endswith("transcoder") or metadata.hook_name_out not in (None, metadata.hook_name):
        raise ConfigError(
            f"{where} is a transcoder: it reads {metadata.hook_name} and writes at "
            f"{metadata.hook_name_out or 'another hook'}; give an SAE that reconstructs the activations it reads."
        )
    if architecture == "temporal":
        raise ConfigError(
            f"{where} is a temporal SAE, whose codes of a token depend on the tokens before it; give an SAE of another "
            "architecture."
        )
    require_scale(sae, where=where)


def require_scale(sae: SAE[Any], *, where: str) -> None:
    """Raise a ConfigError if ``sae`` was trained on rescaled activations and its weights lack the scale."""
    if sae.cfg.normalize_activations in ESTIMATED:
        fold = "norm_scaling_factor" if sae.cfg.normalize_activations == ESTIMATED[0] else "whitening"
        raise ConfigError(
            f"{where} was trained on rescaled activations (normalize_activations={sae.cfg.normalize_activations!r}), "
            "and the scale is not in its weights yet, as in a checkpoint; take the SAE that the run saved at its end, "
            f"or fold the scale in: sae.fold_activation_{fold}(...), then sae.save_model(FOLDER)."
        )
