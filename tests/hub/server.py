"""A small server that speaks the Hub's protocol over real HTTP, and can be told to fail."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.hub.repositories import Blob, Fault, Repo

WRITER, READER = "hf_writerwriterwriter", "hf_readerreaderreader"


class HubServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repos: dict[str, Repo] = {}
        self.lfs: dict[str, bytes] = {}
        self.faults: list[Fault] = []
        self.private_by_default = False
        """What an organisation sets for repositories whose maker says nothing of it."""
        self.requests: list[tuple[str, str, str | None]] = []
        """Method, path and token of all requests."""

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def cdn(self) -> str:
        # another origin, as on the Hub: the token must not go there
        return f"http://localhost:{self.server_port}/cdn"

    def add_fault(self, method: str, path: str, **options: Any) -> Fault:
        self.faults.append(Fault(method, path, **options))
        return self.faults[-1]

    def count(self, method: str, path: str) -> int:
        return sum(m == method and re.search(path, p) is not None for m, p, _ in self.requests)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are part of the tests."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or every answer waits 40 ms for an acknowledgement
    server: HubServer

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_any(self) -> None:
        self.url = urlsplit(self.path)
        path = unquote(self.url.path)
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.token = (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None
        self.server.requests.append((self.command, path, self.token))
        self.fault = next(
            (
                fault
                for fault in self.server.faults
                if fault.method == self.command and fault.times > 0 and re.search(fault.path, path)
            ),
            None,
        )
        if self.fault is not None:
            self.fault.times -= 1
            self.fault.met += 1
            if self.fault.status is not None:
                self.answer({"error": "told to fail"}, self.fault.status, self.fault.headers)
                return
        if self.token not in (None, WRITER, READER):
            self.answer({"error": "Invalid credentials"}, 401)
            return
        for method, pattern, handle in ROUTES:
            found = re.fullmatch(pattern, path)
            if method == self.command.replace("HEAD", "GET") and found:
                handle(self, **found.groupdict())
                return
        self.answer({"error": f"no route for {self.command} {path}"}, 404)

    do_GET = do_HEAD = do_POST = do_PUT = do_any

    def answer(
        self, content: Any, status: int = 200, headers: dict[str, str] | None = None, *, promised: int | None = None
    ) -> None:
        if self.fault is not None and self.fault.drop:
            self.close_connection = True
            return
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if promised is None else promised))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        if promised is not None and promised != len(body):
            self.close_connection = True

    def repo_or_answer(self, repo_id: str, *, write: bool = False) -> Repo | None:
        repo = self.server.repos.get(repo_id)
        if repo is None or (repo.private and self.token is None):
            self.answer({"error": "Repository not found"}, 404 if self.token else 401, {"X-Error-Code": "RepoNotFound"})
            return None
        if write and self.token != WRITER:
            self.answer({"error": "Forbidden"}, 403 if self.token else 401)
            return None
        return repo

    def commit_or_answer(self, repo: Repo, revision: str) -> str | None:
        sha = repo.branches.get(revision, revision)
        if sha not in repo.commits:
            self.answer({"error": "Invalid rev id"}, 404, {"X-Error-Code": "RevisionNotFound"})
            return None
        return sha

    def create(self) -> None:
        if self.token != WRITER:
            self.answer({"error": "Forbidden"}, 403 if self.token else 401)
            return
        asked = json.loads(self.body)
        repo_id = f"{asked['organization']}/{asked['name']}"
        if repo_id in self.server.repos:
            self.answer(
                {"error": "You already created this model repo", "url": f"{self.server.endpoint}/{repo_id}"}, 409
            )
            return
        said = asked.get("private", asked.get("visibility"))
        repo = Repo(private=self.server.private_by_default if said is None else said in (True, "private"))
        repo.commit("main", {".gitattributes": Blob(b"*.safetensors filter=lfs\n", lfs=False)})
        self.server.repos[repo_id] = repo
        self.answer({"url": f"{self.server.endpoint}/{repo_id}"})

    def whoami(self) -> None:
        role = "write" if self.token == WRITER else "read"
        self.answer({"auth": {"accessToken": {"role": role}}}, 200 if self.token else 401)

    def validate_yaml(self) -> None:
        license = re.search(r"^license: (.*)$", json.loads(self.body)["content"], re.MULTILINE)
        refused = license is not None and license[1] not in ("mit", "apache-2.0")
        errors = [{"message": '"license" must be one of [apache-2.0, mit]'}] if refused else []
        self.answer({"errors": errors, "warnings": []}, 400 if refused else 200)

    def info(self, repo_id: str, revision: str = "main") -> None:
        if (repo := self.repo_or_answer(repo_id)) and (sha := self.commit_or_answer(repo, revision)):
            siblings = [
                {"rfilename": path, "size": len(blob.content), "blobId": blob.git}
                | ({"lfs": {"sha256": blob.sha256, "size": len(blob.content), "pointerSize": 134}} if blob.lfs else {})
                for path, blob in repo.commits[sha].items()
            ]
            self.answer({"id": repo_id, "sha": sha, "private": repo.private, "siblings": siblings})

    def branch(self, repo_id: str, branch: str) -> None:
        if repo := self.repo_or_answer(repo_id, write=True):
            repo.branches[branch] = repo.branches["main"]
            self.answer({})

    def preupload(self, repo_id: str, revision: str) -> None:
        if repo := self.repo_or_answer(repo_id, write=True):
            there = repo.files(revision)
            files = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                    "shouldIgnore": False,
                    "oid": there[file["path"]].etag if file["path"] in there else None,
                }
                for file in json.loads(self.body)["files"]
            ]
            self.answer({"files": files})

    def lfs_batch(self, repo_id: str) -> None:
        if self.repo_or_answer(repo_id, write=True):
            objects = []
            for wanted in json.loads(self.body)["objects"]:
                upload = {"upload": {"href": f"{self.server.cdn}/{wanted['oid']}"}}
                objects.append(wanted if wanted["oid"] in self.server.lfs else {**wanted, "actions": upload})
            self.answer({"transfer": "basic", "objects": objects})

    def upload(self, oid: str) -> None:
        if hashlib.sha256(self.body).hexdigest() != oid:
            self.answer({"error": "checksum"}, 400)
            return
        self.server.lfs[oid] = self.body
        self.answer({})

    def commit(self, repo_id: str, revision: str) -> None:
        repo = self.repo_or_answer(repo_id, write=True)
        if repo is None:
            return
        operations = [json.loads(line) for line in self.body.splitlines()]
        parent = operations[0]["value"].get("parentCommit")
        if parent is not None and parent != repo.branches[revision]:
            self.answer({"error": "A commit has happened since. Please refresh and try again."}, 412)
            return
        files = dict(repo.files(revision))
        for operation in operations[1:]:
            value = operation["value"]
            if operation["key"] == "file":
                files[value["path"]] = Blob(base64.b64decode(value["content"]), lfs=False)
            elif operation["key"] == "lfsFile":
                files[value["path"]] = Blob(self.server.lfs[value["oid"]], lfs=True)
            elif value["path"] in files:
                del files[value["path"]]
            else:
                self.answer({"error": f"{value['path']} is not there"}, 404, {"X-Error-Code": "EntryNotFound"})
                return
        sha = repo.commit(revision, files)
        self.answer({"commitUrl": f"{self.server.endpoint}/{repo_id}/commit/{sha}", "commitOid": sha})

    def resolve(self, repo_id: str, revision: str, path: str) -> None:
        if (repo := self.repo_or_answer(repo_id)) and (sha := self.commit_or_answer(repo, revision)):
            blob = repo.commits[sha].get(path)
            headers = {"X-Repo-Commit": sha}
            if blob is None:
                self.answer({"error": "Entry not found"}, 404, headers | {"X-Error-Code": "EntryNotFound"})
            elif blob.lfs:
                headers |= {"X-Linked-Etag": f'"{blob.etag}"', "X-Linked-Size": str(len(blob.content))}
                self.answer(b"", 302, headers | {"Location": f"{self.server.cdn}/{blob.sha256}"})
            else:
                self.send_file(blob.content, headers | {"ETag": f'"{blob.etag}"'})

    def download(self, oid: str) -> None:
        self.send_file(self.server.lfs[oid], {"ETag": f'"{oid}"'})

    def send_file(self, content: bytes, headers: dict[str, str]) -> None:
        whole, status = content, 200
        if (asked := self.headers.get("Range")) and (match := re.fullmatch(r"bytes=(\d+)-", asked)):
            start = int(match[1])
            content, status = whole[start:], 206
            headers = headers | {"Content-Range": f"bytes {start}-{len(whole) - 1}/{len(whole)}"}
        sent = content
        if self.fault is not None and self.fault.damage is not None:
            sent = self.fault.damage(content)
        self.answer(sent, status, headers, promised=len(content))


REPO, REVISION = r"(?P<repo_id>[\w.-]+/[\w.-]+)", r"(?P<revision>[\w.-]+)"
ROUTES: tuple[tuple[str, str, Callable[..., None]], ...] = (
    ("POST", r"/api/repos/create", Handler.create),
    ("GET", r"/api/whoami-v2", Handler.whoami),
    ("POST", r"/api/validate-yaml", Handler.validate_yaml),
    ("GET", rf"/api/models/{REPO}", Handler.info),
    ("GET", rf"/api/models/{REPO}/revision/{REVISION}", Handler.info),
    ("POST", rf"/api/models/{REPO}/branch/(?P<branch>[\w.-]+)", Handler.branch),
    ("POST", rf"/api/models/{REPO}/preupload/{REVISION}", Handler.preupload),
    ("POST", rf"/api/models/{REPO}/commit/{REVISION}", Handler.commit),
    ("POST", rf"/{REPO}\.git/info/lfs/objects/batch", Handler.lfs_batch),
    ("PUT", r"/cdn/(?P<oid>\w+)", Handler.upload),
    ("GET", r"/cdn/(?P<oid>\w+)", Handler.download),
    ("GET", rf"/{REPO}/resolve/{REVISION}/(?P<path>.+)", Handler.resolve),
)


@contextmanager
def running_hub() -> Iterator[HubServer]:
    """A Hub with no repositories on a free port of this machine."""
    server = HubServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
