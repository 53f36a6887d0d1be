"""Vectors of the texts of pairs, each distinct text read once, and their differences A - B."""

import hashlib
import importlib.util
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from jaxtyping import Bool, Int
from rich.console import Console

from sae_lens_abstopk.model.answer_tokens import Answer, context_text
from sae_lens_abstopk.model.answer_vectors import AnswerReader, Reading
from sae_lens_abstopk.model.check_hook import chosen_hook, most_positions
from sae_lens_abstopk.model.hook_places import LAYER_MODULE
from sae_lens_abstopk.model.inference import casts_shared
from sae_lens_abstopk.model.language_model import load_language_model, load_tokenizer
from sae_lens_abstopk.model.model_passes import ModelPasses
from sae_lens_abstopk.model.model_shape import model_shape
from sae_lens_abstopk.model.model_spec import ModelSpec, require_device, resolve_device
from sae_lens_abstopk.model.reading_precision import precision_of_passes
from sae_lens_abstopk.pairs.pair_set import PairSet
from sae_lens_abstopk.system.errors import ConfigError, require_choice, require_range
from sae_lens_abstopk.system.precision import BFLOAT16, FLOAT32, remembered_precision
from sae_lens_abstopk.text.text_spec import TextSpec
from sae_lens_abstopk.vectors.differences import Differences
from sae_lens_abstopk.vectors.embedding import embedded_texts, embedding_precision, folder_files
from sae_lens_abstopk.vectors.row_cache import Reader, cached_rows
from sae_lens_abstopk.vectors.texts import Texts
from sae_lens_abstopk.vectors.vectors import Vectors

# tokens with a norm above this multiple of the median are left out of means
MAX_NORM_MULTIPLE = 10
READINGS = ("mean", "last")
# texts of which a first look is suggested
FIRST_LOOK = "; --limit 500 for a first look"


@dataclass(frozen=True)
class TextVectors:
    """A way to turn texts into vectors: a hook of a language model, or a sentence-transformers model."""

    model: str
    """Hub id or folder."""
    hook_name: str | None = None
    """None for a sentence-transformers model."""
    reading: Reading = "mean"
    """Mean over an answer's tokens, or its last token."""
    max_tokens: int = 1024
    """Most tokens of an answer with its prompt."""
    device: str = "auto"
    float32: bool = False
    """Read in float32, also where bfloat16 is faster."""

    @classmethod
    def of(
        cls,
        model: str,
        *,
        layer: int | None = None,
        hook_name: str | None = None,
        reading: Reading = "mean",
        max_tokens: int = 1024,
        float32: bool = False,
        device: str = "auto",
    ) -> "TextVectors":
        """
        Find out which kind of model ``model`` is; of a language model, read ``hook_name``, a layer, or its middle one.

        Raises:
            ConfigError: the model, the layer or another setting does not exist.
        """
        require_choice("reading", reading, READINGS)
        require_range("max_tokens", max_tokens, at_least=8)
        device = resolve_device("device", device)
        require_device("device", device)
        if embeds_sentences(model):
            if layer is not None or hook_name is not None or reading != "mean":
                raise ConfigError(
                    f"model={model!r} is a sentence-transformers model, which has one embedding a text; leave out the "
                    "layer, hook and reading, or give a language model."
                )
            return cls(model, None, device=device, float32=float32)
        return cls(model, chosen_hook(model, layer=layer, hook_name=hook_name), reading, max_tokens, device, float32)

    def width(self) -> int | None:
        """Return the width of the vectors, if it is known before weights are read: that of a layer's output."""
        if self.hook_name is None or not LAYER_MODULE.search(self.hook_name):
            return None
        return model_shape(self.model, "AutoModelForCausalLM").width

    def read(self, answers: list[Answer], *, console: Console | None = None) -> Vectors:
        """Return the vector of each answer, from the package's cache if it is there."""
        console = console or Console(quiet=True)
        if self.hook_name is None:
            table = Dataset.from_dict({"text": [answer.text for answer in answers]})
            texts = Texts(f"{len(answers):,} texts", table, "text")
            precision = FLOAT32 if self.float32 else None
            return embedded_texts(texts, self.model, precision=precision, device=self.device, console=console)
        for turns in {answer.before for answer in answers}:
            context_text(self._tokenizer, turns)  # raises before the weights are read
        opened: list[ModelPasses] = []

        def passes() -> ModelPasses:
            if not opened:
                opened.append(self._passes())
            return opened[0]

        precision = self.precision(passes)
        facts = [self.model, self._files, self.hook_name, self.reading, self.max_tokens, precision, _digest(answers)]
        n_cut = 0

        def open_reader() -> Reader:
            nonlocal n_cut
            reader = self._reader(passes().in_bfloat16(precision == BFLOAT16), answers)
            planned, n_cut = reader.plan(answers), reader.n_cut
            rows = [[answer.row for answer in batch.answers] for batch in planned.batches]
            width = reader(answers[:1]).shape[1]
            return Reader(width, rows, planned.sizes, lambda number: reader.read(planned, number))

        name = f"{Path(self.model).name}-{self.hook_name}"
        progress: Any = {"console": console, "doing": "reading texts", "unit": "tokens", "hint": FIRST_LOOK}
        with casts_shared():
            found = cached_rows(name, facts, len(answers), open_reader, dtype="float32", **progress)
        if n_cut:
            console.print(f"{n_cut:,} texts were cut at {self.max_tokens} tokens (--max-tokens)")
        return found

    def precision(self, passes: Callable[[], ModelPasses] | None = None) -> str:
        """Return the precision in which texts are read; ``passes`` opens the model, to try it for the first time."""
        if self.float32:
            return FLOAT32
        if self.hook_name is None:
            return embedding_precision(self.model, device=self.device)
        opened, device = passes or self._passes, resolve_device("device", self.device)
        return remembered_precision(self.model, self._files, device, lambda: precision_of_passes(opened()))

    @cached_property
    def _files(self) -> list[tuple[str, str]]:
        return folder_files(Path(self.model))

    @cached_property
    def _tokenizer(self) -> Any:
        return load_tokenizer(self.model, None)

    def _passes(self) -> ModelPasses:
        assert self.hook_name is not None
        spec = ModelSpec(model_name=self.model, hook_name=self.hook_name, device=self.device, autocast_lm=True)
        model = load_language_model(spec, TextSpec(dataset_path="pairs"))
        return ModelPasses(model.float() if self.float32 else model, self.hook_name)

    def _reader(self, passes: ModelPasses, answers: list[Answer]) -> AnswerReader:
        longest = min(self.max_tokens, most_positions(passes.model) or self.max_tokens)
        reader = AnswerReader(passes, self._tokenizer, self.reading, longest)
        if self.reading == "mean":
            reader.limit_norms(answers, MAX_NORM_MULTIPLE)
        return reader

    def facts(self) -> dict[str, Any]:
        """Return what the vectors are, for records."""
        read = {} if self.hook_name is None else {"hook_name": self.hook_name, "reading": self.reading}
        return {"model": self.model, **read, "precision": self.precision()}


def embeds_sentences(model: str) -> bool:
    """Return whether a Hub id or folder is a sentence-transformers model."""
    if Path(model).exists():
        return (Path(model) / "modules.json").is_file()
    if importlib.util.find_spec("sentence_transformers") is None:
        return False
    from sentence_transformers.util import is_sentence_transformer_model

    return is_sentence_transformer_model(model)


def differences_of_texts(
    pairs: PairSet, vectors: TextVectors, held_out: Bool[np.ndarray, " n"], *, unit: bool = False, console: Console
) -> Differences:
    """Read each distinct text of ``pairs`` once, and return the differences A - B."""
    prompts = [()] * len(pairs) if vectors.hook_name is None else pairs.prompts
    numbers: dict[Answer, int] = {}

    def numbered(texts: Sequence[str]) -> Int[np.ndarray, " n"]:
        answers = map(Answer, prompts, texts)
        return np.array([numbers.setdefault(answer, len(numbers)) for answer in answers], dtype=np.int64)

    a, b = numbered(pairs.a), numbered(pairs.b)
    found = vectors.read(list(numbers), console=console)
    return _differences(pairs.name, found, a, b, held_out, unit=unit)


def differences_of_arrays(
    arrays: tuple[Vectors, Vectors],
    rows: Int[np.ndarray, " n"],
    swapped: Bool[np.ndarray, " n"],
    held_out: Bool[np.ndarray, " n"],
) -> Differences:
    """
    Return the differences of two arrays, the vectors of the first and of the second texts of all rows.

    ``rows`` are the numbers of the rows that are pairs; of ``swapped`` ones, the second text is A.

    Raises:
        ConfigError: the arrays differ in shape, or lack rows.
    """
    first, second = arrays
    if (len(first), first.d_in) != (len(second), second.d_in):
        raise ConfigError(
            f"the vectors of A are [{len(first)}, {first.d_in}] and those of B [{len(second)}, {second.d_in}]; they "
            "must have one shape."
        )
    if len(rows) and rows.max() >= len(first):
        raise ConfigError(
            f"{first.name} has {len(first):,} rows, and the pairs have {rows.max() + 1:,}; give one for each."
        )
    both = Vectors(f"{first.name} and {second.name}", first.chunks + second.chunks, mapped=first.mapped + second.mapped)
    a, b = rows + len(first) * swapped, rows + len(first) * ~swapped
    return _differences(f"{first.name} - {second.name}", both, a, b, held_out)


def _differences(
    name: str,
    vectors: Vectors,
    a: Int[np.ndarray, " n"],
    b: Int[np.ndarray, " n"],
    held_out: Bool[np.ndarray, " n"],
    *,
    unit: bool = False,
) -> Differences:
    return Differences(
        f"differences of {name}",
        vectors.chunks,
        mapped=vectors.mapped,
        a=torch.from_numpy(a),
        b=torch.from_numpy(b),
        held_out=torch.from_numpy(held_out),
        unit=unit,
    )


def _digest(answers: list[Answer]) -> str:
    digest = hashlib.sha256()
    for answer in answers:
        digest.update(json.dumps(answer).encode() + b"\n")
    return digest.hexdigest()
