"""A new inference SAE from the config of another and changed weights."""

import copy
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

import sae_lens
import torch
from sae_lens import SAE
from sae_lens.saes.sae import SAEMetadata

T = TypeVar("T", bound=SAE[Any])
# metadata of SAELens's loader, of training or of a mirror that are wrong for an SAE with other latents
OF_THE_LATENTS = ("neuronpedia_id", "num_dead_features", "dead_latents", "dead_latents_tokens", "mirror")


def derive(sae_class: type[T], cfg_class: type, source: SAE[Any], weights: Mapping[str, torch.Tensor], **cfg: Any) -> T:
    """
    Make an SAE of ``sae_class`` with the options, device, dtype and metadata of ``source``, updated by ``cfg``.

    SAELens's SAEs hold functions that refer to the SAE itself: ``copy.deepcopy`` would share their state.
    """
    kept = {field.name: getattr(source.cfg, field.name) for field in fields(source.cfg)}
    allowed = {field.name for field in fields(cfg_class)}
    options = {key: value for key, value in {**kept, **cfg}.items() if key in allowed}
    options["metadata"] = copy.deepcopy(options["metadata"])
    options["metadata"].sae_lens_version = sae_lens.__version__  # metadata of the format in which it will be saved
    made = sae_class(cfg_class(**options | {"device": "meta"}))
    made.load_state_dict({name: weight.detach().clone() for name, weight in weights.items()}, assign=True)
    return made.to(device=source.W_dec.device, dtype=source.dtype).requires_grad_(source.W_dec.requires_grad)


def metadata_of_other_latents(metadata: SAEMetadata, *, label: str | None = None) -> SAEMetadata:
    """Copy ``metadata`` for an SAE with other latents, without descriptions of the old ones."""
    kept = {key: value for key, value in metadata.to_dict().items() if key not in OF_THE_LATENTS}
    return SAEMetadata(**copy.deepcopy(kept | ({"label": label} if label else {})))
