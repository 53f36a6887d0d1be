"""Stage SAEs for publication: checked, portable, in the canonical gauge, and loaded back."""

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path, PureWindowsPath
from typing import Any, NamedTuple

import torch
from jinja2 import Environment, StrictUndefined
from sae_lens import SAE, TrainingSAE
from sae_lens.constants import SPARSITY_FILENAME
from sae_lens.saes.sae import SAEMetadata

from sae_lens_abstopk.equivalents.gauge import canonical_gauge
from sae_lens_abstopk.equivalents.mirror import MIRROR_END, mirror
from sae_lens_abstopk.hub.manifest import (
    CARD_FILENAME,
    MANIFEST_FILENAME,
    PLOT_FILENAME,
    PublishedResults,
    PublishedSAE,
    published_file,
)
from sae_lens_abstopk.hub.results import results_in_gauge
from sae_lens_abstopk.saes.derive import derive
from sae_lens_abstopk.saes.loading import load_as_saved, require_finite, require_scale
from sae_lens_abstopk.saes.poles import POLE_ACTIVITY_FILENAME, PoleActivity, flipped_latents, pole_statistics
from sae_lens_abstopk.saes.signed import is_signed, signed_latents
from sae_lens_abstopk.system.errors import ConfigError
from sae_lens_abstopk.system.files import without_path

SAE_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*")
# metadata repeated on the card and in the manifest; model_weights is set if they are not those of model_name
TRAINING_KEYS = (
    *("source", "random_signs", "reading", "arrays", "column_name"),
    *("model_name", "model_weights", "hook_name", "dataset_path", "context_size", "prepend_bos", "seqpos_slice"),
    *("exclude_special_tokens", "max_activation_norm", "hook_head_index", "training_tokens", "training_architecture"),
    *("train_batch_size_tokens", "lr", "target_l0", "dead_latents", "dead_latents_tokens"),
    *("training_architecture_details", "sae_lens_version", "sae_lens_training_version"),
)
# metadata that may be a local path or a Hub name, and loading options that are not published
NAMES, PRIVATE = ("model_name", "dataset_path"), ("token", "use_auth_token", "cache_dir")
PLOT_BINS = 25


class Staged(NamedTuple):
    """Staged SAEs by id, and their local files by path in the repository."""

    saes: dict[str, PublishedSAE]
    paths: dict[str, Path]


def require_ids(sae_ids: Sequence[str], *, with_mirror: bool) -> None:
    """Raise ConfigError if an id is not a valid folder name, or the id of a mirror is taken."""
    for sae_id in sae_ids:
        if not SAE_ID.fullmatch(sae_id) or sae_id in (CARD_FILENAME, MANIFEST_FILENAME):
            raise ConfigError(
                f"{sae_id!r} cannot be an SAE id; use letters, digits, '.', '_' and '-', and '/' between folders."
            )
        if with_mirror and f"{sae_id}{MIRROR_END}" in sae_ids:
            raise ConfigError(
                f"{sae_id}{MIRROR_END} would be an SAE and the mirror of {sae_id}; give one another id (ID=FOLDER)."
            )


def stage(
    saes: Mapping[str, SAE[Any] | Path | str],
    folder: Path,
    *,
    with_mirror: bool = False,
    results: Mapping[str, PublishedResults],
    poles: Mapping[str, PoleActivity],
    base_model: str | None = None,
) -> Staged:
    """
    Write SAEs into ``folder`` in their published form, with ``results`` and ``poles`` by SAE id.

    Raises:
        ConfigError: an SAE is in training, lacks its weights or the scale of its activations, has values that are not
            finite, or changes when it is loaded back.
    """
    staged: dict[str, PublishedSAE] = {}
    for sae_id, source in saes.items():
        if isinstance(source, TrainingSAE):
            raise ConfigError(
                f"{sae_id!r} is an SAE in training; publish the folder of its run, or save it with "
                "save_inference_model(FOLDER) and publish that folder."
            )
        place = folder / sae_id
        place.mkdir(parents=True, exist_ok=True)
        activity, measured = poles.get(sae_id), results.get(sae_id)
        if isinstance(source, SAE):
            own = source
        else:
            own = load_as_saved(source)
            if activity is None and (Path(source) / POLE_ACTIVITY_FILENAME).is_file():
                activity = PoleActivity.load(Path(source))
            if (Path(source) / SPARSITY_FILENAME).is_file():
                shutil.copyfile(Path(source) / SPARSITY_FILENAME, place / SPARSITY_FILENAME)
        require_scale(own, where=sae_id)
        if measured is not None and not signed_latents(own).all():
            # most dead poles would belong to latents without a second pole
            numbers = {name: number for name, number in measured.numbers.items() if name != "dead_poles"}
            measured = replace(measured, numbers=numbers)
        sae = _portable_sae(own, base_model)
        in_gauge = activity is not None and is_signed(sae) and not (measured is not None and measured.axes)
        histogram = list(measured.two_sidedness) if measured is not None else []
        if activity is not None:
            if in_gauge:
                measured = measured and results_in_gauge(measured, flipped_latents(activity.energy))
                sae, activity = canonical_gauge(sae, activity.energy), activity.in_canonical_gauge()
            activity.save(place)
            shares = pole_statistics(activity.counts).two_sidedness
            histogram = torch.histc(shares[~shares.isnan()].float(), PLOT_BINS, min=0, max=0.5).int().tolist()
        if is_signed(sae) and histogram:
            (place / PLOT_FILENAME).write_text(_two_sidedness_svg(histogram, sae.cfg.d_sae), encoding="utf-8")
        staged[sae_id] = _write(sae, folder, sae_id, measured, in_gauge=in_gauge, base_model=base_model)
        if with_mirror and is_signed(sae):
            mirror_id = f"{sae_id}{MIRROR_END}"
            staged[mirror_id] = _write(
                mirror(sae), folder, mirror_id, None, in_gauge=in_gauge, base_model=base_model, mirror_of=sae_id
            )
    return Staged(staged, {path: folder / path for sae in staged.values() for path in sae.files})


def _portable_sae(sae: SAE[Any], base_model: str | None) -> SAE[Any]:
    """Copy ``sae`` to the CPU, with the model's public name and no local path in its metadata."""
    own = sae.cfg.metadata.get("model_name")
    metadata = SAEMetadata(**_portable(sae.cfg.metadata.to_dict()))
    if base_model is not None and (own is None or without_path(own) != own or Path(own).exists()):
        folder, metadata["model_name"] = metadata.get("model_name"), base_model
        if folder not in (None, base_model.rpartition("/")[2]) and metadata.get("model_weights") is None:
            metadata["model_weights"] = folder
    return derive(type(sae), type(sae.cfg), sae, sae.state_dict(), metadata=metadata).to("cpu")


def _portable(value: Any, key: str | None = None) -> Any:
    """Return metadata without this machine's paths, tokens and caches."""
    if isinstance(value, Mapping):
        return {name: _portable(each, name) for name, each in value.items() if name not in PRIVATE}
    if isinstance(value, list | tuple):
        return [_portable(each) for each in value]
    if not isinstance(value, str):
        return value
    if key in NAMES:
        return without_path(value)
    is_path = Path(value).is_absolute() or PureWindowsPath(value).is_absolute()
    return PureWindowsPath(value).name if is_path else value


def _write(
    sae: SAE[Any],
    folder: Path,
    sae_id: str,
    results: PublishedResults | None,
    *,
    in_gauge: bool,
    base_model: str | None,
    mirror_of: str | None = None,
) -> PublishedSAE:
    """Save ``sae`` beside its other files, check that it is finite and loads back unchanged, and record all files."""
    where, place = f"the mirror of {mirror_of}" if mirror_of else sae_id, folder / sae_id
    require_finite(sae, where=where)
    sae.save_model(place)
    (place / CARD_FILENAME).unlink(missing_ok=True)  # the repository's card says how to load it
    loaded = load_as_saved(place)
    state, again = sae.state_dict(), loaded.state_dict()
    same = state.keys() == again.keys() and all(torch.equal(state[name], again[name]) for name in state)
    as_json = [json.loads(json.dumps(each.cfg.to_dict())) for each in (sae, loaded)]  # a tuple comes back as a list
    if not same or as_json[0] != as_json[1]:
        raise ConfigError(f"{where}: the SAE does not load back as it was before saving, so it is not published.")
    metadata = sae.cfg.metadata
    training = {key: metadata[key] for key in TRAINING_KEYS if metadata.get(key) is not None}
    # an SAE with thresholds has the k of its training among the details
    k = getattr(sae.cfg, "k", (metadata.training_architecture_details or {}).get("k"))
    on_the_hub = "/" in (metadata.model_name or "")  # a local folder has lost its slashes at this point
    return PublishedSAE(
        architecture=sae.cfg.architecture(),
        d_in=sae.cfg.d_in,
        d_sae=sae.cfg.d_sae,
        dtype=sae.cfg.dtype,
        gauge="canonical" if in_gauge else "as trained",
        mirror_of=mirror_of,
        base_model=metadata.model_name if on_the_hub else base_model,
        signed_latents=int(signed_latents(sae).sum()),
        training=training if k is None else training | {"k": int(k) if k == int(k) else k},
        results=results,
        files={f"{sae_id}/{path.name}": published_file(path) for path in sorted(place.iterdir()) if path.is_file()},
    )


def _two_sidedness_svg(latents: Sequence[int], d_sae: int) -> str:
    """Draw the live ``latents``, of ``d_sae`` in all, in equal bins of two-sidedness from 0 to 0.5."""
    template = files("sae_lens_abstopk.hub").joinpath("two_sidedness.svg.jinja").read_text(encoding="utf-8")
    environment = Environment(undefined=StrictUndefined, trim_blocks=True)
    return environment.from_string(template).render(latents=latents, d_sae=d_sae).replace("\n", "") + "\n"
