"""Numbers, axes and concepts for the card of an SAE of pairs, from the files of `abstopk pairs` beside its folder."""

from collections.abc import Mapping
from pathlib import Path

from sae_lens_abstopk.hub.manifest import ConceptResult, NumberWithInterval, PublishedAxis, PublishedResults
from sae_lens_abstopk.pairs.concepts import CONCEPTS, ConceptResults
from sae_lens_abstopk.pairs.pair_files import RESULTS, SAE_FOLDER
from sae_lens_abstopk.pairs.pair_results import AxisRecord, PairResults
from sae_lens_abstopk.pairs.telling_apart import ConceptRecord
from sae_lens_abstopk.system.files import reading


def pair_results_beside(folders: Mapping[str, Path]) -> dict[str, PublishedResults]:
    """Read results by SAE id of the folders that `abstopk pairs` wrote."""
    found = {}
    for sae_id, folder in folders.items():
        fit = folder.resolve().parent
        if folder.resolve().name == SAE_FOLDER and (fit / RESULTS).is_file():
            with reading(fit / RESULTS, "fit the pairs again with `abstopk pairs`"):
                pairs = PairResults.model_validate_json((fit / RESULTS).read_text(encoding="utf-8"))
            concepts: list[ConceptRecord] = []
            if (fit / CONCEPTS).is_file():
                with reading(fit / CONCEPTS, "delete it, or make it again with `abstopk pairs concepts`"):
                    text = (fit / CONCEPTS).read_text(encoding="utf-8")
                    concepts = ConceptResults.model_validate_json(text).concepts
            found[sae_id] = _published(pairs, concepts)
    return found


def _published(pairs: PairResults, concepts: list[ConceptRecord]) -> PublishedResults:
    fits = {"fvu" if fit is pairs.signed else kind: fit for kind, fit in pairs.fits.items()}
    return PublishedResults(
        tokens=pairs.n_held_out,
        text=pairs.data,
        held_out=True,
        numbers={
            "l0": NumberWithInterval(pairs.signed.l0),
            **{name: number for name, fit in fits.items() if (number := NumberWithInterval.of(fit.fvu)) is not None},
        },
        concepts=tuple(_concept(each) for each in concepts),
        axes=tuple(_axis(axis) for axis in pairs.axes),
        poles_named_by=pairs.judge,
        seeds=len(pairs.signed.fvu_seeds),
    )


def _axis(axis: AxisRecord) -> PublishedAxis:
    won = NumberWithInterval.of(axis.win_rate)
    return PublishedAxis(axis.latent, *axis.pole_names(), axis.share_active, axis.stability, won)


def _concept(concept: ConceptRecord) -> ConceptResult:
    signed = concept.saes["signed"]
    return ConceptResult(
        concept=concept.concept,
        poles=concept.poles,
        latent=signed.latent,
        steered_latent=None,
        test_groups=concept.n_test,
        numbers={name: NumberWithInterval(getattr(signed, name)) for name in ("auroc", "coverage")},
    )
