"""The subcommand ``diff``: what a fine-tune changed."""

from pathlib import Path
from typing import Annotated, Literal

import typer
from typer import Argument, Option

from sae_lens_abstopk.cli.app import Device, FitGroup, app, refuse_without
from sae_lens_abstopk.cli.errors import config_error, errors_as_sentences
from sae_lens_abstopk.cli.output import continuations, print_page, prints_tables

diff = typer.Typer(cls=FitGroup, no_args_is_help=True)
app.add_typer(
    diff,
    name="diff",
    help="Find what a fine-tune changed in a model.\n\nThe options of `abstopk diff` are those of its command `fit`.",
)


@diff.command()
@prints_tables
def fit(
    context: typer.Context,
    base: Annotated[str, Option(help="Base model: Hub id or folder.")],
    data: Annotated[
        str,
        Option(
            metavar="PATH[,...]",
            help="Text that both models read: a file or Hub data set, with ,name=X ,split=X ,column=X if needed.",
        ),
    ],
    tuned: Annotated[str | None, Option(help="Tuned model: Hub id or folder.")] = None,
    adapter: Annotated[str | None, Option(help="PEFT adapter of the base model, in place of --tuned.")] = None,
    layer: Annotated[int | None, Option(help="Layer whose output is read; by default the middle one.", min=0)] = None,
    hook: Annotated[str | None, Option(help="Another module to read, in place of a layer.")] = None,
    out: Annotated[Path, Option("--out", "-o", help="Output folder; the same command resumes a run in it.")] = Path(
        "diff"
    ),
    chat: Annotated[
        bool, Option("--chat", help="The text is conversations, read in the tuned model's chat template.")
    ] = False,
    template: Annotated[
        bool, Option("--template", help="With --chat, train on the template's own tokens too.")
    ] = False,
    tokens: Annotated[
        int | None, Option(help="Tokens to train on; by default four times those of the text, 512,000 at most.", min=1)
    ] = None,
    context_size: Annotated[int | None, Option(help="Tokens of a context; 128 by default.", min=2)] = None,
    d_sae: Annotated[int | None, Option(help="Number of latents; 144 by default.", min=1)] = None,
    k: Annotated[float | None, Option(help="Mean number of active latents of a token; 8 by default.", min=1)] = None,
    seeds: Annotated[int, Option(help="SAEs to train from other initial weights, to say what is stable.", min=1)] = 5,
    no_baselines: Annotated[
        bool, Option("--no-baselines", help="Train no one-sided SAEs of the same width and of twice the width.")
    ] = False,
    show: Annotated[
        Literal["signed", "one-sided-F", "one-sided-2F"],
        Option(help="SAE whose latents are shown; the same command with another one trains nothing again."),
    ] = "signed",
    halves: Annotated[
        bool,
        Option(
            "--halves", help="Train on two halves of the text too: a latent of only one half is a matter of the text."
        ),
    ] = False,
    measure_tokens: Annotated[
        int | None,
        Option(help="Held-out tokens to measure on; by default a 32nd of those trained on, 16,384 at most.", min=1),
    ] = None,
    seed: Annotated[int, Option(help="Seed of the text's order and of the first SAE.", min=0, max=2**31 - 1)] = 0,
    prompt: Annotated[
        list[str] | None,
        Option(
            help="Text for both models to continue; may be repeated. By default held-out text up to where they part."
        ),
    ] = None,
    device: Device = "auto",
    tuned_device: Annotated[str | None, Option(help="Device of --tuned, if not that of the base model.")] = None,
    set_: Annotated[
        list[str] | None,
        Option(
            "--set",
            metavar="KEY=VALUE",
            help="Another key of the config (`abstopk configs --keys`), such as lr=1e-3; may be repeated.",
        ),
    ] = None,
) -> None:
    """Train SAEs on the difference of two models' activations, rank latents by KL, and write a page."""
    with errors_as_sentences() as console:
        from sae_lens_abstopk.diffs.comparing import compare_models
        from sae_lens_abstopk.diffs.fitting import EPOCHS, RUN, difference_config, fit_difference
        from sae_lens_abstopk.diffs.tables import latents_table, summary
        from sae_lens_abstopk.evaluation.subjects.sae_specs import text_keys
        from sae_lens_abstopk.training.config.config_file import override_values
        from sae_lens_abstopk.training.config.seeds_and_baselines import SIGNED
        from sae_lens_abstopk.training.distributed import require_one_process

        require_one_process("abstopk diff")
        kind = show.replace("-", "_")
        # fail before training, not after it
        if not chat:
            refuse_without("--chat", "template", context=context)
        if any(not each.strip() for each in prompt or ()):
            raise config_error("--prompt '' is empty; give a text to continue, or leave it out.")
        if no_baselines and kind != SIGNED:
            raise config_error(f"--show {show} needs the SAE that --no-baselines leaves out; leave out one of them.")
        if out.is_dir() and any(out.iterdir()) and not (out / RUN).is_dir():
            raise config_error(f"--out {out} holds other files; give a new or empty folder.")
        cfg = difference_config(
            base,
            out,
            text=text_keys("--data", data),
            tuned=tuned,
            adapter=adapter,
            layer=layer,
            hook_name=hook,
            d_sae=d_sae,
            k=k,
            n_seeds=seeds,
            baselines=not no_baselines,
            seed=seed,
            device=device,
            tuned_device=tuned_device,
            use_chat_formatting=chat,
            exclude_chat_template=chat and not template,
            training_tokens=tokens,
            context_size=context_size,
            overrides=override_values(set_ or []),
        )
        if tokens is None:
            told = f"training on {cfg.training_tokens:,} tokens: the text {EPOCHS} times, 512,000 tokens at most"
            console.progress.print(f"{told} (--tokens)", style="dim", soft_wrap=True)
        fitted = fit_difference(cfg, halves_of=kind if halves else None, console=console.progress)
        found = compare_models(
            fitted,
            out,
            n_tokens=measure_tokens,
            kind=kind,
            prompts=prompt or (),
            console=console.progress,
        )
        print_page(latents_table(found), summary(found.results), out / "index.html", console)


@diff.command()
def report(
    context: typer.Context,
    folder: Annotated[Path, Argument(metavar="DIR", help="Folder that `abstopk diff` wrote.")] = Path("diff"),
    out: Annotated[Path | None, Option("--out", "-o", help="The page; DIR/report.html by default.")] = None,
    labeler: Annotated[str | None, Option(help="URL of an OpenAI-compatible endpoint that names the poles.")] = None,
    labeler_model: Annotated[str | None, Option(help="Model to use at the labeler.")] = None,
    yes: Annotated[bool, Option("--yes", "-y", help="Send text to the labeler without confirmation.")] = False,
) -> None:
    """Write the ten latents that matter most into one page to send to a colleague."""
    with errors_as_sentences() as console:
        from sae_lens_abstopk.diffs.diff_files import Diff
        from sae_lens_abstopk.diffs.page import REPORTED, write_page, write_report
        from sae_lens_abstopk.evaluation.labelling.labeler import ANSWERS, Labeler
        from sae_lens_abstopk.explorer.judging import LATENTS
        from sae_lens_abstopk.system.errors import require_given
        from sae_lens_abstopk.system.terminal import passes_bar
        from sae_lens_abstopk.workflows.diff_labels import excerpts, label_latents

        found = Diff.read(folder)
        if not labeler:
            refuse_without("--labeler", "labeler_model", "yes", context=context)
        else:
            name = require_given("--labeler-model", labeler_model, "add --labeler-model NAME")
            judge = Labeler(labeler, name, question=LATENTS, cache=folder / ANSWERS)
            of_latents = excerpts(found, REPORTED)
            if yes or typer.confirm(f"{judge.estimate(of_latents)} Continue?"):
                with passes_bar(console.progress, "labelling") as on_progress:
                    found = label_latents(found, judge, of_latents, on_progress=on_progress)
                found.write(folder)
                write_page(found, folder)
        console.out(write_report(found, out or folder / "report.html"))


@diff.command()
@prints_tables
def patch(
    latent: Annotated[int, Option(help="Number of the latent.", min=0)],
    prompt: Annotated[list[str], Option(help="Text to continue; may be repeated.")],
    folder: Annotated[Path, Argument(metavar="DIR", help="Folder that `abstopk diff` wrote.")] = Path("diff"),
    chat: Annotated[bool, Option("--chat", help="Prompts are a user's turns, in the tuned model's template.")] = False,
    tokens: Annotated[int, Option(help="Longest continuation, in tokens.", min=1)] = 24,
    device: Device = "auto",
) -> None:
    """Show what both models write, and what each writes with the other's activations along a latent."""
    with errors_as_sentences() as console:
        from sae_lens_abstopk.diffs.patched_prompts import patch_prompts

        for each in patch_prompts(folder, latent, prompt, chat=chat, max_new_tokens=tokens, device=device):
            texts = {
                "base": each.base,
                f"base with tuned's {latent}": each.base_patched,
                "tuned": each.tuned,
                f"tuned with base's {latent}": each.tuned_patched,
            }
            console.print(continuations(each.prompt, "model", texts))
