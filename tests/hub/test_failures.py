"""A Hub that refuses, fails or damages: one clear error, never half a release or another SAE."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from sae_lens import SAE

from sae_lens_abstopk import ConfigError, HubError, publish, pull
from sae_lens_abstopk.hub.manifest import Manifest
from tests.cli.test_cli import invoke
from tests.hub.published import REPO, saved
from tests.hub.server import READER, Fault, HubServer

COMMIT, PREUPLOAD, BATCH, CDN = r"/commit/main$", r"/preupload/main$", r"objects/batch$", r"/cdn/"
pytestmark = pytest.mark.usefixtures("no_waits")


def refused(hub: HubServer, folder: Path, sentence: str, **options: Any) -> None:
    """Publishing fails with ``sentence`` and leaves nothing behind."""
    with pytest.raises(HubError, match=sentence):
        publish({"mine": folder}, REPO, **options)
    assert REPO not in hub.repos or set(hub.repos[REPO].files()) == {".gitattributes"}


@pytest.fixture
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measuring fails the test."""
    publishing = sys.modules["sae_lens_abstopk.hub.publish"]
    monkeypatch.setattr(publishing, "measure_saes", lambda *_, **__: pytest.fail("measured"))


@pytest.mark.parametrize(
    ("token", "sentence"),
    [
        (None, r"\(401\).* set HF_TOKEN or run `hf auth login`"),
        ("hf_wrongwrongwrong", r"\(401\).* set HF_TOKEN"),
        (READER, r"\(403\).* use a token with the rights"),
    ],
)
def test_a_token_that_may_not_write_is_one_error_that_does_not_show_it(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, token: str | None, sentence: str
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    if token is not None:
        monkeypatch.setenv("HF_TOKEN", token)
    refused(hub, saved(tmp_path), sentence)
    done = invoke("publish", str(saved(tmp_path)), "--repo", REPO)
    assert done.exit_code == 1
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.output
    assert "hf_" not in done.output.replace("hf_hub", "")


@pytest.mark.usefixtures("unmeasured")
def test_the_hub_refuses_before_anything_is_measured(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = saved(tmp_path)
    publish({"mine": folder}, REPO)
    with pytest.raises(ConfigError, match="is public already"):
        publish({"mine": folder}, REPO, measure=True, private=True)
    for token, sentence in ((None, "there is no token"), ("hf_wrong", r"\(401\)"), (READER, "may only read")):
        monkeypatch.setenv("HF_TOKEN", token or "")
        with pytest.raises(HubError, match=sentence):
            publish({"mine": folder}, REPO, measure=True)
    assert hub.count("POST", COMMIT) == 1


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("measure", [False, True])
def test_an_unknown_licence_is_refused_before_anything_is_measured_or_created(
    hub: HubServer, tmp_path: Path, measure: bool
) -> None:
    refused(hub, saved(tmp_path), r'\(400\): "license" must be one of', license="MITT", measure=measure)
    assert hub.repos == {}


@pytest.mark.parametrize(
    ("method", "path", "status", "sentence"),
    [
        ("GET", "/api/models/", 500, r"looking at someone/signed-saes failed \(500\)"),
        ("POST", "/api/repos/create", 403, r"\(403\)"),
        ("POST", PREUPLOAD, 404, r"\(404\)"),
        ("POST", BATCH, 503, r"\(503\)"),
        ("PUT", CDN, 500, r"\(500\).* try again later; what has arrived is not sent again"),
        ("POST", COMMIT, 400, r"\(400\): told to fail\.$"),
        ("POST", COMMIT, 409, r"\(409\): told to fail; the repository has changed meanwhile"),
        ("POST", COMMIT, 429, r"\(429\)"),
    ],
)
def test_a_refusal_is_one_error_and_no_release(
    hub: HubServer, tmp_path: Path, method: str, path: str, status: int, sentence: str
) -> None:
    fault = hub.add_fault(method, path, status=status)
    refused(hub, saved(tmp_path), sentence)
    assert fault.met >= 1
    sent = hub.count("PUT", CDN)
    hub.faults.clear()
    publish({"mine": saved(tmp_path)}, REPO)
    assert pull(REPO, "mine").sae.cfg.d_sae == 24
    if path == COMMIT:
        assert hub.count("PUT", CDN) == sent == 1, "the weights were there already"


def test_after_a_commit_whose_answer_was_lost_the_same_command_finds_all_there(hub: HubServer, tmp_path: Path) -> None:
    hub.add_fault("POST", COMMIT, drop=True, times=1)
    with pytest.raises(HubError, match="run the command again"):
        publish({"mine": saved(tmp_path)}, REPO)
    assert publish({"mine": saved(tmp_path)}, REPO).changed == ()


def test_a_commit_of_somebody_else_in_between_is_not_overwritten(hub: HubServer, tmp_path: Path) -> None:
    publish({"theirs": saved(tmp_path, "abstopk")}, REPO)
    repo = hub.repos[REPO]
    moved: list[str] = []

    class Moving(Fault):
        """Lets somebody commit just before ours arrives."""

        @property
        def status(self) -> int | None:  # type: ignore[override]
            if not moved:
                moved.append(repo.commit("main", dict(repo.files())))
            return None

        @status.setter
        def status(self, value: int | None) -> None: ...

    hub.faults.append(Moving("POST", COMMIT))
    with pytest.raises(HubError, match=r"\(412\).* has changed meanwhile"):
        publish({"mine": saved(tmp_path)}, REPO)
    assert repo.branches["main"] == moved[0]


def test_no_connection_and_offline_mode_are_told_apart(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    refused(hub, saved(tmp_path), "unset HF_HUB_OFFLINE")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    refused(hub, saved(tmp_path), r"check the network \(http://127\.0\.0\.1:9\)")


def test_offline_a_pull_comes_from_the_cache(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish({"mine": saved(tmp_path)}, REPO)
    pulled, asked = pull(REPO, "mine"), len(hub.requests)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for revision in ("main", pulled.commit):
        again = pull(REPO, "mine", revision=revision)
        assert (again.commit, again.folder) == (pulled.commit, pulled.folder)
    weights = pulled.folder / "sae_weights.safetensors"
    weights.write_bytes(flipped_bit(weights.read_bytes()))
    for revision in ("v2", "main"):  # not in the cache, and damaged there
        with pytest.raises(HubError, match="unset HF_HUB_OFFLINE"):
            pull(REPO, "mine", revision=revision)
    assert len(hub.requests) == asked


def flipped_bit(content: bytes) -> bytes:
    return content[:-5] + bytes([content[-5] ^ 1]) + content[-4:]


@pytest.mark.parametrize("path", [CDN, r"/resolve/\w+/mine/cfg\.json$"])
def test_a_damaged_download_is_fetched_again(hub: HubServer, tmp_path: Path, path: str) -> None:
    folder = saved(tmp_path)
    publish({"mine": folder}, REPO)
    once = hub.add_fault("GET", path, damage=flipped_bit, times=1)
    sae = pull(REPO, "mine").sae
    assert once.met == 1
    for name, weight in SAE.load_from_disk(folder).state_dict().items():
        assert torch.equal(sae.state_dict()[name], weight)


@pytest.mark.parametrize(
    ("path", "damage", "error", "sentence"),
    [
        (CDN, flipped_bit, HubError, r"mine/sae_weights\.safetensors of .* arrived damaged twice .* not loaded"),
        (CDN, lambda _: b"", HubError, r"downloading mine/sae_weights\.safetensors of .* failed"),
        (
            r"abstopk\.json$",
            lambda content: b"x" * len(content),
            ConfigError,
            r"abstopk\.json of .* damaged",
        ),
    ],
)
def test_a_download_that_is_always_damaged_is_not_loaded_and_does_not_stay_in_the_cache(
    hub: HubServer, tmp_path: Path, path: str, damage: Any, error: type[Exception], sentence: str
) -> None:
    publish({"mine": saved(tmp_path)}, REPO)
    hub.add_fault("GET", path, damage=damage)
    with pytest.raises(error, match=sentence):
        pull(REPO, "mine")
    hub.faults.clear()
    assert pull(REPO, "mine").sae.cfg.d_sae == 24


@pytest.mark.parametrize(
    ("status", "headers", "sentence"),
    [
        (401, {}, r"\(401\).* set HF_TOKEN"),
        (403, {"X-Error-Code": "GatedRepo"}, r"\(403\).* a gated repository gives access on its page"),
        (404, {"X-Error-Code": "RevisionNotFound"}, r"\(404\).* check the name"),
        (500, {}, r"\(500\)"),
    ],
)
def test_a_refused_pull_is_one_sentence(
    hub: HubServer, tmp_path: Path, status: int, headers: dict[str, str], sentence: str
) -> None:
    publish({"mine": saved(tmp_path)}, REPO)
    hub.add_fault("HEAD", "resolve", status=status, headers=headers)
    with pytest.raises(HubError, match=rf"downloading abstopk\.json of someone/signed-saes .*failed {sentence}"):
        pull(REPO, "mine")


def test_a_later_format_is_not_called_damaged() -> None:
    with pytest.raises(ConfigError, match=r"format=2 must be at most 1; install a newer"):
        Manifest.from_json('{"format": 2, "saes": []}', "it")
