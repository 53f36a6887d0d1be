"""Conflicts between a new release and the files in the repository."""

from collections.abc import Sequence
from dataclasses import replace

from sae_lens.constants import SAE_WEIGHTS_FILENAME

from sae_lens_abstopk.hub.manifest import CARD_FILENAME, MANIFEST_FILENAME, Manifest, PublishedSAE, published_file
from sae_lens_abstopk.hub.plot import PLOT_FILENAME
from sae_lens_abstopk.hub.repository import Repository
from sae_lens_abstopk.hub.staging import Staged
from sae_lens_abstopk.saes.signed import SIGNED_ARCHITECTURES
from sae_lens_abstopk.system.errors import ConfigError


def earlier_manifest(repository: Repository) -> Manifest:
    """Return the manifest in the repository, or an empty one; leave out SAEs whose weights were deleted there."""
    if MANIFEST_FILENAME not in repository.files:
        return Manifest({})
    content = repository.download(MANIFEST_FILENAME).read_bytes()
    found = Manifest.from_json(content, f"{MANIFEST_FILENAME} of {repository.repo_id}")
    saes = {sae_id: sae for sae_id, sae in found.saes.items() if f"{sae_id}/{SAE_WEIGHTS_FILENAME}" in repository.files}
    return replace(found, saes=saes)


def with_earlier_results(staged: Staged, before: Manifest) -> Staged:
    """Add the published results and picture of unchanged weights to ``staged``, where no new results are given."""
    saes = dict(staged.saes)
    for sae_id, sae in staged.saes.items():
        earlier = before.saes.get(sae_id)
        if sae.results is None and earlier is not None and _same_weights(sae_id, sae, earlier):
            plot = f"{sae_id}/{PLOT_FILENAME}"
            kept = {plot: earlier.files[plot]} if plot in earlier.files else {}
            saes[sae_id] = replace(sae, results=earlier.results, files=dict(sorted((kept | sae.files).items())))
    return staged._replace(saes=saes)


def require_current_mirrors(repository: Repository, staged: Staged, before: Manifest) -> None:
    """Raise ConfigError if a mirror of replaced weights would stay."""
    for sae_id, sae in before.saes.items():
        origin = sae.mirror_of
        if origin is None or sae_id in staged.saes or origin not in staged.saes or origin not in before.saes:
            continue
        if not _same_weights(origin, staged.saes[origin], before.saes[origin]):
            is_signed = staged.saes[origin].architecture in SIGNED_ARCHITECTURES
            remedy = "add --mirror to replace it too" if is_signed else f"delete the folder {sae_id} there first"
            raise ConfigError(
                f"{repository.repo_id} ({repository.revision}) has {sae_id}, the mirror of the earlier weights of "
                f"{origin}; {remedy}."
            )


def require_no_overwrite(
    repository: Repository,
    changed: Sequence[str],
    removed: Sequence[str],
    before: Manifest,
    staged: Staged,
    license: str | None,
) -> None:
    """Raise ConfigError if files other than the manifest and an unedited card would be replaced or removed."""
    where = f"{repository.repo_id} ({repository.revision})"
    if license and before.license and license != before.license:
        raise ConfigError(
            f"{where} has the licence {before.license} for all SAEs, not {license}; leave --license out, or take "
            "another repository, or change it for all with --overwrite."
        )
    replaced = {path for path in changed if path in repository.files and path != MANIFEST_FILENAME}
    if CARD_FILENAME in replaced and before.card == published_file(repository.download(CARD_FILENAME)):
        replaced.remove(CARD_FILENAME)
    if not replaced and not removed:
        return
    lost = [
        sae_id
        for sae_id, sae in staged.saes.items()
        if sae.gauge != "canonical" and sae_id in before.saes and before.saes[sae_id].gauge == "canonical"
    ]
    hint = f" The signs of {', '.join(lost)} are canonical there; --measure keeps them so." if lost else ""
    raise ConfigError(
        f"{where} has other files at {', '.join(sorted([*replaced, *removed]))}; choose another SAE id or repository, "
        f"or replace them with --overwrite.{hint}"
    )


def _same_weights(sae_id: str, one: PublishedSAE, other: PublishedSAE) -> bool:
    path = f"{sae_id}/{SAE_WEIGHTS_FILENAME}"
    return path in one.files and one.files[path] == other.files.get(path)
