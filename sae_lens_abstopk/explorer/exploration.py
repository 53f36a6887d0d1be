"""``explore``: collect the firings of an SAE's latents; show both poles of each in a notebook or as a site."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePath
from typing import Any, Self

from rich.console import Console
from sae_lens import SAE
from transformer_lens.HookedRootModule import HookedRootModule
from typing_extensions import override

from sae_lens_abstopk.evaluation.labelling.labeler import Labeler
from sae_lens_abstopk.evaluation.results.schema import Results
from sae_lens_abstopk.evaluation.subjects.measured import Measured, load_measured
from sae_lens_abstopk.evaluation.subjects.sae_specs import WEIGHTS
from sae_lens_abstopk.evaluation.subjects.vector_subjects import VectorSubjects
from sae_lens_abstopk.explorer.catalogue import Catalogue
from sae_lens_abstopk.explorer.collection import CollectionSettings, Collector, collect
from sae_lens_abstopk.explorer.concepts import covered_concepts, load_concepts
from sae_lens_abstopk.explorer.directions import axis_matches
from sae_lens_abstopk.explorer.judging import sides_of
from sae_lens_abstopk.explorer.latents import Latent, Provenance
from sae_lens_abstopk.explorer.site import summary, write_site
from sae_lens_abstopk.explorer.steered import steered_texts
from sae_lens_abstopk.model.generation import TextModel
from sae_lens_abstopk.model.language_model import PROCESSING
from sae_lens_abstopk.model.logit_lens import token_effects
from sae_lens_abstopk.model.token_filter import TokenSelection
from sae_lens_abstopk.saes.loading import Source, read_by, require_all_heads
from sae_lens_abstopk.system.errors import ConfigError, require_choice, require_given, require_range
from sae_lens_abstopk.system.pages import templates
from sae_lens_abstopk.system.shown import Facts, Shown
from sae_lens_abstopk.system.terminal import PassProgress, PrintableConsole, stages_bar
from sae_lens_abstopk.system.typed_values import one_or_more

# cards below the numbers of an exploration, and contexts of each pole on a single card
CARDS, CONTEXTS = 3, 8
# rows stand alone, and are often so few that joint firings need all of them
OF_ROWS = CollectionSettings(before=0, after=0, cofiring_one_in=1)


@dataclass(frozen=True, repr=False)
class LatentCard(Shown):
    """One latent, with its contexts; displays itself in a notebook."""

    sae: str
    latent: Latent
    signed: bool
    """Whether to show the negative side."""
    unit: str = "tokens"

    @override
    def _facts(self) -> Facts:
        (facts,) = self.latent._facts()
        return [{"SAE": self.sae} | {name: fact for name, fact in facts.items() if self.signed or name != "negative"}]

    @override
    def _repr_html_(self) -> str:
        cards = templates("explorer").get_template("cards.html.j2").module
        return str(cards.card(self.sae, self.latent, self.signed, CONTEXTS, self.unit))  # type: ignore[attr-defined]


@dataclass(frozen=True, repr=False)
class Exploration(Shown):
    """The result of :func:`explore`; displays itself in a notebook."""

    saes: dict[str, Catalogue]
    """Catalogues by SAE name, in the given order."""
    about: Provenance
    """The model, hook and text of the collection."""
    concepts: Sequence[dict[str, Any]] = ()
    """Evaluation results for these SAEs, as JSON for the pages."""

    def catalogue(self, sae: str | None = None) -> Catalogue:
        """Return the latents of one SAE, by default of the first; ConfigError if it was not explored."""
        name = sae or next(iter(self.saes))
        require_choice("sae", name, self.saes)
        return self.saes[name]

    def latent(self, index: int, *, sae: str | None = None) -> LatentCard:
        """Return the card of one latent, by default of the first SAE; IndexError if it has no such latent."""
        catalogue = self.catalogue(sae)
        signed, unit = catalogue.fires_negatively, self.about.unit
        return LatentCard(catalogue.name, catalogue[index], signed=signed, unit=unit)

    def scale(self, latent: int, *, sae: str | None = None) -> float:
        """
        Return the 99th percentile of |code|, to within 5 %: strength 1 in ``steer(..., scale=found.scale)``.

        Raises:
            ConfigError: the latent did not fire, or ``sae`` is missing with two SAEs; also as :meth:`latent`.
        """
        if sae is None and len(self.saes) > 1:
            raise ConfigError(
                f"{len(self.saes)} SAEs were explored ({', '.join(self.saes)}); say whose scale: "
                "scale=lambda latent: found.scale(latent, sae=NAME)."
            )
        scale = self.latent(latent, sae=sae).latent.scale
        return require_given(f"the scale of latent {latent}", scale, "it did not fire, so explore more or other text")

    def labelled(self, labeler: Labeler, latents: Sequence[int], *, on_progress: PassProgress | None = None) -> Self:
        """Let a language model name ``latents`` of the first SAE, and check it on planted ones first."""
        score, first = labeler.check(), self.catalogue()
        judgements = labeler.judge({index: sides_of(first[index]) for index in latents}, on_progress=on_progress)
        judge = f"{len(judgements):,} latents named and judged by {labeler.model}, {score}"
        saes = self.saes | {first.name: first.judged(judgements)}
        return replace(self, saes=saes, about=replace(self.about, judge=judge))

    def suggested(self, n: int) -> list[int]:
        """Return the ``n`` latents of the first SAE to look at first, ranked by :meth:`Catalogue.suggested`."""
        return self.catalogue().suggested(n)

    def write(self, folder: str | Path, *, on_progress: PassProgress | None = None) -> Path:
        """Write a static site that opens from disk and return its first page; errors as :func:`write_site`."""
        saes = list(self.saes.values())
        return write_site(saes, self.about, Path(folder), concepts=self.concepts, on_progress=on_progress)

    @override
    def _facts(self) -> Facts:
        return [row for sae in self.saes.values() for row in sae._facts()]

    @override
    def _repr_html_(self) -> str:
        latents = [self.catalogue()[index] for index in self.suggested(CARDS)]
        rows = [(sae, summary(sae)) for sae in self.saes.values()]
        notebook = templates("explorer").get_template("notebook.html.j2")
        return notebook.render(about=self.about, rows=rows, latents=latents)


def explore(
    sae: Source | Sequence[Source],
    *,
    model: str | PurePath | HookedRootModule | None = None,
    text: str | None = None,
    data: str | Path | None = None,
    show: str | None = None,
    n_tokens: int = 204_800,
    checkpoint: str | Path | None = None,
    prompts: str | Sequence[str] = (),
    steered_latents: int = 20,
    results: str | Path | Results | Sequence[str | Path | Results] = (),
    float32: bool = False,
    device: str = "auto",
    console: Console | None = None,
    on_progress: PassProgress | None = None,
) -> Exploration:
    """
    Collect the firings of both poles of every latent in one pass over a text, or over vectors.

    Args:
        sae: An SAE or its folder, or two that read the same hook or both read vectors, to compare.
        model: Name or folder of the language model, or the loaded model; by default the model in the SAE's metadata.
        text: Dataset or file; by default the held-out text of the SAE's run.
        data: Of SAEs of vectors: file or data set of vectors; by default those that the SAE's run held out.
        show: Of SAEs of vectors: column with the texts of rows.
        n_tokens: Tokens to read, rounded up to whole batches, or rows of vectors; all if there are fewer.
        checkpoint: Folder to save the pass in and to resume or reuse it from; by default it is not saved.
        prompts: One or several prompts to continue while a latent of the first SAE is steered to either side.
        steered_latents: Number of latents to steer with, in suggested order.
        results: One or several results of :func:`evaluate` on these SAEs, or their files, for a page per concept.
        float32: Read in float32, also where bfloat16 is faster.
        device: Device for loading the model; ``"auto"`` is CUDA if available, else the CPU.
        console: Shows progress; by default the terminal.
        on_progress: Called instead, with (batches done, batches in all), then the same of the steered latents.

    Raises:
        ConfigError: an SAE cannot be loaded, there are more than two or they read different hooks, model, text or
            vectors are unknown, a prompt is empty or has no model, or the results belong to other SAEs.
    """
    sources: list[Source] = one_or_more(sae)
    prompts, results = one_or_more(prompts), one_or_more(results)
    require_range("the number of SAEs", len(sources), at_least=1, at_most=2)
    options: dict[str, Any] = {"data": data, "show": show, "float32": float32, "device": device}
    loaded = load_measured(sources, model=model, text=text, **options)
    if prompts and isinstance(loaded, VectorSubjects):
        raise ConfigError("nothing can be steered: these SAEs were trained on vectors; leave --steer (prompts=) out.")
    first = next(iter(loaded.saes))
    folders = {
        name: None if isinstance(source, SAE) else str(source)
        for name, source in zip(loaded.saes, sources, strict=True)
    }
    # before the model is loaded, check that results match these SAEs and that they can steer
    concepts = load_concepts(results, folders) if results else ()
    if prompts:
        require_all_heads(loaded.saes[first], "steering")
    in_memory = None if isinstance(model, str | PurePath) else model
    reads = "float32" if float32 else "fast"
    subjects = loaded if isinstance(loaded, VectorSubjects) else loaded.with_model(in_memory, reads=reads)
    lm = None if isinstance(subjects, VectorSubjects) else subjects.model
    if lm is not None and prompts:  # before the pass, check that each prompt has tokens
        prepend_bos = TokenSelection.of_sae(subjects.saes[first]).prepend_bos
        TextModel(lm, prepend_bos=prepend_bos).encode(prompts)
    batches = subjects.batches(n_tokens)
    with stages_bar(console or PrintableConsole(stderr=True)) if on_progress is None else nullcontext() as stage:
        collected = collect(
            subjects.passes,
            subjects.saes,
            batches,
            token_filter=subjects.token_filter,
            settings=CollectionSettings() if lm is not None else OF_ROWS,
            checkpoint=Path(checkpoint) if checkpoint else None,
            on_progress=partial(stage, "collecting") if stage else on_progress,
        )
        found = Exploration(
            _catalogues(subjects, collected, folders, concepts),
            _provenance(subjects, sum(batch.numel() for batch in batches)),
            concepts,
        )
        if lm is not None and prompts:
            scale = found.catalogue().scale.tolist()
            scales = {each: scale[each] for each in found.suggested(steered_latents) if scale[each] > 0}
            steering = partial(stage, "steering") if stage else on_progress
            texts = steered_texts(lm, subjects.saes[first], scales, prompts, on_progress=steering)
            found = replace(found, saes=found.saes | {first: found.catalogue().steered(texts)})
    return found


def _catalogues(
    subjects: Measured,
    collected: Mapping[str, Collector],
    folders: Mapping[str, str | None],
    concepts: Sequence[dict[str, Any]],
) -> dict[str, Catalogue]:
    lm = None if isinstance(subjects, VectorSubjects) else subjects.model
    catalogues, text_of = {}, subjects.text_of
    first, *others = subjects.saes
    for name, each in subjects.saes.items():
        matches, compared_with = None, None
        if others:
            compared_with = others[0] if name == first else first
            fires = collected[compared_with].pole_counts > 0
            matches = axis_matches(each.W_dec, subjects.saes[compared_with].W_dec, fires=fires)
        catalogues[name] = Catalogue(
            name,
            each,
            collected[name],
            text_of,
            source=folders[name] or "PATH_OF_THE_SAE",
            effects=None if lm is None else token_effects(lm, each.W_dec, read_by(each)),
            compared_with=compared_with,
            matches=matches,
        )
        catalogues[name].covered = covered_concepts(concepts, list(subjects.saes).index(name))
    return catalogues


def _provenance(subjects: Measured, tokens_read: int) -> Provenance:
    about: dict[str, Any] = {"model_source": "", "context_size": 1}
    if not isinstance(subjects, VectorSubjects):
        spec, kwargs = subjects.model_spec, subjects.model_spec.load_options
        about = {
            "model_source": spec.model_name,
            "context_size": subjects.text_spec.context_size,
            "model_class": spec.model_class_name,
            "loaded_with": {key: kwargs[key] for key in sorted((PROCESSING | WEIGHTS) & kwargs.keys())},
            "all_heads": next(iter(subjects.saes.values())).cfg.metadata.hook_head_index is None,
        }
    return Provenance(
        model=subjects.model_name,
        hook=subjects.hook_name,
        text=subjects.text_name,
        held_out=subjects.held_out,
        tokens_read=tokens_read,
        precision=subjects.precision,
        **about,
    )
