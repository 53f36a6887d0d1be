"""Which SAEs the numbers of an evaluation would be about: those that give back what they read, as it comes."""

from typing import Any

from sae_lens import SAE, TrainingSAE

from sae_lens_abstopk.system.errors import ConfigError
from sae_lens_abstopk.training.activation_scales import ESTIMATED


def require_measurable(sae: SAE[Any], *, where: str) -> None:
    """
    Refuse what would be measured as something that it is not.

    Raises:
        ConfigError: ``sae`` is one in training, which may code a token by those beside it, writes what it does not read (a
            transcoder), codes a token by those before it (a temporal SAE), or was trained on rescaled activations whose
            scale is not in its weights.
    """
    if isinstance(sae, TrainingSAE):
        raise ConfigError(
            f"{where} is an SAE in training; give the folder of its run, or what SAE.load_from_disk(FOLDER) gives after "
            "save_inference_model(FOLDER)."
        )
    architecture, metadata = sae.cfg.architecture(), sae.cfg.metadata
    if architecture.endswith("transcoder") or metadata.hook_name_out not in (None, metadata.hook_name):
        raise ConfigError(
            f"{where} is a transcoder: it reads {metadata.hook_name} and writes at {metadata.hook_name_out or 'another hook'}, "
            "so it cannot be evaluated here; give an SAE that reconstructs the activations it reads."
        )
    if architecture == "temporal":
        raise ConfigError(
            f"{where} is a temporal SAE, whose codes of a token depend on the tokens before it; here tokens are coded one "
            "by one, so give an SAE of another architecture."
        )
    require_scale(sae, where=where)


def require_scale(sae: SAE[Any], *, where: str) -> None:
    """
    Refuse an SAE of rescaled activations without their scale.

    Raises:
        ConfigError: ``sae`` was trained on activations whose scale is not in its weights.
    """
    if sae.cfg.normalize_activations in ESTIMATED:
        fold = "norm_scaling_factor" if sae.cfg.normalize_activations == ESTIMATED[0] else "whitening"
        raise ConfigError(
            f"{where} was trained on rescaled activations (normalize_activations={sae.cfg.normalize_activations!r}), and the "
            "scale is not in its weights yet, as in a checkpoint; take the SAE that the run saved at its end, or fold the "
            f"scale in: sae.fold_activation_{fold}(...), then sae.save_model(FOLDER)."
        )
