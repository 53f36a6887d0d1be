"""From a checked task file to its examples: templates filled, rows read, duplicates and limits dealt with."""

import hashlib
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from sae_lens_abstopk.evaluation.tasks.task import Example, Scorer, Task, TaskSteering, make_task
from sae_lens_abstopk.evaluation.tasks.task_file import merged
from sae_lens_abstopk.evaluation.tasks.task_rows import (
    ENDINGS,
    Row,
    column,
    extracted,
    file_rows,
    hub_rows,
    pattern,
    word_span,
)
from sae_lens_abstopk.evaluation.tasks.task_schema import Rows, RowSource, SteeringSection, TaskFile, Template
from sae_lens_abstopk.evaluation.tasks.task_templates import expand, filler_names
from sae_lens_abstopk.system.errors import ConfigError
from sae_lens_abstopk.system.files import inside

# share of texts in both poles from which leaving them out is told of: a task of what is left is an easier one
MANY_IN_BOTH = 0.05


class _Found(NamedTuple):
    example: Example
    split: str | None


class _Origin(NamedTuple):
    """Rows of one part and the name that errors give it."""

    part: RowSource
    rows: Iterable[Row]
    where: str
    name: str
    """As the task names it, so that a digest does not depend on where the files are."""


def build_task(task: TaskFile, *, where: str, folder: Path, local: Path | None = None) -> Task:
    """The task of a checked file; relative paths in it are from ``folder``, and ``local`` goes before its own."""
    try:
        if task.templates is not None:
            if local is not None:
                raise ConfigError(f"local={str(local)!r} has nothing to replace, as the texts are in the file itself.")
            found = list(_from_templates(task))
        else:
            found = list(_from_rows(task, folder, local))
        splits = [f.split for f in found]
        return make_task(
            task.name,
            (task.poles[0], task.poles[1]),
            [f.example for f in found],
            reads=task.reads,
            steering=_steering(task, task.steering),
            licence=task.licence,
            source=task.source,
            about=task.about,
            own_split=None if None in splits else [s for s in splits if s is not None],
        )
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def _from_templates(task: TaskFile) -> Iterator[_Found]:
    used: set[str] = set()
    for number, given in enumerate(task.templates or ()):
        template = given if isinstance(given, Template) else Template.model_validate({"text": given})
        fillers = {**task.fillers, **template.fillers}
        names = filler_names(template.text, fillers)
        used |= names
        if unused := sorted(set(template.fillers) - names):
            raise ConfigError(f"the template {template.text!r} uses none of its fillers {', '.join(unused)}.")
        for pair in expand(template.text, fillers, most=task.expansions):
            for pole, (text, marker) in enumerate(zip(pair.texts, pair.markers, strict=True)):
                if template.pole not in (None, task.poles[pole]):
                    continue
                if "marked" in task.reads and marker is None:
                    raise ConfigError(
                        f"reads has 'marked', but the template {template.text!r} has no [word] in brackets."
                    )
                yield _Found(Example(text, pole, template.group or f"template {number}", marker), None)
    if unused := sorted(set(task.fillers) - used):
        raise ConfigError(f"no template has a slot for the fillers {', '.join(unused)}; use or remove them.")


def _from_rows(task: TaskFile, folder: Path, local: Path | None) -> list[_Found]:
    if local is None and task.local is not None and task.local.path is not None:
        local = inside(folder, task.local.path, where="local.path")
    assert task.rows is not None
    rows = task.rows if local is None else merged(task)
    found = [
        item
        for origin in _origins(rows, folder, local)
        for number, row in enumerate(origin.rows, start=1)
        for item in _examples(task, rows, origin, row, number)
    ]
    if any(f.split is None for f in found) and any(f.split is not None for f in found):
        raise ConfigError("some rows have a split and others have none; give use to every entry of from, or to none.")
    return _limited(_unique(found), rows.limit)


def _origins(rows: Rows, folder: Path, local: Path | None) -> Iterator[_Origin]:
    """All files are looked for before any is read."""
    parts = rows.parts or []
    if local is None:
        paths = {i: inside(folder, part.file, where="file") for i, part in enumerate(parts) if part.file is not None}
    elif local.is_file() and len(parts) == 1:
        paths = {0: local}
    elif local.is_dir():
        paths = {i: _local_file(local, part) for i, part in enumerate(parts)}
        if twice := [path for path, times in Counter(paths.values()).items() if times > 1]:
            raise ConfigError(
                f"local={str(local)!r}: {twice[0].name} would be used for two parts of {parts[0].hub or 'the task'}; write a "
                "task in which each entry of `from` names its own file."
            )
    elif local.is_file():
        names = ", ".join(part.file or part.split for part in parts)
        raise ConfigError(
            f"local={str(local)!r} is one file, but the task reads {len(parts)}: {names}; give their folder."
        )
    else:
        raise ConfigError(f"local={str(local)!r}: no such file or folder.")
    if missing := [str(path) for path in paths.values() if not path.is_file()]:
        raise ConfigError(
            f"no such file: {', '.join(missing)}; put it there, or give the folder that has it: load_task(..., local=PATH)."
        )
    for i, part in enumerate(parts):
        if i in paths:
            yield _Origin(part, file_rows(paths[i]), str(paths[i]), part.file or paths[i].name)
        else:
            name = " ".join(filter(None, (part.hub, part.config, part.split)))
            yield _Origin(part, hub_rows(part), name, name)


def _local_file(folder: Path, part: RowSource) -> Path:
    """The file that stands for ``part``; a split of a Hub data set is a file of that name."""
    if part.file is not None:
        return inside(folder, part.file, where="file")
    candidates = [inside(folder, f"{part.split}{ending}", where="split") for ending in ENDINGS]
    for path in candidates:
        if path.is_file():
            return path
    raise ConfigError(
        f"local={str(folder)!r} has no file for the split {part.split!r} of {part.hub}; it would be one of "
        f"{', '.join(path.name for path in candidates)}, with the columns of the Hub data set."
    )


def _examples(task: TaskFile, rows: Rows, origin: _Origin, row: Row, number: int) -> Iterator[_Found]:
    where = f"{origin.where}, row {number}"
    if rows.extract:
        row = extracted(row, rows.extract, where)
    split: str | None = origin.part.use
    if split is None and rows.split is not None and rows.splits is not None:
        split = _mapped(_known(row, rows.split, where), rows.splits, "splits", where)
        if split is None:
            return
    group = pattern(row, rows.group, where) if rows.group else f"{origin.name} {number}"
    if isinstance(rows.text, dict):
        texts = [(pole, rows.text[name]) for pole, name in enumerate(task.poles)]
    else:
        name = origin.part.pole
        if name is None:
            name = _mapped(_known(row, rows.label or "", where), rows.labels or {}, "labels", where)
        texts = [] if name is None else [(task.poles.index(name), rows.text or "")]
    for pole, written in texts:
        text = pattern(row, written, where).strip()
        if not text:
            raise ConfigError(f"{where}: the text is empty.")
        marker = None
        if "marked" in task.reads and rows.marked is not None:
            marker = word_span(text, pattern(row, rows.marked, where), where)
            if marker is None:
                continue
        yield _Found(Example(text, pole, group, marker), split)


def _known(row: Row, name: str, where: str) -> Any:
    """A column of a row, which may hold null."""
    return None if name in row and row[name] is None else column(row, name, where)


def _mapped(value: Any, names: Mapping[Any, str | None], key: str, where: str) -> str | None:
    """YAML and CSV write the same label as number and text, so both are compared as text."""
    by_text = {str(k): v for k, v in names.items()}
    if str(value) not in by_text:
        unquoted = any(isinstance(name, bool) for name in names)
        raise ConfigError(
            f"{where}: the value {value!r} is one that {key} does not list ({', '.join(by_text)}); add it, with null to "
            f"leave such rows out{'. YAML reads yes, no, true and false as truth values unless they are quoted' if unquoted else ''}."
        )
    return by_text[str(value)]


def _unique(found: list[_Found]) -> list[_Found]:
    """Each text once: in the latest of train, val, test that has it, and not at all if both poles have it."""
    poles: dict[str, set[int]] = {}
    for item in found:
        poles.setdefault(item.example.text, set()).add(item.example.pole)
    n_both = sum(len(each) > 1 for each in poles.values())
    if n_both > MANY_IN_BOTH * len(poles):
        warnings.warn(
            f"{n_both} of {len(poles)} texts stand in rows of both poles and are left out; where several people labelled each, "
            "give one row a text, with the label that most chose",
            stacklevel=2,
        )
    later = {None: 0, "train": 1, "val": 2, "test": 3}
    best: dict[str, _Found] = {}
    for item in found:
        text = item.example.text
        if len(poles[text]) == 1 and (text not in best or later[item.split] > later[best[text].split]):
            best[text] = item
    return list(best.values())


def _limited(found: list[_Found], limit: int | None) -> list[_Found]:
    """At most ``limit`` texts per pole and split, whole groups in the order of a hash, so that no order in a file matters."""
    if limit is None:
        return found
    groups: dict[tuple[str | None, str], list[_Found]] = {}
    for item in found:
        groups.setdefault((item.split, item.example.group), []).append(item)
    count: Counter[tuple[str | None, int]] = Counter()
    kept = []
    for (split, _), items in sorted(groups.items(), key=lambda g: hashlib.sha256(repr(_texts(g[1])).encode()).digest()):
        more = Counter((split, item.example.pole) for item in items)
        if all(count[key] + n <= limit for key, n in more.items()):
            count += more
            kept += items
    return kept


def _texts(items: list[_Found]) -> list[str]:
    return sorted(item.example.text for item in items)


def _steering(task: TaskFile, part: SteeringSection | None) -> TaskSteering | None:
    if part is None:
        return None
    a, b = task.poles
    scorer = None
    if part.scorer is not None:
        scorer = Scorer(part.scorer["kind"], (tuple(part.scorer[a]), tuple(part.scorer.get(b, ()))))
    return TaskSteering(tuple(part.prompts), (tuple(part.tokens[a]), tuple(part.tokens[b])), scorer, part.chat)
