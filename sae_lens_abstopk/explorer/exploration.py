"""``explore``: collect what the latents of an SAE react to and show both poles of each, in a notebook or as a site."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePath
from typing import Any, Self

from rich.console import Console
from sae_lens import SAE
from transformer_lens.HookedRootModule import HookedRootModule

from sae_lens_abstopk.evaluation.results.schema import Results
from sae_lens_abstopk.evaluation.subjects.sae_specs import WEIGHTS
from sae_lens_abstopk.evaluation.subjects.subjects import Subjects, load_subject_saes
from sae_lens_abstopk.explorer.axes import axis_matches
from sae_lens_abstopk.explorer.cards import LatentCard, exploration_html
from sae_lens_abstopk.explorer.catalogue import SCALE_QUANTILE, Catalogue
from sae_lens_abstopk.explorer.collection import CollectionSettings, Collector, collect
from sae_lens_abstopk.explorer.concepts import load_concepts
from sae_lens_abstopk.explorer.labeler import Labeler
from sae_lens_abstopk.explorer.latents import Provenance
from sae_lens_abstopk.explorer.logit_lens import token_effects
from sae_lens_abstopk.explorer.site import write_site
from sae_lens_abstopk.explorer.steered import SteeredText, steered_texts
from sae_lens_abstopk.model.generation import TextModel
from sae_lens_abstopk.model.token_filter import TokenSelection
from sae_lens_abstopk.model.weight_processing import PROCESSING
from sae_lens_abstopk.saes.heads import read_by, require_all_heads
from sae_lens_abstopk.saes.loading import Source
from sae_lens_abstopk.system.errors import ConfigError
from sae_lens_abstopk.system.one_or_more import one_or_more
from sae_lens_abstopk.system.progress import PassProgress, stages_bar
from sae_lens_abstopk.system.terminal_text import PrintableConsole
from sae_lens_abstopk.text.token_text import TokenText

NEIGHBOURS = 6


@dataclass(frozen=True)
class Exploration:
    """What :func:`explore` collected; displays itself in a notebook."""

    saes: dict[str, Catalogue]
    """By name, the first one asked for first."""
    about: Provenance
    """The model, hook and text that it was collected on."""
    concepts: Sequence[dict[str, Any]] = ()
    """What an evaluation found about these SAEs, as the pages read it."""

    def latent(self, index: int, *, sae: str | None = None) -> LatentCard:
        """
        A card of one latent, of the first SAE unless ``sae`` names another.

        Raises:
            ConfigError: there is no such SAE or latent.
        """
        name = sae or next(iter(self.saes))
        if name not in self.saes:
            raise ConfigError(f"sae={name!r} was not explored; use one of {', '.join(self.saes)}.")
        try:
            return LatentCard(name, self.saes[name][index], signed=self.saes[name].fires_negatively)
        except IndexError as error:
            raise ConfigError(str(error)) from None

    def scale(self, latent: int, *, sae: str | None = None) -> float:
        """
        The 99th percentile of the codes' magnitude, to within 5 %; a strength of 1 adds it under ``steer(..., scale=found.scale)``.

        Raises:
            ConfigError: there is no such SAE or latent, the latent did not fire, or several SAEs were explored and none is named.
        """
        if sae is None and len(self.saes) > 1:
            raise ConfigError(
                f"{len(self.saes)} SAEs were explored ({', '.join(self.saes)}); say whose scale it is: found.scale(LATENT, sae=NAME), and "
                "for steer, scale=lambda latent: found.scale(latent, sae=NAME)."
            )
        scale = self.latent(latent, sae=sae).latent.scale
        if not scale > 0:
            raise ConfigError(
                f"latent {latent} did not fire, so it has no scale; explore more or other text (n_tokens=, text=)."
            )
        return scale

    def labelled(self, labeler: Labeler, latents: Sequence[int], *, on_progress: PassProgress | None = None) -> Self:
        """
        The same with ``latents`` of the first SAE named by a language model, which is checked on planted ones first.

        Errors are those of :meth:`Labeler.judge`.
        """
        name = next(iter(self.saes))
        checked = labeler.check()
        judgements = labeler.judge([self.saes[name][index] for index in latents], on_progress=on_progress)
        judge = (
            f"{len(judgements):,} latents named and judged by {labeler.model}, "
            f"right on {checked.right} of {checked.total} planted ones"
        )
        saes = self.saes | {name: self.saes[name].judged(judgements)}
        return replace(self, saes=saes, about=replace(self.about, judge=judge))

    def suggested(self, n: int) -> list[int]:
        """The ``n`` latents of the first SAE to look at first, as :meth:`Collector.suggested` ranks them."""
        return next(iter(self.saes.values())).collected.suggested(n)

    def write(self, folder: str | Path, *, on_progress: PassProgress | None = None) -> Path:
        """Write a static site that opens from disk; returns its first page. Errors are those of :func:`write_site`."""
        return write_site(
            list(self.saes.values()), self.about, Path(folder), concepts=self.concepts, on_progress=on_progress
        )

    def _repr_html_(self) -> str:
        return exploration_html(list(self.saes.values()), self.about)


def explore(
    sae: Source | Sequence[Source],
    *,
    model: str | PurePath | HookedRootModule | None = None,
    text: str | None = None,
    n_tokens: int = 204_800,
    checkpoint: str | Path | None = None,
    prompts: str | Sequence[str] = (),
    steered_latents: int = 20,
    results: str | Path | Results | Sequence[str | Path | Results] = (),
    device: str = "auto",
    console: Console | None = None,
    on_progress: PassProgress | None = None,
    on_steered: PassProgress | None = None,
) -> Exploration:
    """
    Collect, in one pass over a text, what both poles of every latent react to.

    Args:
        sae: An SAE, its folder, or two of either that read one hook and are to be compared.
        model: Name or folder of the language model, or the model itself, loaded; what the SAE records by default.
        text: Dataset or file; the held-out text of the SAE's run by default.
        n_tokens: Tokens to read, rounded up to whole batches; all of the text where it has fewer.
        checkpoint: File that the pass is saved in, and taken up from.
        prompts: One or several to go on with while a latent of the first SAE is pushed to either side, if any.
        steered_latents: Latents that this is done with: the first of the suggested order.
        results: One or several files of `abstopk eval` on these SAEs, or what :func:`evaluate` returned, for a page a concept.
        device: For a model that has to be loaded; ``"auto"`` takes CUDA where there is one, else the CPU.
        console: Where progress is shown; by default the terminal.
        on_progress: Called instead, with (batches done, batches in all).
        on_steered: Called with (latents steered, latents to steer).

    Raises:
        ConfigError: an SAE cannot be loaded, there are more than two or they read different hooks, model or text
            are unknown, a prompt is empty, or the results are of other SAEs.
    """
    sources: list[Source] = one_or_more(sae)
    prompts, results = one_or_more(prompts), one_or_more(results)
    if not 1 <= len(sources) <= 2:
        raise ConfigError(f"{len(sources)} SAEs were given; explore one, or two to compare.")
    loaded = load_subject_saes(sources, model=model, text=text, device=device)
    name, first = next(iter(loaded.saes.items()))
    folders = {
        name: str(source) for name, source in zip(loaded.saes, sources, strict=True) if not isinstance(source, SAE)
    }
    # results of other SAEs are refused before the model is loaded
    concepts = load_concepts(results, {name: folders.get(name) for name in loaded.saes}) if results else ()
    if prompts:
        require_all_heads(first, "steering")
    subjects = loaded.with_model(None if isinstance(model, str | PurePath) else model)
    first = subjects.saes[name]
    if prompts:
        # a prompt that cannot be used is refused before the pass
        TextModel(subjects.model, prepend_bos=TokenSelection.of_sae(first).prepend_bos).encode(prompts)
    batches = subjects.batches(n_tokens)
    steered = {}
    with stages_bar(console or PrintableConsole()) if on_progress is None else nullcontext() as show:
        collected = collect(
            subjects.passes,
            subjects.saes,
            batches,
            token_filter=subjects.token_filter,
            settings=CollectionSettings(),
            checkpoint=Path(checkpoint) if checkpoint else None,
            on_progress=partial(show, "collecting") if show else on_progress,
        )
        if prompts:
            chosen = collected[name].suggested(steered_latents)
            scale = collected[name].strengths.quantile(SCALE_QUANTILE)
            scales = {latent: float(scale[latent]) for latent in chosen if scale[latent] > 0}
            on_steered = on_steered or (partial(show, "steering") if show else None)
            steered[name] = steered_texts(subjects.model, first, scales, prompts, on_progress=on_steered)
    kwargs = subjects.model_spec.load_options
    about = Provenance(
        model=subjects.model_name,
        model_source=subjects.model_spec.model_name,
        hook=subjects.model_spec.hook_name,
        text=subjects.text_name,
        held_out=subjects.held_out,
        tokens_read=sum(batch.numel() for batch in batches),
        context_size=subjects.text_spec.context_size,
        model_class=subjects.model_spec.model_class_name,
        loaded_with={key: kwargs[key] for key in sorted((PROCESSING | WEIGHTS) & kwargs.keys())},
        all_heads=first.cfg.metadata.hook_head_index is None,
    )
    return Exploration(_catalogues(subjects, collected, folders, steered), about, concepts)


def _catalogues(
    subjects: Subjects,
    collected: dict[str, Collector],
    folders: dict[str, str],
    steered: dict[str, dict[int, tuple[SteeredText, ...]]],
) -> dict[str, Catalogue]:
    saes, text_of = subjects.saes, TokenText(subjects.tokenizer)
    found = {}
    for name, sae in saes.items():
        other = next((each for each in saes if each != name), None)
        found[name] = Catalogue(
            name,
            sae,
            collected[name],
            text_of,
            source=folders.get(name, "PATH_OF_THE_SAE"),
            neighbours=min(NEIGHBOURS, sae.cfg.d_sae - 1),
            effects=token_effects(subjects.model, sae.W_dec, read_by(sae)),
            compared_with=other,
            matches=axis_matches(sae.W_dec, saes[other].W_dec, fires=collected[other].pole_counts > 0)
            if other
            else None,
            steered=steered.get(name),
        )
    return found
