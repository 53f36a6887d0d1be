"""
Tense and subject number of main clauses, from CoNLL-U treebanks of English: the files that ud_tense and ud_number read.

``python ud_ewt.py OUT en_ewt-ud-train.conllu en_ewt-ud-dev.conllu en_ewt-ud-test.conllu`` writes ``OUT/tense.tsv`` and
``OUT/subject_number.tsv``. The split of a sentence is the part of its file's name after ``-ud-``.

Tense: of the finite verb that heads the main clause (the root, else its auxiliary or copula), in sentences where no
    other
finite verb has another tense. Number: of the one noun that is the subject of the root.
"""

import csv
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple


class Word(NamedTuple):
    """A row of CoNLL-U, as far as needed here."""

    number: str
    form: str
    upos: str
    features: dict[str, str]
    head: str
    relation: str


def sentences(path: Path) -> Iterator[tuple[str, list[Word]]]:
    """Text and words of every sentence; multi-word ranges and empty nodes are left out."""
    for block in re.split(r"\n\s*\n", path.read_text(encoding="utf-8")):
        text = re.search(r"^# text = (.*)$", block, re.MULTILINE)
        rows = [line.split("\t") for line in block.splitlines() if line[:1].isdigit()]
        words = [
            Word(r[0], r[1], r[3], dict(f.split("=", 1) for f in r[5].split("|") if "=" in f), r[6], r[7])
            for r in rows
            if r[0].isdigit()
        ]
        if text and words:
            yield text[1].strip(), words


def tense(words: list[Word]) -> str | None:
    """``"Past"``, ``"Pres"``, or None where the main clause has no tense or the sentence has two."""
    finite = [w for w in words if w.features.get("VerbForm") == "Fin" and "Tense" in w.features]
    root = next((w for w in words if w.relation == "root"), None)
    if root is None or len({w.features["Tense"] for w in finite}) != 1:
        return None
    main = [w for w in finite if w is root or (w.head == root.number and w.relation in ("aux", "aux:pass", "cop"))]
    return main[0].features["Tense"] if main else None


def subject(words: list[Word]) -> tuple[str, str] | None:
    """Number and form of the one subject of the root, where it is a noun."""
    root = next((w for w in words if w.relation == "root"), None)
    subjects = [w for w in words if root and w.head == root.number and w.relation in ("nsubj", "nsubj:pass")]
    if len(subjects) != 1 or subjects[0].upos not in ("NOUN", "PROPN") or "Number" not in subjects[0].features:
        return None
    return subjects[0].features["Number"], subjects[0].form


def write(out: Path, treebanks: list[Path]) -> None:
    """Write both files to the folder ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    with (
        (out / "tense.tsv").open("w", encoding="utf-8") as t,
        (out / "subject_number.tsv").open("w", encoding="utf-8") as n,
    ):
        tenses, numbers = (
            csv.writer(f, delimiter="\t", quoting=csv.QUOTE_NONE, quotechar=None, lineterminator="\n") for f in (t, n)
        )
        tenses.writerow(["split", "tense", "text"])
        numbers.writerow(["split", "number", "subject", "text"])
        for path in treebanks:
            split = path.stem.rpartition("-ud-")[2]
            for text, words in sentences(path):
                if "\t" in text:
                    continue
                if (found := tense(words)) in ("Past", "Pres"):
                    tenses.writerow([split, found, text])
                if (noun := subject(words)) is not None and noun[0] in ("Sing", "Plur"):
                    numbers.writerow([split, *noun, text])


if __name__ == "__main__":
    write(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
