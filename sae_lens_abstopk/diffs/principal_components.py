"""Principal components of the differences of two models, beside SAEs."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from sklearn.decomposition import PCA

from sae_lens_abstopk.diffs.diff_results import PCARecord
from sae_lens_abstopk.diffs.held_out import HeldOut
from sae_lens_abstopk.diffs.patching import Patch
from sae_lens_abstopk.evaluation.results.records import Interval


def component_patches(x: Float[torch.Tensor, "n d_in"], *directions: float) -> dict[int, Patch]:
    """
    Return, by number of directions, patches with the projection on the first principal components of ``x``.

    Components are about the mean of ``x``. Numbers for which ``x`` has not enough rows or columns are left out.
    """
    numbers = sorted({round(n) for n in directions if round(n) < min(x.shape)})
    if not numbers:
        return {}
    fitted = PCA(numbers[-1], svd_solver="full").fit(x.numpy())
    mean, rows = (torch.from_numpy(each).float() for each in (fitted.mean_, fitted.components_))

    def patch(n: int) -> Patch:
        return lambda x: (x - mean) @ rows[:n].T @ rows[:n] + mean

    return {n: patch(n) for n in numbers}


def component_records(
    patches: Mapping[int, Patch], held_out: HeldOut, recovered: Mapping[int, Interval]
) -> list[PCARecord]:
    """Measure patches of :func:`component_patches`, whose KL recovered is known."""
    x = held_out.x
    about_mean = float((x - held_out.mean).square().sum(dtype=torch.float64))
    return [
        PCARecord(
            directions=n,
            fvu=float((x - patch(x)).square().sum(dtype=torch.float64)) / about_mean,
            kl_recovered=recovered[n],
        )
        for n, patch in patches.items()
    ]
