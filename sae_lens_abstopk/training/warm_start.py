"""SAEs of a new run that start from the weights of others: a checkpoint, or a finished SAE."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sae_lens import SAETrainer
from sae_lens.constants import (
    ACTIVATION_SCALER_CFG_FILENAME,
    ACTIVATION_WHITENING_FILENAME,
    SAE_CFG_FILENAME,
    SAE_WEIGHTS_FILENAME,
)
from sae_lens.saes.sae import TrainingSAEConfig
from safetensors import SafetensorError, safe_open

from sae_lens_abstopk.system.errors import ConfigError
from sae_lens_abstopk.training.checkpoints.checkpoint import MANIFEST, damage
from sae_lens_abstopk.training.config.training_config import TrainingConfig
from sae_lens_abstopk.training.inference_start import is_for_inference
from sae_lens_abstopk.training.run_folder import sae_folder

MEANING_OF_WEIGHTS = ("normalize_activations", "apply_b_dec_to_input", "rescale_acts_by_decoder_norm", "signed_share")
"""Keys of an SAE without which its weights are another function; k and the coefficients of a loss may change."""
SAELENS_NAMES = {"sparse_abstopk": "abstopk", "sparse_topk": "topk", "sparse_batchtopk": "batchtopk"}
"""What the SAEs are called that SAELens trains with the same parameters."""


def warm_starts(cfg: TrainingConfig) -> dict[str, Path]:
    """
    Where the SAEs that start from ``cfg.from_pretrained_path`` find their weights, by name.

    The first SAE does, and of the companions those that the checkpoint has one of the same name for.

    Raises:
        ConfigError: there is no SAE in the folder, a checkpoint that no run of this config could have written, or the files are
            not what a run has written. (Of a finished SAE, see :func:`~.inference_start.start_from`.)
    """
    if cfg.from_pretrained_path is None:
        return {}
    folder = Path(cfg.from_pretrained_path)
    if not folder.is_dir():
        raise ConfigError(f"from_pretrained_path={str(folder)!r}: no such folder; give that of an SAE.")
    problem = damage(folder) if (folder / MANIFEST).is_file() else None  # SAELens's checkpoints have none
    if problem is not None:
        raise ConfigError(f"from_pretrained_path={str(folder)!r} is no whole checkpoint: {problem}. Name another one.")
    parts = {name: sae_folder(folder, name) for name in cfg.all_saes}
    found = {name: part for name, part in parts.items() if part.is_dir()}
    for name, part in found.items():
        _require_start(part, cfg.all_saes[name])
    return found


def take_scales(trainers: Mapping[str, SAETrainer[Any, Any]], starts: Mapping[str, Path]) -> None:
    """Give the trainers the activation statistics that their weights were trained with; new ones would not fit them."""
    for name, folder in starts.items():
        path = folder / ACTIVATION_SCALER_CFG_FILENAME
        if path.is_file():
            trainers[name].activation_scaler.load(path)


def _require_start(folder: Path, sae: TrainingSAEConfig) -> None:
    where, path = f"from_pretrained_path={str(folder)!r}", folder / SAE_CFG_FILENAME
    if not path.is_file():
        raise ConfigError(
            f"{where} holds no SAE ({SAE_CFG_FILENAME} is missing); name a checkpoint of a run (RUN/checkpoints/TOKENS) or a finished SAE."
        )
    try:
        written = json.loads(path.read_text(encoding="utf-8"))
        with safe_open(folder / SAE_WEIGHTS_FILENAME, "pt"):
            pass
    except (OSError, ValueError, SafetensorError) as error:
        raise ConfigError(f"{where} holds an SAE that cannot be read ({error}); name another checkpoint.") from error
    if is_for_inference(folder):
        return  # looked at once it is read
    if written["architecture"] == SAELENS_NAMES.get(sae.architecture()):
        written["architecture"] = sae.architecture()
    shape = {"architecture": sae.architecture(), "d_in": sae.d_in, "d_sae": sae.d_sae}
    meaning = {key: getattr(sae, key) for key in MEANING_OF_WEIGHTS if hasattr(sae, key)}
    for key, here in (shape | meaning).items():
        if written.get(key) != here:
            raise ConfigError(
                f"{where} holds an SAE with {key} {written.get(key)}, but this run has {here}. Name a checkpoint of such a run "
                "(RUN/checkpoints/TOKENS), or the SAE that it saved."
            )
    if sae.normalize_activations == "covariance_whitening" and not (folder / ACTIVATION_WHITENING_FILENAME).is_file():
        raise ConfigError(
            f"{where} lacks the whitening that its weights were trained with ({ACTIVATION_WHITENING_FILENAME}); name a checkpoint "
            "of a run (RUN/checkpoints/TOKENS), which holds it."
        )
