"""The documents of a text: opened, split into training and held-out parts, shuffled, shared between ranks."""

import hashlib
import json
from contextlib import AbstractContextManager
from glob import escape
from pathlib import Path
from typing import Any, cast

from datasets import Dataset, DatasetDict, Features, IterableDataset, Value, load_dataset, load_from_disk
from datasets.distributed import split_dataset_by_node
from datasets.exceptions import DatasetsError
from datasets.table import CastError
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import GatedRepoError
from transformers import AutoTokenizer

from sae_lens_abstopk.system.errors import TRANSPORT_ERRORS, ConfigError, as_config_error, caused_by, require_given
from sae_lens_abstopk.system.ranks import n_ranks, this_rank
from sae_lens_abstopk.text.text_files import COMPRESSED, FORMATS, local_files, was_saved, where_not_utf8
from sae_lens_abstopk.text.text_spec import HALVES, TextPart, TextSpec

# columns in which SAELens looks for a document
CONVERSATIONS = ("conversation", "conversations", "messages")
TOKENS = ("tokens", "input_ids")
DOCUMENTS = (*TOKENS, "text", "problem")
# SAELens's PretokenizeRunner writes this beside the token ids
TOKENIZATION_NOTE = "sae_lens.json"
DAMAGED = (ValueError, RuntimeError, EOFError, StopIteration, DatasetsError)
"""Errors of reading a file with the wrong format."""
UNREADABLE = (*DAMAGED, OSError, *TRANSPORT_ERRORS)
SHUFFLE_WINDOW = 10_000
Text = Dataset | IterableDataset


def load_text(spec: TextSpec, part: TextPart) -> Text:
    """
    Load the documents of one part of a text.

    Plain text is in the column ``text`` (null as empty text), conversations and token ids in SAELens's columns.
    Document i, counted before shuffling, is held out if ``i % held_out_every == held_out_every - 1``. Streamed text of
    several shards has no stable i, because shards are shuffled and shared between ranks first: there a hash of the
    document decides, which is equal for copies. The parts share no document and do not depend on the seed. Each rank
    gets its share of the training part, or of a half of it.

    Raises:
        ConfigError: the data set is missing, empty or unreadable, or lacks the column.
    """
    path = spec.dataset_path
    dataset = open_dataset(path, name=spec.dataset_name, split=spec.split, streaming=spec.streaming)
    dataset = _in_saelens_columns(dataset, first_document(dataset, path), spec)
    if part in HALVES or (part != "all" and spec.held_out_every is not None):
        dataset = _keep_part(dataset, spec.held_out_every, part, spec.use_chat_formatting)
    elif part == "held_out":
        require_given("held_out_every", spec.held_out_every, "set it to a number such as 20, to hold something out")
    _require_documents(dataset, spec, part)
    if part in ("held_out", "all"):
        return dataset
    if spec.shuffle:
        options: dict[str, Any] = {"buffer_size": SHUFFLE_WINDOW} if isinstance(dataset, IterableDataset) else {}
        dataset = dataset.shuffle(seed=spec.seed, **options)
    if n_ranks() > 1:
        dataset = split_dataset_by_node(cast(Dataset, dataset), this_rank(), n_ranks())
        _require_documents(dataset, spec, part)
    return dataset


def open_dataset(path: str, *, name: str | None = None, split: str = "train", streaming: bool = True) -> Text:
    """
    Open a data set: a Hub id, a local file or folder, or a folder written by ``save_to_disk``.

    Local files are .jsonl, .json, .parquet, .csv (also .gz and .zst), or .txt with one document a file; they have only
    the split train and no configurations. Every column of .csv is text. A :class:`ConfigError` says why it cannot be
    read.
    """
    local = Path(path)
    with text_errors(path):
        if was_saved(local):
            saved = load_from_disk(local)
            parts = saved if isinstance(saved, DatasetDict) else {"train": saved}
            if split not in parts:
                raise ValueError(f"split={split!r} is not one of {', '.join(map(str, parts))}")
            dataset = parts[split].with_format(None)  # SAELens's PretokenizeRunner leaves one of tensors
            return dataset.to_iterable_dataset() if streaming else dataset
        if local.exists():
            builder, files = local_files(local)
            data_files = [escape(file) for file in files]
            options: dict[str, Any] = {"sample_by": "document"} if builder == "text" else {}
            if builder == "csv":
                options = _csv_options(data_files)
            return load_dataset(builder, data_files=data_files, split=split, streaming=streaming, **options)
        if local.suffix in (*FORMATS, *COMPRESSED) or path.startswith((".", "/", "~")):
            raise FileNotFoundError("no such file or folder")
        return load_dataset(path, name, split=split, streaming=streaming)


def _csv_options(data_files: list[str]) -> dict[str, Any]:
    """Read every column as text: the reader would turn 007 into 7, and the text None into a missing one."""
    headers: list[list[str]] = []
    for file in data_files:
        rows = load_dataset("csv", data_files=[file], split="train", streaming=True, nrows=1)
        headers += [list(row) for row in rows]
        if not headers:
            raise StopIteration  # empty, as other files without rows
        if headers[-1] != headers[0] or "__index_level_0__" in headers[-1]:
            raise ConfigError(
                f"{file} has the columns {', '.join(headers[-1])}: all files need those of the first, and a row must "
                "not have more fields than the header."
            )
    return {"features": Features({column: Value("string") for column in headers[0]}), "na_filter": False}


def first_document(dataset: Text, path: str) -> dict[str, Any]:
    """Return the first document, by column; a :class:`ConfigError` if there is none."""
    with text_errors(path):
        return next(iter(dataset))


def require_same_tokenizer(tokenizer: Any, spec: TextSpec) -> None:
    """Raise a :class:`ConfigError` if token ids are of another tokenizer, according to ``sae_lens.json``."""
    if tokenizer is None or not spec.is_dataset_tokenized:
        return
    path = spec.dataset_path
    try:
        note = Path(path) / TOKENIZATION_NOTE
        if not Path(path).exists():
            note = Path(hf_hub_download(path, TOKENIZATION_NOTE, repo_type="dataset"))
        name = json.loads(note.read_text(encoding="utf-8"))["tokenizer_name"]
        vocabulary = AutoTokenizer.from_pretrained(name, trust_remote_code=False).get_vocab()
    except (OSError, ValueError, KeyError, TypeError, *TRANSPORT_ERRORS):
        return  # no sae_lens.json, or a tokenizer that cannot be loaded
    if vocabulary != tokenizer.get_vocab():
        raise ConfigError(
            f"dataset_path={path!r} was tokenised by the tokenizer of {name!r} ({TOKENIZATION_NOTE}), whose vocabulary "
            "differs from the model's; give text, or tokenise it with the model's own tokenizer."
        )


def text_errors(path: str, kinds: tuple[type[Exception], ...] = UNREADABLE) -> AbstractContextManager[None]:
    """Turn errors of ``kinds`` into a :class:`ConfigError` that names ``path``."""
    return as_config_error(kinds, lambda error: f"dataset_path={path!r} {_reason(path, error)}.")


def _reason(path: str, error: Exception) -> str:
    cause = error.__cause__ or error
    lines = str(cause).splitlines() or [type(cause).__name__]
    if caused_by(error, GatedRepoError):
        return "is gated on the Hugging Face Hub; accept its terms there, then set HF_TOKEN (or run `hf auth login`)"
    if str(error).startswith("Dataset scripts are no longer supported"):
        return "comes as a script, which datasets does not run; name a copy of it in Parquet, or give local files"
    if isinstance(cause, StopIteration):
        return "is empty"
    if isinstance(cause, CastError):  # its first line says no more than that
        detail = " ".join(" ".join(lines[1:]).split())[:300]
        return f"has files or rows with other columns than its first ({detail}); give all the same columns"
    if isinstance(cause, UnicodeDecodeError):
        return f"is not UTF-8 text{where_not_utf8(Path(path))}: {cause}; replace such bytes one for one"
    if isinstance(error, (OSError, *TRANSPORT_ERRORS)):
        why = str(error).split("\n")[0].rstrip(".") or type(error).__name__
        return f"cannot be read: {why}; check the name and the connection, or give a local file or folder"
    # the names of all configurations may follow
    return f"cannot be read: {(' '.join(lines) if type(error) is ValueError else lines[0]).rstrip('.')}"


def _require_documents(dataset: Text, spec: TextSpec, part: TextPart) -> None:
    path = spec.dataset_path
    with text_errors(path):  # a broken file or a lost network raises here
        first = next(iter(dataset), None)
    if first is None:
        lower = f", lower held_out_every={spec.held_out_every}" if part == "held_out" else ""
        null = " or set held_out_every to null" if spec.held_out_every is not None else ""
        ranks = f" on {n_ranks()} ranks" if n_ranks() > 1 else ""
        raise ConfigError(
            f"dataset_path={path!r} has too few documents for its part {part!r}{ranks}: give more{lower}{null}. "
            "A .txt file is one document, as is a line of .jsonl."
        )


def _in_saelens_columns(dataset: Text, first: dict[str, Any], spec: TextSpec) -> Text:
    """Put documents into the column that SAELens reads, and check the first one."""
    path, column, named = spec.dataset_path, spec.column_name, spec.column_name != "text"
    known, renamed, wanted = ("text",), "text", "text"
    if spec.use_chat_formatting:
        known, renamed, wanted = (*CONVERSATIONS, "text"), "messages", "turns with a role and content, or text"
    elif spec.is_dataset_tokenized:
        known, renamed, wanted = TOKENS, "tokens", f"lists of at least context_size={spec.context_size} token ids"
    column = column if named else next((name for name in known if name in first), known[0])
    if column not in first:
        wanted += "; for token ids, set is_dataset_tokenized=true" if first.keys() & set(TOKENS) else ""
        missing = spec.column_name if named else " or ".join(known)
        raise ConfigError(
            f"column_name={spec.column_name!r} of {path!r}: no column {missing} among {', '.join(first)}; name the one "
            f"that holds {wanted}."
        )

    found = first[column]
    if spec.use_chat_formatting:
        turns = found if isinstance(found, list) and found else [found]
        right = isinstance(found, str) or all(isinstance(t, dict) and {"role", "content"} <= t.keys() for t in turns)
    elif spec.is_dataset_tokenized:
        right = isinstance(found, list) and len(found) >= spec.context_size and all(isinstance(t, int) for t in found)
    else:
        right = isinstance(found, str | None)
    if not right:
        raise _wrong_document(column, path, wanted, found)
    if spec.use_chat_formatting or spec.is_dataset_tokenized:
        if not named:
            return dataset
        dataset = dataset.select_columns([column])
        return dataset if column in known else dataset.rename_column(column, renamed)

    # without the spec in its closure, so that datasets finds the result of an earlier run in its cache
    def text_of(row: dict[str, Any]) -> dict[str, str]:
        if not isinstance(row[column], str | None):
            raise _wrong_document(column, path, "text", row[column])
        return {"text": row[column] or ""}

    return dataset.map(text_of, remove_columns=[name for name in first if name != "text" or column != "text"])


def _wrong_document(column: str, path: str, wanted: str, found: Any) -> ConfigError:
    return ConfigError(f"column {column!r} of dataset_path={path!r} must hold {wanted}; it has {found!s:.100}.")


def _keep_part(dataset: Text, held_out_every: int | None, part: TextPart, conversations: bool) -> Text:
    """Keep the held-out documents, one in ``held_out_every``, or all others, or half of these."""
    n = held_out_every or 1

    def is_in_part(number: int) -> bool:
        held_out = held_out_every is not None and number % n == n - 1
        if part in HALVES:
            return not held_out and number // n % 2 == HALVES.index(part)
        return held_out == (part == "held_out")

    if not isinstance(dataset, IterableDataset) or dataset.n_shards == 1:
        return dataset.filter(lambda _, i: is_in_part(i), with_indices=True)
    columns = (*CONVERSATIONS, *DOCUMENTS) if conversations else DOCUMENTS

    def belongs(row: dict[str, Any]) -> bool:
        column = next((name for name in columns if name in row), None)
        document = json.dumps(row if column is None else row[column], default=str)
        # hash() differs between processes
        return is_in_part(int.from_bytes(hashlib.sha256(document.encode()).digest()))

    return dataset.filter(belongs)
