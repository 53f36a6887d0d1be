"""Make examples from rows of files and Hub data sets, without duplicates and up to a limit."""

import hashlib
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from sae_lens_abstopk.evaluation.tasks.task import Example
from sae_lens_abstopk.evaluation.tasks.task_rows import (
    ENDINGS,
    Row,
    file_rows,
    filled_pattern,
    hub_rows,
    mapped_value,
    with_extracted,
    word_span,
)
from sae_lens_abstopk.evaluation.tasks.task_schema import Rows, RowSource, TaskFile
from sae_lens_abstopk.system.errors import ConfigError
from sae_lens_abstopk.system.files import inside

# warn above this share of texts in both poles: without them the task is easier
MANY_IN_BOTH = 0.05


def examples_of_rows(task: TaskFile, folder: Path, local: Path | None) -> list[Example]:
    """Return the examples of the rows of a task file in ``folder``, or of their replacement at ``local``."""
    if local is None and task.local is not None and task.local.path is not None:
        local = inside(folder, task.local.path, where="local.path")
    assert task.rows is not None
    rows = task.rows if local is None else task.local_rows()
    parts = rows.parts or []
    if local is not None and not (local.is_dir() or (local.is_file() and len(parts) == 1)):
        names = ", ".join(part.file or part.split for part in parts)
        raise ConfigError(f"local={str(local)!r} must be {'the file' if len(parts) == 1 else 'a folder with'} {names}.")
    found: list[Example] = []
    for part in parts:
        of_part, where, name = _opened(part, folder, local)
        for number, row in enumerate(of_part, start=1):
            found += _examples(task, rows, part, row, f"{where}, row {number}", f"{name} {number}")
    return _limited(_unique(found), rows.limit)


def _opened(part: RowSource, folder: Path, local: Path | None) -> tuple[Iterable[Row], str, str]:
    """Return the rows of a part, its name for errors, and its name in the task file, for groups on any machine."""
    if local is not None and local.is_file():
        path = local
    elif part.file is not None:
        path = inside(local or folder, part.file, where="file")
    elif local is not None:
        path = _file_of_split(local, part)
    else:
        name = " ".join(filter(None, (part.hub, part.config, part.split)))
        return hub_rows(part), name, name
    return file_rows(path), str(path), part.file or path.name


def _file_of_split(folder: Path, part: RowSource) -> Path:
    """Return the file in ``folder`` that replaces a split of the Hub, and has its name."""
    candidates = [inside(folder, f"{part.split}{ending}", where="split") for ending in ENDINGS]
    if found := next((path for path in candidates if path.is_file()), None):
        return found
    names = ", ".join(path.name for path in candidates)
    raise ConfigError(f"local={str(folder)!r} has no file for the split {part.split!r} of {part.hub}: {names}.")


def _examples(task: TaskFile, rows: Rows, part: RowSource, row: Row, where: str, name: str) -> Iterator[Example]:
    if rows.extract:
        row = with_extracted(row, rows.extract, where)
    split: str | None = part.use
    if split is None and rows.split is not None and rows.splits is not None:
        split = mapped_value(row, rows.split, rows.splits, "splits", where)
        if split is None:
            return
    group = filled_pattern(row, rows.group, where) if rows.group else name
    if isinstance(rows.text, dict):
        texts = [(pole, rows.text[of_pole]) for pole, of_pole in enumerate(task.poles)]
    else:
        of_row = part.pole or mapped_value(row, rows.label or "", rows.labels or {}, "labels", where)
        texts = [] if of_row is None else [(task.poles.index(of_row), rows.text or "")]
    for pole, pattern in texts:
        text = filled_pattern(row, pattern, where).strip()
        if not text:
            continue
        marker = None
        if "marked" in task.reads and rows.marked is not None:
            marker = word_span(text, filled_pattern(row, rows.marked, where), where)
            if marker is None:
                continue
        yield Example(text, pole, group, marker, split)


def _unique(found: list[Example]) -> list[Example]:
    """Keep each text once, in the latest of train, val, test that has it; drop texts in both poles."""
    poles: dict[str, set[int]] = {}
    for item in found:
        poles.setdefault(item.text, set()).add(item.pole)
    n_both = sum(len(each) > 1 for each in poles.values())
    if n_both > MANY_IN_BOTH * len(poles):
        warnings.warn(
            f"{n_both} of {len(poles)} texts are in rows of both poles and are left out; if several people labelled "
            "each, give one row a text, with the label that most chose",
            stacklevel=2,
        )
    later = {None: 0, "train": 1, "val": 2, "test": 3}
    best: dict[str, Example] = {}
    for item in found:
        text = item.text
        if len(poles[text]) == 1 and (text not in best or later[item.split] > later[best[text].split]):
            best[text] = item
    return list(best.values())


def _limited(found: list[Example], limit: int | None) -> list[Example]:
    """Keep at most ``limit`` texts per pole and split: whole groups, in the order of a hash."""
    if limit is None:
        return found
    groups: dict[tuple[str | None, str], list[Example]] = {}
    for item in found:
        groups.setdefault((item.split, item.group), []).append(item)

    def hashed(items: list[Example]) -> bytes:
        return hashlib.sha256(repr(sorted(item.text for item in items)).encode()).digest()

    count: Counter[tuple[str | None, int]] = Counter()
    kept = []
    for items in sorted(groups.values(), key=hashed):
        more = Counter((item.split, item.pole) for item in items)
        if all(count[key] + n <= limit for key, n in more.items()):
            count += more
            kept += items
    return kept
