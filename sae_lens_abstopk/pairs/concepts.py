"""The shipped concepts as pairs: does one latent tell the two texts of a template apart, on both sides?"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from pydantic import Field
from rich.console import Console
from rich.table import Table
from sae_lens import SAE
from scipy.stats import rankdata

from sae_lens_abstopk.evaluation.labelling.labeler import LabelRecord
from sae_lens_abstopk.evaluation.results.facts import origin_facts
from sae_lens_abstopk.evaluation.results.records import OriginRecord, Record
from sae_lens_abstopk.evaluation.tasks.load_task import load_task, task_names
from sae_lens_abstopk.pairs.axes import PairAxes
from sae_lens_abstopk.pairs.fit_axes import fit_axes
from sae_lens_abstopk.pairs.measuring import errors_of
from sae_lens_abstopk.pairs.pair_results import PairResults
from sae_lens_abstopk.pairs.pair_set import PairSet, unlabelled_pairs
from sae_lens_abstopk.pairs.pair_vectors import TextVectors, differences_of_texts
from sae_lens_abstopk.pairs.split import components
from sae_lens_abstopk.system.files import write_whole
from sae_lens_abstopk.vectors.differences import Differences

CONCEPTS = "concepts.json"
# an axis is named after a concept if it covers more than this share of its unseen pairs
NAMED = 0.5


class LatentRecord(Record):
    """The latent of one SAE that tells a concept's texts apart best on training templates, on unseen templates."""

    latent: int
    sign: int = Field(description="1 if A has more of its positive pole in training pairs, else -1.")
    auroc: float = Field(description="Of its code of A - B against that of B - A; at least .5 means the sign is right.")
    coverage: float = Field(
        description="Share of A - B on which it fires on one side and of B - A on which it fires on the other, halved."
    )


class ConceptRecord(Record):
    """One concept."""

    concept: str
    poles: tuple[str, str]
    n_train: int
    n_test: int
    saes: dict[str, LatentRecord]


class ConceptResults(OriginRecord):
    """All concepts, with one signed SAE and one-sided ones."""

    vectors: dict[str, Any]
    d_sae: int
    k: float
    seed: int
    fvu: dict[str, float]
    concepts: list[ConceptRecord]

    def mean(self, sae: str, measure: str) -> float:
        """Return the mean over concepts of ``auroc`` or ``coverage``."""
        return float(np.mean([getattr(each.saes[sae], measure) for each in self.concepts]))

    def table(self) -> Table:
        """Make a table of at most 80 columns: the signed axis of each concept beside one-sided latents."""
        drawn = Table(box=None, pad_edge=False, header_style="bold underline", caption=CAPTION, caption_justify="left")
        drawn.add_column("concept", no_wrap=True)
        drawn.add_column("axis", justify="right")
        names = list(self.fvu)
        for name in names:
            for measure in ("AUROC", "cover"):
                drawn.add_column(f"{SHORT[name]}\n{measure}", justify="right", no_wrap=True)
        for each in self.concepts:
            numbers = ((each.saes[name].auroc, each.saes[name].coverage) for name in names)
            shown = [f"{number:.2f}" for both in numbers for number in both]
            drawn.add_row(" / ".join(each.poles), str(each.saes["signed"].latent), *shown)
        means = [f"{self.mean(name, measure):.3f}" for name in names for measure in ("auroc", "coverage")]
        drawn.add_row("mean", "", *means, style="bold")
        return drawn


CAPTION = (
    "On templates that training did not see. AUROC: the latent's code of A - B against that of B - A; cover: share of "
    "both on the right side of zero. TopK F, 2F: one-sided SAEs of as many and of twice as many latents."
)
SHORT = {"signed": "signed", "one_sided_F": "TopK F", "one_sided_2F": "TopK 2F"}


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

    Of several seeds, the one that does best on training templates is taken. The folder is that of
    :meth:`~.axes.PairAxes.report`, with ``concepts.json`` beside.
    """
    console = console or Console(quiet=True)
    pairs, held_out, poles = concept_pairs()
    differences = differences_of_texts(pairs, vectors, held_out, unit=True, console=console)
    sizes: dict[str, Any] = {"d_sae": d_sae, "k": k, "seeds": seeds, "baselines": True, "seed": seed}
    concept = np.array(pairs.groups)

    def score(sae: SAE[Any]) -> float:
        """Return the mean AUROC and coverage, added, of the best latents on training templates."""
        codes = both_codes(sae, differences)
        parts = ((concept == name) & ~held_out for name in poles)
        best = [best_latent(codes, part, part) for part in parts]
        return float(np.mean([each.auroc + each.coverage for each in best]))

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
    saes = {kind: max(found, key=score) for kind, found in fitted.saes.items()} | {"signed": fitted.sae}
    both = {kind: both_codes(sae, differences) for kind, sae in saes.items()}
    test_rows = differences.held_out.nonzero().squeeze(1)
    records = []
    for name, of_poles in poles.items():
        train, test = ((concept == name) & part for part in (~held_out, held_out))
        found = {kind: best_latent(codes, train, test) for kind, codes in both.items()}
        records.append(
            ConceptRecord(concept=name, poles=of_poles, n_train=int(train.sum()), n_test=int(test.sum()), saes=found)
        )
    results = ConceptResults(
        **origin_facts(vectors.device),
        vectors=fitted.results.vectors,
        d_sae=d_sae,
        k=k,
        seed=seed,
        fvu={kind: errors_of(sae, differences, test_rows).fvu for kind, sae in saes.items()},
        concepts=records,
    )
    axes = PairAxes(fitted.sae, _named(fitted.results, records), pairs, fitted.codes, vectors)
    axes.report(out)
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


def best_latent(
    codes: Float[np.ndarray, "2 n F"], train: Bool[np.ndarray, " n"], test: Bool[np.ndarray, " n"]
) -> LatentRecord:
    """Choose the latent that tells A - B from B - A best in training pairs; measure it on others."""
    of_train = auroc(codes[:, train])
    latent = int(np.abs(of_train - 0.5).argmax())
    sign = 1 if of_train[latent] >= 0.5 else -1
    chosen = sign * codes[:, test, latent]
    right = float(np.mean([(chosen[0] > 0).mean(), (chosen[1] < 0).mean()]))
    return LatentRecord(latent=latent, sign=sign, auroc=float(auroc(chosen[..., None])[0]), coverage=right)


def auroc(codes: Float[np.ndarray, "2 n F"]) -> Float[np.ndarray, " F"]:
    """Return the AUROC of each latent between the codes of A - B and those of B - A; ties count half."""
    n = codes.shape[1]
    ranks = rankdata(np.concatenate(list(codes)), axis=0)[:n].sum(0)
    return (ranks - n * (n + 1) / 2) / n**2


@torch.no_grad()
def both_codes(sae: SAE[Any], differences: Differences) -> Float[np.ndarray, "2 n F"]:
    """Encode A - B and B - A of all pairs."""
    x = torch.cat(list(differences.blocks())).to(sae.W_enc)
    return np.stack([sae.encode(each).float().cpu().numpy() for each in (x, -x)])
