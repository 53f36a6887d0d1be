"""
Make a set of the study from prompts and their answers: each answer to a prompt is relevant to it.

    python -m experiments.embeddings.answers pairs.jsonl.gz --out runs/answers

Reads rows with `prompt`, `response_a` and `response_b`. Of the prompts, 30 % are queries; up to 15 answers to
each are documents; SAEs train on the answers to the others, up to 21 each. Writes `queries.jsonl`, `corpus.jsonl` and
`qrels.tsv` in BEIR's format, and `train.jsonl` with the columns `text` and `prompt`.
"""

import argparse
import json
import random
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sae_lens_abstopk.system.files import require_empty
from sae_lens_abstopk.text.documents import open_dataset

QUERY_SHARE = 0.3
DOCUMENTS, TRAINING_TEXTS = 15, 21
"""Most answers to a prompt that are documents, and that are trained on."""


def write_set(rows: Iterable[Any], out: Path) -> None:
    """Split the prompts of ``rows``, and write the four files into ``out``."""
    answers: dict[str, dict[str, None]] = {}
    for row in rows:
        answers.setdefault(row["prompt"], {}).update(dict.fromkeys((row["response_a"], row["response_b"])))
    prompts = list(answers)
    random.Random(0).shuffle(prompts)
    queries, others = (prompts[: round(QUERY_SHARE * len(prompts))], prompts[round(QUERY_SHARE * len(prompts)) :])
    documents = [(number, text) for number, prompt in enumerate(queries) for text in list(answers[prompt])[:DOCUMENTS]]
    random.Random(1).shuffle(documents)  # equal scores keep this order
    out.mkdir(parents=True, exist_ok=True)
    _write(out / "queries.jsonl", ({"_id": f"q{number}", "text": prompt} for number, prompt in enumerate(queries)))
    _write(out / "corpus.jsonl", ({"_id": f"d{number}", "text": text} for number, (_, text) in enumerate(documents)))
    judged = "".join(f"q{query}\td{number}\t1\n" for number, (query, _) in enumerate(documents))
    (out / "qrels.tsv").write_text(f"query-id\tcorpus-id\tscore\n{judged}", encoding="utf-8")
    training = ((prompt, text) for prompt in others for text in list(answers[prompt])[:TRAINING_TEXTS])
    _write(out / "train.jsonl", ({"text": text, "prompt": prompt} for prompt, text in training))


def _write(path: Path, rows: Iterable[Mapping[str, str]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", help="a file, or a data set of the Hub")
    parser.add_argument("--out", type=Path, required=True, help="new folder")
    given = parser.parse_args()
    require_empty(given.out)
    write_set(open_dataset(given.rows, streaming=False), given.out)
