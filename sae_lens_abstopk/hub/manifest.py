"""``abstopk.json``: the SAEs of a release, the hash of every file, and the numbers on the card."""

import json
import platform
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import TypeAdapter
from sae_lens.constants import SAE_CFG_FILENAME, SAE_WEIGHTS_FILENAME, SPARSITY_FILENAME

from sae_lens_abstopk.evaluation.results.records import Interval
from sae_lens_abstopk.saes.poles import POLE_ACTIVITY_FILENAME
from sae_lens_abstopk.system.errors import ConfigError, require_range
from sae_lens_abstopk.system.files import file_sha256, leads_up, reading
from sae_lens_abstopk.system.provenance import version_of

MANIFEST_FILENAME = "abstopk.json"
CARD_FILENAME = "README.md"
PLOT_FILENAME = "two_sidedness.svg"
SAE_FILES = (SAE_CFG_FILENAME, SAE_WEIGHTS_FILENAME, SPARSITY_FILENAME, POLE_ACTIVITY_FILENAME, PLOT_FILENAME)
"""Files of an SAE in a release; no others are downloaded."""
FORMAT = 1
PACKAGES = ("sae-lens-abstopk", "sae-lens", "torch", "transformers")


@dataclass(frozen=True)
class NumberWithInterval:
    """A measured value, with its 95 % interval if it has one."""

    value: float
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, interval: Interval | None) -> Self | None:
        """Return the number in a results file; None where nothing was measured."""
        if interval is None or interval.value is None:
            return None
        return cls(interval.value, interval.low, interval.high)


@dataclass(frozen=True)
class ContextExample:
    """One firing of a latent in its text; pole 0 is the positive one."""

    latent: int
    pole: Literal[0, 1]
    code: float
    before: str
    token: str
    after: str


@dataclass(frozen=True)
class ConceptResult:
    """Results for one concept, on test texts and test prompts."""

    concept: str
    poles: tuple[str, str]
    latent: int
    """Best single latent, chosen on train."""
    steered_latent: int | None
    """Latent for steering, chosen on val prompts."""
    test_groups: int
    """Number of groups of test texts, which the intervals resample."""
    numbers: dict[str, NumberWithInterval]
    """Numbers by the names in ``results.CONCEPT_NAMES``."""
    unmatched: tuple[str, ...] = ()
    """Names of steering numbers whose strength costs less than the budget."""


@dataclass(frozen=True)
class PublishedAxis:
    """One latent of an SAE of pairs, with names or words of the texts that have more and less of it."""

    latent: int
    positive: str
    negative: str
    share_active: float
    """Share of the held-out pairs on which it is active."""
    stability: float | None
    """Share of the other seeds that have it."""
    win_rate: NumberWithInterval | None
    """Share of held-out pairs in which the text with more of it was preferred, of those on which it is active."""


@dataclass(frozen=True)
class PublishedResults:
    """Measurements of one SAE."""

    tokens: int
    """Number of what is coded: tokens, vectors or pairs."""
    text: str
    held_out: bool
    numbers: dict[str, NumberWithInterval]
    """Numbers by the names in ``results.RESULT_NAMES``."""
    examples: tuple[ContextExample, ...] = ()
    concepts: tuple[ConceptResult, ...] = ()
    two_sidedness: tuple[int, ...] = ()
    """Live latents in equal bins of two-sidedness from 0 to 0.5."""
    weights_sha256: str | None = None
    """Hash of the measured weights, before the gauge was fixed."""
    loss_tokens: int | None = None
    kept_tokens: str | None = None
    axes: tuple[PublishedAxis, ...] = ()
    """Axes of an SAE of pairs."""
    poles_named_by: str | None = None
    seeds: int = 1
    """Number of seeds over which the numbers are means."""


@dataclass(frozen=True)
class PublishedFile:
    """SHA-256 and size in bytes of one file."""

    sha256: str
    size: int


@dataclass(frozen=True)
class PublishedSAE:
    """One SAE of a release."""

    architecture: str
    d_in: int
    d_sae: int
    dtype: str
    gauge: Literal["canonical", "as trained"]
    """Canonical: in every latent the pole with more activation energy is positive."""
    mirror_of: str | None
    """For a mirror, the id of its signed SAE in the same release."""
    training: dict[str, Any]
    """Model, hook, text and options, from the SAE's metadata."""
    results: PublishedResults | None
    files: dict[str, PublishedFile]
    """Files by path in the repository."""
    base_model: str | None = None
    signed_latents: int | None = None
    """Number of latents that may fire on both sides."""

    @property
    def codes(self) -> Literal["tokens", "vectors", "pairs"]:
        """Return what the SAE was trained on; an SAE of pairs reads differences of two texts' vectors."""
        if self.training.get("source") != "vectors":
            return "tokens"
        return "pairs" if self.training.get("random_signs") else "vectors"


@dataclass(frozen=True)
class Manifest:
    """A whole release; the card is made from it."""

    saes: dict[str, PublishedSAE]
    """SAEs by id, in order of publication."""
    license: str | None = None
    """Licence of all weights, as the Hub spells it."""
    card: PublishedFile | None = None
    """The card as written, to recognise one edited by hand."""
    versions: dict[str, str] = field(default_factory=dict)
    """Python and packages of the last publication."""
    format: int = FORMAT

    def to_json(self) -> str:
        """Return the text of ``abstopk.json``."""
        return TypeAdapter(Manifest).dump_json(self, indent=1).decode() + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, where: str) -> Self:
        """
        Return the manifest in ``text``; ``where`` names it in errors.

        Raises:
            ConfigError: it is damaged, has a newer format, or names files that are not an SAE's.
        """
        with reading(where, "publish again"):
            given = json.loads(text).get("format", FORMAT)
            require_range(f"{where}: format", given, at_most=FORMAT, remedy="; install a newer sae-lens-abstopk")
            found = TypeAdapter(cls).validate_json(text)
        for sae_id, sae in found.saes.items():
            for path in sae.files:
                folder, _, name = path.rpartition("/")
                # a config.yaml would choose the model to run and its code
                if leads_up(path) or leads_up(sae_id) or folder != sae_id or name not in SAE_FILES:
                    raise ConfigError(
                        f"{where} names {path!r}, and is not read; the files of an SAE are {', '.join(SAE_FILES)}, in "
                        f"the folder {sae_id!r}."
                    )
        return found

    def with_saes(self, saes: dict[str, PublishedSAE], *, license: str | None) -> Self:
        """Return this release with ``saes`` added or replaced, and the current versions."""
        return replace(
            self,
            saes=self.saes | saes,
            license=license or self.license,
            versions={"python": platform.python_version(), **{name: version_of(name) for name in PACKAGES}},
        )


def published_file(path: Path) -> PublishedFile:
    """Hash and measure the file at ``path``."""
    return PublishedFile(file_sha256(path), path.stat().st_size)
