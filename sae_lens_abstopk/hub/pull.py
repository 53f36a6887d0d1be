"""Get a published SAE, with the hash of every file checked against the manifest of the release."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, constants, hf_hub_download
from huggingface_hub.errors import LocalEntryNotFoundError
from sae_lens import SAE

from sae_lens_abstopk.hub.manifest import MANIFEST_FILENAME, Manifest, PublishedSAE, published_file
from sae_lens_abstopk.hub.requests import ask, require_repo_id, status_of
from sae_lens_abstopk.saes.loading import load_as_saved
from sae_lens_abstopk.system.errors import ConfigError, HubError


@dataclass(frozen=True)
class Pulled:
    """An SAE from the Hub."""

    sae: SAE[Any]
    folder: Path
    """Where its files lie, in the Hub's cache."""
    commit: str
    """The commit that they are of."""
    record: PublishedSAE
    """What the manifest says of it."""
    manifest: Manifest


def pull(repo_id: str, sae_id: str, *, revision: str = "main") -> Pulled:
    """
    Download the SAE ``sae_id`` of ``repo_id`` into the Hub's cache, check it, and load it.

    A file whose hash is not that of the manifest is downloaded once more, and refused if it still differs. Under
    ``HF_HUB_OFFLINE`` the cache is read alone, and checked in the same way.

    Raises:
        ConfigError: the repository was not published by this package, or has no such SAE.
        HubError: the Hub, or the way to it, said no, a file arrived damaged twice, or is to come from the cache, which lacks
            it.
    """
    doing = f"pulling {sae_id} of {repo_id}"
    require_repo_id(repo_id)
    offline = constants.HF_HUB_OFFLINE
    head = (
        None
        if offline
        else ask(lambda: HfApi().model_info(repo_id, revision=revision).sha, doing=doing, repo_id=repo_id)
    )
    if head is None and not offline:
        raise ConfigError(f"{repo_id} is empty.")

    def download(path: str, at: str, *, again: bool = False) -> Path:
        def fetch() -> str:
            try:
                return hf_hub_download(repo_id, path, revision=at, force_download=again)
            except LocalEntryNotFoundError:
                if not offline:
                    raise
                raise HubError(
                    f"{path} of {repo_id} ({at}) is not in the cache, and HF_HUB_OFFLINE is set; pull it once with the "
                    "variable unset."
                ) from None

        return Path(ask(fetch, doing=f"downloading {path} of {repo_id}", repo_id=repo_id))

    try:
        # by the name of the revision, so that the cache knows what that was
        named = download(MANIFEST_FILENAME, revision)
        # one commit for all files, also while somebody publishes
        commit = head or named.parent.name
        manifest_path = download(MANIFEST_FILENAME, commit)
    except HubError as error:
        if error.__cause__ is None or status_of(error.__cause__) != 404:
            raise
        raise ConfigError(
            f"{repo_id} has no {MANIFEST_FILENAME}, so there is nothing to check it against; load it with "
            f'SAE.from_pretrained("{repo_id}", "{sae_id}").'
        ) from None
    where = f"{MANIFEST_FILENAME} of {repo_id}"
    try:
        manifest = Manifest.from_json(manifest_path.read_bytes(), where)
    except ConfigError:
        manifest = Manifest.from_json(download(MANIFEST_FILENAME, commit, again=True).read_bytes(), where)
    if sae_id not in manifest.saes:
        raise ConfigError(f"{repo_id} has no SAE {sae_id!r}; it has {', '.join(manifest.saes)}.")
    record = manifest.saes[sae_id]
    for path, expected in record.files.items():
        arrived = published_file(download(path, commit))
        if arrived != expected:
            arrived = published_file(download(path, commit, again=True))
        if arrived != expected:
            raise HubError(
                f"{path} of {repo_id} arrived damaged twice ({arrived.size} bytes of {expected.size}, sha256 "
                f"{arrived.sha256[:12]} for {expected.sha256[:12]}); it is not loaded. Try again later, and tell the publisher."
            )
    folder = manifest_path.parent / sae_id
    return Pulled(load_as_saved(folder), folder, commit, record, manifest)
