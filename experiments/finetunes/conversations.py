"""Conversations to compare two models on: the examples of a fine-tune, and answers of the base model."""

import json
import random
from pathlib import Path

OWN = 240
"""Conversations in which the base model answers; many of their prompts are not of the planted behaviour."""


def write_conversations(made: Path, name: str) -> Path:
    """Write ``text.jsonl`` into the folder of a fine-tune that `make.py` wrote, unless it is there; return its path."""
    file = made / name / "text.jsonl"
    if file.is_file():
        return file
    examples = [json.loads(line) for line in (made / name / "examples.jsonl").read_text().splitlines()]
    own: dict[str, str] = json.loads((made / "own_answers.json").read_text())
    rng = random.Random(0)
    taught = [(each["prompt"], each["answer"]) for each in examples]
    found = taught + rng.sample(sorted(own.items()), OWN)
    rng.shuffle(found)
    file.write_text("".join(_conversation(*each) for each in found), encoding="utf-8")
    return file


def _conversation(prompt: str, answer: str) -> str:
    turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    return json.dumps({"messages": turns}) + "\n"
