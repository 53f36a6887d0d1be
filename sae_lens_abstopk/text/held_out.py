"""Hold documents out of training: every n-th one, or by a hash."""

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
    Keep the held-out documents, one in ``n``, or all others.

    Document i is held out if ``i % n == n - 1``. Streamed text of several shards has no stable i, because shards are
    shuffled and shared between ranks first. There a hash of the document decides: independent of the order, and equal
    for copies of a document.

    Args:
        dataset: Not yet shuffled or split.
        n: At least 2.
        held_out: Whether to keep the held-out part.
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
