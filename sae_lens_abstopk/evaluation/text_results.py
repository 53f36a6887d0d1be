"""What was measured on plain text as a results file: what ``abstopk eval`` writes, without tasks."""

from collections.abc import Mapping
from typing import Any

from sae_lens_abstopk.evaluation.dictionary.contexts import PoleContexts
from sae_lens_abstopk.evaluation.dictionary.examples import examples
from sae_lens_abstopk.evaluation.dictionary.reconstruction import Reconstruction
from sae_lens_abstopk.evaluation.loading import Subjects
from sae_lens_abstopk.evaluation.records import reconstruction_record, run_facts, sae_record
from sae_lens_abstopk.evaluation.results import Results


def text_results(
    subjects: Subjects,
    found: Mapping[str, Reconstruction],
    contexts: Mapping[str, PoleContexts],
    *,
    suite: str,
    settings: dict[str, Any],
) -> Results:
    """
    The document of reconstructions ``found`` with their ``contexts``, made by the command that runs now.

    Args:
        subjects: What was measured, and on what.
        found: By SAE.
        contexts: By SAE.
        suite: What to call a measurement that no suite set.
        settings: What was asked for.
    """
    return Results(
        **run_facts(subjects),
        suite=suite,
        settings=settings,
        seed=0,
        saes={name: sae_record(sae, subjects.sources[name]) for name, sae in subjects.saes.items()},
        reconstruction={name: reconstruction_record(each) for name, each in found.items()},
        geometry={},
        examples={name: examples(kept, subjects.tokenizer) for name, kept in contexts.items()},
        tasks={},
        steering={},
    )
