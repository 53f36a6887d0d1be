"""The text of a run: Hub datasets and local files, split by document into training and held-out parts."""

import re
from pathlib import Path
from typing import Any, Literal, cast

import httpx
from datasets import Dataset, IterableDataset, load_dataset
from datasets.distributed import split_dataset_by_node
from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError

from sae_lens_abstopk.config.training_config import TrainingConfig
from sae_lens_abstopk.errors import ConfigError
from sae_lens_abstopk.model.held_out import keep_part
from sae_lens_abstopk.ranks import n_ranks, this_rank

FORMATS = {".jsonl": "json", ".json": "json", ".parquet": "parquet", ".txt": "text"}
COMPRESSED = (".gz", ".zst")
SHUFFLE_WINDOW = 10_000
Text = Dataset | IterableDataset
TextPart = Literal["train", "held_out", "all"]


def load_text(cfg: TrainingConfig, part: TextPart) -> Text:
    """
    The documents of ``cfg.dataset_path`` that belong to ``part``, with the text in the column ``text``; a null is empty text.

    Document i is held out if ``i % held_out_every == held_out_every - 1``, counted before shuffling; of streamed text in
    several shards, a hash of the document decides (:func:`.held_out.keep_part`). Either way the parts never share a
    document and do not depend on the seed. Of the training part each of several ranks gets its own share.

    Raises:
        ConfigError: the dataset is missing, empty or cannot be read, or lacks the column.
    """
    dataset = open_dataset(
        cfg.dataset_path,
        name=cfg.dataset_name,
        split=cfg.split,
        streaming=cfg.streaming,
        trust_remote_code=cfg.dataset_trust_remote_code,
    )
    dataset = _as_text_column(dataset, cfg)
    if part != "all" and cfg.held_out_every is not None:
        dataset = keep_part(
            dataset, cfg.held_out_every, held_out=part == "held_out", conversations=cfg.use_chat_formatting
        )
    elif part == "held_out":
        raise ConfigError("held_out_every is null, so there is no held-out text; set it to a number such as 20.")
    if _first(dataset, cfg.dataset_path) is None:
        raise ConfigError(
            f"dataset_path={cfg.dataset_path!r} has no documents for the part {part!r}"
            + (f" with held_out_every={cfg.held_out_every}; lower it." if part == "held_out" else ".")
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
    trust_remote_code: bool = False,
) -> Text:
    """A Hub dataset by id, or a local file or folder of .jsonl, .json, .parquet (.gz and .zst too) or .txt, one document a file."""
    if not path:
        raise ConfigError("dataset_path is empty; give a Hub dataset id or a local file or folder of text.")
    local = Path(path)
    try:
        if local.exists():
            builder, files = _local_files(local)
            options: dict[str, Any] = {"sample_by": "document"} if builder == "text" else {}
            if not re.match(r"train\b", split):
                raise ConfigError(
                    f"split={split!r}: local files have only the split train; leave split out and give only the files to read."
                )
            return load_dataset(builder, data_files=files, split=split, streaming=streaming, **options)
        if local.suffix in (*FORMATS, *COMPRESSED) or path.startswith((".", "/", "~")):
            raise ConfigError(f"dataset_path={path!r}: no such file or folder.")
        extra: dict[str, Any] = {"trust_remote_code": True} if trust_remote_code else {}
        return load_dataset(path, name, split=split, streaming=streaming, **extra)
    except (DatasetNotFoundError, FileNotFoundError, ConnectionError, OSError) as error:
        raise ConfigError(
            f"dataset_path={path!r} could not be opened ({type(error).__name__}); check the name and the connection, "
            "or give a local file or folder."
        ) from error
    except StopIteration:  # what the reader of JSON raises for an empty file
        raise ConfigError(f"dataset_path={path!r} is empty.") from None
    except ValueError as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"dataset_path={path!r}: {error}") from error


def text_files(path: str) -> list[list[str | int]]:
    """Name and size of each local file behind a dataset path; none for a Hub dataset."""
    text = Path(path)
    files = [text] if text.is_file() else sorted(file for file in text.rglob("*") if file.is_file())
    return [[file.name, file.stat().st_size] for file in files]


def _of_this_rank(dataset: Text, cfg: TrainingConfig) -> Text:
    share: Text = split_dataset_by_node(cast(Dataset, dataset), this_rank(), n_ranks())
    if _first(share, cfg.dataset_path) is None:
        raise ConfigError(
            f"dataset_path={cfg.dataset_path!r} has too few documents for {n_ranks()} ranks; give more text, or start fewer."
        )
    return share


def _local_files(path: Path) -> tuple[str, list[str]]:
    candidates = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    by_builder: dict[str, list[str]] = {}
    for file in candidates:
        suffix = Path(file.stem).suffix if file.suffix in COMPRESSED else file.suffix
        if suffix in FORMATS:
            by_builder.setdefault(FORMATS[suffix], []).append(str(file))
    if not by_builder:
        raise ConfigError(
            f"dataset_path={str(path)!r} holds no text; known endings: {', '.join(FORMATS)} (also {' and '.join(COMPRESSED)})."
        )
    if len(by_builder) > 1:
        raise ConfigError(
            f"dataset_path={str(path)!r} mixes formats ({', '.join(sorted(by_builder))}); give a folder with one of them."
        )
    return next(iter(by_builder.items()))


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
    try:
        return cast(dict[str, Any] | None, next(iter(dataset), None))
    except UnicodeDecodeError as error:
        raise ConfigError(f"dataset_path={path!r} is not UTF-8 text: {error}.") from error
    except (ValueError, OSError, RuntimeError, DatasetGenerationError, httpx.HTTPError) as error:
        cause = error.__cause__ or error
        # an empty JSON file stops its reader
        why = "it is empty" if isinstance(cause, StopIteration) else str(cause) or type(cause).__name__
        raise ConfigError(f"dataset_path={path!r} cannot be read: {why.splitlines()[0].rstrip('.')}.") from error


def _as_text_column(dataset: Text, cfg: TrainingConfig) -> Text:
    first = first_document(dataset, cfg.dataset_path)
    if cfg.is_dataset_tokenized or cfg.use_chat_formatting:
        return dataset
    if cfg.column_name not in first:
        raise ConfigError(
            f"column_name={cfg.column_name!r} is not a column of {cfg.dataset_path!r}; it has {', '.join(first)}."
        )
    if not isinstance(first[cfg.column_name], str | None):
        raise ConfigError(
            f"column_name={cfg.column_name!r} of {cfg.dataset_path!r} holds {type(first[cfg.column_name]).__name__}, not text."
        )
    column = cfg.column_name
    others = [name for name in first if name != column]
    return dataset.map(
        lambda row: {"text": "" if row[column] is None else row[column]},
        remove_columns=[*others, *([column] if column != "text" else [])],
    )
