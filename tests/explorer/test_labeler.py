"""The labeler with an endpoint that stands in for a language model."""

import json
from pathlib import Path
from typing import Any

import pytest

from sae_lens_abstopk import ConfigError
from sae_lens_abstopk.evaluation.labelling.labeler import RELATIONS, Labeler, Sides
from sae_lens_abstopk.explorer.exploration import Exploration
from sae_lens_abstopk.explorer.judging import LATENTS, sides_of
from tests.cli.test_cli import invoke
from tests.explorer.planted import PLANTED, QUIET
from tests.labeler_stand_in import StandIn


@pytest.fixture
def labeler(stand_in: StandIn, tmp_path: Path) -> Labeler:
    return Labeler(stand_in.address, "model", question=LATENTS, cache=tmp_path / "answers.jsonl")


@pytest.fixture
def latent(exploration: Exploration) -> dict[int, Sides]:
    return {PLANTED: sides_of(exploration.saes["signed"][PLANTED])}


def test_both_poles_are_named_from_their_contexts_and_judged(
    stand_in: StandIn, labeler: Labeler, latent: dict[int, Sides]
) -> None:
    found = labeler.judge(latent)[PLANTED]
    assert (found.negative, found.positive, found.relation) == ("men", "women", "opposites")
    question = stand_in.asked[0]["messages"][0]["content"]
    side_a, side_b = question.partition("Excerpts of side A:")[2].split("Excerpts of side B:")
    assert side_a.count("<<he>>") == side_b.count("<<she>>") == 4
    assert "<<she>>" not in side_a
    assert stand_in.asked[0]["temperature"] == 0


def test_a_question_is_asked_once_even_by_another_labeler(
    stand_in: StandIn, labeler: Labeler, exploration: Exploration, tmp_path: Path
) -> None:
    latents = {i: sides_of(exploration.saes["signed"][i]) for i in (PLANTED, 11)}
    assert labeler.estimate(latents).requests == 2 + len(LATENTS.cases())
    first = labeler.judge(latents)
    again = Labeler(stand_in.address, "model", question=LATENTS, cache=tmp_path / "answers.jsonl")
    estimate = again.estimate(latents)
    assert (estimate.requests, estimate.cached) == (len(LATENTS.cases()), 2)
    assert estimate.prompt_tokens > 100 * len(LATENTS.cases())
    assert again.judge(latents) == labeler.judge(latents) == first
    assert len(stand_in.asked) == 2
    Labeler(stand_in.address, "another", question=LATENTS, cache=tmp_path / "answers.jsonl").judge(latents)
    assert len(stand_in.asked) == 4


def test_the_check_on_planted_latents_counts_what_is_right(stand_in: StandIn, labeler: Labeler) -> None:
    known = [relation for relation, _ in LATENTS.cases()]
    assert set(known) == set(RELATIONS)
    answers = [*known[:-1], "opposites"]
    stand_in.script = [(200, json.dumps({"a": "x", "b": "y", "relation": relation})) for relation in answers]
    assert labeler.check() == f"right on {len(known) - 1} of {len(known)} planted ones"


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
    answer: str, name: str | None, stand_in: StandIn, labeler: Labeler, latent: dict[int, Sides]
) -> None:
    stand_in.script = [(200, answer)]
    found = labeler.judge(latent)
    assert (found[PLANTED].negative if found else None) == name
    labeler.judge(latent)
    assert len(stand_in.asked) == (2 if name is None else 1)


def test_a_busy_endpoint_is_asked_again_and_an_error_is_explained(
    stand_in: StandIn, labeler: Labeler, latent: dict[int, Sides]
) -> None:
    stand_in.script = [(401, "who are you?")]
    with pytest.raises(ConfigError, match="OPENAI_API_KEY is not set"):
        labeler.judge(latent)
    stand_in.script = [(404, "no such model")]
    with pytest.raises(ConfigError, match=r"gave no answer .*HTTP 404.*: no such model"):
        labeler.judge(latent)
    stand_in.script = [(429, "busy"), (503, "busy")]
    assert PLANTED in labeler.judge(latent)
    assert len(stand_in.asked) == 5


def test_addresses_and_prompts_that_cannot_be_used_are_refused(latent: dict[int, Sides], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="must be a URL like"):
        Labeler("localhost:8000", "model", question=LATENTS, cache=tmp_path / "a")
    for address in ("http://127.0.0.1:9", "http://localhost:80a0/v1"):
        with pytest.raises(ConfigError, match="gave no answer"):
            Labeler(address, "model", question=LATENTS, cache=tmp_path / "a").judge(latent)
    for template in ("{{ nothing }}", "{{ negative.__class__.__mro__ }}", "{{ negative.clear() }}"):
        (tmp_path / "bad.txt").write_text(template)
        with pytest.raises(ConfigError, match="cannot be used"):
            Labeler("http://localhost", "model", question=LATENTS, cache=tmp_path / "a", prompt=tmp_path / "bad.txt")


def test_the_key_is_sent_only_in_private_and_written_nowhere(
    stand_in: StandIn, latent: dict[int, Sides], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "a-secret\n")
    Labeler(stand_in.address, "model", question=LATENTS, cache=tmp_path / "answers.jsonl").judge(latent)
    assert stand_in.headers == [{"Authorization": "Bearer a-secret"}]
    assert stand_in.by_proxy == [False]
    assert "a-secret" not in (tmp_path / "answers.jsonl").read_text()
    Labeler("https://example.org/v1", "model", question=LATENTS, cache=tmp_path / "a")
    for address in ("http://example.org/v1", "http://localhost.example.org", "http://localhost:80@example.org"):
        with pytest.raises(ConfigError, match="http would send the key in the clear"):
            Labeler(address, "model", question=LATENTS, cache=tmp_path / "a")
    monkeypatch.setenv("OPENAI_API_KEY", "two\nlines")
    with pytest.raises(ConfigError, match="set it to the key alone") as refused:
        Labeler("https://example.org/v1", "model", question=LATENTS, cache=tmp_path / "a")
    assert "two" not in str(refused.value)


def test_names_and_judgements_reach_the_site(labeler: Labeler, exploration: Exploration, tmp_path: Path) -> None:
    named = exploration.labelled(labeler, [PLANTED, QUIET])
    latent = named.saes["signed"][PLANTED]
    assert (latent.negative.label, latent.positive.label, latent.relation) == ("men", "women", "opposites")
    assert named.saes["signed"][QUIET].positive.label == "never fires"
    assert exploration.saes["signed"][PLANTED].relation is None
    assert (
        named.about.judge == f"2 latents named and judged by model, right on 4 of {len(LATENTS.cases())} planted ones"
    )
    named.write(tmp_path / "site")
    overview = (tmp_path / "site" / "data" / "0" / "overview.js").read_text()
    assert '"opposites"' in overview
    assert '"women"' in overview


def explored(folder: Path, site: Path, *more: str, answer: str = "") -> Any:
    arguments = ["--labeler", StandIn.address, "--labeler-model", "m", "--latents", "2", "--tokens", "128", *more]
    return invoke("explore", str(folder), "--out", str(site), *arguments, answer=answer)


def test_nothing_is_sent_to_the_labeler_without_consent(folders: list[Path], stand_in: StandIn, tmp_path: Path) -> None:
    done = explored(folders[0], tmp_path / "site", answer="n\n")
    assert done.exit_code == 0, done.output
    assert "This sends" in done.output
    assert stand_in.asked == []
    assert (tmp_path / "site" / "index.html").is_file()
    agreed = explored(folders[0], tmp_path / "site", answer="y\n")
    assert agreed.exit_code == 0, agreed.output
    assert len(stand_in.asked) > len(LATENTS.cases())
    assert "named and judged by m" in (tmp_path / "site" / "index.html").read_text()


def test_with_yes_the_labeler_is_tried_before_the_pass_and_the_site_is_written_where_it_fails_later(
    folders: list[Path], stand_in: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in.script = [(404, "no such model")]
    with monkeypatch.context() as early:
        early.setattr("sae_lens_abstopk.explorer.exploration.explore", lambda *_, **__: pytest.fail("a pass"))
        done = explored(folders[0], tmp_path / "early", "--yes")
    assert (done.exit_code, "404" in done.output) == (2, True), done.output
    assert not (tmp_path / "early" / "index.html").exists()
    stand_in.script = [*[(200, stand_in.always)] * len(LATENTS.cases()), (404, "gone")]
    done = explored(folders[0], tmp_path / "late", "--yes")
    assert done.exit_code == 2, done.output
    assert (tmp_path / "late" / "index.html").is_file()
