"""The documents of a text: opened, split into training and held-out parts, shuffled, shared between ranks."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from typing import Any, cast

from datasets import Dataset, DatasetDict, IterableDataset, load_dataset, load_from_disk
from datasets.distributed import split_dataset_by_node
from datasets.exceptions import DatasetsError
from datasets.table import CastError
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import GatedRepoError
from transformers import AutoTokenizer

from sae_lens_abstopk.system.errors import TRANSPORT_ERRORS, ConfigError, caused_by
from sae_lens_abstopk.system.ranks import n_ranks, this_rank
from sae_lens_abstopk.text.held_out import CONVERSATIONS, TOKENS, keep_part
from sae_lens_abstopk.text.text_files import COMPRESSED, FORMATS, files_of, format_of, local_files, was_saved
from sae_lens_abstopk.text.text_spec import TextPart, TextSpec

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
    Document i, counted before shuffling, is held out if ``i % held_out_every == held_out_every - 1``; for streamed text
    in several shards a hash decides (:func:`.held_out.keep_part`). The parts share no document and do not depend on the
    seed. Each rank gets its share of the training part.

    Raises:
        ConfigError: the data set is missing, empty or unreadable, or lacks the column.
    """
    path = spec.dataset_path
    dataset = open_dataset(path, name=spec.dataset_name, split=spec.split, streaming=spec.streaming)
    first = first_document(dataset, path)
    tokens_or_turns = spec.is_dataset_tokenized or spec.use_chat_formatting
    dataset = (_as_saelens_reads if tokens_or_turns else _as_text_column)(dataset, first, spec)
    if part != "all" and spec.held_out_every is not None:
        held_out = part == "held_out"
        dataset = keep_part(dataset, spec.held_out_every, held_out=held_out, conversations=spec.use_chat_formatting)
    elif part == "held_out":
        raise ConfigError("held_out_every is null, so there is no held-out text; set it to a number such as 20.")
    if _first(dataset, path) is None:
        lower = f", lower held_out_every={spec.held_out_every}" if part == "held_out" else ""
        null = " or set held_out_every to null" if spec.held_out_every is not None else ""
        raise ConfigError(
            f"dataset_path={path!r} has too few documents for its part {part!r}: give more{lower}{null}. "
            "A .txt file is one document, as is a line of .jsonl."
        )
    if spec.shuffle and part == "train":
        if isinstance(dataset, IterableDataset):
            dataset = dataset.shuffle(seed=spec.seed, buffer_size=SHUFFLE_WINDOW)
        else:
            dataset = dataset.shuffle(seed=spec.seed)
    return _share_of_rank(dataset, path) if part == "train" and n_ranks() > 1 else dataset


def open_dataset(path: str, *, name: str | None = None, split: str = "train", streaming: bool = True) -> Text:
    """
    Open a data set: a Hub id, a local file or folder, or a folder written by ``save_to_disk``.

    Local files are .jsonl, .json, .parquet (also .gz and .zst), or .txt with one document a file.

    Raises:
        ConfigError: it is missing or unreadable, or lacks the split.
    """
    local = Path(path)
    if name is not None and local.exists():
        raise ConfigError(f"dataset_name={name!r}: the local {path!r} has no configurations; leave it out.")
    with text_errors(path, UNREADABLE):
        if was_saved(local):
            return _saved(local, split, streaming)
        if local.exists():
            builder, files = local_files(local)
            if not re.match(r"train\b", split):
                raise ConfigError(f"split={split!r}: local files have only the split train; leave split out.")
            data_files = [escape(file) for file in files]
            options: dict[str, Any] = {"sample_by": "document"} if builder == "text" else {}
            return load_dataset(builder, data_files=data_files, split=split, streaming=streaming, **options)
        if local.suffix in (*FORMATS, *COMPRESSED) or path.startswith((".", "/", "~")):
            raise ConfigError(f"dataset_path={path!r}: no such file or folder.")
        return load_dataset(path, name, split=split, streaming=streaming)


def require_same_tokenizer(tokenizer: Any, spec: TextSpec) -> None:
    """
    Raise if token ids are of another tokenizer than the model's, according to ``sae_lens.json``.

    Raises:
        ConfigError: the vocabularies differ.
    """
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


@contextmanager
def text_errors(path: str, kinds: tuple[type[Exception], ...] = DAMAGED) -> Iterator[None]:
    """
    Turn errors of reading ``path`` into one that names it.

    Raises:
        ConfigError: for an error of ``kinds``.
    """
    try:
        yield
    except ConfigError:
        raise
    except kinds as error:
        raise ConfigError(f"dataset_path={path!r} {_reason(path, error)}.") from error


def first_document(dataset: Text, path: str) -> dict[str, Any]:
    """
    Return the first document, by column.

    Raises:
        ConfigError: the data set is empty or cannot be read.
    """
    first = _first(dataset, path)
    if first is None:
        raise ConfigError(f"dataset_path={path!r} is empty.")
    return first


def _first(dataset: Text, path: str) -> dict[str, Any] | None:
    with text_errors(path, UNREADABLE):  # a broken file or a lost network raises here
        return cast(dict[str, Any] | None, next(iter(dataset), None))


def _share_of_rank(dataset: Text, path: str) -> Text:
    share: Text = split_dataset_by_node(cast(Dataset, dataset), this_rank(), n_ranks())
    if _first(share, path) is None:
        raise ConfigError(f"dataset_path={path!r} has too few documents for {n_ranks()} ranks; give more text.")
    return share


def _saved(path: Path, split: str, streaming: bool) -> Text:
    saved = load_from_disk(path)
    parts = saved if isinstance(saved, DatasetDict) else {"train": saved}
    if split not in parts:
        raise ConfigError(f"split={split!r} is not in {str(path)!r}, which has {', '.join(map(str, parts))}.")
    dataset = parts[split].with_format(None)  # SAELens's PretokenizeRunner leaves one of tensors
    return dataset.to_iterable_dataset() if streaming else dataset


def _reason(path: str, error: Exception) -> str:
    """Explain why a data set or a document could not be read."""
    cause = error.__cause__ or error
    lines = str(cause).splitlines() or [type(cause).__name__]
    if caused_by(error, GatedRepoError):
        return "is gated on the Hugging Face Hub; accept its terms there, then set HF_TOKEN (or run `hf auth login`)"
    if str(error).startswith("Dataset scripts are no longer supported"):
        return "comes as a script, which datasets does not run; name a copy of it in Parquet, or give local files"
    if isinstance(cause, StopIteration):  # raised for an empty JSON file
        return "is empty"
    if isinstance(cause, CastError):  # its first line says no more than that
        detail = " ".join(" ".join(lines[1:]).split())[:300]
        return f"has files or rows with other columns than its first ({detail}); give all the same columns"
    if isinstance(cause, UnicodeDecodeError):
        return f"is not UTF-8 text{_where_not_utf8(path)}: {cause}; replace such bytes one for one"
    if isinstance(error, (OSError, *TRANSPORT_ERRORS)):
        why = str(error).split("\n")[0].rstrip(".") or type(error).__name__
        return f"cannot be read: {why}; check the name and the connection, or give a local file or folder"
    # the names of all configurations may follow
    return f"cannot be read: {(' '.join(lines) if type(error) is ValueError else lines[0]).rstrip('.')}"


def _where_not_utf8(path: str) -> str:
    for file in files_of(Path(path)):
        if format_of(file) == "text" and file.suffix not in COMPRESSED:
            try:
                with file.open(encoding="utf-8") as lines:
                    for _ in lines:
                        pass
            except UnicodeDecodeError:
                return f" in {file}"
    return ""


def _as_saelens_reads(dataset: Text, first: dict[str, Any], spec: TextSpec) -> Text:
    """Put conversations or token ids into the column that SAELens reads, and check the first document."""
    chat = spec.use_chat_formatting
    key, known, renamed = (
        ("use_chat_formatting", (*CONVERSATIONS, "text"), "messages")
        if chat
        else ("is_dataset_tokenized", TOKENS, "tokens")
    )
    named = spec.column_name != "text"
    column = spec.column_name if named else next((name for name in known if name in first), None)
    if column not in first:
        raise ConfigError(
            f"column_name={spec.column_name!r} of {spec.dataset_path!r}, which has {', '.join(first)}: {key} reads a "
            f"column {', '.join(known)}, or the one that column_name names."
        )
    row = first[column]
    turns = row if isinstance(row, list) and row else [row]
    if chat:
        wanted = "turns with a role and content, or text"
        right = isinstance(row, str) or all(isinstance(t, dict) and {"role", "content"} <= t.keys() for t in turns)
    else:
        wanted = f"lists of at least context_size={spec.context_size} token ids"
        right = isinstance(row, list) and all(isinstance(t, int) for t in row) and len(row) >= spec.context_size
    if not right:
        shown = f"a list of {len(row)}" if isinstance(row, list) and not chat else str(row)[:100]
        raise ConfigError(
            f"column {column!r} of dataset_path={spec.dataset_path!r} must hold {wanted}; it has {shown}."
        )
    if not named:
        return dataset
    dataset = dataset.select_columns([column])
    return dataset if column in known else dataset.rename_column(column, renamed)


def _as_text_column(dataset: Text, first: dict[str, Any], spec: TextSpec) -> Text:
    column, where = spec.column_name, f"column_name={spec.column_name!r} of {spec.dataset_path!r}"
    if column not in first:
        remedy = "; to read token ids, set is_dataset_tokenized=true" if first.keys() & set(TOKENS) else ""
        raise ConfigError(f"{where} does not exist; the columns are {', '.join(first)}{remedy}.")

    def text_of(row: dict[str, Any]) -> dict[str, str]:
        text = row[column]
        if not isinstance(text, str | None):
            raise ConfigError(f"{where} holds {type(text).__name__}, not text: {str(text)[:100]}.")
        return {"text": text or ""}

    return dataset.map(text_of, remove_columns=[name for name in first if name != "text" or column != "text"])
