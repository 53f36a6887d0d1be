"""An exact non-negative copy of a signed SAE, for tools that assume non-negative codes."""

from typing import Any, NamedTuple

import torch
from sae_lens import SAE, AbsTopKSAE, AbsTopKSAEConfig, JumpReLUSAE, JumpReLUSAEConfig, TopKSAE, TopKSAEConfig

from sae_lens_abstopk.saes.derive import derive, metadata_of_other_latents
from sae_lens_abstopk.saes.poles import DEAD_POLE_SHARE, live_poles, require_of_poles
from sae_lens_abstopk.saes.signed import SignedSAE, require_signed
from sae_lens_abstopk.saes.signed_jumprelu import SignedJumpReLUSAE, SignedJumpReLUSAEConfig
from sae_lens_abstopk.saes.sparsity import k_of
from sae_lens_abstopk.system.errors import ConfigError

METADATA_KEY = "mirror"
MIRROR_END = "_mirror"
"""Suffix of a mirror's name, after the name of its SAE."""
RULE = (
    "Mirrored latent i is a pole of a latent of the signed SAE: with c = kept[i], or c = i where kept is null, it is "
    "the positive pole of latent c if c < d_sae, else the negative pole of latent c - d_sae."
)


class MirroredLatents(NamedTuple):
    """The signed latent and the pole that each mirrored latent stands for."""

    latent: torch.Tensor
    """Index in the signed SAE, int64 [width]."""
    pole: torch.Tensor
    """0 for the positive pole, 1 for the negative one, int64 [width]."""


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
    caveat: TopK and AbsTopK choose freely between pre-activations of equal magnitude, so where a tie lies across the
    k-th place (rare in float32, common in bfloat16) the two may keep other latents of the same magnitudes. A
    pre-activation of exactly 0 has a code of 0 in both.

    ``metadata.mirror`` records what each latent is; :func:`mirrored_latents` reads it.

    Args:
        sae: ``abstopk`` or ``signed_jumprelu``, for inference.
        prune_dead_poles: Leave out the poles that hold under ``dead_share`` of their latent's firings, and both of a
            latent that never fired. Reconstruction is then the same on the tokens where none of those would fire.
        pole_counts: Firings [2, F], positive row first, as :func:`sae_lens_abstopk.saes.poles.pole_counts` adds them up
            or ``measure_poles(FOLDER).counts`` has them; pruning needs them.
        dead_share: Share of a latent's firings; 0 leaves out only poles that never fired.

    Raises:
        ConfigError: ``sae`` is not signed; or to prune, the counts are missing, of another shape or all 0, or the share
            is not at least 0 and below 0.5; or there are counts and nothing is to be pruned.
    """
    signed = require_signed(sae, "mirror")
    if pole_counts is not None and not prune_dead_poles:
        raise ConfigError("pole_counts are only for pruning; add prune_dead_poles=True, or leave them out.")
    weights = _doubled(signed)
    label = signed.cfg.metadata.label
    metadata = metadata_of_other_latents(signed.cfg.metadata, label=label and f"{label}{MIRROR_END}")
    option = "k" if isinstance(signed, AbsTopKSAE) else "pole_thresholds"
    record = {"architecture": signed.cfg.architecture(), "d_sae": signed.cfg.d_sae, option: getattr(signed.cfg, option)}
    record |= {"kept": None, "rule": RULE}
    if prune_dead_poles:
        kept, dropped = _kept_poles(signed.cfg.d_sae, pole_counts, dead_share)
        weights = {
            name: weight[:, kept] if name == "W_enc" else weight if name == "b_dec" else weight[kept]
            for name, weight in weights.items()
        }
        record |= {"kept": kept.tolist(), "dead_share": dead_share, "dropped_share_of_firings": dropped}
    metadata[METADATA_KEY] = record
    options: dict[str, Any] = {"d_sae": len(weights["W_dec"]), "metadata": metadata}
    if isinstance(signed, AbsTopKSAE):
        options["k"] = min(k_of(signed), options["d_sae"])
        return derive(TopKSAE, TopKSAEConfig, signed, weights, **options)
    return derive(JumpReLUSAE, JumpReLUSAEConfig, signed, weights, **options)


def mirrored_latents(mirrored: SAE[Any]) -> MirroredLatents:
    """
    The pole that each latent of a mirrored SAE is, from its metadata.

    Raises:
        ConfigError: :func:`mirror` did not make the SAE.
    """
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


def _kept_poles(d_sae: int, counts: torch.Tensor | None, dead_share: float) -> tuple[torch.Tensor, float]:
    """Return the kept indices into [positive poles, negative poles] and the share of firings that the others had."""
    if counts is None:
        raise ConfigError(
            f"prune_dead_poles needs to know how often each pole fires: give pole_counts, [2, {d_sae}], such as "
            "measure_poles(FOLDER).counts, or from the pole_activity.safetensors beside a published SAE."
        )
    require_of_poles("pole_counts", counts, d_sae)
    if not 0 <= dead_share < 0.5:
        raise ConfigError(f"dead_share={dead_share!r} must be at least 0 and below 0.5.")
    counts = counts.cpu()
    live = live_poles(counts, dead_share)
    if not live.any():
        raise ConfigError(f"pole_counts: none of the {d_sae} latents fired, so none would be left.")
    dropped = counts.masked_fill(live, 0).sum() / counts.sum()
    return live.flatten().nonzero().squeeze(1), dropped.item()


def _record(mirrored: SAE[Any]) -> dict[str, Any]:
    record = mirrored.cfg.metadata.get(METADATA_KEY)
    if not isinstance(record, dict) or not isinstance(mirrored, TopKSAE | JumpReLUSAE):
        raise ConfigError(
            f"this {mirrored.cfg.architecture()!r} SAE was not made by mirror(): metadata.{METADATA_KEY} is missing. "
            "merge_antipodal() folds the antipodal pairs of any non-negative SAE."
        )
    return record
