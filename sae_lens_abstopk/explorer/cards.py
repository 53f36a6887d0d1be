"""Latents as cards in a notebook: plain HTML without scripts."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from sae_lens_abstopk.explorer.catalogue import Catalogue
from sae_lens_abstopk.explorer.data_files import summary
from sae_lens_abstopk.explorer.latents import Latent, Provenance
from sae_lens_abstopk.explorer.templates import environment

CARDS = 3
# contexts of each pole on a single card
CONTEXTS = 8


@dataclass(frozen=True)
class LatentCard:
    """One latent, with its contexts; displays itself in a notebook."""

    sae: str
    latent: Latent = field(repr=False)
    signed: bool
    """Whether to show the negative side."""

    def _repr_html_(self) -> str:
        cards = environment().get_template("cards.html.j2").module
        return str(cards.card(self.sae, self.latent, self.signed, CONTEXTS))  # type: ignore[attr-defined]


def exploration_html(saes: Sequence[Catalogue], about: Provenance) -> str:
    """Render the numbers of each SAE and a few cards of the first."""
    first = saes[0]
    latents = [first[index] for index in first.collected.suggested(CARDS)]
    rows = [(sae, summary(sae)) for sae in saes]
    return environment().get_template("notebook.html.j2").render(about=about, rows=rows, latents=latents)
