"""Reading the YAML file of a task: every mistake is answered with the key, what it takes and the remedy."""

import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from sae_lens_abstopk.evaluation.tasks.task_schema import Local, Rows, RowSource, SteeringSection, TaskFile, Template
from sae_lens_abstopk.system.errors import ConfigError
from sae_lens_abstopk.system.yaml_files import read_yaml


def read_task_file(path: Path) -> TaskFile:
    """The checked content of a task file."""
    return check_task(read_yaml(path), where=str(path))


def check_task(raw: Mapping[Any, Any], *, where: str = "task") -> TaskFile:
    """The checked content of a mapping in the form of a task file; ``where`` names it in errors."""
    try:
        task = TaskFile.model_validate(raw)
        _check_whole(task)
    except ValidationError as error:
        raise ConfigError(f"{where}: {_explain(error, raw)}") from None
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
    return task


def merged(task: TaskFile) -> Rows:
    """``rows`` with the keys that ``local`` sets laid over it."""
    assert task.rows is not None
    changes = task.local.model_dump(exclude_unset=True, exclude={"path", "parts"}) if task.local else {}
    parts = task.local.parts if task.local and task.local.parts else task.rows.parts
    return task.rows.model_copy(update={**changes, "parts": parts})


def _explain(error: ValidationError, raw: Mapping[Any, Any]) -> str:
    """The first complaint, as ``key=value: what is wrong; what the key takes``."""
    found = error.errors()
    # where a text or a section is allowed and there is a section, what the section lacks is the better complaint
    better = [e for e in found if not (e["type"] == "string_type" and isinstance(e["input"], Mapping))]
    first = (better or found)[0]
    at: Any = raw
    keys: list[str] = []
    description = ""
    section: type[BaseModel] | None = TaskFile
    for step in first["loc"]:
        if isinstance(at, Mapping) and (step in at or first["type"] == "missing"):
            at = at.get(step)
        elif isinstance(at, list) and isinstance(step, int) and step < len(at):
            at = at[step]
        else:
            continue  # pydantic's name for one of several allowed types
        keys.append(str(step))
        fields = {info.alias or name: info for name, info in section.model_fields.items()} if section else {}
        if step in fields:
            description = fields[str(step)].description or ""
        section = {
            "rows": Rows,
            "local": Local,
            "from": RowSource,
            "steering": SteeringSection,
            "templates": Template,
        }.get(str(step), section)
    key = ".".join(keys)
    if first["type"] == "missing":
        return f"{key} is missing: {description}."
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error":
        return f"{key}: {message}" if key else message
    value = reprlib.repr(at)
    return f"{key}={value}: {message[0].lower()}{message[1:]}; {key} takes {description}."


def _check_whole(task: TaskFile) -> None:
    """What one key demands of another."""
    a, b = task.poles
    if a == b or not a.strip() or not b.strip():
        raise ConfigError(f"poles={task.poles!r} must be two different words.")
    if (task.templates is None) == (task.rows is None):
        raise ConfigError("give either templates (texts here) or rows (texts from files or the Hub).")
    if task.templates is None and (task.fillers or task.expansions):
        raise ConfigError("fillers and expansions are used by templates, and there are none; leave them out.")
    if task.rows is None and task.local is not None:
        raise ConfigError("local replaces rows, and there are none; leave it out.")
    _check_fillers(task)
    for section, rows in (("rows", task.rows), ("local", task.local)):
        for at, part in enumerate((rows.parts or ()) if rows else ()):
            key = f"{section}.from.{at}"
            if (part.file is None) == (part.hub is None):
                raise ConfigError(f"{key} needs either file (beside the task file) or hub (a data set id).")
            if section == "local" and part.file is None:
                raise ConfigError(f"{key}.hub={part.hub!r}: local reads files; give file.")
            _check_pole(task, part.pole, f"{key}.pole")
    if task.rows is not None:
        _check_rows(task, task.rows, "rows")
        if task.local is not None:
            _check_rows(task, merged(task), "local")
    if task.steering is not None:
        _check_steering(task, task.steering)


def _check_pole(task: TaskFile, pole: str | None, key: str) -> None:
    if pole is not None and pole not in task.poles:
        raise ConfigError(f"{key}={pole!r} is not one of the poles {task.poles[0]!r} and {task.poles[1]!r}.")


def _check_fillers(task: TaskFile) -> None:
    templates = [t for t in task.templates or () if isinstance(t, Template)]
    for at, fillers in [("", task.fillers), *((f"templates ({t.text!r}) ", t.fillers) for t in templates)]:
        for name, entries in fillers.items():
            key = f"{at}fillers.{name}"
            if not entries:
                raise ConfigError(f"{key} is empty; give it at least one text.")
            texts = [text for entry in entries for text in ([entry] if isinstance(entry, str) else entry)]
            if any(not text.strip() or set(text) & set("{}[]") for text in texts):
                raise ConfigError(
                    f"{key} has an empty text, or one with a brace or bracket; those belong in templates."
                )
            widths = {len(entry) for entry in entries if not isinstance(entry, str)}
            if len(widths) > 1:
                raise ConfigError(f"{key} has rows of {min(widths)} and of {max(widths)} columns; make them the same.")
            if len({str(entry) for entry in entries}) < len(entries):
                raise ConfigError(f"{key} has an entry twice; take one out.")
    for template in templates:
        _check_pole(task, template.pole, f"templates ({template.text!r}) pole")


def _check_rows(task: TaskFile, rows: Rows, key: str) -> None:
    if not rows.parts:
        raise ConfigError(f"{key}.from is missing: a list of files or Hub data sets.")
    if rows.text is None:
        raise ConfigError(f"{key}.text is missing: the column with the text.")
    by_pole = isinstance(rows.text, dict)
    if isinstance(rows.text, dict) and set(rows.text) != set(task.poles):
        raise ConfigError(
            f"{key}.text has keys {list(rows.text)}; use a column name, or the poles {task.poles} as keys."
        )
    whole = [part.pole is not None for part in rows.parts]
    if by_pole and (rows.label is not None or any(whole)):
        raise ConfigError(f"{key}.text gives each pole a text of its own, so label and pole have no place.")
    if not by_pole and not all(whole):
        if rows.label is None or not rows.labels:
            raise ConfigError(
                f"{key} does not say which row belongs to which pole; give label and labels, or a pole for every entry "
                "of from, or a text for each pole."
            )
        named = {pole for pole in rows.labels.values() if pole is not None}
        if named != set(task.poles):
            raise ConfigError(f"{key}.labels leads to {sorted(named)}; it must lead to both poles, {task.poles}.")
    if not by_pole and all(whole) and {part.pole for part in rows.parts} != set(task.poles):
        raise ConfigError(f"{key}.from has no entry for one of the poles {task.poles}.")
    if (rows.split is None) != (rows.splits is None):
        raise ConfigError(f"{key}.split names a column and {key}.splits its values; give both or neither.")
    if ("marked" in task.reads) and rows.marked is None:
        raise ConfigError(f"reads has 'marked', but {key}.marked does not name the column with the word.")


def _check_steering(task: TaskFile, part: SteeringSection) -> None:
    if set(part.tokens) != set(task.poles):
        raise ConfigError(f"steering.tokens has keys {list(part.tokens)}; they must be the poles {task.poles}.")
    if not all(part.tokens.values()) or any(not text for texts in part.tokens.values() for text in texts):
        raise ConfigError("steering.tokens has a pole without continuations, or an empty one.")
    if set(part.tokens[task.poles[0]]) & set(part.tokens[task.poles[1]]):
        raise ConfigError("steering.tokens has the same continuation for both poles; take it out.")
    if any(not prompt.strip() for prompt in part.prompts) or len(set(part.prompts)) < len(part.prompts):
        raise ConfigError("steering.prompts has an empty prompt, or one twice; take it out.")
    scorer = part.scorer
    if scorer is None:
        return
    kind = scorer.get("kind")
    if kind not in ("words", "prefixes"):
        raise ConfigError(f"steering.scorer.kind={kind!r} must be words or prefixes.")
    expected = set(task.poles) if kind == "words" else {task.poles[0]}
    if set(scorer) != {"kind", *expected}:
        raise ConfigError(
            f"steering.scorer has keys {list(scorer)}; kind={kind} takes kind and {' and '.join(sorted(expected))}"
            f"{'' if kind == 'words' else ', the pole that the prefixes show, which comes first in poles'}."
        )
    for pole in expected:
        words = scorer[pole]
        if not isinstance(words, list) or not words or not all(isinstance(w, str) and w.strip() for w in words):
            raise ConfigError(
                f"steering.scorer.{pole} must be a list of words; quote those that YAML reads as yes or no."
            )
