"""How well SAEs rebuild held-out differences, and the codes of the one that is shown."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from sae_lens import SAE

from sae_lens_abstopk.diffs.diff_results import DiffFitRecord
from sae_lens_abstopk.diffs.held_out import HeldOut
from sae_lens_abstopk.evaluation.results.bootstrap import bootstrap, ratio_estimates
from sae_lens_abstopk.evaluation.results.records import Interval
from sae_lens_abstopk.model.reconstruction import Reconstruction, ReconstructionSums
from sae_lens_abstopk.saes.seed_stability import SeedStability, seed_stability
from sae_lens_abstopk.saes.signed import is_signed
from sae_lens_abstopk.saes.threshold import at_l0

ROWS = 4096


@torch.no_grad()
def rebuilt(sae: SAE[Any], x: Float[torch.Tensor, "n d_in"]) -> tuple[Reconstruction, Float[np.ndarray, " n"]]:
    """Encode and decode the differences of the kept tokens; return the sums, and the squared error of each."""
    sums, errors = ReconstructionSums(), []
    for block in x.split(ROWS):
        block = block.to(sae.W_dec.device)
        codes = sae.encode(block)
        x_hat = sae.decode(codes).to(block)
        sums.update(block, x_hat, codes)
        errors.append((block - x_hat).square().sum(1).cpu().double())
    return sums.result(None), torch.cat(errors).numpy()


def stability_of(saes: Sequence[SAE[Any]]) -> SeedStability:
    """Compare SAEs of one kind: signed latents by absolute cosine, others by cosine."""
    return seed_stability(torch.stack([sae.W_dec.detach() for sae in saes]), signed=is_signed(saes[0]))


def level(saes: Sequence[SAE[Any]], held_out: HeldOut, k: float) -> list[SAE[Any]]:
    """Return SAEs with thresholds that give an L0 of ``k`` on the held-out differences, to compare kinds by."""
    return [at_l0(sae, held_out.x.split(ROWS), k) for sae in saes]


def fit_record(
    saes: Sequence[SAE[Any]],
    at_k: Sequence[SAE[Any]],
    held_out: HeldOut,
    recovered: Interval,
    *,
    seed: int,
) -> DiffFitRecord:
    """Measure SAEs of several seeds, and their copies of :func:`level`, whose KL recovered is known."""
    x = held_out.x
    found, every_error = zip(*(rebuilt(sae, x) for sae in at_k), strict=True)
    own = [rebuilt(sae, x)[0] for sae in saes]
    about_mean = (x - held_out.mean).square().sum(1).double().numpy()
    errors = np.mean(every_error, axis=0)
    fvu = ratio_estimates(errors[:, None], about_mean[:, None], groups=held_out.documents_of_kept, seed=seed)
    live = np.stack([each.pole_counts.sum(0).numpy() > 0 for each in found])
    stability = stability_of(saes).found
    return DiffFitRecord(
        d_sae=saes[0].cfg.d_sae,
        fvu=fvu[0],
        l0=float(np.mean([each.l0 for each in found])),
        dead_latents=float(np.mean([each.dead_latents for each in found])),
        dead_poles=float(np.mean([each.poles.dead_poles for each in found])),
        two_sidedness=float(np.mean([each.poles.mean_two_sidedness for each in found])),
        fvu_seeds=[each.fvu for each in found],
        fvu_at_threshold=float(np.mean([each.fvu for each in own])),
        l0_at_threshold=float(np.mean([each.l0 for each in own])),
        kl_recovered=recovered,
        stability=float(stability[live].mean()) if len(saes) > 1 and live.any() else None,
    )


def mean_energy(held_out: HeldOut, *, seed: int) -> Interval:
    """Return the share of the differences' energy that is their mean: ||mean(x)||^2 / mean(||x||^2)."""
    x, documents = held_out.x.double(), torch.tensor(held_out.documents_of_kept)
    of = documents.unique(return_inverse=True)[1]
    n_units = int(of.max()) + 1
    sums = x.new_zeros(n_units, x.shape[1]).index_add_(0, of, x).numpy()
    energy = x.new_zeros(n_units).index_add_(0, of, x.square().sum(1)).numpy()
    n = torch.bincount(of).double().numpy()
    return bootstrap(lambda draws: np.square(draws @ sums).sum(1) / (draws @ n) / (draws @ energy), n_units, seed=seed)


def recovered(
    by_patch: Mapping[str, Float[np.ndarray, "N predictions"]], base: str, held_out: HeldOut, *, seed: int
) -> dict[str, Interval]:
    """Return 1 - KL(tuned || patched) / KL(tuned || base) of every patch."""
    names = [name for name in by_patch if name != base]
    of_base = by_patch[base].reshape(-1, 1)
    gained = np.stack([of_base[:, 0] - by_patch[name].ravel() for name in names], axis=1)
    every = ratio_estimates(gained, of_base.repeat(len(names), 1), groups=held_out.documents_of_predictions, seed=seed)
    return dict(zip(names, every, strict=True))
