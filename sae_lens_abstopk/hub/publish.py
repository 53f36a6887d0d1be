"""Publish SAEs: everything is checked on this machine first, and then arrives in one commit."""

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import Any

from huggingface_hub import ModelCard, ModelCardData, hf_hub_download
from sae_lens import SAE
from sae_lens.constants import SAE_WEIGHTS_FILENAME

from sae_lens_abstopk.evaluation.results.schema import Results
from sae_lens_abstopk.hub.manifest import (
    CARD_FILENAME,
    MANIFEST_FILENAME,
    Manifest,
    PublishedFile,
    PublishedSAE,
    published_file,
)
from sae_lens_abstopk.hub.measuring import measure as measure_saes
from sae_lens_abstopk.hub.model_card import model_card
from sae_lens_abstopk.hub.plot import PLOT_FILENAME
from sae_lens_abstopk.hub.remote import Remote, require_login
from sae_lens_abstopk.hub.requests import ask, require_repo_id
from sae_lens_abstopk.hub.results import results_beside, results_by_id, results_of, results_of_file, with_measured
from sae_lens_abstopk.hub.staging import Staged, require_ids, stage
from sae_lens_abstopk.saes.pole_activity import PoleActivity
from sae_lens_abstopk.saes.signed import SIGNED_ARCHITECTURES
from sae_lens_abstopk.system.errors import ConfigError
from sae_lens_abstopk.system.files import lack_of_space, require_empty
from sae_lens_abstopk.system.one_or_more import one_or_more


@dataclass(frozen=True)
class Published:
    """What :func:`publish` did."""

    repo_id: str
    revision: str
    commit: str | None
    """The commit that holds the release; None after a dry run."""
    changed: tuple[str, ...]
    """Paths that this commit wrote; none where all was there already."""
    files: dict[str, PublishedFile]
    """Every file of these SAEs, the card and the manifest, by path."""
    as_trained: tuple[str, ...]
    """Signed SAEs whose positive sides are as training left them, by id, without mirrors."""


def publish(
    saes: Mapping[str, SAE[Any] | Path | str],
    repo_id: str,
    *,
    private: bool = False,
    revision: str = "main",
    with_mirror: bool = False,
    results: str | Path | Results | Sequence[str | Path | Results] | None = None,
    measure: bool = False,
    model_name: str | None = None,
    text: str | None = None,
    n_tokens: int = 51_200,
    device: str = "auto",
    poles: Mapping[str, PoleActivity] | None = None,
    license: str | None = None,
    base_model: str | None = None,
    overwrite: bool = False,
    dry_run_folder: str | Path | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Published:
    """
    Publish SAEs so that ``SAE.from_pretrained(repo_id, sae_id)`` loads them, from ``main``; the card has the code for others.

    The token comes from ``HF_TOKEN`` or the login cache. SAEs that the repository has already stay; the card and
    ``abstopk.json`` then describe them all, with what was measured of weights that are the same. Running it again after it was cut
    off sends only what is missing.

    Args:
        saes: SAE, or folder of one, by the id that it is to have in the repository.
        repo_id: ``user/name``; made where there is none.
        private: Make it a private one; else a new one is what the settings of the user or organisation make it.
        revision: Branch; made where there is none.
        with_mirror: Also publish the mirror of each signed one, as ``<id>_mirror``.
        results: One or several results files, or what :func:`evaluate` returned, for the card; an SAE's are told by the hash of its weights, else by its id, or by
            the label in its metadata where the file records no hash. By default the ``results.json`` in the folder of an SAE
            or the one above, if it is of these weights.
        measure: Read some text now, for the canonical sign gauge, and for reconstruction and contexts where there are none; of
            folders alone.
        model_name: Model to measure with instead of the one recorded; with ``measure`` alone, as the next three.
        text: Dataset or file to measure on instead of the run's held-out text.
        n_tokens: Tokens to measure on.
        device: For the model; ``"auto"`` takes CUDA where there is one, else the CPU.
        poles: Pole activity by SAE id, for the canonical sign gauge; one in the folder of an SAE is found.
        license: Licence of the weights, as the Hub spells it.
        base_model: Hub id of the model, where the metadata name a folder; the folder's name is kept as ``model_weights``
            where it is another, since its weights may be too.
        overwrite: Replace files that are there with other content, and the licence.
        dry_run_folder: Write the whole release into this folder, new or empty, and ask nothing of the Hub.
        on_progress: Called with (batches measured, batches in all).

    Raises:
        ConfigError: an SAE or a name cannot be used, a file is there already and is another one, or the mirror of
            weights that are replaced would stay; nothing was sent.
        HubError: the Hub, or the way to it, said no; the release is there whole or not at all.
    """
    if not isinstance(saes, Mapping):
        raise ConfigError(f"saes={saes!r} must say by which id each is to be published: {{ID: FOLDER}}.")
    if poles is not None and not (
        isinstance(poles, Mapping) and all(isinstance(it, PoleActivity) for it in poles.values())
    ):
        raise ConfigError("poles must be by SAE id what measure_poles gives: poles={ID: measure_poles(FOLDER)}.")
    _require_publishable(saes, repo_id, with_mirror=with_mirror, dry_run_folder=dry_run_folder)
    folders = {sae_id: Path(source) for sae_id, source in saes.items() if not isinstance(source, SAE)}
    if measure and len(folders) < len(saes):
        in_memory = ", ".join(sae_id for sae_id in saes if sae_id not in folders)
        raise ConfigError(
            f"measure=True needs folders, and {in_memory} is in memory; save it and give the folder, or poles=."
        )
    if not measure and (model_name is not None or text is not None or device != "auto"):
        raise ConfigError("model_name, text and device say what is measured on; add measure=True, or leave them out.")
    _require_room(saes, with_mirror=with_mirror)
    known = {} if results else results_beside(folders)
    for path in one_or_more(results or ()):
        measured_there = results_of(path) if isinstance(path, Results) else results_of_file(Path(path))
        known |= results_by_id(measured_there, saes)
    if measure:
        if dry_run_folder is None:  # what the Hub refuses is told before anything is measured
            require_login(repo_id)
            Remote.find(repo_id, revision, private=private)
            named = ModelCardData(license=license, base_model=base_model, library_name="saelens")
            _require_valid_card(f"---\n{named.to_yaml()}\n---\n", repo_id)
        measured, activity = measure_saes(
            folders, model_name=model_name, text=text, n_tokens=n_tokens, device=device, on_progress=on_progress
        )
        known, poles = with_measured(known, measured), activity | dict(poles or {})
    with TemporaryDirectory(prefix="abstopk-publish-") as temporary:
        folder = Path(temporary) / "release"
        folder.mkdir()
        staged = stage(saes, folder, with_mirror=with_mirror, results=known, poles=poles, base_model=base_model)
        if dry_run_folder is not None:
            paths = _with_card(Manifest({}), staged, folder, repo_id, revision, license=license)
            shutil.copytree(folder, dry_run_folder, dirs_exist_ok=True)
            return Published(repo_id, revision, None, tuple(paths), _files(staged, folder), staged.as_trained)
        remote = Remote.find(repo_id, revision, private=private)
        before = _manifest_at(remote)
        staged = _with_earlier_results(staged, before)
        _refuse_stale_mirrors(remote, staged, before)
        if not overwrite and license and before.license and license != before.license:
            raise ConfigError(
                f"{repo_id} has the licence {before.license} for all of its SAEs; leave --license {license} out, take another "
                "repository, or change it for all with --overwrite."
            )
        paths = _with_card(before, staged, folder, repo_id, revision, license=license)
        same = remote.same(paths)
        gone = sorted(remote.hashes(_left_over(before, staged)))  # somebody may have deleted some already
        if not overwrite:
            _refuse_other_files(remote, same, gone, before, staged)
        changed = [path for path in paths if not same.get(path, False)]
        if CARD_FILENAME in changed:  # what the Hub refuses of it leaves no empty repository
            _require_valid_card(paths[CARD_FILENAME].read_text(encoding="utf-8"), repo_id)
        remote = remote.made(private=private)
        commit = remote.commit
        if changed or gone:
            message = f"Publish {', '.join(staged.saes)}"
            commit = remote.commit_files({path: paths[path] for path in changed}, gone, message)
        return Published(repo_id, revision, commit, tuple(changed), _files(staged, folder), staged.as_trained)


def _require_publishable(
    saes: Iterable[str], repo_id: str, *, with_mirror: bool, dry_run_folder: str | Path | None
) -> None:
    """Refuse what can be refused without a look at any SAE."""
    require_repo_id(repo_id)
    require_ids(list(saes), with_mirror=with_mirror)
    if dry_run_folder is not None:
        require_empty(Path(dry_run_folder))


def _require_room(saes: Mapping[str, SAE[Any] | Path | str], *, with_mirror: bool) -> None:
    """Refuse what does not fit where the release is put together."""
    n_bytes = 0
    for source in saes.values():
        if isinstance(source, SAE):
            n_bytes += sum(weight.nbytes for weight in source.state_dict().values())
        elif (weights := Path(source) / SAE_WEIGHTS_FILENAME).is_file():
            n_bytes += weights.stat().st_size
    needed = n_bytes * (3 if with_mirror else 1)  # a mirror is twice as wide
    if lack := lack_of_space(Path(gettempdir()), needed, "the release"):
        raise ConfigError(f"{lack}; name a folder on a larger disk by TMPDIR=FOLDER, or publish fewer SAEs at once.")


def _require_valid_card(card: str, repo_id: str) -> None:
    """Ask the Hub whether it takes the front matter of ``card``."""
    doing = f"checking the card of {repo_id} (licence, base model)"
    ask(lambda: ModelCard(card).validate(repo_type="model"), doing=doing, repo_id=repo_id)


def _manifest_at(remote: Remote) -> Manifest:
    """The manifest of the release that is there, without SAEs that somebody deleted since, or an empty one."""
    if remote.commit is None or MANIFEST_FILENAME not in remote.hashes([MANIFEST_FILENAME]):
        return Manifest({})
    path = ask(
        lambda: hf_hub_download(remote.repo_id, MANIFEST_FILENAME, revision=remote.commit),
        doing=f"reading {MANIFEST_FILENAME} of {remote.repo_id}",
        repo_id=remote.repo_id,
    )
    found = Manifest.from_json(Path(path).read_bytes(), f"{MANIFEST_FILENAME} of {remote.repo_id}")
    weights = {sae_id: f"{sae_id}/{SAE_WEIGHTS_FILENAME}" for sae_id in found.saes}
    there = remote.hashes(weights.values())
    return replace(found, saes={sae_id: sae for sae_id, sae in found.saes.items() if weights[sae_id] in there})


def _with_earlier_results(staged: Staged, before: Manifest) -> Staged:
    """What was measured of the same weights stays where nothing new was given, with its picture."""
    saes = {}
    for sae_id, sae in staged.saes.items():
        earlier = before.saes.get(sae_id)
        if sae.results is None and earlier is not None and _same_weights(sae_id, sae, earlier):
            plot = f"{sae_id}/{PLOT_FILENAME}"
            kept = {plot: earlier.files[plot]} if plot in earlier.files else {}
            sae = replace(sae, results=earlier.results, files=dict(sorted((kept | sae.files).items())))
        saes[sae_id] = sae
    return staged._replace(saes=saes)


def _refuse_stale_mirrors(remote: Remote, staged: Staged, before: Manifest) -> None:
    """Refuse to leave the mirror of other weights beside an SAE that is replaced."""
    for sae_id, sae in before.saes.items():
        origin = sae.mirror_of
        if origin is None or sae_id in staged.saes or origin not in staged.saes or origin not in before.saes:
            continue
        if not _same_weights(origin, staged.saes[origin], before.saes[origin]):
            remedy = (
                "add --mirror to replace it too"
                if staged.saes[origin].architecture in SIGNED_ARCHITECTURES
                else f"delete the folder {sae_id} there first, since {origin} has no mirror now"
            )
            raise ConfigError(
                f"{remote.repo_id} ({remote.revision}) has {sae_id}, the mirror of the weights that {origin} has there now; "
                f"{remedy}."
            )


def _same_weights(sae_id: str, one: PublishedSAE, other: PublishedSAE) -> bool:
    path = f"{sae_id}/{SAE_WEIGHTS_FILENAME}"
    return path in one.files and one.files[path] == other.files.get(path)


def _with_card(
    before: Manifest, staged: Staged, folder: Path, repo_id: str, revision: str, *, license: str | None
) -> dict[str, Path]:
    """Write the card and the manifest too; all files by path."""
    manifest = before.with_saes(staged.saes, license=license)
    (folder / CARD_FILENAME).write_text(model_card(manifest, repo_id, revision), encoding="utf-8")
    manifest = replace(manifest, card=published_file(folder / CARD_FILENAME))
    (folder / MANIFEST_FILENAME).write_text(manifest.to_json(), encoding="utf-8")
    return staged.paths | {name: folder / name for name in (CARD_FILENAME, MANIFEST_FILENAME)}


def _files(staged: Staged, folder: Path) -> dict[str, PublishedFile]:
    """Every file of the SAEs, the card and the manifest in ``folder``, by path."""
    files = {path: file for sae in staged.saes.values() for path, file in sae.files.items()}
    return files | {name: published_file(folder / name) for name in (CARD_FILENAME, MANIFEST_FILENAME)}


def _refuse_other_files(
    remote: Remote, same: Mapping[str, bool], gone: Sequence[str], before: Manifest, staged: Staged
) -> None:
    """Refuse to replace a file, save a manifest and a card that nobody has edited, or to take one away."""
    other = [path for path, is_same in same.items() if not is_same and path != MANIFEST_FILENAME]
    if CARD_FILENAME in other and before.card is not None and _card_is_ours(remote, before.card):
        other.remove(CARD_FILENAME)
    if other or gone:
        of_gauge = [sae_id for sae_id, sae in staged.saes.items() if _loses_gauge(sae, before.saes.get(sae_id))]
        hint = (
            f" The signs of {', '.join(of_gauge)} are canonical there: --measure makes them so again."
            if of_gauge
            else ""
        )
        raise ConfigError(
            f"{remote.repo_id} ({remote.revision}) has other files at {', '.join(sorted([*other, *gone]))}; give another SAE "
            f"id or repository, or --overwrite to replace them.{hint}"
        )


def _loses_gauge(sae: PublishedSAE, earlier: PublishedSAE | None) -> bool:
    return earlier is not None and earlier.gauge == "canonical" and sae.gauge != "canonical"


def _card_is_ours(remote: Remote, card: PublishedFile) -> bool:
    path = ask(
        lambda: hf_hub_download(remote.repo_id, CARD_FILENAME, revision=remote.commit),
        doing=f"reading the card of {remote.repo_id}",
        repo_id=remote.repo_id,
    )
    return published_file(Path(path)) == card


def _left_over(before: Manifest, staged: Staged) -> set[str]:
    """Files of an earlier version of these SAEs that this version has not."""
    earlier = {path for sae_id in staged.saes if sae_id in before.saes for path in before.saes[sae_id].files}
    now = {path for sae in staged.saes.values() for path in sae.files}
    return earlier - now
