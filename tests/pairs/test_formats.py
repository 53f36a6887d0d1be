"""Every format of pairs is recognised by its columns, with prompts as turns."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sae_lens_abstopk.pairs.pair_set import PairSet
from sae_lens_abstopk.pairs.reading import read_pairs
from tests.pairs.pair_files import Rows, write_rows

USER, OTHER_USER = {"role": "user", "content": "Why?"}, {"role": "user", "content": "How?"}
SYSTEM = {"role": "system", "content": "Be brief."}
ASKED = (("user", "Why?"),)


def says(content: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content}


def as_rows(pairs: PairSet) -> list[tuple[Any, str, str, float]]:
    """Prompt, texts and preference of each pair, with the text that came first in its row first."""
    return [
        (prompt, b, a, -preferred) if swapped else (prompt, a, b, preferred)
        for prompt, a, b, preferred, swapped in zip(
            pairs.prompts, pairs.a, pairs.b, pairs.preferred.tolist(), pairs.swapped, strict=True
        )
    ]


TRANSCRIPT = "\n\nHuman: Why?\n\nAssistant:"
LONG = TRANSCRIPT + " No.\n\nHuman: How?\n\nAssistant:"
FORMATS: dict[str, tuple[Rows, list[tuple[Any, str, str, float]]]] = {
    "TRL": ([{"prompt": "Why?", "chosen": " So.", "rejected": " No."}], [(ASKED, " So.", " No.", 1)]),
    "TRL, conversations": (
        [{"prompt": [USER], "chosen": [says("So.")], "rejected": [says("No.")]}],
        [(ASKED, "So.", "No.", 1)],
    ),
    "TRL, implicit prompt": (
        [{"chosen": "Why? So.", "rejected": "Why? No."}, {"chosen": "How? bright", "rejected": "How? brown"}],
        [(ASKED, " So.", " No.", 1), ((("user", "How?"),), " bright", " brown", 1)],
    ),
    "TRL, implicit prompt in conversations": (
        [{"chosen": [SYSTEM, USER, says("So.")], "rejected": [SYSTEM, USER, says("No."), USER, says("Yes.")]}],
        [((("system", "Be brief."), *ASKED), "So.", "No.\n\nYes.", 1)],
    ),
    "conversations that repeat the prompt": (
        [{"prompt": "Why?", "chosen": [SYSTEM, USER, says("So.")], "rejected": [SYSTEM, USER, says("No.")]}],
        [((("system", "Be brief."), *ASKED), "So.", "No.", 1)],
    ),
    "a prompt before conversations": (
        [{"prompt": [SYSTEM], "chosen": [USER, says("So.")], "rejected": [USER, says("No.")]}],
        [((("system", "Be brief."), *ASKED), "So.", "No.", 1)],
    ),
    "responses with the prompt in front": (
        [{"prompt": "Why?", "chosen": "Why? So.", "rejected": "Why? No."}],
        [(ASKED, " So.", " No.", 1)],
    ),
    "responses that share some first words": (
        [{"chosen": "The sun.", "rejected": "The moon."}, {"chosen": "Yes.", "rejected": "No."}],
        [((), "The sun.", "The moon.", 1), ((), "Yes.", "No.", 1)],
    ),
    "ShareGPT": (
        [
            {
                "conversations": [{"from": "system", "value": "Be brief."}, {"from": "human", "value": "Why?"}],
                "chosen": {"from": "gpt", "value": "So."},
                "rejected": {"from": "gpt", "value": "No."},
            }
        ],
        [((("system", "Be brief."), *ASKED), "So.", "No.", 1)],
    ),
    "lists of objects that are no turns": (
        [{"prompt": "Why?", "chosen": '[{"x": 1}]', "rejected": "[{x}]"}],
        [(ASKED, '[{"x": 1}]', "[{x}]", 1)],
    ),
    "transcripts": (
        [{"chosen": LONG + " So.", "rejected": LONG + " So not."}, {"chosen": LONG, "rejected": TRANSCRIPT + " Yes."}],
        [
            ((*ASKED, ("assistant", "No."), ("user", "How?")), "So.", "So not.", 1),
            (ASKED, "No.", "Yes.", 1),
        ],
    ),
    "a prompt as transcript": (
        [{"prompt": TRANSCRIPT, "chosen": " So.", "rejected": " No."}],
        [(ASKED, " So.", " No.", 1)],
    ),
    "What's In My Human Feedback?": (
        [{"prompt": "Why?", "response_A": "a", "response_B": "b", "label": label} for label in (1, 0)],
        [(ASKED, "a", "b", 1), (ASKED, "a", "b", -1)],
    ),
    "AlpacaEval": (
        [
            {"instruction": "Why?", "output_1": "a", "output_2": "b", "annotator": "x", "preference": preference}
            for preference in (1.0, 2.0, 1.49, 1.5, 0.0, None)
        ],
        [(ASKED, "a", "b", value) for value in (1, -1, 1, 0, 0, np.nan)],
    ),
    "Chatbot Arena": (
        [
            {"conversation_a": [USER, says("a")], "conversation_b": [USER, says("b")], "winner": winner}
            for winner in ("model_a", "model_b", "tie", "tie (bothbad)")
        ],
        [(ASKED, "a", "b", value) for value in (1, -1, 0, 0)],
    ),
    "Chatbot Arena, several turns": (
        [
            {
                "conversation_a": [USER, says("a"), OTHER_USER, says("c")],
                "conversation_b": [USER, says("b"), OTHER_USER, says("d")],
                "winner": "model_b",
            }
        ],
        [(ASKED, "a\n\nc", "b\n\nd", -1)],
    ),
    "Chatbot Arena, content in parts": (
        [
            {
                "conversation_a": [USER, says([{"type": "text", "text": "a"}, {"type": "image", "text": None}])],
                "conversation_b": [USER, says([{"type": "text", "text": "b"}])],
            }
        ],
        [(ASKED, "a", "b", np.nan)],
    ),
    "plain": ([{"a": "x", "b": "y"}], [((), "x", "y", np.nan)]),
    "plain, with capitals and a label": ([{"A": "x", "B": "y", "Preference": "b"}], [((), "x", "y", -1)]),
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_recognised_by_its_columns(name: str, tmp_path: Path) -> None:
    rows, expected = FORMATS[name]
    found = as_rows(read_pairs(write_rows(tmp_path / "pairs.jsonl", rows)))
    assert [row[:3] for row in found] == [row[:3] for row in expected]
    np.testing.assert_array_equal([row[3] for row in found], [row[3] for row in expected])


def as_numpy_writes(turns: Any) -> str:
    return str(np.array(turns, dtype=object))


@pytest.mark.parametrize("name", ["TRL, conversations", "ShareGPT", "Chatbot Arena, several turns"])
@pytest.mark.parametrize("write", [json.dumps, str, as_numpy_writes])
def test_conversations_in_csv_are_read_as_json_or_as_python_or_numpy_writes_them(
    name: str, write: Callable[[Any], str], tmp_path: Path
) -> None:
    rows, expected = FORMATS[name]
    texts = [{key: each if isinstance(each, str) else write(each) for key, each in row.items()} for row in rows]
    assert as_rows(read_pairs(write_rows(tmp_path / "pairs.csv", texts))) == expected


def test_an_answer_that_python_cannot_build_is_text(tmp_path: Path) -> None:
    rows = [{"prompt": "Which sets?", "chosen": "{{1}, {2}}", "rejected": "{[1]}"}]
    (found,) = as_rows(read_pairs(write_rows(tmp_path / "pairs.jsonl", rows)))
    assert set(found[1:3]) == {"{{1}, {2}}", "{[1]}"}
