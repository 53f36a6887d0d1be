"""Both poles of every latent as two features, in SAEDashboard's JSON for Neuronpedia."""

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from sae_lens import SAE
from sae_lens.util import extract_layer_from_tlens_hook_name

from sae_lens_abstopk.explorer.catalogue import Catalogue
from sae_lens_abstopk.explorer.exploration import Exploration
from sae_lens_abstopk.explorer.latents import Pole, Provenance, ShownContext
from sae_lens_abstopk.saes.signed import SIGNED_ARCHITECTURES, SignedSAE, require_signed
from sae_lens_abstopk.system.errors import ConfigError
from sae_lens_abstopk.system.files import require_empty
from sae_lens_abstopk.system.folder_lock import HOLDER, LOCK
from sae_lens_abstopk.system.terminal import PassProgress

FEATURES_A_FILE = 128
SKIPPED_FILENAME = "skipped_indexes.json"
ALIGNED_NEURONS = 3
DIGITS = 3
# SAEDashboard's mark of the strongest contexts, and its default threshold for skipping features
TOP, LOG_SPARSITY = -1.0, -6
CORRELATED = [f"correlated_{of}_{what}" for of in ("neurons", "features") for what in ("indices", "l1", "pearson")]


def write_neuronpedia(
    exploration: Exploration,
    folder: Path,
    *,
    model_id: str,
    sae_set: str,
    sae: str | None = None,
    layer: int | None = None,
    suffix: str | None = None,
    on_progress: PassProgress | None = None,
) -> list[Path]:
    """
    Write ``batch-N.json`` files and ``skipped_indexes.json``, as the Neuronpedia runner of SAEDashboard 0.8 does.

    The features of a signed SAE are those of its mirror, which is the SAE to upload with them; those of any other SAE
    are its latents. A feature that never fired has no contexts and no histogram; none is skipped.

    ``sae`` is the first of ``exploration`` by default, and ``layer`` is in the hook's name. ``suffix`` distinguishes
    SAEs of one set and layer. ``on_progress`` is called with (features written, features in all).

    Raises:
        ConfigError: the folder is not empty, the SAE was not explored, its hook has no layer, or as :func:`sides`.
    """
    catalogue = exploration.catalogue(sae)
    check_features_folder(folder)
    number = layer if layer is not None else layer_of(exploration.about.hook)
    n_features, written = len(sides(catalogue)) * len(catalogue), 0
    folder.mkdir(parents=True, exist_ok=True)
    head = {"model_id": model_id, "layer": number, "sae_set": sae_set, "sae_id_suffix": suffix}
    paths: list[Path] = []
    made = features(catalogue, exploration.about)
    while group := list(islice(made, FEATURES_A_FILE)):
        paths.append(folder / f"batch-{len(paths)}.json")
        _write_json(paths[-1], head | {"features": group})
        written += len(group)
        if on_progress is not None:
            on_progress(written, n_features)
    skipped = {"model_id": model_id, "layer": str(number), "sae_set": sae_set}
    _write_json(folder / SKIPPED_FILENAME, skipped | {"log_sparsity": LOG_SPARSITY, "skipped_indexes": []})
    return paths


def checked_layer(sae: SAE[Any], folder: Path, *, layer: int | None) -> int:
    """Return the layer to write; raise before a pass what :func:`write_neuronpedia` would raise after it."""
    check_features_folder(folder)
    if isinstance(sae, SignedSAE):
        require_signed(sae, "neuronpedia")
    return layer_of(str(sae.cfg.metadata.hook_name)) if layer is None else layer


def check_features_folder(folder: Path) -> None:
    """Raise if the folder has files, other than a lock."""
    if not (folder.is_dir() and all(path.name in (LOCK, HOLDER) for path in folder.iterdir())):
        require_empty(folder)


def layer_of(hook: str) -> int:
    """Return the layer in a hook's name; raise ConfigError if there is none."""
    layer = extract_layer_from_tlens_hook_name(hook)
    if layer is None:
        raise ConfigError(f"the hook {hook!r} names no layer; give it as a number: --layer N.")
    return layer


def sides(catalogue: Catalogue) -> tuple[int, ...]:
    """Return the sides that become features: 0, and for a signed SAE 1; ConfigError for codes without a mirror."""
    if catalogue.architecture in SIGNED_ARCHITECTURES:
        return (0, 1)
    if catalogue.fires_negatively:
        raise ConfigError(
            f"the codes of {catalogue.architecture!r} are negative too, which needs a mirror; only "
            f"{' and '.join(SIGNED_ARCHITECTURES)} have one."
        )
    return (0,)


def features(catalogue: Catalogue, about: Provenance) -> Iterator[dict[str, Any]]:
    """
    Yield the features, positive poles first, with the fields of SAEDashboard's ``NeuronpediaDashboardFeature``.

    ``feature_index`` is the mirror's: j for the positive pole of latent j, d_sae + j for the negative one. Logits are
    from the logit lens, in standard deviations over the vocabulary. Fields without a value are empty.
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
            feature = _feature(catalogue.pole(index, side), side, direction, limit)
            yield {"feature_index": side * len(catalogue) + index} | feature | text


def _feature(pole: Pole, side: int, direction: torch.Tensor, limit: float) -> dict[str, Any]:
    largest = direction.topk(min(ALIGNED_NEURONS, len(direction)))
    histogram = pole.histogram if pole.fires else ()
    peak = max((abs(context.code) for context in (*pole.strongest, *pole.sampled)), default=0.0)
    return {
        "neuron_alignment_indices": largest.indices.tolist(),
        "neuron_alignment_values": _rounded(largest.values.tolist()),
        "neuron_alignment_l1": _rounded((largest.values.abs() / direction.abs().sum().clamp(min=1e-12)).tolist()),
        **dict.fromkeys(CORRELATED, ()),
        "neg_str": [effect.text for effect in pole.demoted],
        "neg_values": _rounded([effect.by for effect in pole.demoted]),
        "pos_str": [effect.text for effect in pole.promoted],
        "pos_values": _rounded([effect.by for effect in pole.promoted]),
        "frac_nonzero": pole.density,
        "freq_hist_data_bar_values": _rounded([(at + 0.5) * limit / len(histogram) for at in range(len(histogram))]),
        "freq_hist_data_bar_heights": [float(count) for count in histogram],
        "logits_hist_data_bar_heights": [],
        "logits_hist_data_bar_values": [],
        "decoder_weights_dist": [],
        "activations": [
            *(_activation(context, side, TOP, peak, TOP) for context in pole.strongest),
            *(_activation(context, side, 0.0, peak, 1.0) for context in pole.sampled),
        ],
        "vector": [],
    }


def _activation(context: ShownContext, side: int, bin_min: float, bin_max: float, contains: float) -> dict[str, Any]:
    """Return a context with the fields of ``NeuronpediaDashboardActivation``; the other pole's codes are 0."""
    codes = [code * (1 - 2 * side) for code in context.codes]
    return {
        "bin_min": bin_min,
        "bin_max": round(bin_max, DIGITS),
        "bin_contains": contains,
        "tokens": list(context.tokens),
        # NaN, at tokens that the SAE did not read, is not above 0
        "values": _rounded([code if code > 0 else 0.0 for code in codes]),
        "qualifying_token_index": context.at,
    }


def _rounded(values: Sequence[float]) -> list[float]:
    return [round(float(value), DIGITS) for value in values]


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, allow_nan=False), encoding="utf-8")
