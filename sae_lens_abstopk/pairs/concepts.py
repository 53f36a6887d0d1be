"""The shipped concepts as pairs: does one latent tell the two texts of a template apart, on both sides?"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool
from pydantic import Field
from rich.console import Console
from rich.table import Table
from sae_lens import SAE

from sae_lens_abstopk.evaluation.labelling.labeler import LabelRecord
from sae_lens_abstopk.evaluation.results.facts import origin_facts
from sae_lens_abstopk.evaluation.results.records import OriginRecord
from sae_lens_abstopk.evaluation.tasks.load_task import load_task, task_names
from sae_lens_abstopk.pairs.axes import PairAxes
from sae_lens_abstopk.pairs.fit_axes import fit_axes
from sae_lens_abstopk.pairs.pair_results import PairFitRecord, PairResults
from sae_lens_abstopk.pairs.pair_set import PairSet, unlabelled_pairs
from sae_lens_abstopk.pairs.pair_vectors import TextVectors, differences_of_texts
from sae_lens_abstopk.pairs.split import components
from sae_lens_abstopk.pairs.telling_apart import (
    ApartRecord,
    ConceptRecord,
    best_latent,
    best_pair,
    both_codes,
    directions_apart,
)
from sae_lens_abstopk.system.files import write_whole
from sae_lens_abstopk.training.config.seeds_and_baselines import BASELINES

CONCEPTS = "concepts.json"
# an axis is named after a concept if it covers more than this share of its unseen pairs
NAMED = 0.5


class ConceptResults(OriginRecord):
    """All concepts, with one signed SAE and one-sided ones."""

    vectors: dict[str, Any]
    d_sae: int
    k: float
    seed: int
    fits: dict[str, PairFitRecord] = Field(description="Of all concepts' held-out pairs, by kind of SAE.")
    concepts: list[ConceptRecord]

    def mean(self, part: Callable[[ConceptRecord], ApartRecord], measure: str) -> float:
        """Return the mean over concepts of ``auroc`` or ``coverage``."""
        return float(np.mean([getattr(part(each), measure) for each in self.concepts]))

    def table(self) -> Table:
        """Make a table of at most 80 columns: one signed latent, two one-sided latents, and directions."""
        look: dict[str, Any] = {"box": None, "pad_edge": False, "collapse_padding": True}
        drawn = Table(**look, header_style="bold underline", caption=CAPTION, caption_justify="left")
        drawn.add_column("concept", no_wrap=True)
        drawn.add_column("axis", justify="right")
        columns = [(part, key, f"{heading}\n{of}") for heading, part in COLUMNS.items() for key, of in MEASURES.items()]
        columns += [(part, "auroc", f"{heading}\nAUROC") for heading, part in DIRECTIONS.items()]
        for _, _, heading in columns:
            drawn.add_column(heading, justify="right", no_wrap=True)
        for each in self.concepts:
            shown = [f"{getattr(part(each), key):.2f}" for part, key, _ in columns]
            drawn.add_row(" / ".join(each.poles), str(each.saes["signed"].latent), *shown)
        drawn.add_row("mean", "", *(f"{self.mean(part, key):.3f}" for part, key, _ in columns), style="bold")
        return drawn


CAPTION = (
    "On unseen templates. AUROC: A - B against B - A; cover: share of both on the right side of 0. signed: one latent; "
    "2 of F, of 2F: two one-sided latents, since one covers at most half. mean: mean difference; PC: best component."
)
COLUMNS: dict[str, Callable[[ConceptRecord], ApartRecord]] = {
    "signed": lambda found: found.saes["signed"],
    "2 of F": lambda found: found.latent_pairs["one_sided_F"],
    "2 of 2F": lambda found: found.latent_pairs["one_sided_2F"],
}
DIRECTIONS: dict[str, Callable[[ConceptRecord], ApartRecord]] = {
    "mean": lambda found: found.mean_difference,
    "PC": lambda found: found.component,
}
MEASURES = {"auroc": "AUROC", "coverage": "cover"}


class ConceptPairs(NamedTuple):
    """Pairs of the texts of both poles of a template with equal fillers."""

    pairs: PairSet
    held_out: Bool[np.ndarray, " n"]
    """Pairs of templates that no training pair has."""
    poles: dict[str, tuple[str, str]]


def concept_pairs(names: Sequence[str] | None = None) -> ConceptPairs:
    """Return the pairs of the shipped concepts, or of these tasks: A is of the first pole, B of the second."""
    a: list[str] = []
    b: list[str] = []
    groups: list[str] = []
    held_out: list[bool] = []
    poles: dict[str, tuple[str, str]] = {}
    for name in names or [name for name in task_names() if "/" not in name]:
        task = load_task(name)
        test = set(task.split().test.tolist())
        by_group: dict[str, tuple[list[int], list[int]]] = {}
        for row, example in enumerate(task.examples):
            by_group.setdefault(example.group, ([], []))[example.pole].append(row)
        for first, second in ((i, j) for sides in by_group.values() for i, j in zip(*sides, strict=False)):
            a.append(task.texts[first])
            b.append(task.texts[second])
            groups.append(name)
            held_out.append(first in test)
        poles[name] = task.poles
    pairs = unlabelled_pairs("the shipped concepts", a, b, groups)
    return ConceptPairs(pairs, np.array(held_out), poles)


def fit_concepts(
    vectors: TextVectors,
    *,
    out: Path,
    d_sae: int = 24,
    k: float = 5,
    seeds: int = 5,
    seed: int = 0,
    console: Console | None = None,
) -> ConceptResults:
    """
    Train on the differences of the concepts' texts, measure each concept's best latent, and write ``concepts.json``.

    Differences are scaled to one length, else the concepts with the longest ones would take all axes.

    Of several seeds, the one that does best on training templates is taken: the signed SAE by one latent a concept,
    one-sided ones by two. The folder is that of
    :meth:`~.axes.PairAxes.report`, with ``concepts.json`` beside.
    """
    console = console or Console(quiet=True)
    pairs, held_out, poles = concept_pairs()
    differences = differences_of_texts(pairs, vectors, held_out, unit=True, console=console)
    sizes: dict[str, Any] = {"d_sae": d_sae, "k": k, "seeds": seeds, "baselines": True, "seed": seed}
    concept = np.array(pairs.groups)

    def score(sae: SAE[Any], best: Callable[..., ApartRecord] = best_latent) -> float:
        """Return the mean AUROC and coverage, added, of what ``best`` finds, on training templates."""
        codes = both_codes(sae, differences)
        parts = ((concept == name) & ~held_out for name in poles)
        found = [best(codes, part, part) for part in parts]
        return float(np.mean([each.auroc + each.coverage for each in found]))

    fitted = fit_axes(
        pairs,
        differences,
        components(pairs),
        **sizes,
        origin=vectors.facts(),
        device=vectors.device,
        console=console,
        score=score,
    )
    one_sided = {
        kind: max(found, key=lambda sae: score(sae, best_pair))
        for kind, found in fitted.saes.items()
        if kind in BASELINES
    }
    codes = {kind: both_codes(sae, differences) for kind, sae in ({"signed": fitted.sae} | one_sided).items()}
    x = torch.cat(list(differences.blocks())).cpu().numpy()
    # not centred: which text is A means nothing
    principal = np.linalg.svd(x[~held_out], full_matrices=False)[2][:d_sae]
    records = []
    for name, of_poles in poles.items():
        train, test = ((concept == name) & part for part in (~held_out, held_out))
        mean_difference, component = directions_apart(x, principal, train, test)
        records.append(
            ConceptRecord(
                concept=name,
                poles=of_poles,
                n_train=int(train.sum()),
                n_test=int(test.sum()),
                saes={kind: best_latent(each, train, test) for kind, each in codes.items()},
                latent_pairs={kind: best_pair(codes[kind], train, test) for kind in one_sided},
                mean_difference=mean_difference,
                component=component,
            )
        )
    results = ConceptResults(
        **origin_facts(vectors.device),
        vectors=fitted.results.vectors,
        d_sae=d_sae,
        k=k,
        seed=seed,
        fits=fitted.results.fits,
        concepts=records,
    )
    axes = PairAxes(fitted.sae, _named(fitted.results, records), pairs, fitted.codes, vectors)
    axes.report(out, concepts=records)
    write_whole(out / CONCEPTS, results.model_dump_json(indent=1) + "\n")
    return results


def _named(results: PairResults, concepts: Sequence[ConceptRecord]) -> PairResults:
    """Name axes after the concepts that they tell apart on most of the unseen pairs."""
    labels: dict[int, LabelRecord] = {}
    for each in concepts:
        signed = each.saes["signed"]
        if signed.coverage > NAMED:
            positive, negative = each.poles[:: signed.sign]
            if before := labels.get(signed.latent):
                positive, negative = f"{before.positive}, {positive}", f"{before.negative}, {negative}"
            labels[signed.latent] = LabelRecord(positive=positive, negative=negative, relation="opposites")
    axes = [axis.model_copy(update={"label": labels.get(axis.latent)}) for axis in results.axes]
    return results.model_copy(update={"axes": axes, "judge": "named after the concepts that they tell apart"})
