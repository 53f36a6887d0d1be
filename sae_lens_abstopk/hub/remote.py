"""A repository on the Hub: what it holds, and one commit on top of that."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils.sha import git_hash

from sae_lens_abstopk.hub.requests import ask, status_of
from sae_lens_abstopk.system.errors import ConfigError, HubError
from sae_lens_abstopk.system.files import file_sha256

SHA256_DIGITS = 64
# of the thousand that the Hub takes in one request
PATHS_AT_ONCE = 500
# other statuses may come after a try that did commit, and whose answer was lost
COMMITTED_NOTHING = (400, 401, 403, 404)


@dataclass(frozen=True)
class Remote:
    """A branch of a model repository, and the commit that it was looked at."""

    repo_id: str
    revision: str
    commit: str | None
    """Its head, or that of ``main`` where the branch is to start; None only where there is no commit at all."""
    is_there: bool = True
    """Whether the branch is there already."""

    @classmethod
    def find(cls, repo_id: str, revision: str, *, private: bool) -> "Remote":
        """
        The branch ``revision`` of ``repo_id``, whether it is there or not; nothing is made.

        Raises:
            ConfigError: the repository is there and public, and a private one was asked for.
            HubError: the Hub said no.
        """
        doing = f"publishing to {repo_id}"
        main = cls._head(repo_id, "main", doing)
        if main is None:
            return cls(repo_id, revision, None, is_there=False)
        if private and not ask(lambda: HfApi().model_info(repo_id), doing=doing, repo_id=repo_id).private:
            raise ConfigError(
                f"{repo_id} is there already and is public; make it private on the Hub, or leave --private out."
            )
        head = main if revision == "main" else cls._head(repo_id, revision, doing)
        return cls(repo_id, revision, head or main, is_there=head is not None)

    def made(self, *, private: bool) -> "Remote":
        """
        The same once repository and branch are there; the ones that are missing are made.

        Raises:
            HubError: the Hub said no.
        """
        if self.is_there:
            return self
        repo_id, revision, api, doing = self.repo_id, self.revision, HfApi(), f"publishing to {self.repo_id}"
        if self.commit is None:
            # False would make it public where an organisation's repositories are private by default
            ask(lambda: api.create_repo(repo_id, private=private or None, exist_ok=True), doing=doing, repo_id=repo_id)
        if revision != "main":
            ask(lambda: api.create_branch(repo_id, branch=revision, exist_ok=True), doing=doing, repo_id=repo_id)
        return Remote(repo_id, revision, self._head(repo_id, revision, doing))

    @staticmethod
    def _head(repo_id: str, revision: str, doing: str) -> str | None:
        """The commit that ``revision`` points to; None where there is no such repository or revision."""

        def head() -> str | None:
            try:
                return HfApi().model_info(repo_id, revision=revision).sha
            except Exception as error:
                if status_of(error) == 404:
                    return None
                raise

        return ask(head, doing=doing, repo_id=repo_id)

    def hashes(self, paths: Iterable[str]) -> dict[str, str]:
        """The hashes of those of ``paths`` that are there: sha256 of large files, git's sha1 of small ones."""
        if self.commit is None:
            return {}
        wanted = list(paths)
        found: dict[str, str] = {}
        for start in range(0, len(wanted), PATHS_AT_ONCE):
            part = wanted[start : start + PATHS_AT_ONCE]
            files = ask(
                lambda part=part: HfApi().get_paths_info(self.repo_id, part, revision=self.commit),
                doing=f"looking at {self.repo_id}",
                repo_id=self.repo_id,
            )
            found |= {
                file.path: file.lfs.sha256 if file.lfs else file.blob_id for file in files if isinstance(file, RepoFile)
            }
        return found

    def same(self, files: Mapping[str, Path]) -> dict[str, bool]:
        """For those of ``files`` that are there already, by path, whether they have the same bytes."""
        return {path: digest == _local_hash(files[path], digest) for path, digest in self.hashes(files).items()}

    def commit_files(self, files: Mapping[str, Path], deleted: Iterable[str], message: str) -> str:
        """
        Put ``files`` there and take ``deleted`` away, in one commit on top of the one that was looked at.

        Bytes that the Hub has from an earlier try are not sent again.

        Returns:
            The new commit.

        Raises:
            HubError: nothing was committed, or it is not known whether it was.
        """
        deletions = [CommitOperationDelete(path, is_folder=False) for path in deleted]

        def commit() -> str:
            # made anew for each try: of these the client leaves out what a try whose answer was lost has committed
            additions = [CommitOperationAdd(path, path_or_fileobj=file) for path, file in files.items()]
            made = HfApi().create_commit(
                self.repo_id,
                [*additions, *deletions],
                commit_message=message,
                revision=self.revision,
                parent_commit=self.commit,
            )
            return made.oid

        try:
            return ask(commit, doing=f"publishing to {self.repo_id}", repo_id=self.repo_id)
        except HubError as error:
            refused = status_of(error) in COMMITTED_NOTHING
            known = (
                "Nothing was committed." if refused else "Run the same command again; it sends only what is missing."
            )
            raise HubError(f"{error} {known}") from error


def require_login(repo_id: str) -> None:
    """
    Refuse to publish to ``repo_id`` without a token that may write somewhere.

    Raises:
        HubError: there is none, the Hub does not know it, or it may only read.
    """
    doing = f"publishing to {repo_id}"
    if get_token() is None:
        raise HubError(f"{doing} failed: you are not logged in to the Hub; set HF_TOKEN or run `hf auth login`.")
    who = ask(lambda: HfApi().whoami(), doing=doing, repo_id=repo_id)
    if who.get("auth", {}).get("accessToken", {}).get("role") == "read":
        raise HubError(f"{doing} failed: the token may only read; use one with write access.")


def _local_hash(path: Path, digest: str) -> str:
    """The hash of a file by which the Hub knows it: sha256, as long as ``digest`` then is, of large ones, git's sha1 of small ones."""
    return file_sha256(path) if len(digest) == SHA256_DIGITS else git_hash(path.read_bytes())
