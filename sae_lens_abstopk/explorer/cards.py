"""Latents as cards in a notebook: plain HTML without scripts."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from jinja2 import Environment

from sae_lens_abstopk.explorer.catalogue import Catalogue
from sae_lens_abstopk.explorer.labels import signs
from sae_lens_abstopk.explorer.latents import Latent, Provenance
from sae_lens_abstopk.explorer.site import environment
from sae_lens_abstopk.saes.poles import pole_statistics

CARDS = 3
# contexts that a card of its own shows of each pole
CONTEXTS = 8


@dataclass(frozen=True)
class LatentCard:
    """One latent, with its contexts; displays itself in a notebook."""

    sae: str
    """Name of its SAE."""
    latent: Latent = field(repr=False)
    signed: bool
    """Whether the negative side is shown: only that of a signed SAE means anything."""

    def _repr_html_(self) -> str:
        cards = _environment().get_template("cards.html.j2").module
        return str(cards.card(self.sae, self.latent, self.signed, CONTEXTS))  # type: ignore[attr-defined]


def exploration_html(saes: Sequence[Catalogue], about: Provenance) -> str:
    """The numbers of each SAE and a few cards of the first."""
    rows = []
    for sae in saes:
        found = pole_statistics(sae.collected.pole_counts)
        l0 = int(sae.collected.pole_counts.sum()) / max(sae.collected.n_tokens, 1)
        rows.append(
            (
                sae.name,
                f"{len(sae):,}",
                f"{l0:.1f}",
                f"{sae.collected.sums.fvu():.3f}",
                f"{len(sae) - found.live_latents:,}",
                f"{found.dead_poles - sae.closed_poles:,}" if sae.fires_negatively else "–",
                f"{sae.closed_poles:,}" if sae.fires_negatively else "–",
                f"{found.mean_two_sidedness:.2f}" if sae.fires_negatively else "–",
            )
        )
    first = saes[0]
    latents = [(first.name, first[i], first.fires_negatively) for i in first.collected.suggested(CARDS)]
    return _environment().get_template("notebook.html.j2").render(about=about, rows=rows, latents=latents)


def _environment() -> Environment:
    found = environment()
    found.filters["signs"] = signs
    return found
