"""Which documents of a text are held out of training: by their number, or by what they say where numbers depend on order."""

import hashlib
import json
from typing import Any

from datasets import Dataset, IterableDataset

# where SAELens looks for a document, conversations first if it is told that they are some
CONVERSATIONS = ("conversation", "conversations", "messages")
TOKENS = ("tokens", "input_ids")
DOCUMENTS = (*TOKENS, "text", "problem")


def keep_part(
    dataset: Dataset | IterableDataset, n: int, *, held_out: bool, conversations: bool = False
) -> Dataset | IterableDataset:
    """
    The one document in ``n`` that is held out, or all the others.

    Document i is held out if ``i % n == n - 1``. Streamed text of several shards has no such i: its shards are shuffled
    and shared out among ranks before its documents are counted. There a hash of the content decides, so that one
    document in about ``n`` is held out, the same ones in any order, and copies of a document are on one side.

    Args:
        dataset: Before it is shuffled or split.
        n: At least 2.
        held_out: Which of the two parts.
        conversations: Whether documents are lists of messages.
    """
    if not isinstance(dataset, IterableDataset) or dataset.n_shards == 1:
        return dataset.filter(lambda _, i: (i % n == n - 1) == held_out, with_indices=True)
    columns = (*CONVERSATIONS, *DOCUMENTS) if conversations else DOCUMENTS

    def belongs(row: dict[str, Any]) -> bool:
        column = next((name for name in columns if name in row), None)
        return (_number_of(row if column is None else row[column]) % n == n - 1) == held_out

    return dataset.filter(belongs)


def _number_of(document: Any) -> int:
    """A number of 256 bits that depends on the document alone, not on the process as ``hash`` does."""
    return int.from_bytes(hashlib.sha256(json.dumps(document, default=str).encode()).digest())
