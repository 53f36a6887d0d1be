"""The keys of a task file and what each may hold."""

import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from sae_lens_abstopk.system.errors import ConfigError, did_you_mean

Split = Literal["train", "val", "test"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, raw: Any) -> Any:
        if isinstance(raw, Mapping):
            known = [info.alias or name for name, info in cls.model_fields.items()]
            for key in raw:
                if key not in known:
                    raise ConfigError(
                        f"unknown key {key!r}{did_you_mean(str(key), known) or ';'} keys here: {', '.join(known)}."
                    )
        return raw


class RowSource(_Section):
    """One file, or one split of a Hub data set."""

    file: str | None = Field(None, description="a .csv, .tsv, .jsonl, .json or .conllu file beside the task file")
    hub: str | None = Field(None, description="the id of a Hub data set, e.g. stanfordnlp/sst2")
    config: str | None = Field(None, description="the configuration of the Hub data set")
    split: str = Field("train", description="the split of the Hub data set")
    use: Split | None = Field(None, description="train, val or test, for all of it; left out: split by group")
    pole: str | None = Field(None, description="all of it belongs to this pole")


class _Columns(_Section):
    parts: list[RowSource] | None = Field(
        None, alias="from", description="a list of files or Hub data sets", min_length=1
    )
    text: str | dict[str, str] | None = Field(
        None, description="a column, a pattern of columns such as '{prompt} {answer}', or one of these for each pole"
    )
    label: str | None = Field(None, description="the column that says the pole")
    labels: dict[Any, str | None] | None = Field(
        None, description="from values of the label column to poles; null leaves rows out"
    )
    group: str | None = Field(None, description="a column or a pattern of columns; left out: every row by itself")
    marked: str | None = Field(None, description="the column with the word to read, which must stand in the text")
    split: str | None = Field(None, description="the column that says the split")
    splits: dict[Any, Split | None] | None = Field(
        None, description="from values of the split column to train, val, test; null leaves rows out"
    )
    extract: dict[str, str] | None = Field(
        None, description="from a column to a regular expression whose named groups become columns"
    )
    limit: int | None = Field(
        None, ge=1, description="the most texts of a pole and split, a whole number; groups stay whole"
    )

    @field_validator("extract")
    @classmethod
    def _compiles(cls, patterns: dict[str, str] | None) -> dict[str, str] | None:
        for column, pattern in (patterns or {}).items():
            try:
                named = re.compile(pattern).groupindex
            except re.error as error:
                raise ConfigError(
                    f"the pattern {pattern!r} of {column} is not a regular expression: {error}."
                ) from None
            if not named:
                raise ConfigError(f"the pattern {pattern!r} of {column} has no named group (?P<column>...).")
        return patterns


class Rows(_Columns):
    """Texts that come as rows with columns."""


class Local(_Columns):
    """What differs where local files replace the rows; the rest is taken from ``rows``."""

    path: str | None = Field(None, description="a file or folder to read instead of the Hub")


class Template(_Section):
    """A template with fillers of its own."""

    text: str = Field(description="a text with {slots} and {words of A|words of B}")
    fillers: dict[str, list[str] | list[list[str]]] = Field(
        default={}, description="as fillers, for this template alone"
    )
    group: str | None = Field(None, description="templates with the same group are never split apart")
    pole: str | None = Field(None, description="keep the texts of this pole alone")


class SteeringSection(_Section):
    """What steering along the concept is judged on."""

    prompts: list[str] = Field(min_length=4, description="at least 4 prompts that lean to neither pole")
    tokens: dict[str, list[str]] = Field(description="a list of continuations for each pole, with their leading space")
    scorer: dict[str, Any] | None = Field(
        None, description="{kind: words, POLE_A: [...], POLE_B: [...]} or {kind: prefixes, POLE_A: [...]}"
    )
    chat: bool = Field(False, description="true where the prompts are user turns of a chat")


class TaskFile(_Section):
    """All that a task file says."""

    name: str = Field(min_length=1, description="a short name")
    about: str = Field("", description="a sentence on the concept and its texts")
    poles: list[str] = Field(
        min_length=2, max_length=2, description="the two poles in words, A first; quote words such as 'true' and 'no'"
    )
    licence: str = Field(min_length=1, description="the licence of the texts")
    source: str = Field(min_length=1, description="where the texts come from")
    reads: list[Literal["last", "mean", "marked"]] = Field(
        default=["last", "mean"], min_length=1, description="a list of last, mean, marked"
    )
    templates: list[str | Template] | None = Field(
        None, min_length=1, description="texts, or {text, fillers, group, pole}"
    )
    fillers: dict[str, list[str] | list[list[str]]] = Field(
        default={}, description="from the name of a slot to a list of texts, or of rows of texts"
    )
    expansions: int | None = Field(None, ge=1, description="the most fillings of one template, a whole number")
    rows: Rows | None = Field(None, description="texts from files or the Hub")
    local: Local | None = Field(None, description="where the files are that replace the Hub, and how they differ")
    steering: SteeringSection | None = Field(None, description="prompts, tokens, scorer, chat")
