"""From fitted SAEs to everything that is written about a comparison of two models."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from sae_lens import SAE

from sae_lens_abstopk.diffs.diff_files import SAE_FOLDER, Diff
from sae_lens_abstopk.diffs.fit_measures import ROWS
from sae_lens_abstopk.diffs.fitting import FittedDifference
from sae_lens_abstopk.diffs.held_out import HeldOut
from sae_lens_abstopk.diffs.measuring import MEASURED, measure
from sae_lens_abstopk.diffs.page import write_page
from sae_lens_abstopk.diffs.writing import with_writing
from sae_lens_abstopk.equivalents.gauge import canonical_gauge
from sae_lens_abstopk.saes.poles import PoleActivity
from sae_lens_abstopk.system.files import without_path
from sae_lens_abstopk.system.terminal import passes_bar
from sae_lens_abstopk.text.text_spec import TextPart
from sae_lens_abstopk.training.config.seeds_and_baselines import SIGNED

# most held-out tokens to measure on, and of these, to measure latents on
TOKENS, TOKENS_OF_LATENTS = 16_384, 4096
# of so many tokens trained on, one is measured on, so that a short text is not measured for longer than it is read
MEASURED_ONE_IN, LEAST_TOKENS, LEAST_OF_LATENTS = 64, 2048, 1024
# most training tokens whose principal components stand beside the SAEs
TRAINING_TOKENS = 8_192


def compare_models(
    fitted: FittedDifference,
    out: Path,
    *,
    n_tokens: int | None = None,
    kind: str = SIGNED,
    n_latents: int = MEASURED,
    prompts: Sequence[str] = (),
    console: Console,
) -> Diff:
    """
    Measure fitted SAEs on held-out text, and write the SAE that is shown, both records and the page.

    Of signed SAEs, the pole of more energy becomes the positive one.

    Args:
        fitted: From :func:`~.fitting.fit_difference`.
        out: The folder.
        n_tokens: Held-out tokens to measure on, or a few more; by default ``TOKENS``, fewer for a short text.
        kind: Kind of the SAE that is shown, ``one_sided_F`` or ``one_sided_2F`` for a one-sided one.
        n_latents: The KL of as many latents is measured, each by passes without it.
        prompts: What both models continue; by default, held-out text up to where they part.
        console: Shows progress.

    Raises:
        ConfigError: there is too little held-out text.
    """
    cfg = fitted.cfg
    console.print("reading held-out text with both models", style="dim")
    share = cfg.training_tokens // MEASURED_ONE_IN
    n_tokens = n_tokens or min(TOKENS, max(LEAST_TOKENS, share))
    held_out = read_text(fitted, n_tokens, part="held_out")
    saes = fitted.saes | {SIGNED: [_in_gauge(sae, held_out) for sae in fitted.saes[SIGNED]]}
    training = {"tokens": cfg.training_tokens, "batch": cfg.train_batch_size_tokens, "lr": cfg.lr}
    with passes_bar(console, "measuring on held-out text") as on_progress:
        found = measure(
            *(fitted.pair, saes, held_out),
            train_x=read_text(fitted, TRAINING_TOKENS, part="train").x,
            kind=kind,
            k=cfg.sae.k,
            data=without_path(cfg.dataset_path),
            training=training | {"seeds": len(saes[kind])},
            halves=fitted.halves,
            n_latents=n_latents,
            tokens_of_latents=min(TOKENS_OF_LATENTS, max(LEAST_OF_LATENTS, n_tokens // 4)),
            seed=cfg.seed,
            on_progress=on_progress,
        )
    shown = saes[kind][found.results.shown_seed]
    shown.save_model(out / SAE_FOLDER)
    console.print("writing with both models", style="dim")
    chat = fitted.text_spec.use_chat_formatting
    found = with_writing(found, fitted.pair, shown, fitted.token_filter, prompts=prompts, chat=chat)
    found.write(out)
    write_page(found, out)
    return found


def read_text(fitted: FittedDifference, n_tokens: int, *, part: TextPart) -> HeldOut:
    """Read a part of the text with the filters of training."""
    widest = max(sae.cfg.d_sae for saes in fitted.saes.values() for sae in saes)
    rules = {"token_filter": fitted.token_filter, "d_sae": widest}
    return HeldOut.read(fitted.pair, fitted.text_spec, n_tokens, **rules, part=part)


@torch.no_grad()
def _in_gauge(sae: SAE[Any], held_out: HeldOut) -> SAE[Any]:
    """Return an equal SAE whose positive poles have more energy than its negative ones."""
    activity = PoleActivity.zeros(sae.cfg.d_sae)
    for block in held_out.x.split(ROWS):
        activity.update(sae.encode(block.to(sae.W_dec.device)))
    return canonical_gauge(sae, activity.energy)
