"""The text of a run: Hub datasets and local files, split by document into training and held-out parts."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from typing import Any, Literal, cast

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
from sae_lens_abstopk.training.config.training_config import TrainingConfig

# what SAELens's PretokenizeRunner writes beside the token ids
TOKENIZATION_NOTE = "sae_lens.json"
DAMAGED = (ValueError, RuntimeError, EOFError, StopIteration, DatasetsError)
"""What reading text raises that is not as its format has it."""
UNREADABLE = (*DAMAGED, OSError, *TRANSPORT_ERRORS)
SHUFFLE_WINDOW = 10_000
Text = Dataset | IterableDataset
TextPart = Literal["train", "held_out", "all"]


def load_text(cfg: TrainingConfig, part: TextPart) -> Text:
    """
    The documents of ``cfg.dataset_path`` that belong to ``part``, with the text in the column ``text``; a null is empty text.
    Conversations and token ids are in a column that SAELens finds them by.

    Document i is held out if ``i % held_out_every == held_out_every - 1``, counted before shuffling; of streamed text in
    several shards, a hash of the document decides (:func:`.held_out.keep_part`). Either way the parts never share a
    document and do not depend on the seed; of token ids a row counts as one, though documents may run on in the next. Of the
    training part each of several ranks gets its own share.

    Raises:
        ConfigError: the dataset is missing, empty or cannot be read, lacks the column, or has something else in it.
    """
    dataset = open_dataset(cfg.dataset_path, name=cfg.dataset_name, split=cfg.split, streaming=cfg.streaming)
    first = first_document(dataset, cfg.dataset_path)
    tokens_or_turns = cfg.is_dataset_tokenized or cfg.use_chat_formatting
    dataset = _as_saelens_reads(dataset, first, cfg) if tokens_or_turns else _as_text_column(dataset, first, cfg)
    if part != "all" and cfg.held_out_every is not None:
        dataset = keep_part(
            dataset, cfg.held_out_every, held_out=part == "held_out", conversations=cfg.use_chat_formatting
        )
    elif part == "held_out":
        raise ConfigError("held_out_every is null, so there is no held-out text; set it to a number such as 20.")
    if _first(dataset, cfg.dataset_path) is None:
        if part != "held_out":
            raise ConfigError(
                f"dataset_path={cfg.dataset_path!r} has no documents for the part {part!r}; give more text."
            )
        raise ConfigError(
            f"dataset_path={cfg.dataset_path!r} has too few documents to hold out one in held_out_every={cfg.held_out_every}. "
            "Give more (a .txt is one document, as is a line of .jsonl), lower held_out_every, or set it to null."
        )
    if cfg.shuffle and part == "train":
        if isinstance(dataset, IterableDataset):
            dataset = dataset.shuffle(seed=cfg.seed, buffer_size=SHUFFLE_WINDOW)
        else:
            dataset = dataset.shuffle(seed=cfg.seed)
    return _of_this_rank(dataset, cfg) if part == "train" and n_ranks() > 1 else dataset


def open_dataset(
    path: str,
    *,
    name: str | None = None,
    split: str = "train",
    streaming: bool = True,
) -> Text:
    """
    A Hub dataset by id, or a local file or folder of .jsonl, .json, .parquet (.gz and .zst too) or .txt, one document a file,
    or a folder that ``save_to_disk`` of datasets has written.

    Raises:
        ConfigError: it is missing, cannot be read, or has no such split.
    """
    if not path:
        raise ConfigError("dataset_path is empty; give a Hub dataset id or a local file or folder of text.")
    local = Path(path)
    if name is not None and local.exists():
        raise ConfigError(
            f"dataset_name={name!r}: the local {path!r} has no configurations; leave it out, and give the folder of the files to read."
        )
    with text_errors(path, UNREADABLE):
        if was_saved(local):
            return _saved(local, split, streaming)
        if local.exists():
            builder, files = local_files(local)
            options: dict[str, Any] = {"sample_by": "document"} if builder == "text" else {}
            if not re.match(r"train\b", split):
                raise ConfigError(
                    f"split={split!r}: local files have only the split train; leave split out and give only the files to read."
                )
            return load_dataset(
                builder, data_files=[escape(file) for file in files], split=split, streaming=streaming, **options
            )
        if local.suffix in (*FORMATS, *COMPRESSED) or path.startswith((".", "/", "~")):
            raise ConfigError(f"dataset_path={path!r}: no such file or folder.")
        return load_dataset(path, name, split=split, streaming=streaming)


def require_same_tokenizer(tokenizer: Any, cfg: TrainingConfig) -> None:
    """
    Refuse token ids of another tokenizer than the model's; without ``sae_lens.json``, which names it, any are taken.

    Raises:
        ConfigError: the vocabularies differ. SAELens checks this itself only of text that it opens.
    """
    if tokenizer is None or not cfg.is_dataset_tokenized:
        return
    path = cfg.dataset_path
    try:
        note = Path(path) / TOKENIZATION_NOTE
        if not Path(path).exists():
            note = Path(hf_hub_download(path, TOKENIZATION_NOTE, repo_type="dataset"))
        name = json.loads(note.read_text(encoding="utf-8"))["tokenizer_name"]
        vocabulary = AutoTokenizer.from_pretrained(name, trust_remote_code=False).get_vocab()
    except (OSError, ValueError, KeyError, TypeError, *TRANSPORT_ERRORS):
        return  # none, or one that cannot be compared here
    if vocabulary != tokenizer.get_vocab():
        raise ConfigError(
            f"dataset_path={path!r} was tokenised by the tokenizer of {name!r} ({TOKENIZATION_NOTE}), whose vocabulary is not that "
            f"of {cfg.model_name!r}; give text, or tokenise it with the model's own."
        )


@contextmanager
def text_errors(path: str, kinds: tuple[type[Exception], ...] = DAMAGED) -> Iterator[None]:
    """
    Errors of ``kinds`` in here as one that names the text; those of a disk or a network have sentences of their own.

    Raises:
        ConfigError: naming ``path``.
    """
    try:
        yield
    except ConfigError:
        raise
    except kinds as error:
        raise _refusal(path, error) from error


def _of_this_rank(dataset: Text, cfg: TrainingConfig) -> Text:
    share: Text = split_dataset_by_node(cast(Dataset, dataset), this_rank(), n_ranks())
    if _first(share, cfg.dataset_path) is None:
        raise ConfigError(
            f"dataset_path={cfg.dataset_path!r} has too few documents for {n_ranks()} ranks; give more text, or start fewer."
        )
    return share


def _saved(path: Path, split: str, streaming: bool) -> Text:
    saved = load_from_disk(path)
    parts = saved if isinstance(saved, DatasetDict) else {"train": saved}
    if split not in parts:
        raise ConfigError(f"split={split!r} is not in {str(path)!r}, which has {', '.join(map(str, parts))}; name one.")
    dataset = parts[split].with_format(None)  # SAELens's PretokenizeRunner leaves one of tensors
    return dataset.to_iterable_dataset() if streaming else dataset


def first_document(dataset: Text, path: str) -> dict[str, Any]:
    """
    The first document of a data set, by column.

    Raises:
        ConfigError: naming ``path``, where there is none or it cannot be read.
    """
    first = _first(dataset, path)
    if first is None:
        raise ConfigError(f"dataset_path={path!r} is empty.")
    return first


def _first(dataset: Text, path: str) -> dict[str, Any] | None:
    """The first document, None where there is none; the first read, where a broken file or a lost network shows."""
    with text_errors(path, UNREADABLE):
        return cast(dict[str, Any] | None, next(iter(dataset), None))


def _refusal(path: str, error: Exception) -> ConfigError:
    """What to say of a data set that could not be opened, or its first document not read."""
    cause = error.__cause__ or error
    lines = str(cause).splitlines() or [type(cause).__name__]
    if caused_by(error, GatedRepoError):
        why = "is gated on the Hugging Face Hub; accept its terms there, then set HF_TOKEN (or run `hf auth login`)"
    elif str(error).startswith("Dataset scripts are no longer supported"):
        why = "comes as a script, which datasets does not run; name a copy of it in Parquet, or give local files"
    elif isinstance(cause, StopIteration):  # an empty JSON file stops its reader
        why = "is empty"
    elif isinstance(cause, CastError):  # its first line says no more than that
        why = f"has files, or rows, with other columns than its first ({' '.join(' '.join(lines[1:]).split())[:300]}); give all the same"
    elif isinstance(cause, UnicodeDecodeError):
        why = (
            f"is not UTF-8 text{_where_not_utf8(path)}: {cause}; replace such bytes one for one, so that the size stays and "
            "a run that has begun can be resumed"
        )
    elif isinstance(error, (OSError, *TRANSPORT_ERRORS)):
        why = str(error).split("\n")[0].rstrip(".") or type(error).__name__
        why = f"cannot be read: {why}; check the name and the connection, or give a local file or folder"
    else:
        # a list of names may follow: the configurations of a data set
        why = f"cannot be read: {(' '.join(lines) if type(error) is ValueError else lines[0]).rstrip('.')}"
    return ConfigError(f"dataset_path={path!r} {why}.")


def _where_not_utf8(path: str) -> str:
    """Names the first file of a local text that is not UTF-8."""
    for file in files_of(Path(path)):
        if format_of(file) == "text" and file.suffix not in COMPRESSED:
            try:
                with file.open(encoding="utf-8") as lines:
                    for _ in lines:
                        pass
            except UnicodeDecodeError:
                return f" in {file}"
    return ""


def _as_saelens_reads(dataset: Text, first: dict[str, Any], cfg: TrainingConfig) -> Text:
    if cfg.use_chat_formatting:
        key, known, renamed = "use_chat_formatting", (*CONVERSATIONS, "text"), "messages"
    else:
        key, known, renamed = "is_dataset_tokenized", TOKENS, "tokens"
    named = cfg.column_name != TrainingConfig.column_name
    column = cfg.column_name if named else next((name for name in known if name in first), None)
    if column not in first:
        raise ConfigError(
            f"column_name={cfg.column_name!r} of {cfg.dataset_path!r}, which has {', '.join(first)}: {key} reads a column "
            f"{', '.join(known)}, or one that column_name names."
        )
    where, row = f"column {column!r} of dataset_path={cfg.dataset_path!r}", first[column]
    if cfg.use_chat_formatting:
        turns = row if isinstance(row, list) and row else [row]
        if not isinstance(row, str) and not all(isinstance(t, dict) and {"role", "content"} <= t.keys() for t in turns):
            raise ConfigError(
                f"{where} must hold turns with a role and content, or text, for {key}; it has {str(row)[:100]}."
            )
    elif not (isinstance(row, list) and all(isinstance(token, int) for token in row)):
        raise ConfigError(f"{where} must hold lists of token ids for {key}; it has {str(row)[:100]}.")
    elif len(row) < cfg.context_size:
        raise ConfigError(
            f"{where} has rows of {len(row)} tokens, fewer than context_size={cfg.context_size}; lower context_size, or pack the "
            "documents into rows of that length."
        )
    if not named:
        return dataset
    dataset = dataset.select_columns([column])
    return dataset if column in known else dataset.rename_column(column, renamed)


def _as_text_column(dataset: Text, first: dict[str, Any], cfg: TrainingConfig) -> Text:
    if cfg.column_name not in first:
        remedy = "; to read token ids, set is_dataset_tokenized=true" if first.keys() & set(TOKENS) else ""
        raise ConfigError(
            f"column_name={cfg.column_name!r} is not a column of {cfg.dataset_path!r}; it has {', '.join(first)}{remedy}."
        )
    column, where = cfg.column_name, f"column_name={cfg.column_name!r} of {cfg.dataset_path!r}"

    def text_of(row: dict[str, Any]) -> dict[str, str]:
        text = row[column]
        if not isinstance(text, str | None):
            raise ConfigError(f"{where} holds {type(text).__name__}, not text: {str(text)[:100]}.")
        return {"text": text or ""}

    others = [name for name in first if name != column]
    return dataset.map(text_of, remove_columns=[*others, *([column] if column != "text" else [])])
