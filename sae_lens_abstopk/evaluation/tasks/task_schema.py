"""The keys of a task file and their types."""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from sae_lens_abstopk.system.errors import ConfigError, require_choice, require_distinct, require_one

Split = Literal["train", "val", "test"]


def _distinct(texts: list[str]) -> list[str]:
    require_distinct("the entry", texts)
    return texts


Written = Annotated[str, Field(pattern=r"\S")]
"""A text that is not blank."""
WrittenTexts = Annotated[list[Written], Field(min_length=1)]
Filler = Annotated[list[str] | list[list[str]], Field(min_length=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class RowSource(_Section):
    file: str | None = Field(None, description="a file beside the task file, such as data.csv")
    hub: str | None = Field(None, description="the id of a Hub data set, e.g. stanfordnlp/sst2")
    config: str | None = Field(None, description="the configuration of the Hub data set")
    split: str = Field("train", description="the split of the Hub data set")
    use: Split | None = Field(
        None, description="train, val or test, for all of it; left out: train if another part has one, else by group"
    )
    pole: str | None = Field(None, description="the pole of all of it")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        require_one({"file": self.file, "hub": self.hub})
        return self


class Rows(_Section):
    parts: list[RowSource] | None = Field(None, alias="from", min_length=1, description="a list of files or data sets")
    text: str | dict[str, str] | None = Field(
        None, description="a column, a pattern '{prompt} {answer}', or both poles'"
    )
    label: str | None = Field(None, description="the column that says the pole")
    labels: dict[Any, str | None] | None = Field(None, description="from values to poles; null leaves rows out")
    group: str | None = Field(None, description="a column or a pattern of columns; left out: every row by itself")
    marked: str | None = Field(None, description="the column with the word to read, which must stand in the text")
    split: str | None = Field(None, description="the column that says the split")
    splits: dict[Any, Split | None] | None = Field(None, description="from values to train, val, test; null: left out")
    extract: dict[str, re.Pattern[str]] | None = Field(None, description="a regular expression with named groups")
    limit: int | None = Field(None, ge=1, description="the most texts of a pole and split; groups stay whole")


class Local(Rows):
    """Keys of local files that replace the rows, where they differ."""

    path: str | None = Field(None, description="a file or folder to read instead of the Hub")


class Template(_Section):
    text: str = Field(description="a text with {slots} and {words of A|words of B}")
    fillers: dict[str, Filler] = Field(default={}, description="as fillers, for this template only")
    group: str | None = Field(None, description="templates with the same group are never split apart")
    pole: str | None = Field(None, description="keep only the texts of this pole")

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, raw: Any) -> Any:
        return {"text": raw} if isinstance(raw, str) else raw


class ScorerSection(_Section):
    """Words or prefixes of each pole, by its name."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, WrittenTexts] = Field(init=False)  # pyright: ignore[reportIncompatibleVariableOverride]

    kind: Literal["words", "prefixes"]

    @property
    def patterns(self) -> dict[str, list[str]]:
        return self.__pydantic_extra__


class SteeringSection(_Section):
    prompts: Annotated[list[Written], AfterValidator(_distinct)] = Field(min_length=4, description="at least 4 prompts")
    tokens: dict[str, WrittenTexts] = Field(description="a list of continuations for each pole, with leading space")
    scorer: ScorerSection | None = Field(None, description="{kind: words, POLE_A: [...], POLE_B: [...]}, or prefixes")
    chat: bool = Field(False, description="true if the prompts are user turns of a chat")


class TaskFile(_Section):
    """The content of a task file."""

    name: str = Field(min_length=1, description="a short name")
    about: str = Field("", description="a sentence on the concept and its texts")
    poles: Annotated[list[Written], AfterValidator(_distinct)] = Field(
        min_length=2, max_length=2, description="the two poles in words, A first; quote words such as 'true' and 'no'"
    )
    licence: str = Field(min_length=1, description="the licence of the texts")
    source: str = Field(min_length=1, description="where the texts come from")
    reads: list[Literal["last", "mean", "marked"]] = Field(
        default=["last", "mean"], min_length=1, description="a list of last, mean, marked"
    )
    templates: list[Template] | None = Field(None, min_length=1, description="texts, or {text, fillers, group, pole}")
    fillers: dict[str, Filler] = Field(default={}, description="from a slot to a list of texts, or of rows of texts")
    expansions: int | None = Field(None, ge=1, description="the most fillings of one template, a whole number")
    rows: Rows | None = Field(None, description="texts from files or the Hub")
    local: Local | None = Field(None, description="where the files are that replace the Hub, and how they differ")
    steering: SteeringSection | None = Field(None, description="prompts, tokens, scorer, chat")

    def local_rows(self) -> Rows:
        """``rows``, updated with the keys of ``local``."""
        assert self.rows is not None
        changed = self.local.model_fields_set - {"path"} if self.local else set()
        return self.rows.model_copy(update={key: getattr(self.local, key) for key in changed})

    @model_validator(mode="after")
    def _keys_fit(self) -> Self:
        require_one({"templates": self.templates, "rows": self.rows})
        require_one({"templates": self.templates, "local": self.local}, or_none=True)
        sections = {"templates": self.templates, "rows.from": self.rows and self.rows.parts}
        for key, entries in (sections | {"local.from": self.local and self.local.parts}).items():
            for at, entry in enumerate(entries or ()):
                if entry.pole is not None:
                    require_choice(f"{key}.{at}.pole", entry.pole, self.poles)
        if self.rows is not None:
            self._check_rows(self.rows, "rows")
            self._check_rows(self.local_rows(), "local")
        if self.steering is not None:
            self._check_steering(self.steering)
        return self

    def _check_rows(self, rows: Rows, key: str) -> None:
        parts = rows.parts or []
        whole = [part.pole for part in parts if part.pole is not None]
        if isinstance(rows.text, dict):
            fits = set(rows.text) == set(self.poles) and rows.label is None and not whole
        elif len(whole) == len(parts):
            fits = set(whole) == set(self.poles)
        else:
            fits = rows.label is not None and {pole for pole in (rows.labels or {}).values() if pole} == set(self.poles)
        if not (fits and parts and rows.text):
            raise ConfigError(
                f"{key} needs from and text, and must say which row belongs to which pole: by label and labels, which "
                f"lead to both poles {self.poles}, or a pole for every entry of from, or a text for each pole."
            )
        if (rows.split is None) != (rows.splits is None) or ("marked" in self.reads and rows.marked is None):
            needed = f"split needs splits, the values of that column; marked in reads needs {key}.marked"
            raise ConfigError(f"{key}: {needed}.")

    def _check_steering(self, part: SteeringSection) -> None:
        scored = part.scorer and set(part.scorer.patterns)
        expected = set(self.poles if part.scorer and part.scorer.kind == "words" else self.poles[:1])
        if set(part.tokens) != set(self.poles) or scored not in (None, expected):
            raise ConfigError(
                f"steering.tokens has keys {list(part.tokens)} and steering.scorer {sorted(scored or ())}; both must "
                f"be the poles {self.poles}, but a scorer of kind prefixes has only the first."
            )
