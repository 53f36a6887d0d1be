"""The folder of one SAE as it will be published: checked, in the canonical gauge, and loaded back before it counts."""

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PureWindowsPath
from typing import Any, NamedTuple

import torch
from sae_lens import SAE, TrainingSAE
from sae_lens.constants import SPARSITY_FILENAME
from sae_lens.saes.sae import SAEMetadata

from sae_lens_abstopk.equivalents.gauge import canonical_gauge
from sae_lens_abstopk.equivalents.mirror import MIRROR_END, mirror
from sae_lens_abstopk.evaluation.subjects.subjects import without_path
from sae_lens_abstopk.hub.manifest import (
    CARD_FILENAME,
    MANIFEST_FILENAME,
    PublishedResults,
    PublishedSAE,
    published_file,
)
from sae_lens_abstopk.hub.plot import PLOT_BINS, PLOT_FILENAME, two_sidedness_svg
from sae_lens_abstopk.hub.results import results_in_gauge
from sae_lens_abstopk.saes.derive import derive
from sae_lens_abstopk.saes.loading import load_as_saved, require_finite
from sae_lens_abstopk.saes.measurable import require_scale
from sae_lens_abstopk.saes.pole_activity import POLE_ACTIVITY_FILENAME, PoleActivity
from sae_lens_abstopk.saes.poles import flipped_latents, pole_statistics
from sae_lens_abstopk.saes.signed import SIGNED_ARCHITECTURES, is_signed, signed_latents
from sae_lens_abstopk.system.errors import ConfigError

SAE_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*")
# of the metadata, what the card and the manifest repeat
TRAINING_KEYS = (
    "model_name",
    "model_weights",  # where they are not quite those of model_name
    "hook_name",
    "dataset_path",
    "context_size",
    "prepend_bos",
    "seqpos_slice",
    "exclude_special_tokens",
    "max_activation_norm",
    "hook_head_index",
    "training_tokens",
    "training_architecture",
    "training_architecture_details",
    "sae_lens_version",
    "sae_lens_training_version",
)


# of the metadata, what may be a local folder or file, and is a name on the Hub otherwise
NAMED = ("model_name", "dataset_path")
# what a model was loaded with that is nobody else's
OWN = ("token", "use_auth_token", "cache_dir")


class Staged(NamedTuple):
    """SAEs in the layout of a repository, in a folder."""

    saes: dict[str, PublishedSAE]
    """By SAE id."""
    paths: dict[str, Path]
    """Files by path in the repository."""

    @property
    def as_trained(self) -> tuple[str, ...]:
        """Signed SAEs that no activity was known of, so that their signs are as training left them, by id."""
        return tuple(
            sae_id
            for sae_id, sae in self.saes.items()
            if sae.architecture in SIGNED_ARCHITECTURES and sae.gauge == "as trained"
        )


def stage(
    saes: Mapping[str, SAE[Any] | Path | str],
    folder: Path,
    *,
    with_mirror: bool = False,
    results: Mapping[str, PublishedResults] | None = None,
    poles: Mapping[str, PoleActivity] | None = None,
    base_model: str | None = None,
) -> Staged:
    """
    Write SAEs into ``folder`` as they are to be published, with ``results`` and ``poles`` by SAE id.

    Raises:
        ConfigError: a folder cannot be used; an SAE has no weights, lacks the scale of its activations, has values that are
            not finite, or does not load back as it was.
    """
    staged: dict[str, PublishedSAE] = {}
    for sae_id, source in saes.items():
        origin = None if isinstance(source, SAE) else Path(source)
        if isinstance(source, TrainingSAE):
            raise ConfigError(
                f"{sae_id!r} is an SAE in training; publish the folder of its run, or what "
                "SAE.load_from_disk(FOLDER) gives after save_inference_model(FOLDER)."
            )
        loaded = source if isinstance(source, SAE) else load_as_saved(source)
        require_scale(loaded, where=sae_id)
        activity = (poles or {}).get(sae_id) or _recorded_activity(origin)
        measured = _of_open_poles((results or {}).get(sae_id), loaded)
        sae = _for_publication(loaded, base_model)
        in_gauge = activity is not None and is_signed(sae)
        if activity is not None and is_signed(sae):
            sae = canonical_gauge(sae, activity.energy)
            measured = measured and results_in_gauge(measured, flipped_latents(activity.energy))
            activity = activity.in_canonical_gauge()
        _write(sae, folder / sae_id, where=sae_id)
        if origin is not None and (origin / SPARSITY_FILENAME).is_file():
            shutil.copyfile(origin / SPARSITY_FILENAME, folder / sae_id / SPARSITY_FILENAME)
        if activity is not None:
            activity.save(folder / sae_id)
        shares = _two_sidedness(activity, measured) if is_signed(sae) else []
        if shares:
            (folder / sae_id / PLOT_FILENAME).write_text(two_sidedness_svg(shares, sae.cfg.d_sae), encoding="utf-8")
        staged[sae_id] = _record(sae, folder, sae_id, measured, in_gauge=in_gauge, base_model=base_model)
        if with_mirror and is_signed(sae):  # the codes of the others are not negative as they are
            mirrored = mirror(sae)
            _write(mirrored, folder / f"{sae_id}{MIRROR_END}", where=f"the mirror of {sae_id}")
            staged[f"{sae_id}{MIRROR_END}"] = _record(
                mirrored,
                folder,
                f"{sae_id}{MIRROR_END}",
                None,
                in_gauge=in_gauge,
                base_model=base_model,
                mirror_of=sae_id,
            )
    return Staged(staged, {path: folder / path for sae in staged.values() for path in sae.files})


def require_ids(sae_ids: Sequence[str], *, with_mirror: bool) -> None:
    """
    Refuse ids that cannot be folders of a release.

    Raises:
        ConfigError: there are none, one cannot be an id, or the mirror of one would have the id of another.
    """
    if not sae_ids:
        raise ConfigError("no SAE was given to publish.")
    for sae_id in sae_ids:
        if not SAE_ID.fullmatch(sae_id) or sae_id in (CARD_FILENAME, MANIFEST_FILENAME):
            raise ConfigError(
                f"{sae_id!r} cannot be an SAE id; use letters, digits, '.', '_' and '-', and '/' between folders."
            )
        if with_mirror and f"{sae_id}{MIRROR_END}" in sae_ids:
            raise ConfigError(
                f"{sae_id}{MIRROR_END} would be an SAE and the mirror of {sae_id}; give one of them another id, as in ID=FOLDER."
            )


def _for_publication(sae: SAE[Any], base_model: str | None) -> SAE[Any]:
    """A copy of ``sae`` on the CPU whose metadata name the model as others can find it, and no folder of this machine."""
    metadata, own = SAEMetadata(**_for_others(sae.cfg.metadata.to_dict())), sae.cfg.metadata.get("model_name")
    if base_model is not None and (own is None or without_path(own) != own):
        metadata["model_name"], folder = base_model, metadata.get("model_name")
        if folder not in (None, base_model.rpartition("/")[2]) and metadata.get("model_weights") is None:
            metadata["model_weights"] = folder
    return derive(type(sae), type(sae.cfg), sae, sae.state_dict(), metadata=metadata).to("cpu")


def _for_others(value: Any, key: str | None = None) -> Any:
    """A copy of a value of the metadata, whatever is nested in it, without folders of this machine and without ``OWN``."""
    if isinstance(value, Mapping):
        return {name: _for_others(each, name) for name, each in value.items() if name not in OWN}
    if isinstance(value, list | tuple):
        return [_for_others(each) for each in value]
    if not isinstance(value, str):
        return value
    if key in NAMED:
        return without_path(value)
    absolute = Path(value).is_absolute() or PureWindowsPath(value).is_absolute()
    return PureWindowsPath(value).name if absolute else value


def _recorded_activity(origin: Path | None) -> PoleActivity | None:
    if origin is None or not (origin / POLE_ACTIVITY_FILENAME).is_file():
        return None
    return PoleActivity.load(origin)


def _of_open_poles(results: PublishedResults | None, sae: SAE[Any]) -> PublishedResults | None:
    """``results`` without a count of dead poles where most are those of latents that never had a second one."""
    if results is None or bool(signed_latents(sae).all()):
        return results
    return replace(results, numbers={name: each for name, each in results.numbers.items() if name != "dead_poles"})


def _two_sidedness(activity: PoleActivity | None, measured: PublishedResults | None) -> list[int]:
    """Live latents by two-sidedness, as fine as it was measured."""
    if activity is not None:
        shares = pole_statistics(activity.counts).two_sidedness
        return torch.histc(shares[~shares.isnan()].float(), bins=PLOT_BINS, min=0, max=0.5).int().tolist()
    return list(measured.two_sidedness) if measured is not None else []


def _write(sae: SAE[Any], folder: Path, *, where: str) -> None:
    """Save ``sae`` into ``folder``, once its weights are finite, and make sure that it loads back as it is."""
    require_finite(sae, where=where)
    sae.save_model(folder)
    (folder / CARD_FILENAME).unlink(missing_ok=True)  # the card of the repository says how to load it
    loaded = load_as_saved(folder)
    state, again = sae.state_dict(), loaded.state_dict()
    same = state.keys() == again.keys() and all(torch.equal(state[name], again[name]) for name in state)
    written = json.loads(json.dumps(sae.cfg.to_dict()))  # a tuple comes back as a list
    if not same or json.loads(json.dumps(loaded.cfg.to_dict())) != written:
        raise ConfigError(f"{where}: the SAE does not load back as it was before saving, so it is not published.")


def _record(
    sae: SAE[Any],
    folder: Path,
    sae_id: str,
    results: PublishedResults | None,
    *,
    in_gauge: bool,
    base_model: str | None,
    mirror_of: str | None = None,
) -> PublishedSAE:
    metadata = sae.cfg.metadata
    on_the_hub = "/" in (metadata.model_name or "")  # what was a folder has no slash by now
    written = sorted(path for path in (folder / sae_id).iterdir() if path.is_file())
    return PublishedSAE(
        architecture=sae.cfg.architecture(),
        d_in=sae.cfg.d_in,
        d_sae=sae.cfg.d_sae,
        dtype=sae.cfg.dtype,
        gauge="canonical" if in_gauge else "as trained",
        mirror_of=mirror_of,
        base_model=metadata.model_name if on_the_hub else base_model,
        signed_latents=int(signed_latents(sae).sum()),
        training={key: metadata[key] for key in TRAINING_KEYS if metadata.get(key) is not None},
        results=results,
        files={path.relative_to(folder).as_posix(): published_file(path) for path in written},
    )
