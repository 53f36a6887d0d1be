"""SAEs for inference, as runs save them and the Hub has them, as what a new run starts from."""

import json
from pathlib import Path
from typing import Any

import torch
from sae_lens import SAE, TrainingSAE
from sae_lens.constants import SAE_CFG_FILENAME
from sae_lens.saes.sae import TrainingSAEConfig

from sae_lens_abstopk.errors import ConfigError
from sae_lens_abstopk.saes.signed import open_poles

TRAINED_AS = {
    "abstopk": ("sparse_abstopk", "abstopk"),
    "topk": ("sparse_topk", "topk"),
    "signed_jumprelu": ("batch_abstopk", "matryoshka_batch_abstopk"),
    "jumprelu": ("sparse_batchtopk", "batchtopk", "matryoshka_batchtopk"),
}
"""By architecture for inference, those that are trained and then saved as it."""
WEIGHTS = ("W_enc", "b_enc", "W_dec", "b_dec")


def is_for_inference(folder: Path) -> bool:
    """Whether the SAE in ``folder`` is one for inference that a training SAE can start from, and no checkpoint of one."""
    written = json.loads((folder / SAE_CFG_FILENAME).read_text(encoding="utf-8"))
    return "decoder_init_norm" not in written and written.get("architecture") in TRAINED_AS


def require_same_function(folder: Path, cfg: TrainingSAEConfig, *, where: str) -> None:
    """
    Refuse an SAE whose weights would be another function in one of config ``cfg``; k alone may differ.

    Raises:
        ConfigError: naming what differs.
    """
    try:
        sae: Any = SAE.load_from_disk(folder)
    except (OSError, RuntimeError, ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"{where} holds an SAE that cannot be read ({error}); name another one.") from error
    architecture = sae.cfg.architecture()
    if cfg.architecture() not in TRAINED_AS[architecture]:
        first = TRAINED_AS[architecture][0].replace("sparse_abstopk", "abstopk")  # as a config file calls it
        raise ConfigError(
            f"{where} holds an SAE for inference with architecture {architecture}, from which {first} starts, and this run has "
            f"{cfg.architecture()}."
        )
    for key in ("d_in", "d_sae", "normalize_activations", "apply_b_dec_to_input"):
        there, here = getattr(sae.cfg, key), getattr(cfg, key)
        if there != here:
            raise ConfigError(
                f"{where} holds an SAE with {key} {there}, but this run has {here}; set sae.{key} to that."
            )
    rescaled = (
        getattr(sae.cfg, "rescale_acts_by_decoder_norm", False),
        getattr(cfg, "rescale_acts_by_decoder_norm", False),
    )
    if rescaled[0] != rescaled[1] and not torch.allclose(
        norms := sae.W_dec.norm(dim=1), torch.ones_like(norms), atol=1e-2
    ):
        raise ConfigError(
            f"{where} holds an SAE whose decoder vectors are not of norm 1, so that rescale_acts_by_decoder_norm={rescaled[1]} would "
            f"select others; set sae.rescale_acts_by_decoder_norm to {rescaled[0]}."
        )
    if hasattr(sae, "threshold"):
        _require_one_threshold(sae, cfg, where=where)


def start_from(sae: TrainingSAE[Any], folder: Path) -> None:
    """Give ``sae`` the weights of the SAE for inference in ``folder``."""
    weights = SAE.load_from_disk(folder).state_dict()
    with torch.no_grad():
        for name in WEIGHTS:
            getattr(sae, name).copy_(weights[name])


def _require_one_threshold(sae: Any, cfg: TrainingSAEConfig, *, where: str) -> None:
    """A selection over a batch has one threshold for all poles that are open, which are those of the first latents."""
    is_open = open_poles(sae)
    thresholds = (
        torch.stack([sae.threshold, getattr(sae, "negative_threshold", sae.threshold)])[is_open].detach().float()
    )
    if not torch.allclose(thresholds, thresholds[0].expand_as(thresholds), rtol=1e-2):
        raise ConfigError(
            f"{where} holds an SAE whose latents have thresholds of their own ({thresholds.min():.3g} to {thresholds.max():.3g}), and "
            f"{cfg.architecture()} has one for all; name one that was trained as {cfg.architecture()}."
        )
    n_signed: int = getattr(cfg, "n_signed", 0)
    wanted = torch.ones_like(is_open)
    wanted[1, n_signed:] = False
    if not torch.equal(is_open, wanted):
        raise ConfigError(
            f"{where} holds an SAE of which {int(is_open.all(0).sum())} latents are signed, and this run signs the first "
            f"{n_signed}; set sae.signed_share to the same latents, or name another SAE."
        )
