"""The labeler against an HTTP server that stands in for a language model."""

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from sae_lens_abstopk import ConfigError
from sae_lens_abstopk.cli import app
from sae_lens_abstopk.explorer.exploration import Exploration
from sae_lens_abstopk.explorer.labeler import RELATIONS, Labeler, planted
from tests.explorer.planted import PLANTED, QUIET


class StandIn(ThreadingHTTPServer):
    """Answers what ``script`` says, in turn, then what ``always`` says; remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.script: list[tuple[int, str]] = []
        self.always = '{"a": "men", "b": "women", "relation": "opposites"}'
        super().__init__(("127.0.0.1", 0), Answers)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class Answers(BaseHTTPRequestHandler):
    server: StandIn

    def do_POST(self) -> None:
        assert self.path == "/v1/chat/completions"
        self.server.asked.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        self.server.headers.append(dict(self.headers))
        status, text = self.server.script.pop(0) if self.server.script else (200, self.server.always)
        content = json.dumps({"choices": [{"message": {"content": text}}]}) if status == 200 else text
        self.send_response(status)
        self.send_header("retry-after", "0")
        self.end_headers()
        self.wfile.write(content.encode())

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def stand_in() -> Iterator[StandIn]:
    with StandIn() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def labeler(stand_in: StandIn, tmp_path: Path) -> Labeler:
    return Labeler(stand_in.address, "model", cache=tmp_path / "answers.jsonl")


def test_both_poles_are_named_from_their_contexts_and_judged(
    stand_in: StandIn, labeler: Labeler, exploration: Exploration
) -> None:
    found = labeler.judge([exploration.saes["signed"][PLANTED]])[PLANTED]
    assert (found.negative, found.positive, found.relation) == ("men", "women", "opposites")
    question = stand_in.asked[0]["messages"][0]["content"]
    side_a, side_b = question.partition("Excerpts of side A:")[2].split("Excerpts of side B:")
    assert side_a.count("<<he>>") == 4
    assert side_b.count("<<she>>") == 4
    assert "<<she>>" not in side_a
    assert stand_in.asked[0]["temperature"] == 0


def test_a_question_is_asked_once_even_by_another_labeler(
    stand_in: StandIn, labeler: Labeler, exploration: Exploration, tmp_path: Path
) -> None:
    latents = [exploration.saes["signed"][i] for i in (PLANTED, 11)]
    assert labeler.estimate(latents).requests == 2 + len(planted())
    labeler.judge(latents)
    assert len(stand_in.asked) == 2
    again = Labeler(stand_in.address, "model", cache=tmp_path / "answers.jsonl")
    estimate = again.estimate(latents)
    assert (estimate.requests, estimate.cached) == (len(planted()), 2)
    assert estimate.prompt_tokens > 100 * len(planted())
    assert again.judge(latents) == labeler.judge(latents)
    assert len(stand_in.asked) == 2
    Labeler(stand_in.address, "another", cache=tmp_path / "answers.jsonl").judge(latents)
    assert len(stand_in.asked) == 4


def test_the_check_on_planted_latents_counts_what_is_right(stand_in: StandIn, labeler: Labeler) -> None:
    known = [relation for relation, _, _ in planted()]
    assert set(known) == set(RELATIONS)
    answers = [*known[:-1], "opposites"]
    stand_in.script = [(200, json.dumps({"a": "x", "b": "y", "relation": relation})) for relation in answers]
    checked = labeler.check()
    assert (checked.right, checked.total) == (len(known) - 1, len(known))


THOUGHT = '<think>Side A is {cold}, or {"a": "x"}.</think>'


@pytest.mark.parametrize(
    ("answer", "name"),
    [
        ("no JSON", None),
        ('{"a": "x", "b": "y", "relation": "friends"}', None),
        ('{"a": "x", "relation": "related"}', None),
        ("{broken}", None),
        ("[1]", None),
        (THOUGHT, None),
        ('```json\n{"a": "x", "b": "y", "relation": "related"}\n```', "x"),
        (f'{THOUGHT} {{"a": "cold", "b": "warm", "relation": "opposites"}} That is all {{so}}.', "cold"),
    ],
)
def test_the_last_judgement_of_an_answer_counts_and_any_other_answer_is_asked_for_again(
    answer: str, name: str | None, stand_in: StandIn, labeler: Labeler, exploration: Exploration
) -> None:
    latents = [exploration.saes["signed"][PLANTED]]
    stand_in.script = [(200, answer)]
    found = labeler.judge(latents)
    assert (found[PLANTED].negative if found else None) == name
    labeler.judge(latents)
    assert len(stand_in.asked) == (2 if name is None else 1)


@pytest.mark.parametrize("blank", ["", " ", None])
def test_a_side_may_be_left_without_a_name(
    blank: str | None, stand_in: StandIn, labeler: Labeler, exploration: Exploration
) -> None:
    stand_in.script = [(200, json.dumps({"a": blank, "b": "women", "relation": "one-sided"}))]
    sae = exploration.saes["signed"]
    judged = sae.judged(labeler.judge([sae[PLANTED]]))
    assert judged.relation(PLANTED) == "one-sided"
    assert judged[PLANTED].positive.label == "women"
    assert judged[PLANTED].negative.label == sae[PLANTED].negative.label, "that of its own tokens"


def test_a_busy_endpoint_is_asked_again(stand_in: StandIn, labeler: Labeler, exploration: Exploration) -> None:
    stand_in.script = [(429, "busy"), (503, "busy")]
    assert PLANTED in labeler.judge([exploration.saes["signed"][PLANTED]])
    assert len(stand_in.asked) == 3


def test_what_goes_wrong_is_said(
    stand_in: StandIn, labeler: Labeler, exploration: Exploration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    latents = [exploration.saes["signed"][PLANTED]]
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    stand_in.script = [(401, "who are you?")]
    with pytest.raises(ConfigError, match="OPENAI_API_KEY is not set"):
        labeler.judge(latents)
    stand_in.script = [(404, "no such model")]
    with pytest.raises(ConfigError, match=r"answered with HTTP 404 .*: no such model"):
        labeler.judge(latents)
    with pytest.raises(ConfigError, match="is not a URL"):
        Labeler("localhost:8000", "model", cache=tmp_path / "a")
    for template in ("{{ nothing }}", "{{ negative.__class__.__mro__ }}", "{{ negative.clear() }}"):
        (tmp_path / "bad.txt").write_text(template)
        with pytest.raises(ConfigError, match="cannot be used"):
            Labeler(stand_in.address, "model", cache=tmp_path / "a", prompt=tmp_path / "bad.txt")
    for address in ("http://127.0.0.1:9", "http://localhost:80a0/v1"):
        with pytest.raises(ConfigError, match="cannot be reached"):
            Labeler(address, "model", cache=tmp_path / "a").judge(latents)


def test_the_key_is_sent_and_written_nowhere(
    stand_in: StandIn, labeler: Labeler, exploration: Exploration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "a-secret")
    labeler.judge([exploration.saes["signed"][PLANTED]])
    assert stand_in.headers[0]["Authorization"] == "Bearer a-secret"
    assert "a-secret" not in (tmp_path / "answers.jsonl").read_text()
    Labeler("https://example.org/v1", "model", cache=tmp_path / "a")
    for address in ("http://example.org/v1", "http://localhost.example.org", "http://localhost:80@example.org"):
        with pytest.raises(ConfigError, match="OPENAI_API_KEY is set, and http would send it in the clear"):
            Labeler(address, "model", cache=tmp_path / "a")


def explored(folder: Path, stand_in: StandIn, site: Path, *more: str, answer: str = "") -> Result:
    asked = ["--labeler", stand_in.address, "--labeler-model", "m", "--latents", "2"]
    arguments = ["explore", str(folder), "--tokens", "128", "--out", str(site), *asked, *more]
    return CliRunner(env={"COLUMNS": "200", "TERM": "dumb"}).invoke(app, arguments, input=answer)


def test_nothing_is_sent_to_the_labeler_without_consent(folders: list[Path], stand_in: StandIn, tmp_path: Path) -> None:
    done = explored(folders[0], stand_in, tmp_path / "site", answer="n\n")
    assert done.exit_code == 0, done.output
    assert "This sends" in done.output
    assert stand_in.asked == []
    assert (tmp_path / "site" / "index.html").is_file()
    agreed = explored(folders[0], stand_in, tmp_path / "site", answer="y\n")
    assert agreed.exit_code == 0, agreed.output
    assert len(stand_in.asked) > len(planted())
    assert "named and judged by m" in (tmp_path / "site" / "index.html").read_text()


def test_with_yes_the_labeler_is_tried_before_the_pass_and_the_site_is_written_where_it_fails_later(
    folders: list[Path], stand_in: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in.script = [(404, "no such model")]
    with monkeypatch.context() as early:
        early.setattr("sae_lens_abstopk.explorer.exploration.explore", lambda *_, **__: pytest.fail("a pass"))
        done = explored(folders[0], stand_in, tmp_path / "early", "--yes")
    assert done.exit_code == 2, done.output
    assert "404" in done.output
    assert not (tmp_path / "early" / "index.html").exists()
    stand_in.script = [*[(200, stand_in.always)] * len(planted()), (404, "gone")]
    done = explored(folders[0], stand_in, tmp_path / "late", "--yes")
    assert done.exit_code == 2, done.output
    assert (tmp_path / "late" / "index.html").is_file()


def test_a_site_is_served_until_it_is_interrupted(
    folders: list[Path], stand_in: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sae_lens_abstopk.explorer.serve.ThreadingHTTPServer.serve_forever", interrupted)
    done = explored(folders[0], stand_in, tmp_path / "site", "--serve", answer="n\n")
    assert done.exit_code == 130, done.output
    assert re.search(r"http://127\.0\.0\.1:\d+/ until Ctrl-C", done.output)


def test_names_and_judgements_reach_the_site(labeler: Labeler, exploration: Exploration, tmp_path: Path) -> None:
    named = exploration.labelled(labeler, [PLANTED, QUIET])
    latent = named.saes["signed"][PLANTED]
    assert (latent.negative.label, latent.positive.label, latent.relation) == ("men", "women", "opposites")
    assert named.saes["signed"][QUIET].positive.label == "never fires"
    assert exploration.saes["signed"][PLANTED].relation is None
    assert named.about.judge == f"2 latents named and judged by model, right on 4 of {len(planted())} planted ones"
    named.write(tmp_path / "site")
    overview = (tmp_path / "site" / "data" / "0" / "overview.js").read_text()
    assert '"opposites"' in overview
    assert '"women"' in overview
