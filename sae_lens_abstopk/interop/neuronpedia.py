"""Both poles of every latent as two features, in the JSON that SAEDashboard makes for Neuronpedia."""

import json
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from sae_lens.util import extract_layer_from_tlens_hook_name

from sae_lens_abstopk.explorer.catalogue import Catalogue
from sae_lens_abstopk.explorer.exploration import Exploration
from sae_lens_abstopk.explorer.latents import Effect, Pole, Provenance, ShownContext
from sae_lens_abstopk.explorer.site import OLD_PASS
from sae_lens_abstopk.saes.signed import SIGNED_ARCHITECTURES
from sae_lens_abstopk.system.errors import ConfigError
from sae_lens_abstopk.system.files import require_empty
from sae_lens_abstopk.system.folder_lock import HOLDER, LOCK

FEATURES_A_FILE = 128
SKIPPED_FILENAME = "skipped_indexes.json"
ALIGNED_NEURONS = 3
DIGITS = 3
# how SAEDashboard marks the group of the strongest contexts, and its default threshold for leaving features out
TOP, LOG_SPARSITY = -1.0, -6


def write_neuronpedia(
    exploration: Exploration,
    folder: Path,
    *,
    model_id: str,
    sae_set: str,
    sae: str | None = None,
    layer: int | None = None,
    suffix: str | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """
    Write ``batch-N.json`` files and ``skipped_indexes.json``, as the Neuronpedia runner of SAEDashboard 0.8 does.

    The features of a signed SAE are those of its mirror, which is the SAE to upload with them; those of any other are its
    latents. One that never fired has no contexts and no histogram; none is skipped.

    Args:
        exploration: What :func:`sae_lens_abstopk.explore` collected.
        folder: New or empty.
        model_id: Neuronpedia's id of the model, ``gpt2-small`` for example.
        sae_set: Name of the set of SAEs, ``res-abstopk`` for example.
        sae: Name of the SAE in ``exploration``; the first by default.
        layer: Layer of the hook; read from its name by default.
        suffix: Tells SAEs of one set and layer apart.
        on_progress: Called with (features written, features in all).

    Raises:
        ConfigError: the folder is not empty, the SAE was not explored, no layer is known, or see :func:`sides`.
    """
    name = sae or next(iter(exploration.saes))
    if name not in exploration.saes:
        raise ConfigError(f"sae={name!r} was not explored; use one of {', '.join(exploration.saes)}.")
    catalogue = exploration.saes[name]
    check_features_folder(folder)
    number = layer if layer is not None else layer_of(exploration.about.hook)
    n_features, written = len(sides(catalogue)) * len(catalogue), 0
    folder.mkdir(parents=True, exist_ok=True)
    head = {"model_id": model_id, "layer": number, "sae_set": sae_set, "sae_id_suffix": suffix}
    paths: list[Path] = []
    made = features(catalogue, exploration.about)
    while group := list(islice(made, FEATURES_A_FILE)):
        path = folder / f"batch-{len(paths)}.json"
        path.write_text(_json(head | {"features": group}), encoding="utf-8")
        paths.append(path)
        written += len(group)
        if on_progress is not None:
            on_progress(written, n_features)
    skipped = {"model_id": model_id, "layer": str(number), "sae_set": sae_set}
    skipped |= {"log_sparsity": LOG_SPARSITY, "skipped_indexes": []}
    (folder / SKIPPED_FILENAME).write_text(_json(skipped), encoding="utf-8")
    return paths


def check_features_folder(folder: Path) -> None:
    """Refuse to write among what is there, but for the file of a pass that was interrupted, before anything is collected."""
    unfinished = (*OLD_PASS, LOCK, HOLDER)
    if not (folder.is_dir() and all(path.name in unfinished for path in folder.iterdir())):
        require_empty(folder)


def sides(catalogue: Catalogue) -> tuple[int, ...]:
    """
    0, the positive side, and 1, the negative one, where there is a mirror; whether any latent fired on it does not matter.

    Raises:
        ConfigError: latents fired on their negative sides, and there is no mirror that these would be features of.
    """
    if catalogue.architecture in SIGNED_ARCHITECTURES:
        return (0, 1)
    if catalogue.fires_negatively:
        raise ConfigError(
            f"the codes of {catalogue.architecture!r} are negative too, and features of both sides are those of a mirror, which there is for "
            f"{' and '.join(SIGNED_ARCHITECTURES)} alone."
        )
    return (0,)


def features(catalogue: Catalogue, about: Provenance) -> Iterator[dict[str, Any]]:
    """
    The poles, positive ones first, each with the fields of SAEDashboard's ``NeuronpediaDashboardFeature``.

    ``feature_index`` is j for the positive pole of latent j, or the latent, and d_sae + j for its negative pole, as in the
    mirror. Logits are those of the logit lens in standard deviations over the vocabulary. What was not measured is empty.
    """
    text = {
        "dataset": about.text,
        "n_tokens_in_prompt": about.context_size,
        "n_prompts_total": about.tokens_read // about.context_size,
    }
    for side in sides(catalogue):
        for index in range(len(catalogue)):
            direction = catalogue.W_dec[index] * (1 - 2 * side)
            limit = float(catalogue.collected.histograms.limit[index])
            which = {"feature_index": side * len(catalogue) + index}
            yield which | _feature(catalogue.pole(index, side), side, direction, limit) | text


def _feature(pole: Pole, side: int, direction: torch.Tensor, limit: float) -> dict[str, Any]:
    largest = direction.topk(min(ALIGNED_NEURONS, len(direction)))
    histogram = pole.histogram if pole.fires else ()
    shown = [*pole.strongest, *pole.sampled]
    peak = max((abs(context.code) for context in shown), default=0.0)
    contexts = [_activation(context, side, TOP, peak, TOP) for context in pole.strongest]
    contexts += [_activation(context, side, 0.0, peak, 1.0) for context in pole.sampled]
    return dict(
        neuron_alignment_indices=largest.indices.tolist(),
        neuron_alignment_values=_rounded(largest.values.tolist()),
        neuron_alignment_l1=_rounded((largest.values.abs() / direction.abs().sum().clamp(min=1e-12)).tolist()),
        correlated_neurons_indices=[],
        correlated_neurons_l1=[],
        correlated_neurons_pearson=[],
        correlated_features_indices=[],
        correlated_features_l1=[],
        correlated_features_pearson=[],
        neg_str=[effect.text for effect in pole.demoted],
        neg_values=_effects(pole.demoted),
        pos_str=[effect.text for effect in pole.promoted],
        pos_values=_effects(pole.promoted),
        frac_nonzero=pole.density,
        freq_hist_data_bar_values=_rounded([(place + 0.5) * limit / len(histogram) for place in range(len(histogram))]),
        freq_hist_data_bar_heights=[float(count) for count in histogram],
        logits_hist_data_bar_heights=[],
        logits_hist_data_bar_values=[],
        decoder_weights_dist=[],
        activations=contexts,
        vector=[],
    )


def _activation(context: ShownContext, side: int, bin_min: float, bin_max: float, contains: float) -> dict[str, Any]:
    """A context with the fields of ``NeuronpediaDashboardActivation``; the pole's strength is 0 where the other pole is on."""
    sign = 1 - 2 * side
    return dict(
        bin_min=bin_min,
        bin_max=round(bin_max, DIGITS),
        bin_contains=contains,
        tokens=list(context.tokens),
        # a token that was left out of the SAE's input has no code, which compares as not above 0
        values=_rounded([sign * code if sign * code > 0 else 0.0 for code in context.codes]),
        qualifying_token_index=context.at,
    )


def _effects(effects: Sequence[Effect]) -> list[float]:
    return _rounded([effect.by for effect in effects])


def _rounded(values: Sequence[float]) -> list[float]:
    return [round(float(value), DIGITS) for value in values]


def layer_of(hook: str) -> int:
    """
    The layer in the name of a hook.

    Raises:
        ConfigError: it names none.
    """
    layer = extract_layer_from_tlens_hook_name(hook)
    if layer is None:
        raise ConfigError(f"the hook {hook!r} names no layer; give it as a number: --layer N.")
    return layer


def _json(content: Any) -> str:
    return json.dumps(content, ensure_ascii=False, allow_nan=False)
