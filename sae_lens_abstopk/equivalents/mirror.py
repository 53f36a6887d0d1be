"""An exact non-negative copy of a signed SAE, for tools that assume non-negative codes."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from sae_lens import SAE, AbsTopKSAE, AbsTopKSAEConfig, JumpReLUSAE, JumpReLUSAEConfig, TopKSAE, TopKSAEConfig

from sae_lens_abstopk.saes.derive import derive, metadata_of_other_latents
from sae_lens_abstopk.saes.load_note import write_load_note
from sae_lens_abstopk.saes.loading import load_sae
from sae_lens_abstopk.saes.poles import DEAD_POLE_SHARE, PoleActivity, live_poles
from sae_lens_abstopk.saes.signed import SignedSAE, require_signed
from sae_lens_abstopk.saes.signed_jumprelu import SignedJumpReLUSAE, SignedJumpReLUSAEConfig
from sae_lens_abstopk.saes.traits import k_of
from sae_lens_abstopk.system.errors import ConfigError, require_range
from sae_lens_abstopk.system.files import require_empty
from sae_lens_abstopk.system.yaml_files import CONFIG_FILENAME

METADATA_KEY = "mirror"
MIRROR_END = "_mirror"
"""Suffix of a mirror's name, after the name of its SAE."""
RULE = (
    "Mirrored latent i is a pole of a latent of the signed SAE: with c = kept[i], or c = i where kept is null, it is "
    "the positive pole of latent c if c < d_sae, else the negative pole of latent c - d_sae."
)


class MirroredLatents(NamedTuple):
    """The latent of the signed SAE, and its pole (0 is positive), of each mirrored latent; int64 [width]."""

    latent: torch.Tensor
    pole: torch.Tensor


def mirror(
    sae: SAE[Any],
    *,
    prune_dead_poles: bool = False,
    pole_counts: torch.Tensor | None = None,
    dead_share: float = DEAD_POLE_SHARE,
) -> TopKSAE | JumpReLUSAE:
    """
    The stock SAELens SAE of width 2F whose codes are [relu(z), relu(-z)] and whose decoder is [W_dec; -W_dec].

    ``abstopk`` becomes ``topk`` with the same k, ``signed_jumprelu`` becomes ``jumprelu``; both load without this
    package. Reconstruction and L0 are those of ``sae`` (AbsTopK(u) = TopK([u, -u]) on the doubled dictionary). One
    caveat: where pre-activations of equal magnitude lie across the k-th place (rare in float32, common in bfloat16),
    TopK and AbsTopK may keep different ones.

    ``metadata.mirror`` records what each latent is; :func:`mirrored_latents` reads it.

    Args:
        sae: ``abstopk`` or ``signed_jumprelu``, for inference.
        prune_dead_poles: Leave out the poles that hold under ``dead_share`` of their latent's firings, and both of a
            latent that never fired. Reconstruction is then the same on the tokens where none of those would fire.
        pole_counts: Firings [2, F] to prune by, positive row first: ``measure_poles(FOLDER).counts``.
        dead_share: Share of a latent's firings, below 0.5; 0 leaves out only poles that never fired.

    Raises:
        ConfigError: ``sae`` is not signed, or there is nothing to prune by.
    """
    signed = require_signed(sae, "mirror")
    weights = _doubled(signed)
    label = signed.cfg.metadata.label
    metadata = metadata_of_other_latents(signed.cfg.metadata, label=label and f"{label}{MIRROR_END}")
    option = "k" if isinstance(signed, AbsTopKSAE) else "pole_thresholds"
    record = {"architecture": signed.cfg.architecture(), "d_sae": signed.cfg.d_sae, option: getattr(signed.cfg, option)}
    record |= {"kept": None, "rule": RULE}
    if prune_dead_poles or pole_counts is not None:
        if pole_counts is None or not prune_dead_poles or not pole_counts.any():
            raise ConfigError(
                f"prune_dead_poles=True and pole_counts go together: firings [2, {signed.cfg.d_sae}] that are not all "
                "0, such as measure_poles(FOLDER).counts."
            )
        require_range("dead_share", dead_share, at_least=0, below=0.5)
        counts = pole_counts.cpu()
        live = live_poles(counts, dead_share)
        kept = live.flatten().nonzero().squeeze(1)
        for name in weights.keys() - {"b_dec"}:
            weights[name] = weights[name][..., kept] if name == "W_enc" else weights[name][kept]
        dropped = counts.masked_fill(live, 0).sum() / counts.sum()
        record |= {"kept": kept.tolist(), "dead_share": dead_share, "dropped_share_of_firings": dropped.item()}
    metadata[METADATA_KEY] = record
    options: dict[str, Any] = {"d_sae": len(weights["W_dec"]), "metadata": metadata}
    if isinstance(signed, AbsTopKSAE):
        options["k"] = min(k_of(signed), options["d_sae"])
        return derive(TopKSAE, TopKSAEConfig, signed, weights, **options)
    return derive(JumpReLUSAE, JumpReLUSAEConfig, signed, weights, **options)


def mirror_folder(
    source: Path,
    out: Path,
    *,
    prune_dead_poles: bool = False,
    count_firings: Callable[[], torch.Tensor] | None = None,
) -> TopKSAE | JumpReLUSAE:
    """
    Write the :func:`mirror` of the SAE in ``source`` into ``out``, an empty or a new folder, and return it.

    The run's ``config.yaml`` goes along, so that ``abstopk inspect`` finds model and text. The firings to prune by are
    those in the ``pole_activity.safetensors`` beside the weights, unless ``count_firings`` measures them.
    """
    require_empty(out)
    sae = require_signed(load_sae(source), "mirror")
    counts = None
    if prune_dead_poles:
        counts = count_firings() if count_firings is not None else PoleActivity.load(source).counts
    mirrored = mirror(sae, prune_dead_poles=prune_dead_poles, pole_counts=counts)
    mirrored.save_model(out)
    write_load_note(out, mirrored.cfg.architecture())
    for config in (source / CONFIG_FILENAME, source.parent / CONFIG_FILENAME):
        if config.is_file():
            shutil.copyfile(config, out / CONFIG_FILENAME)
            break
    return mirrored


def mirrored_latents(mirrored: SAE[Any]) -> MirroredLatents:
    """Return the pole that each latent of a mirrored SAE is; raise a ConfigError if :func:`mirror` did not make it."""
    record = _record(mirrored)
    width, d_sae = mirrored.cfg.d_sae, record["d_sae"]
    place = torch.arange(width) if record["kept"] is None else torch.tensor(record["kept"], dtype=torch.int64)
    return MirroredLatents(latent=place % d_sae, pole=place // d_sae)


def unmirror(mirrored: SAE[Any]) -> SignedSAE:
    """
    The signed SAE that ``mirrored`` was made from, its weights equal to the bit.

    A latent that lost one pole by pruning has both again where both had one threshold; with thresholds by pole the lost
    one stays closed. One that lost both never fires: its encoder is 0 and its decoder a unit vector.

    Raises:
        ConfigError: :func:`mirror` did not make the SAE.
    """
    record = _record(mirrored)
    latent, pole = mirrored_latents(mirrored)
    d_sae: int = record["d_sae"]
    place = torch.full((2, d_sae), -1)
    place[pole, latent] = torch.arange(len(latent))
    place = place.to(mirrored.W_dec.device)
    source = torch.where(place[0] >= 0, place[0], place[1])
    sign = torch.where(place[0] >= 0, 1, -1).to(mirrored.W_dec)
    lost = source < 0
    state = mirrored.state_dict()
    weights = {
        "W_enc": (state["W_enc"][:, source] * sign).masked_fill(lost, 0),
        "b_enc": (state["b_enc"][source] * sign).masked_fill(lost, 0),
        "W_dec": (state["W_dec"][source] * sign[:, None]).masked_fill(lost[:, None], mirrored.cfg.d_in**-0.5),
        "b_dec": state["b_dec"],
    }
    label = mirrored.cfg.metadata.label
    metadata = metadata_of_other_latents(mirrored.cfg.metadata, label=label and label.removesuffix(MIRROR_END))
    cfg: dict[str, Any] = {"d_sae": d_sae, "metadata": metadata}
    if isinstance(mirrored, TopKSAE):
        return derive(AbsTopKSAE, AbsTopKSAEConfig, mirrored, weights, **cfg, k=record["k"])
    cfg["pole_thresholds"] = record["pole_thresholds"]
    if record["pole_thresholds"]:
        positive, negative = state["threshold"][place.clamp(min=0)].masked_fill(place < 0, torch.inf)
        weights |= {"threshold": positive, "negative_threshold": negative}
    else:
        weights["threshold"] = state["threshold"][source].masked_fill(lost, 0)
    return derive(SignedJumpReLUSAE, SignedJumpReLUSAEConfig, mirrored, weights, **cfg)


def _doubled(sae: SignedSAE) -> dict[str, torch.Tensor]:
    state = sae.state_dict()
    weights = {
        "W_enc": torch.cat([state["W_enc"], -state["W_enc"]], dim=1),
        "b_enc": torch.cat([state["b_enc"], -state["b_enc"]]),
        "W_dec": torch.cat([state["W_dec"], -state["W_dec"]]),
        "b_dec": state["b_dec"],
    }
    if isinstance(sae, SignedJumpReLUSAE):
        weights["threshold"] = torch.cat([state["threshold"], state.get("negative_threshold", state["threshold"])])
    return weights


def _record(mirrored: SAE[Any]) -> dict[str, Any]:
    record = mirrored.cfg.metadata.get(METADATA_KEY)
    if not isinstance(record, dict) or not isinstance(mirrored, TopKSAE | JumpReLUSAE):
        raise ConfigError(
            f"this {mirrored.cfg.architecture()!r} SAE was not made by mirror(): metadata.{METADATA_KEY} is missing. "
            "merge_antipodal() folds the antipodal pairs of any non-negative SAE."
        )
    return record
