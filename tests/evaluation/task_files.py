"""Task files for tests: the smallest of templates and of rows, and one that can be steered by."""

from pathlib import Path
from typing import Any

import yaml

from sae_lens_abstopk.evaluation.tasks.task import Task

CSV = "body,mood,author\n" + "".join(f'"Review, number {i}",{i % 2},a{i // 2}\n' for i in range(24))

CONCEPT = """\
name: temperature
poles: [hot, cold]
licence: MIT
source: written for this test
reads: [last, mean]
fillers:
  thing: [soup, tea, bath, stone, river, room]
templates:
  - "The {thing} was {hot|cold}."
  - "We found the {thing} {warm|cool}."
  - "A {boiling|freezing} {thing} stood there."
  - "Nobody touched the {scalding|icy} {thing}."
  - "The {thing} felt {hot|cold} to her."
  - "He said the {thing} was {warm|cool} again."
  - "Every {thing} here is {hot|cold} at night."
steering:
  prompts: ["The water is", "This room feels", "The stone is", "It was"]
  tokens: {hot: ["x"], cold: ["q"]}
  scorer: {kind: words, hot: [hot, warm], cold: [cold, cool]}
"""


def minimal(**changes: Any) -> dict[str, Any]:
    """A task file's content with six templates; a change to None takes the key out."""
    content = {
        "name": "gender",
        "poles": ["he", "she"],
        "licence": "MIT",
        "source": "here",
        "fillers": {"day": ["Monday", "Friday"]},
        "templates": [f"On {{day}} [{{he|she}}] came number {i}." for i in range(6)],
        **changes,
    }
    return {key: value for key, value in content.items() if value is not None}


def rows_file(**changes: Any) -> dict[str, Any]:
    rows = {
        "from": [{"file": "rows.csv"}],
        "text": "body",
        "label": "mood",
        "labels": {1: "good", 0: "bad"},
        **changes,
    }
    return minimal(fillers=None, templates=None, poles=["good", "bad"], rows={k: v for k, v in rows.items() if v})


def written(folder: Path, content: dict[str, Any]) -> Path:
    path = folder / "task.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def texts_of(task: Task) -> set[tuple[str, int]]:
    return {(e.text, e.pole) for e in task.examples}
