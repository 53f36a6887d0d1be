"""Hold documents of a text out of training: every n-th one, or by a hash of the document."""

import hashlib
import json
from typing import Any

from datasets import Dataset, IterableDataset

# columns in which SAELens looks for a document
CONVERSATIONS = ("conversation", "conversations", "messages")
TOKENS = ("tokens", "input_ids")
DOCUMENTS = (*TOKENS, "text", "problem")


def keep_part(
    dataset: Dataset | IterableDataset, n: int, *, held_out: bool, conversations: bool = False
) -> Dataset | IterableDataset:
    """
    Keep the one document in ``n`` that is held out, or all the others.

    Document i is held out if ``i % n == n - 1``. Streamed text of several shards has no such i, since shards are
    shuffled and shared between ranks before documents are counted. There a hash of the document decides, so that the
    same documents are held out in any order, and copies of a document are on one side.

    Args:
        dataset: Before it is shuffled or split.
        n: At least 2.
        held_out: Which of the two parts to keep.
        conversations: Whether documents are lists of messages.
    """
    if not isinstance(dataset, IterableDataset) or dataset.n_shards == 1:
        return dataset.filter(lambda _, i: (i % n == n - 1) == held_out, with_indices=True)
    columns = (*CONVERSATIONS, *DOCUMENTS) if conversations else DOCUMENTS

    def belongs(row: dict[str, Any]) -> bool:
        column = next((name for name in columns if name in row), None)
        document = json.dumps(row if column is None else row[column], default=str)
        number = int.from_bytes(hashlib.sha256(document.encode()).digest())  # hash() differs between processes
        return (number % n == n - 1) == held_out

    return dataset.filter(belongs)
