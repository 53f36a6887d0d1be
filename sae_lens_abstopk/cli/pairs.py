"""The subcommand ``pairs``: what differs between the texts of pairs, and which way."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from typer import Argument, Option

from sae_lens_abstopk.cli.app import Device, FitGroup, Float32, Layer, NewFolder, TextModel, app, refuse_without
from sae_lens_abstopk.cli.errors import config_error, errors_as_sentences
from sae_lens_abstopk.cli.output import print_page, prints_tables

if TYPE_CHECKING:
    from sae_lens_abstopk.vectors.vectors import Vectors


pairs = typer.Typer(cls=FitGroup, no_args_is_help=True)
app.add_typer(
    pairs,
    name="pairs",
    help="Find what differs between the texts of pairs, and what preferences reward.\n\n"
    "The options of `abstopk pairs` are those of its command `fit`.",
)


@pairs.command()
@prints_tables
def fit(
    context: typer.Context,
    data: Annotated[
        str | None,
        Argument(
            metavar="DATA",
            help="Pairs: a .jsonl, .json, .csv or .parquet file, a data set on disk, or a Hub id, "
            "with ,name=X ,split=X if needed.",
        ),
    ] = None,
    model: TextModel = None,
    layer: Layer = None,
    hook: Annotated[str | None, Option(help="Another module to read, in place of a layer.")] = None,
    reading: Annotated[
        Literal["mean", "last"], Option(help="Read the mean over a text's tokens, or its last token.")
    ] = "mean",
    arrays: Annotated[
        str | None, Option(metavar="A.npy,B.npy", help="Vectors of both texts of every row, in place of a model.")
    ] = None,
    columns: Annotated[
        str | None,
        Option(metavar="a=X,b=Y,...", help="Columns, if they are not recognised: of a, b, label, prompt and group."),
    ] = None,
    out: NewFolder = Path("pairs"),
    d_sae: Annotated[int, Option(help="Number of axes.", min=1)] = 32,
    k: Annotated[float, Option(help="Mean number of active axes of a pair.", min=1)] = 4,
    seeds: Annotated[int, Option(help="SAEs to train from other initial weights, to say what is stable.", min=1)] = 5,
    no_baselines: Annotated[
        bool, Option("--no-baselines", help="Train no one-sided SAEs of the same width and of twice the width.")
    ] = False,
    held_out: Annotated[float, Option(help="Share of the pairs to measure on.", min=0.01, max=0.5)] = 0.2,
    limit: Annotated[int | None, Option(help="Read only this many rows.", min=1)] = None,
    max_tokens: Annotated[int, Option(help="Read at most this many tokens of a text with its prompt.", min=8)] = 1024,
    float32: Float32 = False,
    seed: Annotated[int, Option(help="Seed of the split and of the first SAE.", min=0, max=2**31 - 1)] = 0,
    device: Device = "auto",
) -> None:
    """Embed both texts of each pair, train signed SAEs on the differences, and write a page."""
    with errors_as_sentences() as console:
        from sae_lens_abstopk.evaluation.subjects.sae_specs import text_keys
        from sae_lens_abstopk.model.quickstart_model import quickstart_model
        from sae_lens_abstopk.pairs.axes import PairAxes
        from sae_lens_abstopk.pairs.pair_set import pairs_of_rows
        from sae_lens_abstopk.pairs.reading import read_pairs
        from sae_lens_abstopk.pairs.tables import summary
        from sae_lens_abstopk.system.files import require_empty

        require_empty(out)
        opened = None if arrays is None else _opened(arrays, model=model, layer=layer, hook=hook)
        if opened is not None:
            refuse_without("a model", "reading", "max_tokens", "float32", context=context)
        if data is not None:
            keys = text_keys("DATA", data)
            found = read_pairs(
                keys["dataset_path"],
                columns=columns,
                name=keys.get("dataset_name"),
                split=keys.get("split", "train"),
                seed=seed,
                limit=limit,
            )
            if opened is not None and limit is None and len(opened[0]) != found.counts.read:
                raise config_error(
                    f"--arrays has {len(opened[0]):,} rows, and {data} {found.counts.read:,}; give one for each."
                )
        elif opened is not None:
            refuse_without("DATA", "columns", "limit", context=context)
            found = pairs_of_rows(len(opened[0]))
        else:
            raise config_error("give pairs of texts, or their vectors with --arrays A.npy,B.npy.")
        n_labelled = int(found.labelled.sum())
        console.progress.print(f"{found.name}: {len(found):,} pairs, {n_labelled:,} with a preference", soft_wrap=True)
        if model is None and opened is None:
            model = str(quickstart_model(lambda sentence: console.progress.print(sentence, style="dim")))
        axes = PairAxes.fit(
            found,
            model=model,
            layer=layer,
            hook_name=hook,
            reading=reading,
            arrays=opened,
            d_sae=d_sae,
            k=k,
            seeds=seeds,
            baselines=not no_baselines,
            held_out=held_out,
            max_tokens=max_tokens,
            float32=float32,
            seed=seed,
            device=device,
            console=console.progress,
        )
        print_page(axes.table(), summary(axes.results), axes.report(out), console)


def _opened(arrays: str, **instead: object) -> tuple["Vectors", "Vectors"]:
    from sae_lens_abstopk.vectors.vector_spec import VectorSpec
    from sae_lens_abstopk.vectors.vectors import open_vectors

    if given := [name for name, value in instead.items() if value is not None]:
        raise config_error(
            f"--arrays takes the place of a model; leave out {', '.join(f'--{name}' for name in given)}."
        )
    paths = arrays.split(",")
    if len(paths) != 2:
        raise config_error(f"--arrays {arrays!r} must name two files of vectors, A.npy,B.npy.")
    first, second = (open_vectors(VectorSpec(dataset_path=path)) for path in paths)
    return first, second


Folder = Annotated[Path, Argument(metavar="DIR", help="Output folder of `abstopk pairs`.")]
Axis = Annotated[int, Option(help="Number of the axis.", min=0)]
Side = Literal["+", "-"]
OfSide = Annotated[Side, Option(help="Pairs whose preferred text has more of this pole.")]
Above = Annotated[float, Option(help="Only pairs whose code is larger than this in magnitude.", min=0)]
NewData = Annotated[Path, Option("--out", "-o", help="New .jsonl, .json, .csv or .parquet file.")]


@pairs.command()
def flip(folder: Folder, axis: Axis, out: NewData, side: OfSide = "+", above: Above = 0) -> None:
    """Write a copy of the data in which the preference of some pairs is swapped."""
    _curate("flip", folder, axis, side, above, out)


@pairs.command()
def drop(folder: Folder, axis: Axis, out: NewData, side: OfSide = "+", above: Above = 0) -> None:
    """Write the data anew without some pairs."""
    _curate("drop", folder, axis, side, above, out)


def _curate(change: Literal["flip", "drop"], folder: Path, axis: int, side: Side, above: float, out: Path) -> None:
    with errors_as_sentences() as console:
        from sae_lens_abstopk.pairs.curate import curate
        from sae_lens_abstopk.pairs.pair_files import pairs_of_axis, read_fit

        fitted = read_fit(folder)
        chosen, reason = pairs_of_axis(fitted, axis, side, above)
        done = curate(fitted.pairs, change, chosen, out, reason=reason)
        what = {"flip": "flipped", "drop": "dropped"}[change]
        console.print(f"{done.n_changed:,} of {fitted.results.counts['read']:,} rows {what}: {reason}", soft_wrap=True)
        console.print(f"each is listed in {done.log}", style="dim", soft_wrap=True)
        console.out(done.out)


@pairs.command()
@prints_tables
def label(
    folder: Folder,
    labeler: Annotated[str, Option(help="URL of an OpenAI-compatible endpoint that names the poles.")],
    labeler_model: Annotated[str, Option(help="Model to use at the labeler.")],
    labeler_prompt: Annotated[Path | None, Option(help="File with a prompt template for the labeler.")] = None,
    axes: Annotated[int, Option(help="Axes to label, in the order of the table.", min=1)] = 32,
    yes: Annotated[bool, Option("--yes", "-y", help="Send text to the labeler without confirmation.")] = False,
) -> None:
    """Let a language model name both poles of the axes, and judge whether they are opposites."""
    with errors_as_sentences() as console:
        from sae_lens_abstopk.evaluation.labelling.labeler import ANSWERS, Labeler
        from sae_lens_abstopk.pairs.labelling import PAIRS, excerpts, label_axes
        from sae_lens_abstopk.pairs.page import write_views
        from sae_lens_abstopk.pairs.pair_files import read_fit
        from sae_lens_abstopk.pairs.tables import axes_table, summary
        from sae_lens_abstopk.system.terminal import passes_bar

        fitted = read_fit(folder)
        judge = Labeler(labeler, labeler_model, question=PAIRS, cache=folder / ANSWERS, prompt=labeler_prompt)
        of_axes = excerpts(fitted, axes)
        if not (yes or typer.confirm(f"{judge.estimate(of_axes)} Continue?")):
            return
        with passes_bar(console.progress, "labelling") as on_progress:
            results = label_axes(fitted.results, judge, of_axes, on_progress=on_progress)
        page = write_views(folder, results, fitted.pairs, fitted.codes)
        print_page(axes_table(results), summary(results), page, console)


@pairs.command()
@prints_tables
def concepts(
    model: TextModel = None,
    layer: Layer = None,
    d_sae: Annotated[int, Option(help="Number of axes.", min=1)] = 24,
    k: Annotated[float, Option(help="Mean number of active axes of a pair.", min=1)] = 5,
    seed: Annotated[int, Option(help="Seed of the first SAE.", min=0, max=2**31 - 1)] = 0,
    out: NewFolder = Path("concepts"),
    device: Device = "auto",
) -> None:
    """Train on the twelve shipped concepts: does one latent tell both texts of a template apart?"""
    with errors_as_sentences() as console:
        from sae_lens_abstopk.model.quickstart_model import quickstart_model
        from sae_lens_abstopk.pairs.concepts import fit_concepts
        from sae_lens_abstopk.pairs.fitting import require_sizes, require_width
        from sae_lens_abstopk.pairs.pair_vectors import TextVectors
        from sae_lens_abstopk.system.files import require_empty

        require_empty(out)
        require_sizes(d_sae=d_sae, k=k, seeds=1)
        if model is None:
            model = str(quickstart_model(lambda sentence: console.progress.print(sentence, style="dim")))
        vectors = TextVectors.of(model, layer=layer, device=device)
        require_width(d_sae, vectors.width())
        results = fit_concepts(vectors, out=out, d_sae=d_sae, k=k, seed=seed, console=console.progress)
        console.print(results.table())
        console.out(out / "concepts.json")
