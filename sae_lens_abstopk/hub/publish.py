"""Publish SAEs: check everything locally first, then upload in one commit."""

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from huggingface_hub import ModelCard, ModelCardData
from sae_lens import SAE
from sae_lens.constants import SAE_WEIGHTS_FILENAME

from sae_lens_abstopk.evaluation.results.schema import Results
from sae_lens_abstopk.hub.manifest import (
    CARD_FILENAME,
    MANIFEST_FILENAME,
    PLOT_FILENAME,
    Manifest,
    PublishedFile,
    PublishedSAE,
    published_file,
)
from sae_lens_abstopk.hub.model_card import model_card
from sae_lens_abstopk.hub.pair_cards import pair_results_beside
from sae_lens_abstopk.hub.repository import Repository, hub_errors, require_repo_id, require_write_token
from sae_lens_abstopk.hub.results import measure as measure_saes
from sae_lens_abstopk.hub.results import results_beside, results_by_id
from sae_lens_abstopk.hub.staging import Staged, require_ids, stage
from sae_lens_abstopk.saes.poles import PoleActivity
from sae_lens_abstopk.saes.signed import SIGNED_ARCHITECTURES
from sae_lens_abstopk.system.errors import ConfigError
from sae_lens_abstopk.system.files import require_empty
from sae_lens_abstopk.system.typed_values import one_or_more


@dataclass(frozen=True)
class Published:
    """A publication."""

    repo_id: str
    revision: str
    commit: str | None
    """Commit id of the release; None after a dry run."""
    changed: tuple[str, ...]
    """Paths written by this commit."""
    files: dict[str, PublishedFile]
    """All files of these SAEs, the card and the manifest, by path."""
    as_trained: tuple[str, ...]
    """Ids of signed SAEs of tokens that are not in the canonical gauge, without mirrors."""


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
    Publish SAEs so that ``SAE.from_pretrained(repo_id, sae_id)`` loads them from ``main``.

    The token comes from ``HF_TOKEN`` or the login cache. SAEs already in the repository stay, with their results.
    Publishing twice changes nothing; after an interruption only missing files are sent.

    Args:
        saes: SAEs or their folders, by id in the repository.
        repo_id: ``user/name``; created if missing.
        private: Create a private repository; by default the account's settings decide.
        revision: Branch; created if missing.
        with_mirror: Also publish the mirror of each signed SAE, as ``<id>_mirror``.
        results: Results files, or results of :func:`evaluate`, for the card; matched by the hash of the weights, else
            by id, or by label if they have no hash. By default a ``results.json`` of these weights in the SAE's
            folder or its parent, and `pairs.json` and `concepts.json` beside the folder of an SAE of pairs.
        measure: Measure now, for the canonical sign gauge and for missing reconstruction and contexts; needs folders.
        model_name: Model to measure with instead of the recorded one.
        text: Dataset or file to measure on instead of the run's held-out text.
        n_tokens: Tokens to measure on.
        device: Device of the model; ``"auto"`` is CUDA if available, else the CPU.
        poles: Pole activity by SAE id, for the canonical gauge; by default from the file in the SAE's folder.
        license: Licence of the weights, in the Hub's spelling.
        base_model: Hub id of the model, if the metadata name a folder (whose name becomes ``model_weights``).
        overwrite: Replace different files, and the licence.
        dry_run_folder: Write the release into this new or empty folder, without contacting the Hub.
        on_progress: Called with (batches measured, batches in all).

    Raises:
        ConfigError: an argument or an SAE cannot be used, files would be overwritten, or a mirror of replaced weights
            would stay. Nothing was sent.
        HubError: the Hub rejected the request or is unreachable. The release is complete or not there at all.
    """
    require_repo_id(repo_id)
    require_ids(list(saes), with_mirror=with_mirror)
    if dry_run_folder is not None:
        require_empty(Path(dry_run_folder))
    folders = {sae_id: Path(source) for sae_id, source in saes.items() if not isinstance(source, SAE)}
    if results:
        known = results_by_id(one_or_more(results), saes)
    else:
        known = results_beside(folders) | pair_results_beside(folders)
    if measure:
        if in_memory := saes.keys() - folders.keys():
            raise ConfigError(
                f"measure=True needs folders, and {', '.join(sorted(in_memory))} is in memory; save it, or give poles=."
            )
        if dry_run_folder is None:  # contact the Hub before the long measurement
            require_write_token(repo_id)
            Repository.find(repo_id, revision, private=private)
            metadata = ModelCardData(license=license, base_model=base_model, library_name="saelens")
            _require_valid_card(f"---\n{metadata.to_yaml()}\n---\n", repo_id)
        measured, activity = measure_saes(
            folders, model_name=model_name, text=text, n_tokens=n_tokens, device=device, on_progress=on_progress
        )
        poles = activity | dict(poles or {})
        for sae_id, found in measured.items():
            own = known.get(sae_id, found)
            known[sae_id] = replace(own, examples=own.examples or found.examples)
    with TemporaryDirectory(prefix="abstopk-publish-") as temporary:
        folder = Path(temporary) / "release"  # other users cannot read the outer folder
        folder.mkdir()
        staged = stage(saes, folder, with_mirror=with_mirror, results=known, poles=poles or {}, base_model=base_model)
        if dry_run_folder is not None:
            paths = _with_card(Manifest({}), staged, folder, repo_id, revision, license=license)
            shutil.copytree(folder, dry_run_folder, dirs_exist_ok=True)
            return _published(repo_id, revision, None, paths, staged, folder)
        repository = Repository.find(repo_id, revision, private=private)
        before = _earlier_manifest(repository)
        staged = _with_earlier_results(staged, before)
        _require_current_mirrors(repository, staged, before)
        paths = _with_card(before, staged, folder, repo_id, revision, license=license)
        changed = [path for path, file in paths.items() if not repository.has_same(path, file)]
        earlier = {path for sae_id in staged.saes.keys() & before.saes.keys() for path in before.saes[sae_id].files}
        removed = sorted((earlier - _files(staged).keys()) & repository.files.keys())
        if not overwrite:
            _require_no_overwrite(repository, changed, removed, before, staged, license)
        if CARD_FILENAME in changed:  # check before an empty repository is created
            _require_valid_card(paths[CARD_FILENAME].read_text(encoding="utf-8"), repo_id)
        message = f"Publish {', '.join(staged.saes)}"
        commit = repository.write({path: paths[path] for path in changed}, removed, message, private=private)
        return _published(repo_id, revision, commit, changed, staged, folder)


def _require_valid_card(card: str, repo_id: str) -> None:
    with hub_errors(f"checking the card of {repo_id} (licence, base model)"):
        ModelCard(card).validate()


def _with_card(
    before: Manifest, staged: Staged, folder: Path, repo_id: str, revision: str, *, license: str | None
) -> dict[str, Path]:
    """Write the card and the manifest; return all files by path in the repository."""
    manifest = before.with_saes(staged.saes, license=license)
    (folder / CARD_FILENAME).write_text(model_card(manifest, repo_id, revision), encoding="utf-8")
    manifest = replace(manifest, card=published_file(folder / CARD_FILENAME))
    (folder / MANIFEST_FILENAME).write_text(manifest.to_json(), encoding="utf-8")
    return staged.paths | {name: folder / name for name in (CARD_FILENAME, MANIFEST_FILENAME)}


def _files(staged: Staged) -> dict[str, PublishedFile]:
    return {path: file for sae in staged.saes.values() for path, file in sae.files.items()}


def _published(
    repo_id: str, revision: str, commit: str | None, changed: Iterable[str], staged: Staged, folder: Path
) -> Published:
    files = _files(staged) | {name: published_file(folder / name) for name in (CARD_FILENAME, MANIFEST_FILENAME)}
    signed = {sae_id: sae for sae_id, sae in staged.saes.items() if sae.architecture in SIGNED_ARCHITECTURES}
    of_tokens = [sae_id for sae_id, sae in signed.items() if sae.training.get("source", "tokens") == "tokens"]
    as_trained = [sae_id for sae_id in of_tokens if signed[sae_id].gauge == "as trained"]
    return Published(repo_id, revision, commit, tuple(changed), files, tuple(as_trained))


def _earlier_manifest(repository: Repository) -> Manifest:
    """Return the manifest in the repository, or an empty one; leave out SAEs whose weights were deleted there."""
    if MANIFEST_FILENAME not in repository.files:
        return Manifest({})
    content = repository.download(MANIFEST_FILENAME).read_bytes()
    found = Manifest.from_json(content, f"{MANIFEST_FILENAME} of {repository.repo_id}")
    saes = {sae_id: sae for sae_id, sae in found.saes.items() if f"{sae_id}/{SAE_WEIGHTS_FILENAME}" in repository.files}
    return replace(found, saes=saes)


def _with_earlier_results(staged: Staged, before: Manifest) -> Staged:
    """Add the published results and picture of unchanged weights to ``staged``, where no new results are given."""
    saes = dict(staged.saes)
    for sae_id, sae in staged.saes.items():
        earlier = before.saes.get(sae_id)
        if sae.results is None and earlier is not None and _same_weights(sae_id, sae, earlier):
            plot = f"{sae_id}/{PLOT_FILENAME}"
            kept = {plot: earlier.files[plot]} if plot in earlier.files else {}
            saes[sae_id] = replace(sae, results=earlier.results, files=dict(sorted((kept | sae.files).items())))
    return staged._replace(saes=saes)


def _same_weights(sae_id: str, one: PublishedSAE, other: PublishedSAE) -> bool:
    path = f"{sae_id}/{SAE_WEIGHTS_FILENAME}"
    return path in one.files and one.files[path] == other.files.get(path)


def _require_current_mirrors(repository: Repository, staged: Staged, before: Manifest) -> None:
    for sae_id, sae in before.saes.items():
        origin = sae.mirror_of
        if origin is None or sae_id in staged.saes or origin not in staged.saes or origin not in before.saes:
            continue
        if not _same_weights(origin, staged.saes[origin], before.saes[origin]):
            is_signed = staged.saes[origin].architecture in SIGNED_ARCHITECTURES
            remedy = "add --mirror to replace it too" if is_signed else f"delete the folder {sae_id} there first"
            raise ConfigError(f"{repository} has {sae_id}, the mirror of the earlier weights of {origin}; {remedy}.")


def _require_no_overwrite(
    repository: Repository,
    changed: Sequence[str],
    removed: Sequence[str],
    before: Manifest,
    staged: Staged,
    license: str | None,
) -> None:
    """Raise ConfigError if files other than the manifest and an unedited card would be replaced or removed."""
    if license and before.license and license != before.license:
        raise ConfigError(
            f"{repository} has the licence {before.license} for all SAEs, not {license}; leave --license out, or take "
            "another repository, or change it for all with --overwrite."
        )
    replaced = {path for path in changed if path in repository.files and path != MANIFEST_FILENAME}
    if CARD_FILENAME in replaced and before.card == published_file(repository.download(CARD_FILENAME)):
        replaced.remove(CARD_FILENAME)
    if replaced or removed:
        canonical = {sae_id for sae_id, sae in before.saes.items() if sae.gauge == "canonical"}
        lost = [sae_id for sae_id, sae in staged.saes.items() if sae.gauge != "canonical" and sae_id in canonical]
        hint = f" The signs of {', '.join(lost)} are canonical there; --measure keeps them so." if lost else ""
        raise ConfigError(
            f"{repository} has other files at {', '.join(sorted([*replaced, *removed]))}; choose another SAE id or "
            f"repository, or replace them with --overwrite.{hint}"
        )
