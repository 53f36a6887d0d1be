"""`abstopk steer` on an SAE of tokens; and its mistakes."""

import json
import re
from pathlib import Path

import pytest

from sae_lens_abstopk.workflows.steered_prompts import steer_prompts
from tests.cli.test_cli import invoke

PROMPT = "The old lighthouse"


def test_a_latent_of_tokens_is_added_to_both_sides_at_a_scale_that_is_measured(folders: list[Path]) -> None:
    command = ["steer", str(folders[0]), "--latent", "3", "--prompt", PROMPT, "--prompt", "He", "--tokens", "3"]
    done = invoke(*command, "--strength", "2", "--strength", "0.5")
    assert done.exit_code == 0, done.output
    number = re.search(r"a strength of 1 is a code of (\S+)", done.output)
    assert number is not None
    strengths = re.findall(r"^ *([+-]?\d\S*) *['\"]", done.output, flags=re.MULTILINE)
    assert strengths == ["-2", "-0.5", "0", "+0.5", "+2"] * 2
    by_code = steer_prompts(folders[0], 3, [PROMPT], scale=2 * float(number[1]), max_new_tokens=3)
    assert by_code.strengths == (-1, 0, 1)
    as_json = json.loads(invoke(*command, "--strength", "2", "--json").stdout)
    assert [table["title"] for table in as_json["tables"]] == [PROMPT, "He"]
    assert [(row["strength"], row["continuation"]) for row in as_json["tables"][0]["rows"]] == [
        (strength, repr(text)) for strength, text in zip((-2, 0, 2), by_code.texts[0].texts, strict=True)
    ]


def test_a_cap_continues_as_in_python(folders: list[Path]) -> None:
    command = ["steer", str(folders[0]), "--latent", "3", "--prompt", PROMPT, "--tokens", "12", "--scale", "0.01"]
    shown = {how: invoke(*command, "--operator", how).output for how in ("add", "cap")}
    capped = steer_prompts(folders[0], 3, [PROMPT], operator="cap", scale=0.01, max_new_tokens=12)
    for strength, text in zip(("-1", "0", "+1"), capped.texts[0].texts, strict=True):
        assert re.search(rf"^ *{re.escape(strength)} +{re.escape(repr(text))} *$", shown["cap"], flags=re.MULTILINE)
    assert shown["cap"] != shown["add"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--latent 64", "latent=64 must be at least 0 and below 64"),
        ("--latent 3 --tuned", "the tuned model is that of an SAE of `abstopk diff`"),
        ("--latent 3 --scale 1 --adapter nowhere", "'nowhere' is not a PEFT adapter"),
        ("--latent 3 --scale 1 --model no/such", "no/such"),
        ("--latent 3 --text none.jsonl", "none.jsonl"),
        ("--latent 3 --scale 1 --text none.jsonl", "given or recorded as 1; leave the text out"),
        ("--latent 3 --scale 1 --chat", "chat template is missing"),
    ],
)
def test_a_mistake_gets_one_sentence(arguments: str, said: str, folders: list[Path]) -> None:
    done = invoke("steer", str(folders[0]), "--prompt", PROMPT, *arguments.split())
    assert done.exit_code == 2, done.output
    assert said in " ".join(done.output.split())
