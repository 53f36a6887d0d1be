"""Make one shuffled corpus from a folder of texts, with whole documents held out for evaluation.

    python -m experiments.study.corpus TEXT_FOLDER --out corpus.jsonl.gz

Reads every .txt file and every .json file that holds a list of strings. A document is a string of such a list, a text
file of at most 2 MB (a novel), or 50,000 characters of a larger file (about a chapter). Documents are cut at line ends
into sections of about 2,000 characters, and the sections are shuffled.

Line i is from a held-out document if ``i % 20 == 19``: ``held_out_every: 20`` of a training config then holds out whole
documents.
"""

import argparse
import gzip
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

HELD_OUT_EVERY = 20
LARGEST_WHOLE_FILE = 2_000_000
STRETCH = 50_000
SECTION = 2_000
SHORTEST_SECTION = 200


class Document(NamedTuple):
    """A text that is held out or trained on as a whole."""

    source: str
    """Name of its file's folder."""
    text: str


def documents(folder: Path) -> Iterator[Document]:
    """Return all documents of a folder, in file order; an unreadable file ends the command."""
    for path in sorted(folder.rglob("*")):
        if path.suffix not in (".json", ".txt"):
            continue
        try:
            text = path.read_text(encoding="utf-8-sig")
            texts = json.loads(text) if path.suffix == ".json" else text
        except ValueError as error:
            raise SystemExit(f"{path} cannot be read ({error}); write it in UTF-8, or move it away") from None
        if path.suffix == ".json":
            if isinstance(texts, list) and all(isinstance(text, str) for text in texts):
                yield from (Document(path.parent.name, text) for text in texts)
        else:
            stretch = len(text) if path.stat().st_size <= LARGEST_WHOLE_FILE else STRETCH
            yield from (Document(path.parent.name, part) for part in cut(text, stretch))


def cut(text: str, length: int) -> Iterator[str]:
    """Cut text into pieces of about ``length`` characters, at line ends, or at word ends in a longer line."""
    start = 0
    while start < len(text):
        stop = start + length
        if stop < len(text):
            ends = (text.rfind(end, start + length // 2, stop) for end in ("\n\n", "\n", " "))
            stop = next((end + 1 for end in ends if end >= 0), stop)
        yield text[start:stop]
        start = stop


def sections(found: list[Document]) -> list[dict[str, str]]:
    """Return the rows of the corpus, without short remainders of documents."""
    return [
        {"text": part, "source": document.source}
        for document in found
        for part in cut(document.text.strip(), SECTION)
        if len(part) >= SHORTEST_SECTION
    ]


def make_corpus(folder: Path, seed: int) -> list[dict[str, str]]:
    """Return rows with ``text`` and ``source``; every ``HELD_OUT_EVERY``-th is from a held-out document."""
    rng = random.Random(seed)
    found = list(documents(folder))
    if not found:
        raise SystemExit(f"{folder} holds no .txt file and no .json list of strings")
    rng.shuffle(found)
    wanted = sum(len(document.text) for document in found) / HELD_OUT_EVERY
    n_held_out, characters = 0, 0
    while characters < wanted:
        characters += len(found[n_held_out].text)
        n_held_out += 1
    held_out, training = sections(found[:n_held_out]), sections(found[n_held_out:])
    rng.shuffle(held_out)
    rng.shuffle(training)
    run = HELD_OUT_EVERY - 1
    n_runs = min(len(held_out), len(training) // run)
    if not n_runs:
        raise SystemExit(
            f"{folder} holds too little text: {n_held_out} of {len(found)} documents are held out, and the others have "
            f"{len(training)} sections of {SECTION:,} characters, fewer than {run}"
        )
    return [row for i in range(n_runs) for row in (*training[i * run : (i + 1) * run], held_out[i])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of texts")
    parser.add_argument("--out", type=Path, default=Path("corpus.jsonl.gz"))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rows = make_corpus(args.folder, args.seed)
    # no time and a fixed name, so that equal texts give equal bytes
    partial = args.out.with_name(f"{args.out.name}.partial")
    with open(partial, "wb") as raw, gzip.GzipFile("corpus.jsonl.gz", fileobj=raw, mode="wb", mtime=0) as out:
        for row in rows:
            out.write((json.dumps(row, ensure_ascii=False) + "\n").encode())
    partial.replace(args.out)
    by_source: dict[str, int] = {}
    for row in rows:
        by_source[row["source"]] = by_source.get(row["source"], 0) + len(row["text"])
    for source, characters in sorted(by_source.items(), key=lambda item: -item[1]):
        print(f"{characters:12,} characters  {source}")
    print(f"{len(rows):12,} sections, {len(rows) // HELD_OUT_EVERY:,} of them held out, in {args.out}")


if __name__ == "__main__":
    main()
