"""Measure SAEs on plain text; the result is a results file of ``abstopk eval`` without tasks."""

from collections.abc import Callable
from itertools import count
from typing import Any, NamedTuple

import torch

from sae_lens_abstopk.dictionary.contexts import PoleContexts
from sae_lens_abstopk.dictionary.reconstruction import Observer, Reconstruction, evaluate_reconstruction
from sae_lens_abstopk.evaluation.results.facts import examples, reconstruction_record, run_facts, sae_record
from sae_lens_abstopk.evaluation.results.schema import Results
from sae_lens_abstopk.evaluation.subjects.subjects import Subjects


class OnText(NamedTuple):
    """The results of one pass over plain text, by SAE."""

    reconstruction: dict[str, Reconstruction]
    contexts: dict[str, PoleContexts]


def read_text(
    subjects: Subjects,
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
        subjects: The SAEs with model and text.
        n_tokens: Tokens to read, rounded up to whole batches.
        contexts: Number of contexts of each pole of each latent.
        with_loss: Also measure Loss Recovered and divergence, which runs the whole model.
        observer: Called with every batch of codes.
        on_progress: Called with (passes done, passes in all).
    """
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
    return OnText(found, kept)


def text_results(subjects: Subjects, found: OnText, *, suite: str, settings: dict[str, Any]) -> Results:
    """Make a results file from :func:`read_text`; ``suite`` names a measurement without a suite."""
    return Results(
        **run_facts(subjects),
        suite=suite,
        settings=settings,
        seed=0,
        saes={name: sae_record(sae, subjects.sources[name]) for name, sae in subjects.saes.items()},
        reconstruction={name: reconstruction_record(each) for name, each in found.reconstruction.items()},
        geometry={},
        examples={name: examples(kept, subjects.tokenizer) for name, kept in found.contexts.items()},
        tasks={},
        steering={},
    )
