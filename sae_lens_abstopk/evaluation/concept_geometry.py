"""Concepts beside a dictionary: cosines of their directions with decoder rows, and their texts in principal components."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from sklearn.decomposition import PCA

from sae_lens_abstopk.errors import ConfigError
from sae_lens_abstopk.evaluation.geometry import unit_rows


@dataclass(frozen=True)
class ConceptCosines:
    """Directions of concepts, each from pole A to pole B, against each other and against the decoder rows."""

    names: tuple[str, ...]
    between: torch.Tensor
    """Cosines between the concepts, float32 [n, n]."""
    latents: torch.Tensor
    """The k latents of largest absolute cosine with each concept, int64 [n, k], best first."""
    cosine: torch.Tensor
    """Their cosines, float32 [n, k]; positive where the latent's positive pole points to pole B."""
    strongest_opposed: torch.Tensor
    """
    For each concept the largest cosine among the latents on the other side of it than its best one, as a positive
    number, float32 [n]. Where it is near ``abs(cosine[:, 0])`` the dictionary spends a pair on the concept.
    """


@dataclass(frozen=True)
class ConceptPCA:
    """Activations of one concept's texts in their first principal components, and directions projected into them."""

    coordinates: torch.Tensor
    """float64 [n_texts, c]."""
    pole: torch.Tensor
    """0 for pole A, 1 for pole B, int64 [n_texts]."""
    poles: tuple[str, str]
    """What the poles are called."""
    explained_variance_ratio: torch.Tensor
    """Share of the variance along each component, float64 [c]."""
    components: torch.Tensor
    """Unit rows [c, D], float64; the first points from pole A to pole B."""
    mean: torch.Tensor
    """Mean activation, the origin of the coordinates, float64 [D]."""
    difference_in_means: torch.Tensor
    """The unit vector along the difference in means, from pole A to pole B, in these components, float64 [c]."""
    latents: torch.Tensor
    """Latents whose decoder rows were projected, int64 [m]."""
    decoder_rows: torch.Tensor
    """Their unit decoder rows in these components, float64 [m, c]: of length 1 where the plane holds all of the row."""

    @property
    def alignment(self) -> float:
        """Absolute cosine of the difference in means with the first component: near 1 where the poles are what varies most."""
        return abs(self.difference_in_means[0].item())


@torch.no_grad()
def concept_cosines(
    directions: torch.Tensor, W_dec: torch.Tensor, *, names: Sequence[str] | None = None, k: int = 5
) -> ConceptCosines:
    """
    Cosines of concept directions with each other and with the decoder rows nearest to them.

    Args:
        directions: One row a concept [n, D], such as differences in means; of any length but zero.
        W_dec: Decoder rows [F, D].
        names: What the concepts are called; their numbers by default.
        k: Latents listed for each concept.

    Raises:
        ConfigError: the shapes do not belong together, a direction is zero, or ``k`` is out of range.
    """
    if directions.ndim != 2 or W_dec.ndim != 2 or directions.shape[1] != W_dec.shape[1]:
        raise ConfigError(
            f"directions {tuple(directions.shape)} and W_dec {tuple(W_dec.shape)} must be [n, d_in] and [d_sae, d_in]."
        )
    called = tuple(map(str, range(len(directions)))) if names is None else tuple(names)
    if len(called) != len(directions):
        raise ConfigError(f"{len(called)} names for {len(directions)} directions; give one name a row.")
    if not 1 <= k <= len(W_dec):
        raise ConfigError(f"k={k!r} must lie between 1 and the {len(W_dec)} latents of the dictionary.")
    unit = unit_rows(directions)
    zero = [name for name, row in zip(called, unit, strict=True) if not row.any()]
    if zero:
        raise ConfigError(f"the direction of {', '.join(zero)} is zero: its poles have the same mean.")
    cosine = (unit @ unit_rows(W_dec).to(unit.device).T).clamp_(-1, 1).cpu()
    latents = cosine.abs().topk(k, dim=1).indices
    best = cosine.gather(1, latents)
    return ConceptCosines(
        names=called,
        between=(unit @ unit.T).clamp(-1, 1).cpu(),
        latents=latents,
        cosine=best,
        strongest_opposed=(-cosine * best[:, :1].sign()).max(1).values.clamp(min=0),
    )


@torch.no_grad()
def concept_pca(
    x: torch.Tensor,
    pole: torch.Tensor,
    W_dec: torch.Tensor,
    *,
    latents: Sequence[int] | torch.Tensor,
    poles: tuple[str, str] = ("A", "B"),
    n_components: int = 2,
) -> ConceptPCA:
    """
    Principal components (scikit-learn) of the activations of a concept's texts, with decoder rows projected into them.

    Args:
        x: Activations [n_texts, D], one a text, of both poles.
        pole: 0 or 1 for each text, [n_texts].
        W_dec: Decoder rows [F, D].
        latents: Latents to project: those that probing chose, or the best of :func:`concept_cosines`.
        poles: What the poles are called.
        n_components: Components kept.

    Raises:
        ConfigError: the shapes do not belong together, a pole has no text, or an option is out of range.
    """
    x, pole = x.detach().double().cpu(), torch.as_tensor(pole).long().cpu()
    chosen = torch.as_tensor(latents, dtype=torch.int64).cpu()
    if x.ndim != 2 or pole.shape != x.shape[:1] or W_dec.ndim != 2 or W_dec.shape[1] != x.shape[1]:
        raise ConfigError(
            f"x {tuple(x.shape)}, pole {tuple(pole.shape)} and W_dec {tuple(W_dec.shape)} must be [n_texts, d_in], "
            "[n_texts] and [d_sae, d_in]."
        )
    if set(pole.tolist()) != {0, 1}:
        raise ConfigError(
            f"the poles of the texts are {sorted(set(pole.tolist()))}; there must be texts of 0 and of 1."
        )
    if not 1 <= n_components <= min(x.shape):
        raise ConfigError(
            f"n_components={n_components!r} must lie between 1 and {min(x.shape)} for x {tuple(x.shape)}."
        )
    if chosen.ndim != 1 or (len(chosen) and not (int(chosen.min()) >= 0 and int(chosen.max()) < len(W_dec))):
        raise ConfigError(f"latents={chosen.tolist()} must be a list of numbers from 0 to {len(W_dec) - 1}.")
    # the full decomposition: it takes no random numbers, so the picture is the same each time
    fitted = PCA(n_components, svd_solver="full").fit(x.numpy())
    components = torch.from_numpy(fitted.components_)
    difference = x[pole == 1].mean(0) - x[pole == 0].mean(0)
    # a component has no sign of its own
    components = components * torch.where(components @ difference < 0, -1.0, 1.0).double()[:, None]
    mean = torch.from_numpy(fitted.mean_)
    rows = unit_rows(W_dec[chosen.to(W_dec.device)]).double().cpu()
    return ConceptPCA(
        coordinates=(x - mean) @ components.T,
        pole=pole,
        poles=poles,
        explained_variance_ratio=torch.from_numpy(fitted.explained_variance_ratio_),
        components=components,
        mean=mean,
        difference_in_means=components @ (difference / difference.norm().clamp(min=1e-30)),
        latents=chosen,
        decoder_rows=rows @ components.T,
    )
