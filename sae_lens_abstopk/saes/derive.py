"""A new inference SAE from the config of another and changed weights."""

import copy
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

import torch
from sae_lens import SAE, AbsTopKSAE
from sae_lens.saes.sae import SAEMetadata

from sae_lens_abstopk.errors import ConfigError
from sae_lens_abstopk.saes.signed_jumprelu import SignedJumpReLUSAE

T = TypeVar("T", bound=SAE[Any])
SignedSAE = AbsTopKSAE | SignedJumpReLUSAE
SIGNED_ARCHITECTURES = ("abstopk", "signed_jumprelu")
"""What their configs call them."""
# what SAELens's loader may have put into the metadata and would be wrong of an SAE with other latents
OF_THE_LATENTS = ("neuronpedia_id", "num_dead_features")


def derive(sae_class: type[T], cfg_class: type, source: SAE[Any], weights: Mapping[str, torch.Tensor], **cfg: Any) -> T:
    """
    An SAE of ``sae_class`` with the options, device, dtype and metadata of ``source`` where ``cfg`` does not change them.

    SAELens's SAEs hold functions that refer to the SAE itself, so a ``copy.deepcopy`` of one shares the state of its
    run-time normalisation with the original; this makes a new one instead.

    Args:
        sae_class: Class of the new SAE.
        cfg_class: Class of its config.
        source: SAE to take everything else from.
        weights: Parameters of the new SAE by name, as ``load_state_dict`` takes them.
        **cfg: Options of the new SAE that differ.
    """
    kept = {field.name: getattr(source.cfg, field.name) for field in fields(source.cfg)}
    allowed = {field.name for field in fields(cfg_class)}
    options = {key: value for key, value in {**kept, **cfg}.items() if key in allowed}
    options["metadata"] = copy.deepcopy(options["metadata"])
    made = sae_class(cfg_class(**options | {"device": "meta"}))
    made.load_state_dict({name: weight.detach().clone() for name, weight in weights.items()}, assign=True)
    return made.to(device=source.device, dtype=source.dtype).requires_grad_(source.W_dec.requires_grad)


def metadata_of_other_latents(metadata: SAEMetadata, *, label: str | None = None) -> SAEMetadata:
    """A copy of ``metadata`` for an SAE with other latents, without what describes the old ones."""
    kept = {key: value for key, value in metadata.to_dict().items() if key not in OF_THE_LATENTS}
    return SAEMetadata(**copy.deepcopy(kept | ({"label": label} if label else {})))


def require_signed(sae: SAE[Any], what: str) -> SignedSAE:
    """
    Refuse what is not a signed SAE for inference.

    Raises:
        ConfigError: ``sae`` has non-negative codes, or is one in training.
    """
    if isinstance(sae, AbsTopKSAE | SignedJumpReLUSAE):
        return sae
    raise ConfigError(
        f"{what} needs a signed SAE for inference (abstopk, signed_jumprelu), and this is {sae.cfg.architecture()!r}. "
        "A training SAE becomes one with save_inference_model(FOLDER) and SAE.load_from_disk(FOLDER); all other SAEs have "
        "non-negative codes already and do not need this."
    )
