"""SAEs for inference, as runs save them and the Hub has them, as what a new run starts from."""

import json
from pathlib import Path
from typing import Any

import torch
from sae_lens import SAE, TrainingSAE
from sae_lens.constants import SAE_CFG_FILENAME
from sae_lens.saes.sae import TrainingSAEConfig

from sae_lens_abstopk.saes.signed import open_poles
from sae_lens_abstopk.system.errors import ConfigError

THRESHOLDS = {"threshold", "negative_threshold"}
"""Parameters of an SAE for inference that one which selects over a batch has as one number, ``topk_threshold``."""


def is_for_inference(folder: Path) -> bool:
    """Whether the SAE in ``folder`` is one for inference, and no checkpoint of one in training."""
    return "decoder_init_norm" not in json.loads((folder / SAE_CFG_FILENAME).read_text(encoding="utf-8"))


def start_from(trained: TrainingSAE[Any], folder: Path, *, section: str) -> None:
    """
    Give an SAE in training, whose keys a config has in ``section``, the weights of the finished one in ``folder``.

    Raises:
        ConfigError: that cannot be read, or its weights would be another function here; k alone may differ.
    """
    where = f"from_pretrained_path={str(folder)!r}"
    try:
        sae: Any = SAE.load_from_disk(folder)
    except (OSError, RuntimeError, ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"{where} holds an SAE that cannot be read ({error}); name another one.") from error
    _require_same_function(sae, trained.cfg, where=where, section=section)
    weights, here = sae.state_dict(), dict(trained.named_parameters())
    threshold = getattr(trained, "topk_threshold", None)
    there = weights.keys() - (set() if threshold is None else THRESHOLDS)
    if there != here.keys():
        raise ConfigError(
            f"{where} holds an SAE with the weights {', '.join(sorted(there))}, and {trained.cfg.architecture()} trains "
            f"{', '.join(sorted(here))}; start from a checkpoint (RUN/checkpoints/TOKENS) of such a run."
        )
    with torch.no_grad():
        for name, weight in here.items():
            weight.copy_(weights[name])
        if threshold is not None and "threshold" in weights:
            threshold.fill_(weights["threshold"][0])


def _require_same_function(sae: Any, cfg: TrainingSAEConfig, *, where: str, section: str) -> None:
    saved_as = cfg.get_inference_config_class().architecture()
    if sae.cfg.architecture() != saved_as:
        raise ConfigError(
            f"{where} holds an SAE with architecture {sae.cfg.architecture()}, but this run has {cfg.architecture()}, which is saved as "
            f"{saved_as}. Name an SAE or a checkpoint (RUN/checkpoints/TOKENS) of such a run."
        )
    for key in ("d_in", "d_sae", "normalize_activations", "apply_b_dec_to_input"):
        there, here = getattr(sae.cfg, key), getattr(cfg, key)
        if there != here:
            raise ConfigError(
                f"{where} holds an SAE with {key} {there}, but this run has {here}; set {section}.{key} to that."
            )
    key = "rescale_acts_by_decoder_norm"
    there, here = getattr(sae.cfg, key, False), getattr(cfg, key, False)
    if there != here and not _of_norm_1(sae.W_dec):
        raise ConfigError(
            f"{where} holds an SAE whose decoder vectors are not of norm 1, so that {key}={here} would select others; set "
            f"{section}.{key} to {there}."
        )
    for key, vectors in (("unit_norm_encoder", sae.W_enc.T), ("unit_norm_decoder", sae.W_dec)):
        if getattr(cfg, key, False) and not _of_norm_1(vectors):
            raise ConfigError(
                f"{where} holds an SAE whose {key.rpartition('_')[2]} vectors are not of norm 1 (saving folds the scale of "
                f"activations and decoder norms into them); set {section}.{key} to false, or name a checkpoint (RUN/checkpoints/TOKENS)."
            )
    if hasattr(sae, "threshold") and hasattr(cfg, "topk_threshold_lr"):
        _require_one_threshold(sae, cfg, where=where, section=section)


def _of_norm_1(vectors: torch.Tensor) -> bool:
    """To within what 16 bits leave of it."""
    norms = vectors.detach().float().norm(dim=1)
    return torch.allclose(norms, torch.ones_like(norms), atol=1e-2)


def _require_one_threshold(sae: Any, cfg: TrainingSAEConfig, *, where: str, section: str) -> None:
    """A selection over a batch has one threshold for all poles that are open, which are those of the first latents."""
    is_open = open_poles(sae)
    if n_closed := int((~is_open[0]).sum()):
        raise ConfigError(
            f"{where} holds an SAE of which {n_closed} latents never fire on their positive side, and {cfg.architecture()} closes none; "
            "name another SAE."
        )
    n_signed: int = getattr(cfg, "n_signed", 0)
    wanted = torch.ones_like(is_open)
    wanted[1, n_signed:] = False
    if not torch.equal(is_open, wanted):
        raise ConfigError(
            f"{where} holds an SAE of which {int(is_open.all(0).sum())} latents are signed, and this run signs the first "
            f"{n_signed}; set {section}.signed_share to the same latents, or name another SAE."
        )
    thresholds = (
        torch.stack([sae.threshold, getattr(sae, "negative_threshold", sae.threshold)])[is_open].detach().float()
    )
    if not torch.allclose(thresholds, thresholds[0].expand_as(thresholds), rtol=1e-2):
        raise ConfigError(
            f"{where} holds an SAE whose latents have thresholds of their own ({thresholds.min():.3g} to {thresholds.max():.3g}), and "
            f"{cfg.architecture()} has one for all; name one that was trained as {cfg.architecture()}."
        )
