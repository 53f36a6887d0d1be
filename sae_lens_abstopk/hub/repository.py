"""A repository on the Hub: look at its files, add one commit, and turn errors of the client into a sentence."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants, get_token, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled
from huggingface_hub.utils import validate_repo_id
from huggingface_hub.utils.sha import git_hash

from sae_lens_abstopk.system.errors import ConfigError, HubError, caused_by, causes
from sae_lens_abstopk.system.files import file_sha256

SHA256_DIGITS = 64
CHANGED = "the repository has changed meanwhile; look at what is there now and run the command again"
REMEDIES = {
    401: "set HF_TOKEN or run `hf auth login`, and check the name",
    403: "use a token with the rights to do this; a gated repository gives access on its page",
    404: "check the name; a private repository needs a token that may see it",
    409: CHANGED,
    412: CHANGED,
}


@contextmanager
def hub_errors(doing: str) -> Iterator[None]:
    """Raise any error of the Hub's client, which does its own retries, as a HubError: "``doing`` failed", and why."""
    try:
        yield
    except Exception as error:  # the client raises errors of several libraries
        raise HubError(f"{doing} failed{_reason(error)}") from error


def _reason(error: Exception) -> str:
    answers = [cause for cause in causes(error) if isinstance(cause, HfHubHTTPError)]
    said = next((answer.server_message for answer in answers if answer.server_message), str(error))
    said = " ".join(said.split())[:500].rstrip(".") or type(error).__name__
    if caused_by(error, OfflineModeIsEnabled):
        return f": {said}; unset HF_HUB_OFFLINE."
    if not answers:
        return f": {said}; check the network ({constants.ENDPOINT}) and run the command again."
    status = answers[0].response.status_code
    remedy = REMEDIES.get(status, "try again later; what has arrived is not sent again")
    return f" ({status}): {said}." if status == 400 else f" ({status}): {said}; {remedy}."


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

    def __str__(self) -> str:
        return f"{self.repo_id} ({self.revision})"

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
        Write ``files`` and remove ``deleted`` in one commit, in a new repository or branch if missing; return its head.

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
            return api.create_commit(
                self.repo_id, operations, commit_message=message, revision=self.revision, parent_commit=self.commit
            ).oid


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
