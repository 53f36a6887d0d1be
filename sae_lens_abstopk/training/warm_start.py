"""Start a new run from the weights of a checkpoint or of a finished SAE (``from_pretrained_path``)."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from sae_lens import SAE, SAETrainer
from sae_lens.constants import ACTIVATION_SCALER_CFG_FILENAME, SAE_CFG_FILENAME, SAE_WEIGHTS_FILENAME
from sae_lens.constants import ACTIVATION_WHITENING_FILENAME as WHITENING
from sae_lens.saes.sae import TrainingSAEConfig
from safetensors import SafetensorError, safe_open

from sae_lens_abstopk.saes.batch_abstopk import BatchAbsTopKTrainingSAE
from sae_lens_abstopk.saes.signed import open_poles
from sae_lens_abstopk.saes.signed_training import SignedTrainingSAE
from sae_lens_abstopk.system.errors import ConfigError
from sae_lens_abstopk.training.checkpoints.checkpoint import MANIFEST, damage
from sae_lens_abstopk.training.config.training_config import TrainingConfig, section_of
from sae_lens_abstopk.training.run_folder import sae_folder

RESCALED = "rescale_acts_by_decoder_norm"
SHAPE_AND_INPUT = ("d_in", "d_sae", "normalize_activations", "apply_b_dec_to_input")
SAELENS_NAMES = {"sparse_abstopk": "abstopk", "sparse_topk": "topk", "sparse_batchtopk": "batchtopk"}
"""SAELens's architectures with the same parameters."""


def warm_starts(cfg: TrainingConfig) -> dict[str, Path]:
    """Return folders to start SAEs from, by SAE name: the first SAE's, and those of companions that it has."""
    if cfg.from_pretrained_path is None:
        return {}
    root = Path(cfg.from_pretrained_path)
    parts = {name: sae_folder(root, name) for name in cfg.all_saes}
    found = {name: part for name, part in parts.items() if part.is_dir() or name == "sae"}
    for name, part in found.items():
        if problem := next(_problems(root, part, cfg.all_saes[name], section_of(name)), None):
            raise ConfigError(
                f"from_pretrained_path={str(part)!r} cannot start this run: {problem}. Name a checkpoint "
                "(RUN/checkpoints/TOKENS) or the saved SAE of a run with the same SAE."
            )
    return found


def load_start(sae: Any, folder: Path) -> None:
    """Load the weights in a folder of :func:`warm_starts`, without the other run's counts."""
    if _is_finished(folder):
        weights = SAE.load_from_disk(folder).state_dict()
        with torch.no_grad():
            for key, weight in sae.named_parameters():
                weight.copy_(weights[key])
            if hasattr(sae, "topk_threshold") and "threshold" in weights:
                sae.topk_threshold.fill_(weights["threshold"][0])
    else:
        sae.load_weights_from_checkpoint(folder)
    if isinstance(sae, SignedTrainingSAE):
        sae.pole_counts.zero_()
    if isinstance(sae, BatchAbsTopKTrainingSAE):
        sae.topk_threshold.zero_()  # the other run's k may differ


def take_scales(trainers: Mapping[str, SAETrainer[Any, Any]], starts: Mapping[str, Path]) -> None:
    """Load the activation statistics that the weights were trained with."""
    for name, folder in starts.items():
        if (path := folder / ACTIVATION_SCALER_CFG_FILENAME).is_file():
            trainers[name].activation_scaler.load(path)


def _is_finished(folder: Path) -> bool:
    return "decoder_init_norm" not in json.loads((folder / SAE_CFG_FILENAME).read_text(encoding="utf-8"))


def _problems(root: Path, folder: Path, cfg: TrainingSAEConfig, section: str) -> Iterator[str]:
    """List why ``cfg`` would change the function of the weights in ``folder``; each check relies on earlier ones."""
    # SAELens's checkpoints have no manifest
    if (root / MANIFEST).is_file() and (problem := damage(root)) is not None:
        yield problem
    try:
        written = json.loads((folder / SAE_CFG_FILENAME).read_text(encoding="utf-8"))
        with safe_open(folder / SAE_WEIGHTS_FILENAME, "pt") as weights:
            finished = SAE.load_from_disk(folder) if _is_finished(folder) else None
            biases = sorted({"b_enc", "b_dec"}.intersection(weights.keys()))
            biased = [name for name in biases if weights.get_tensor(name).any()]
    except (OSError, RuntimeError, ValueError, TypeError, KeyError, SafetensorError) as error:
        yield f"it holds no SAE that can be read ({error})"
        return
    architecture, keys = cfg.architecture(), SHAPE_AND_INPUT
    names = {cfg.get_inference_config_class().architecture()}
    if finished is None:
        names, keys = {architecture, SAELENS_NAMES.get(architecture)}, (*keys, RESCALED, "signed_share")
    if written["architecture"] not in names:
        yield f"its SAE has architecture {written['architecture']}, but this run has {architecture}"
    for key in keys:
        if hasattr(cfg, key) and written.get(key) != getattr(cfg, key):
            yield f"its SAE has {section}.{key}={written.get(key)}, but this run has {getattr(cfg, key)}"
    if getattr(cfg, "odd", False) and biased:
        yield f"it has biases ({', '.join(biased)}), so set {section}.odd to false"
    if finished is not None:
        yield from _finished_problems(finished, cfg, section)
    elif cfg.normalize_activations == "covariance_whitening" and not (folder / WHITENING).is_file():
        yield f"it lacks the whitening of its weights ({WHITENING})"


def _finished_problems(sae: Any, cfg: Any, section: str) -> Iterator[str]:
    there, here = getattr(sae.cfg, RESCALED, False), getattr(cfg, RESCALED, False)
    if there != here and not _have_unit_norm(sae.W_dec):
        yield f"its decoder rows do not have norm 1, so set {section}.{RESCALED} to {there}"
    for key, vectors in (("unit_norm_encoder", sae.W_enc.T), ("unit_norm_decoder", sae.W_dec)):
        if getattr(cfg, key, False) and not _have_unit_norm(vectors):
            yield f"its vectors do not have norm 1 (saving folds scales into them); set {section}.{key} to false"
    if not hasattr(cfg, "topk_threshold_lr") or not hasattr(sae, "threshold"):
        return
    # batch selection has one threshold for all open poles, and signs the first latents
    is_open, n_signed = open_poles(sae), getattr(cfg, "n_signed", 0)
    wanted = torch.ones_like(is_open)
    wanted[1, n_signed:] = False
    if not torch.equal(is_open, wanted):
        counts = f"{int(is_open.all(0).sum())} of its latents fire on both sides, {int((~is_open[0]).sum())} not on"
        yield f"{counts} the positive side, but this run signs the first {n_signed}; set {section}.signed_share"
    thresholds = torch.stack([sae.threshold, getattr(sae, "negative_threshold", sae.threshold)])[is_open]
    low, high = thresholds.detach().float().aminmax()
    if not torch.allclose(low, high, rtol=1e-2):
        yield f"its latents have their own thresholds ({low:.3g} to {high:.3g}), not one for all"


def _have_unit_norm(vectors: torch.Tensor) -> bool:
    """Return whether all norms are 1, up to 16-bit rounding."""
    norms = vectors.detach().float().norm(dim=1)
    return torch.allclose(norms, torch.ones_like(norms), atol=1e-2)
