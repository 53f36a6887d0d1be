"""``abstopk.json``: what a release holds, the hash of every file, and the numbers that its card shows."""

import platform
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import TypeAdapter, ValidationError
from sae_lens.constants import SAE_CFG_FILENAME, SAE_WEIGHTS_FILENAME, SPARSITY_FILENAME

from sae_lens_abstopk.hub.plot import PLOT_FILENAME
from sae_lens_abstopk.saes.pole_activity import POLE_ACTIVITY_FILENAME
from sae_lens_abstopk.system.errors import ConfigError
from sae_lens_abstopk.system.files import file_sha256, leads_up
from sae_lens_abstopk.system.provenance import version_of

MANIFEST_FILENAME = "abstopk.json"
CARD_FILENAME = "README.md"
SAE_FILES = (SAE_CFG_FILENAME, SAE_WEIGHTS_FILENAME, SPARSITY_FILENAME, POLE_ACTIVITY_FILENAME, PLOT_FILENAME)
"""What is published of an SAE, and all that is taken from a release."""
FORMAT = 1
PACKAGES = ("sae-lens-abstopk", "sae-lens", "torch", "transformers")


@dataclass(frozen=True)
class NumberWithInterval:
    """A measured value and, where there is one, its 95 % interval."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class ContextExample:
    """One firing of a latent in its text."""

    latent: int
    pole: Literal[0, 1]
    """0 for the positive pole, 1 for the negative one."""
    code: float
    before: str
    token: str
    after: str


@dataclass(frozen=True)
class ConceptResult:
    """What an evaluation found for one concept, on test texts and test prompts."""

    concept: str
    poles: tuple[str, str]
    """A and B."""
    latent: int
    """The best single latent, chosen on train."""
    steered_latent: int | None
    """The latent that was steered with, chosen on val prompts; None where nothing was steered."""
    test_groups: int
    """Groups of test texts, which the intervals resample."""
    numbers: dict[str, NumberWithInterval]
    """By name, as ``CONCEPT_NAMES`` in :mod:`sae_lens_abstopk.hub.results` lists them."""
    unmatched: tuple[str, ...] = ()
    """Names of the numbers of steering at a strength that does not cost the budget."""


@dataclass(frozen=True)
class PublishedResults:
    """What was measured of one SAE."""

    tokens: int
    """Kept tokens behind the numbers."""
    text: str
    """Name of the text."""
    held_out: bool
    """Whether the text was kept from the SAE in training."""
    numbers: dict[str, NumberWithInterval]
    """By name, as ``RESULT_NAMES`` in :mod:`sae_lens_abstopk.hub.results` lists them."""
    examples: tuple[ContextExample, ...] = ()
    """Contexts of both poles of some latents, grouped by latent."""
    concepts: tuple[ConceptResult, ...] = ()
    two_sidedness: tuple[int, ...] = ()
    """Live latents in equal bins of two-sidedness from 0 to 0.5."""
    weights_sha256: str | None = None
    """Of the weights that were measured, before they were put into a gauge."""
    loss_tokens: int | None = None
    """Predicted tokens behind the Loss Recovered, where it was measured."""
    kept_tokens: str | None = None
    """Which tokens of the text these were."""


@dataclass(frozen=True)
class PublishedFile:
    """One file of a release."""

    sha256: str
    size: int
    """Bytes."""


@dataclass(frozen=True)
class PublishedSAE:
    """One SAE of a release."""

    architecture: str
    d_in: int
    d_sae: int
    dtype: str
    gauge: Literal["canonical", "as trained"]
    """Whether the pole with more activation energy is positive in every latent."""
    mirror_of: str | None
    """For a mirrored SAE the id of the signed one in the same release."""
    training: dict[str, Any]
    """Model, hook, text and options, from the SAE's metadata."""
    results: PublishedResults | None
    files: dict[str, PublishedFile]
    """By path in the repository."""
    base_model: str | None = None
    """Hub id of the model whose activations it reads."""
    signed_latents: int | None = None
    """How many latents may fire on both sides."""


@dataclass(frozen=True)
class _Head:
    """What can be read of a release of any format."""

    format: int = FORMAT


@dataclass(frozen=True)
class Manifest:
    """The release as a whole; the card is made from this alone."""

    saes: dict[str, PublishedSAE]
    """By SAE id, in the order in which they were published."""
    license: str | None = None
    """Licence of all weights, as the Hub spells it."""
    card: PublishedFile | None = None
    """The card that was written along, so that one edited by hand is not overwritten."""
    versions: dict[str, str] = field(default_factory=dict)
    """Python and packages that published last."""
    format: int = FORMAT

    def to_json(self) -> str:
        """The text of ``abstopk.json``."""
        return TypeAdapter(Manifest).dump_json(self, indent=1).decode() + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, where: str) -> Self:
        """
        The manifest in ``text``; ``where`` names it in errors.

        Raises:
            ConfigError: it is damaged, of a later format than this version knows, or names files outside of the release.
        """
        try:
            given = TypeAdapter(_Head).validate_json(text).format
            if given > FORMAT:
                raise ConfigError(
                    f"{where} has format {given}, and this version of sae-lens-abstopk knows {FORMAT}; install a newer one."
                )
            found = TypeAdapter(cls).validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise ConfigError(f"{where} is damaged: {place or 'the text'}: {first['msg']}.") from None
        for sae_id, sae in found.saes.items():
            for path in sae.files:
                folder, _, name = path.rpartition("/")
                if leads_up(path) or leads_up(sae_id) or folder != sae_id:
                    raise ConfigError(f"{where} names {path!r}, which is not in the folder {sae_id!r}; it is not read.")
                # a config would decide which model is run, and by whose code
                if name not in SAE_FILES:
                    raise ConfigError(f"{where} names {path!r}; the files of an SAE are {', '.join(SAE_FILES)}.")
        return found

    def with_saes(self, saes: dict[str, PublishedSAE], *, license: str | None) -> Self:
        """This release with ``saes`` added or replaced, by the versions that run now."""
        return replace(
            self,
            saes=self.saes | saes,
            license=license or self.license,
            versions={"python": platform.python_version(), **{name: version_of(name) for name in PACKAGES}},
        )


def published_file(path: Path) -> PublishedFile:
    """Hash and size of the file at ``path``."""
    return PublishedFile(file_sha256(path), path.stat().st_size)
