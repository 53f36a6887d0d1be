"""Numbers and contexts for the card, from an inspection or from the JSON that ``abstopk inspect --json`` wrote."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from sae_lens_abstopk.errors import ConfigError
from sae_lens_abstopk.evaluation.inspection import Inspection
from sae_lens_abstopk.evaluation.report import as_json
from sae_lens_abstopk.hub.manifest import ContextExample, Number, Results

# name in abstopk.json: heading in the card, format
RESULT_NAMES = {
    "l0": ("L0", ".1f"),
    "fvu": ("FVU", ".3f"),
    "nmse": ("nMSE", ".3f"),
    "recovered_zero": ("loss recovered, zero ablation", ".3f"),
    "recovered_mean": ("loss recovered, mean ablation", ".3f"),
    "dead_latents": ("dead latents", ",.0f"),
    "dead_poles": ("dead poles", ",.0f"),
    "two_sidedness": ("two-sidedness", ".2f"),
}


def results_from_json(path: Path) -> dict[str, Results]:
    """
    The results in a file of ``abstopk inspect --json``, by the name that the SAE has there.

    Raises:
        ConfigError: there is no such file, or it is not one of those.
    """
    try:
        return _results(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; `abstopk inspect SAE --json {path}` writes it.") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path} is not what `abstopk inspect --json` writes ({error!r}).") from None


def results_of(inspection: Inspection, *, latents: int = 4, contexts: int = 2) -> dict[str, Results]:
    """
    The results of ``inspection``, by the name that the SAE has there, with contexts of both poles.

    Args:
        inspection: From :func:`sae_lens_abstopk.evaluation.inspection.inspect_saes`.
        latents: Two-sided latents to show of each SAE.
        contexts: Contexts of each of their poles.
    """
    found = _results(json.loads(as_json(inspection)))
    for sae in inspection.saes:
        examples = [
            ContextExample(
                latent=latent,
                pole=1 if pole else 0,
                code=context.code,
                before=inspection.tokenizer.decode(list(context.before)),
                token=inspection.tokenizer.decode([context.token]),
                after=inspection.tokenizer.decode(list(context.after)),
            )
            for latent in sae.contexts.most_two_sided(latents)
            for pole in (0, 1)
            for context in sae.contexts.of(latent, pole)[:contexts]
        ]
        found[sae.name] = replace(found[sae.name], examples=tuple(examples))
    return found


def results_in_gauge(results: Results, flipped: torch.Tensor) -> Results:
    """``results`` for the SAE whose latents ``flipped`` [d_sae] have changed sign."""
    examples = [
        replace(example, pole=1 - example.pole, code=-example.code) if flipped[example.latent] else example
        for example in results.examples
    ]
    # within a latent the positive pole comes first, and the latents stay in their order
    order = {example.latent: place for place, example in reversed(list(enumerate(examples)))}
    examples.sort(key=lambda example: (order[example.latent], example.pole))
    return replace(results, examples=tuple(examples))


def _results(document: dict[str, Any]) -> dict[str, Results]:
    found = {}
    for name, sae in document["saes"].items():
        measured = {**sae, **(sae["loss"] or {})}
        numbers = {key: Number(float(measured[key])) for key in RESULT_NAMES if measured.get(key) is not None}
        found[name] = Results(
            tokens=int(sae["tokens"]), text=str(document["text"]), held_out=bool(document["held_out"]), numbers=numbers
        )
    return found
