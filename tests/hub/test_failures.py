"""A Hub that refuses, stumbles or damages: one clear error or a retry, never half a release or another SAE."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from sae_lens import SAE

from sae_lens_abstopk import ConfigError, HubError, publish, pull
from sae_lens_abstopk.hub.manifest import Manifest
from sae_lens_abstopk.hub.remote import Remote
from tests.cli.test_cli import invoke
from tests.hub.published import REPO, saved
from tests.hub.server import READER, Fault, HubServer

COMMIT, PREUPLOAD, BATCH, CDN = r"/commit/main$", r"/preupload/main$", r"objects/batch$", r"/cdn/"
AGAIN = r"Run the same command again; it sends only what is missing\.$"


def published_files(hub: HubServer) -> set[str]:
    return set(hub.repos[REPO].files()) - {".gitattributes"} if REPO in hub.repos else set()


def refused(hub: HubServer, folder: Path, sentence: str) -> None:
    """Publishing fails with ``sentence`` and leaves nothing behind."""
    with pytest.raises(HubError, match=sentence):
        publish({"mine": folder}, REPO)
    assert published_files(hub) == set()


@pytest.mark.usefixtures("waits")
@pytest.mark.parametrize(
    ("token", "sentence"),
    [
        (None, r"not logged in to the Hub \(401\).*set HF_TOKEN or run `hf auth login`"),
        ("hf_wrongwrongwrong", r"not logged in to the Hub \(401\)"),
        (READER, r"may not do that to someone/signed-saes \(403\); use one with write access"),
    ],
)
def test_who_may_not_write_is_told_so_and_the_token_is_not_shown(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, token: str | None, sentence: str
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    if token is not None:
        monkeypatch.setenv("HF_TOKEN", token)
    refused(hub, saved(tmp_path), sentence)
    done = invoke("publish", str(saved(tmp_path)), "--repo", REPO)
    assert done.exit_code == 1
    assert done.stderr.startswith("error: publishing to someone/signed-saes failed")
    assert "Traceback" not in done.output
    assert "hf_" not in done.output.replace("hf_hub", "")


@pytest.mark.usefixtures("waits")
def test_what_the_hub_would_refuse_is_told_before_anything_is_measured(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = saved(tmp_path)
    publish({"mine": folder}, REPO)
    monkeypatch.setattr(
        sys.modules["sae_lens_abstopk.hub.publish"], "measure_saes", lambda *_, **__: pytest.fail("measured")
    )
    with pytest.raises(ConfigError, match="is there already and is public"):
        publish({"mine": folder}, REPO, measure=True, private=True)
    for token, sentence in ((None, "you are not logged in"), ("hf_wrong", r"\(401\)"), (READER, "may only read")):
        monkeypatch.setenv("HF_TOKEN", token or "")
        with pytest.raises(HubError, match=sentence):
            publish({"mine": folder}, REPO, measure=True)
    assert hub.count("POST", COMMIT) == 1


@pytest.mark.usefixtures("waits")
@pytest.mark.parametrize(
    ("method", "path", "status", "sentence"),
    [
        ("POST", COMMIT, 403, r"\(403\).* Nothing was committed\."),
        ("POST", COMMIT, 409, r"meanwhile \(409\); .* The Hub says: told to fail\. " + AGAIN),
        ("POST", PREUPLOAD, 404, r"is not on the Hub \(404\).* Nothing was committed\."),
        ("POST", BATCH, 403, r"\(403\).* Nothing was committed\."),
        ("POST", "/api/repos/create", 403, r"\(403\)"),
        ("POST", COMMIT, 500, r"answered 500 4 times; try again later\. " + AGAIN),
        ("POST", BATCH, 503, "answered 503 4 times"),
        ("PUT", CDN, 500, r"answered 500 4 times; try again later\. " + AGAIN),
        ("POST", COMMIT, 429, r"limits the rate of requests \(429\)"),
    ],
)
def test_what_the_hub_refuses_for_good_is_one_error_and_no_release(
    hub: HubServer, tmp_path: Path, method: str, path: str, status: int, sentence: str
) -> None:
    fault = hub.add_fault(method, path, status=status)
    refused(hub, saved(tmp_path), sentence)
    assert fault.met >= 1
    hub.faults.clear()
    publish({"mine": saved(tmp_path)}, REPO)
    assert pull(REPO, "mine").sae.cfg.d_sae == 24


@pytest.mark.usefixtures("waits")
def test_where_the_hub_does_not_say_what_it_holds_nothing_is_committed(hub: HubServer, tmp_path: Path) -> None:
    publish({"mine": saved(tmp_path)}, REPO)
    before = hub.repos[REPO].branches["main"]
    hub.add_fault("POST", "paths-info", status=500)
    with pytest.raises(HubError, match="looking at someone/signed-saes failed: the Hub answered 500"):
        publish({"two": saved(tmp_path, "abstopk")}, REPO)
    assert hub.repos[REPO].branches["main"] == before


def test_the_hubs_reason_is_told(hub: HubServer, tmp_path: Path) -> None:
    hub.add_fault("POST", COMMIT, status=400)
    refused(
        hub, saved(tmp_path), r"the Hub refused that \(400\)\. The Hub says: told to fail\. Nothing was committed\."
    )


def test_a_gated_repository_is_told_from_a_token_without_access(hub: HubServer) -> None:
    hub.add_fault("GET", "/api/models/", status=403, headers={"X-Error-Code": "GatedRepo"})
    with pytest.raises(HubError, match=r"someone/signed-saes is gated; ask for access on its page, http.*told to fail"):
        pull(REPO, "mine")


def test_a_licence_that_the_hub_does_not_know_is_told_before_anything_is_measured_or_made(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publishing = sys.modules["sae_lens_abstopk.hub.publish"]
    monkeypatch.setattr(publishing, "measure_saes", lambda *_, **__: pytest.fail("measured"))
    for measure in (False, True):
        with pytest.raises(HubError, match=r'checking the card of .*\(400\)\. The Hub says: "license" must be one of'):
            publish({"mine": saved(tmp_path)}, REPO, license="MITT", measure=measure)
    assert hub.repos == {}
    publish({"mine": saved(tmp_path)}, REPO, license="MITT", dry_run_folder=tmp_path / "release")
    assert hub.count("POST", "validate-yaml") == 2


@pytest.mark.usefixtures("hub")
def test_thousands_of_paths_are_asked_for_in_parts(tmp_path: Path) -> None:
    publish({"mine": saved(tmp_path)}, REPO)
    paths = [*(f"mine/{number}" for number in range(2000)), "README.md"]
    assert list(Remote.find(REPO, "main", private=False).hashes(paths)) == ["README.md"]


@pytest.mark.parametrize(
    ("method", "path", "failure"),
    [
        ("POST", COMMIT, {"status": 500, "times": 2}),
        ("POST", COMMIT, {"drop": "before", "times": 1}),
        ("POST", COMMIT, {"drop": "after", "times": 1}),
        ("PUT", CDN, {"status": 500, "times": 1}),
        ("PUT", CDN, {"drop": "before", "times": 1}),
        ("POST", PREUPLOAD, {"status": 502, "times": 1}),
        ("POST", "/api/repos/create", {"status": 500, "times": 1}),
        ("POST", "/api/repos/create", {"drop": "after", "times": 1}),
        ("POST", "validate-yaml", {"drop": "before", "times": 1}),
        ("POST", PREUPLOAD, {"status": 200, "body": b"<html>", "times": 1}),
    ],
)
def test_what_passes_is_tried_again_and_commits_once(
    hub: HubServer, tmp_path: Path, waits: list[float], method: str, path: str, failure: dict[str, Any]
) -> None:
    fault = hub.add_fault(method, path, **failure)
    done = publish({"mine": saved(tmp_path)}, REPO)
    assert fault.met == failure["times"]
    assert len(hub.repos[REPO].commits) == 2, "the first of the repository, and ours"
    assert done.commit == hub.repos[REPO].branches["main"] == pull(REPO, "mine").commit
    assert all(seconds <= 8 for seconds in waits)


def test_each_wait_is_twice_the_one_before_and_is_logged(
    hub: HubServer, tmp_path: Path, waits: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    hub.add_fault("POST", COMMIT, status=429, times=3)
    publish({"mine": saved(tmp_path)}, REPO)
    assert waits == [1, 2, 4]
    assert caplog.messages[-1] == "publishing to someone/signed-saes failed (429); trying again in 4 s"


@pytest.mark.usefixtures("waits")
def test_after_a_commit_whose_answer_was_lost_the_same_command_finds_all_there(hub: HubServer, tmp_path: Path) -> None:
    hub.add_fault("POST", COMMIT, drop="after")
    hub.add_fault("POST", PREUPLOAD, times=1)
    hub.add_fault("POST", PREUPLOAD, status=500)
    with pytest.raises(HubError, match=AGAIN):
        publish({"mine": saved(tmp_path)}, REPO)
    assert published_files(hub) != set()
    hub.faults.clear()
    assert publish({"mine": saved(tmp_path)}, REPO).changed == ()


@pytest.mark.usefixtures("waits")
def test_a_page_of_a_proxy_in_place_of_an_answer_is_told(hub: HubServer, tmp_path: Path) -> None:
    hub.add_fault("POST", PREUPLOAD, status=200, body=b"<html>")
    refused(hub, saved(tmp_path), r"the Hub's answer could not be read, 4 times; .* " + AGAIN)


@pytest.mark.usefixtures("waits")
def test_after_a_failure_midway_only_what_is_missing_is_sent_again(hub: HubServer, tmp_path: Path) -> None:
    folder = saved(tmp_path)
    hub.add_fault("POST", COMMIT, status=500)
    refused(hub, folder, AGAIN)
    assert hub.count("PUT", CDN) == 1
    hub.faults.clear()
    publish({"mine": folder}, REPO)
    assert hub.count("PUT", CDN) == 1, "the weights were there already"


@pytest.mark.usefixtures("waits")
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
    with pytest.raises(HubError, match=r"has changed meanwhile \(412\)"):
        publish({"mine": saved(tmp_path)}, REPO)
    assert repo.branches["main"] == moved[0]


@pytest.mark.usefixtures("waits")
def test_no_connection_and_offline_mode_are_told_apart(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    refused(hub, saved(tmp_path), "HF_HUB_OFFLINE is set")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    refused(hub, saved(tmp_path), r"the connection to http://127\.0\.0\.1:9 was lost or could not be made")


def test_without_the_hub_what_was_pulled_comes_from_the_cache(
    hub: HubServer, tmp_path: Path, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    publish({"mine": saved(tmp_path)}, REPO)
    pulled, asked = pull(REPO, "mine"), len(hub.requests)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for revision in ("main", pulled.commit):
        again = pull(REPO, "mine", revision=revision)
        assert (again.commit, again.folder) == (pulled.commit, pulled.folder)
    with pytest.raises(HubError, match=r"abstopk\.json of someone/signed-saes \(v2\) is not in the cache, and HF_HUB"):
        pull(REPO, "mine", revision="v2")
    weights = pulled.folder / "sae_weights.safetensors"
    weights.write_bytes(flipped_bit(weights.read_bytes()))
    with pytest.raises(HubError, match="HF_HUB_OFFLINE is set"):
        pull(REPO, "mine")
    assert (len(hub.requests), waits) == (asked, [])


def flipped_bit(content: bytes) -> bytes:
    return content[:-5] + bytes([content[-5] ^ 1]) + content[-4:]


@pytest.mark.usefixtures("waits")
@pytest.mark.parametrize("path", [CDN, r"/resolve/\w+/mine/cfg\.json$"])
def test_a_damaged_download_is_fetched_again(hub: HubServer, tmp_path: Path, path: str) -> None:
    folder = saved(tmp_path)
    publish({"mine": folder}, REPO)
    once = hub.add_fault("GET", path, damage=flipped_bit, times=1)
    sae = pull(REPO, "mine").sae
    assert once.met == 1
    for name, weight in SAE.load_from_disk(folder).state_dict().items():
        assert torch.equal(sae.state_dict()[name], weight)


@pytest.mark.usefixtures("waits")
def test_a_download_that_is_always_damaged_is_never_loaded(hub: HubServer, tmp_path: Path) -> None:
    publish({"mine": saved(tmp_path)}, REPO)
    hub.add_fault("GET", CDN, damage=flipped_bit)
    with pytest.raises(HubError, match=r"mine/sae_weights\.safetensors of .* arrived damaged twice .* not loaded"):
        pull(REPO, "mine")
    hub.faults.clear()
    assert pull(REPO, "mine").sae.cfg.d_sae == 24, "what was damaged does not stay in the cache"


@pytest.mark.usefixtures("waits")
def test_a_download_that_never_arrives_whole_is_an_error(hub: HubServer, tmp_path: Path) -> None:
    publish({"mine": saved(tmp_path)}, REPO)
    hub.add_fault("GET", CDN, damage=lambda _: b"")
    with pytest.raises(HubError, match=r"downloading mine/sae_weights\.safetensors of .* failed: the connection"):
        pull(REPO, "mine")


@pytest.mark.usefixtures("waits")
def test_a_damaged_manifest_is_refused_and_does_not_stay_in_the_cache(hub: HubServer, tmp_path: Path) -> None:
    publish({"mine": saved(tmp_path)}, REPO)
    hub.add_fault("GET", r"abstopk\.json$", damage=lambda content: b"x" * len(content))
    with pytest.raises(ConfigError, match=r"abstopk\.json of someone/signed-saes is damaged"):
        pull(REPO, "mine")
    hub.faults.clear()
    assert pull(REPO, "mine").record.d_sae == 24, "what was damaged does not stay in the cache"


def test_a_later_format_is_not_called_damaged() -> None:
    with pytest.raises(
        ConfigError, match="it has format 2, and this version of sae-lens-abstopk knows 1; install a newer"
    ):
        Manifest.from_json('{"format": 2, "saes": []}', "it")


@pytest.mark.usefixtures("waits")
@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (401, r"\(401\)"),
        (403, r"\(403\)"),
        (404, r"is not on the Hub \(404\)"),
        (500, "answered 500"),
        (429, r"\(429\)"),
    ],
)
def test_what_cannot_be_pulled_is_one_sentence(hub: HubServer, tmp_path: Path, status: int, sentence: str) -> None:
    publish({"mine": saved(tmp_path)}, REPO)
    hub.add_fault("GET", "/api/models/", status=status)
    with pytest.raises(HubError, match=rf"pulling mine of someone/signed-saes failed: .*{sentence}"):
        pull(REPO, "mine")
    hub.faults.clear()
    hub.add_fault("HEAD", "resolve", status=status)
    with pytest.raises((HubError, ConfigError), match=r"mine|someone/signed-saes"):
        pull(REPO, "mine")
