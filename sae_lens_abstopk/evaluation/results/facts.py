"""Measure SAEs on plain text, and facts in a results file: the run, identity, reconstruction, decoder, contexts."""

import math
import shlex
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import torch
from sae_lens import SAE
from sae_lens.constants import SAE_WEIGHTS_FILENAME

from sae_lens_abstopk.evaluation.results.fit_record import l0_differs
from sae_lens_abstopk.evaluation.results.records import (
    ExampleRecord,
    GeometryRecord,
    LossRecord,
    ReconstructionRecord,
    SAERecord,
)
from sae_lens_abstopk.evaluation.results.schema import Results
from sae_lens_abstopk.evaluation.subjects.measured import Measured
from sae_lens_abstopk.model.contexts import PoleContexts
from sae_lens_abstopk.model.reconstruction import Observer, Reconstruction, evaluate_reconstruction
from sae_lens_abstopk.saes.geometry import antipodal_pairs
from sae_lens_abstopk.saes.threshold import at_l0
from sae_lens_abstopk.system.files import file_sha256, home_as_tilde
from sae_lens_abstopk.system.provenance import commit, environment, processor
from sae_lens_abstopk.text.token_text import TokenText
from sae_lens_abstopk.vectors.rows_as_texts import RowText

CONTEXTS = 2
"""Strongest contexts of a pole that are kept."""
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_RECORDED = (
    *("training_architecture", "training_tokens", "training_architecture_details", "context_size"),
    *("train_batch_size_tokens", "lr", "seed", "variant", "target_l0"),
)


def origin_facts(device: torch.device | str | None = None) -> dict[str, Any]:
    """Return when, by which command and from which code numbers come, and the machine."""
    program = Path(sys.argv[0])
    is_abstopk = program.stem == "abstopk" or program.parts[-2:] == ("sae_lens_abstopk", "__main__.py")
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["abstopk", *map(home_as_tilde, sys.argv[1:])]) if is_abstopk else "Python",
        "commit": commit(),
        "environment": environment(device) | {"processor": processor()},
    }


def run_facts(subjects: Measured) -> dict[str, Any]:
    """Return the keys of :class:`~.schema.Results` about the current run."""
    return {
        **origin_facts(subjects.device),
        "model": subjects.model_name,
        "hook": subjects.hook_name,
        "text": subjects.text_name,
        "held_out": subjects.held_out,
        "kept_tokens": subjects.kept_tokens,
        "precision": subjects.precision,
    }


def sae_record(sae: SAE[Any], source: str, *, group: str | None = None) -> SAERecord:
    """Identify an SAE from ``source``, its folder or its release and id."""
    digest = weights_sha256(source)
    training = {key: sae.cfg.metadata[key] for key in _RECORDED if key in sae.cfg.metadata}
    training |= {"k": sae.cfg.k} if hasattr(sae.cfg, "k") else {}
    dead = {key: sae.cfg.metadata.get(key) for key in ("dead_latents", "dead_latents_tokens")}
    return SAERecord(
        folder=Path(source).name if digest else source,
        architecture=sae.cfg.architecture(),
        d_in=sae.cfg.d_in,
        d_sae=sae.cfg.d_sae,
        weights_sha256=digest,
        training=training,
        group=group,
        **(dead if all(type(number) is int for number in dead.values()) else {}),
    )


def config_facts(sae: SAE[Any]) -> dict[str, Any]:
    """Return the config of an SAE with its metadata, without the device."""
    return {key: value for key, value in sae.cfg.to_dict().items() if key != "device"}


def weights_sha256(source: str | Path) -> str | None:
    """Hash the weights in an SAE's folder; None if ``source`` is not such a folder."""
    weights = Path(source) / SAE_WEIGHTS_FILENAME
    if not weights.is_file():
        return None
    state = weights.stat()
    return _sha256_once(weights.resolve(), state.st_size, state.st_mtime_ns)


@lru_cache
def _sha256_once(path: Path, size: int, mtime_ns: int) -> str:  # noqa: ARG001  # a file written again is another
    return file_sha256(path)


def reconstruction_record(found: Reconstruction, *, at_lowest_l0: Reconstruction | None = None) -> ReconstructionRecord:
    """Return the record of a :class:`Reconstruction`, with the FVU of another one ``at_lowest_l0``."""
    loss, poles = found.loss, found.poles
    losses = ("ce_clean", "ce_sae", "ce_zero", "ce_mean")
    same = ("mse", "nmse", "fvu", "cosine", "l0", "dead_latents")
    return ReconstructionRecord(
        **{name: getattr(found, name) for name in same},
        tokens=found.n_tokens,
        fvu_at_lowest_l0=at_lowest_l0 and at_lowest_l0.fvu,
        dead_poles=poles.dead_poles,
        live_latents=poles.live_latents,
        two_sidedness=poles.mean_two_sidedness,
        two_sidedness_histogram=poles.two_sidedness_histogram.tolist(),
        density_quantiles=dict(zip(("positive", "negative"), map(_quantiles, found.density), strict=True)),
        loss=loss
        and LossRecord(
            **{name: getattr(loss, name) for name in losses},
            tokens=loss.n_tokens,
            recovered_zero=loss.zero,
            recovered_mean=loss.mean,
            kl=loss.kl_sae,
        ),
    )


def geometry_record(sae: SAE[Any]) -> GeometryRecord:
    """Return the record of an SAE's decoder."""
    rows = sae.W_dec.detach().float()
    pairs = antipodal_pairs(rows)
    return GeometryRecord(
        antipodal_pairs=pairs.total,
        antipodal_threshold=pairs.threshold,
        latents_in_antipodal_pairs=pairs.latents,
        decoder_norm_quantiles=_quantiles(rows.norm(dim=1)),
    )


def _quantiles(values: torch.Tensor) -> list[float]:
    return torch.quantile(values.double().cpu(), torch.tensor(QUANTILES, dtype=torch.float64)).tolist()


def code_text(code: float) -> str:
    """Format a code with its sign and three significant digits: scales differ by thousands between hooks."""
    return f"{code:+.{max(0, 2 - math.floor(math.log10(abs(code))))}f}"


def examples(
    contexts: PoleContexts, text_of: TokenText | RowText, *, latents: int = 4, n: int = CONTEXTS
) -> list[ExampleRecord]:
    """
    Return ``n`` contexts of each pole of ``latents`` latents, as text.

    They are the first of :meth:`PoleContexts.suggested` whose contexts all read as text, and then others.
    """
    readable: list[list[ExampleRecord]] = []
    others: list[list[ExampleRecord]] = []
    for latent in contexts.suggested(contexts.d_sae):
        found = [context for pole in (0, 1) for context in contexts.of(latent, pole)[:n]]
        texts = [text_of.marked(context.before, context.token, context.after) for context in found]
        records = [
            ExampleRecord(latent=latent, code=context.code, before=text.before, token=text.token, after=text.after)
            for context, text in zip(found, texts, strict=True)
        ]
        (readable if found and all(text.readable for text in texts) else others).append(records)
        if len(readable) == latents:
            break
    return [record for records in [*readable, *others][:latents] for record in records]


class TextRecords(NamedTuple):
    """The records of measurements on plain text, by SAE."""

    reconstruction: dict[str, ReconstructionRecord]
    examples: dict[str, list[ExampleRecord]]
    density: dict[str, list[float]]
    """Share of tokens on which a latent fires, on either side."""


class OnText(NamedTuple):
    """The results of one pass over plain text, by SAE."""

    reconstruction: dict[str, Reconstruction]
    contexts: dict[str, PoleContexts]
    at_lowest_l0: dict[str, Reconstruction]
    """With thresholds that give every SAE the lowest L0; empty if all have it, or one has no threshold to move."""

    def records(self, text_of: TokenText | RowText) -> TextRecords:
        """Return them for a results file, with contexts as text."""
        return TextRecords(
            {
                name: reconstruction_record(found, at_lowest_l0=self.at_lowest_l0.get(name))
                for name, found in self.reconstruction.items()
            },
            {name: examples(kept, text_of) for name, kept in self.contexts.items()},
            {name: found.density.sum(0).tolist() for name, found in self.reconstruction.items()},
        )


def read_text(
    subjects: Measured,
    n_tokens: int,
    *,
    contexts: int,
    with_loss: bool = True,
    observer: Observer | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> OnText:
    """
    Measure SAEs on their text and keep the strongest contexts.

    Args:
        n_tokens: Tokens to read, rounded up to whole batches.
        contexts: Number of contexts of each pole of each latent.
        with_loss: Also measure Loss Recovered and divergence, which runs the whole model, if there is one.
        observer: Called with every batch of codes.
        on_progress: Called with (passes done, passes in all).
    """
    with_loss = with_loss and subjects.has_model
    batches, saes = subjects.batches(n_tokens, with_logits=with_loss), subjects.saes
    kept = {name: PoleContexts(sae.cfg.d_sae, contexts) for name, sae in saes.items()}
    total, done = len(batches) * (3 + len(saes) if with_loss else 1), count(1)

    def observe(name: str, codes: torch.Tensor, where: torch.Tensor, tokens: torch.Tensor) -> None:
        kept[name].update(codes, where, tokens)
        if observer is not None:
            observer(name, codes, where, tokens)

    found = evaluate_reconstruction(
        subjects.passes,
        saes,
        batches,
        token_filter=subjects.token_filter,
        with_loss=with_loss,
        with_kl=with_loss,
        observer=observe,
        on_pass=lambda: on_progress(next(done), total) if on_progress else None,
    )
    return OnText(found, kept, {} if subjects.has_model else _at_lowest_l0(subjects, found, batches))


def _at_lowest_l0(
    subjects: Measured, found: dict[str, Reconstruction], batches: list[torch.Tensor]
) -> dict[str, Reconstruction]:
    """Measure SAEs of different L0 once more, with thresholds that give the lowest of them on these vectors."""
    l0s = [each.l0 for each in found.values()]
    if not l0_differs(l0s):
        return {}
    passes = subjects.passes
    moved = {
        name: at_l0(sae, (passes.activations(rows).flatten(0, 1) for rows in batches), min(l0s))
        for name, sae in subjects.saes.items()
    }
    measured = evaluate_reconstruction(passes, moved, batches, token_filter=subjects.token_filter, with_loss=False)
    return {} if l0_differs(each.l0 for each in measured.values()) else measured


def text_results(subjects: Measured, found: OnText, *, suite: str, settings: dict[str, Any]) -> Results:
    """Make a results file from :func:`read_text`; ``suite`` names a measurement without a suite."""
    records = found.records(subjects.text_of)
    return Results(
        **run_facts(subjects),
        suite=suite,
        settings=settings,
        seed=0,
        saes={name: sae_record(sae, subjects.sources[name]) for name, sae in subjects.saes.items()},
        reconstruction=records.reconstruction,
        geometry={},
        examples=records.examples,
        tasks={},
        steering={},
    )
