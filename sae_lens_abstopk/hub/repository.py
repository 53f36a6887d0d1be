"""A repository on the Hub: look at its files, and add one commit."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from huggingface_hub.utils import validate_repo_id
from huggingface_hub.utils.sha import git_hash

from sae_lens_abstopk.hub.hub_errors import hub_errors
from sae_lens_abstopk.system.errors import ConfigError, HubError
from sae_lens_abstopk.system.files import file_sha256

SHA256_DIGITS = 64


@dataclass(frozen=True)
class Repository:
    """A branch of a model repository, at one commit."""

    repo_id: str
    revision: str
    commit: str | None
    """Head of the branch, or of ``main`` if the branch is missing; None if the repository is missing."""
    files: dict[str, str]
    """Hash of each file by path: SHA-256 of a file in LFS, Git's SHA-1 of any other."""
    exists: bool
    """Whether the branch exists."""

    @classmethod
    def find(cls, repo_id: str, revision: str, *, private: bool) -> Self:
        """
        Look up the branch ``revision`` of ``repo_id``; create nothing.

        Raises:
            ConfigError: the repository is public, and a private one was requested.
            HubError: the Hub cannot be reached.
        """
        for branch in dict.fromkeys((revision, "main")):
            with hub_errors(f"looking at {repo_id}"):
                try:
                    info = HfApi().model_info(repo_id, revision=branch, files_metadata=True)
                except HfHubHTTPError as error:
                    if error.response.status_code != 404:
                        raise
                    continue
            if private and not info.private:
                raise ConfigError(f"{repo_id} is public already; make it private on the Hub, or leave --private out.")
            found = info.siblings or ()
            files = {file.rfilename: file.lfs.sha256 if file.lfs else str(file.blob_id) for file in found}
            return cls(repo_id, revision, info.sha, files, exists=branch == revision)
        return cls(repo_id, revision, None, {}, exists=False)

    def has_same(self, path: str, local: Path) -> bool:
        """Return whether the file at ``path`` equals ``local``."""
        digest = self.files.get(path, "")
        return digest == (file_sha256(local) if len(digest) == SHA256_DIGITS else git_hash(local.read_bytes()))

    def download(self, path: str) -> Path:
        """Fetch one file into the Hub's cache."""
        with hub_errors(f"reading {path} of {self.repo_id}"):
            return Path(hf_hub_download(self.repo_id, path, revision=self.commit))

    def write(self, files: Mapping[str, Path], deleted: Iterable[str], message: str, *, private: bool) -> str | None:
        """
        Write ``files`` and remove ``deleted`` in one commit; create a missing repository or branch.

        Returns:
            The head of the branch.

        Raises:
            HubError: the Hub rejected the commit, or somebody else has committed meanwhile; the old release stays.
        """
        api = HfApi()
        operations = [
            *(CommitOperationAdd(path, path_or_fileobj=file) for path, file in files.items()),
            *(CommitOperationDelete(path, is_folder=False) for path in deleted),
        ]
        with hub_errors(f"publishing to {self.repo_id}"):
            if self.commit is None:
                # private=False would override the default of an organisation
                api.create_repo(self.repo_id, private=private or None, exist_ok=True)
            if not self.exists and self.revision != "main":
                api.create_branch(self.repo_id, branch=self.revision, exist_ok=True)
            if not operations:
                return self.commit
            commit = api.create_commit(
                self.repo_id,
                operations,
                commit_message=message,
                revision=self.revision,
                parent_commit=self.commit,
            )
        return commit.oid


def require_repo_id(repo_id: str) -> None:
    """Raise ConfigError if ``repo_id`` is not USER/NAME."""
    try:
        validate_repo_id(repo_id)
        if "/" not in repo_id:
            raise HFValidationError("the user or organisation is missing.")
    except HFValidationError as error:
        raise ConfigError(f"{repo_id!r} cannot be a repository (USER/NAME): {error}") from None


def require_write_token(repo_id: str) -> None:
    """Raise HubError if there is no token, or it is unknown or read-only."""
    if get_token() is None:
        raise HubError(f"publishing to {repo_id} failed: there is no token; set HF_TOKEN or run `hf auth login`.")
    with hub_errors(f"publishing to {repo_id}"):
        user = HfApi().whoami()
    if user.get("auth", {}).get("accessToken", {}).get("role") == "read":
        raise HubError(f"publishing to {repo_id} failed: the token may only read; use one with write access.")
