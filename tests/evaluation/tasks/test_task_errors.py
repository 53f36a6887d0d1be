import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sae_lens_abstopk import ConfigError
from sae_lens_abstopk.evaluation.tasks.task import load_task
from sae_lens_abstopk.evaluation.tasks.task_file import check_task
from sae_lens_abstopk.evaluation.tasks.task_schema import TaskFile
from sae_lens_abstopk.evaluation.tasks.task_sources import build_task
from tests.evaluation.task_files import CSV, minimal, rows_file, written

BAD_FILES: list[tuple[dict[str, Any], str]] = [
    (minimal(pole=["he", "she"]), r"unknown key 'pole'; did you mean 'poles'\?"),
    (minimal(poles=["he"]), r"poles=\['he'\].*at least 2 items.*the two poles in words"),
    (minimal(poles=[True, False]), r"poles\.0=True.*valid string.*quote words such as 'true'"),
    (minimal(poles=["he", "he"]), "must be two different words"),
    (minimal(licence=None), "licence is missing: the licence of the texts"),
    (minimal(reads=["first"]), r"reads\.0='first'.*'last', 'mean' or 'marked'"),
    (minimal(expansions=0), "expansions=0.*greater than or equal to 1"),
    (minimal(templates=[]), r"templates=\[\].*at least 1 item"),
    (minimal(templates=None, fillers=None), "give either templates .* or rows"),
    (minimal(fillers={"day": []}), r"fillers\.day is empty"),
    (minimal(fillers={"day": ["a", "a"]}), r"fillers\.day has an entry twice"),
    (minimal(fillers={"day": [["a", "b"], ["c"]]}), r"fillers\.day has rows of 1 and of 2 columns"),
    (minimal(fillers={"day": ["a {b}"]}), "brace or bracket"),
    (minimal(fillers={"day": ["Monday"], "dya": ["x"]}), "no template has a slot for the fillers dya"),
    (minimal(fillers={"dya": ["Monday"]}), r"slot \{day\}, for which there is no filler; fillers: dya"),
    (minimal(templates=["{he|she|it} came {day}."]), r"\{he\|she\|it\} must be \{words of A\|words of B\}"),
    (minimal(templates=["It rained on {day}."]), "gives the same text for both poles"),
    (minimal(templates=["{day} {he|she} came"]), "has 1 groups of texts; a split by group needs at least 5"),
    (minimal(templates=["{day} {he|she} {came."]), "brace or a bar without its partner"),
    (minimal(templates=["{day} {he|she} came."] * 2), "comes twice; take one out"),
    (minimal(templates=[{"text": "{day} {he|she}", "pole": "it"}]), "pole='it' is not one of the poles 'he' and 'she'"),
    (minimal(templates=[{"txt": "{day} {he|she}"}]), r"templates\.0: unknown key 'txt'; did you mean 'text'"),
    (
        minimal(reads=["marked"], templates=["{day} {he|she} came."]),
        r"reads has 'marked', but the template .* no \[word\]",
    ),
    (minimal(templates=["[{he|she}] [came] on {day}."]), "marks 2 words"),
    (minimal(local={"path": "x"}), "local replaces rows"),
    (minimal(steering={"prompts": ["a", "b"], "tokens": {}}), r"steering\.prompts.*at least 4 prompts"),
    (
        minimal(steering={"prompts": list("abcd"), "tokens": {"he": [" he"], "her": [" she"]}}),
        r"steering\.tokens has keys \['he', 'her'\]; they must be the poles",
    ),
    (
        minimal(
            steering={
                "prompts": list("abcd"),
                "tokens": {"he": [" he"], "she": [" she"]},
                "scorer": {"kind": "prefixes", "she": ["No"]},
            }
        ),
        r"steering\.scorer has keys .* the pole that the prefixes show, which comes first",
    ),
    (rows_file(**{"from": [{}]}), r"rows\.from\.0 needs either file .* or hub"),
    (rows_file(text=None), r"rows\.text is missing"),
    (rows_file(label=None), "does not say which row belongs to which pole"),
    (rows_file(labels={1: "good"}), r"rows\.labels leads to \['good'\]; it must lead to both poles"),
    (rows_file(split="part"), r"rows\.split names a column and rows\.splits its values"),
    (rows_file(extract={"body": "("}), r"rows\.extract: the pattern '\(' of body is not a regular expression"),
    (rows_file(extract={"body": "a"}), r"no named group"),
    (rows_file(limit=-1), r"rows\.limit=-1"),
    (
        rows_file(**{"from": [{"file": "rows.csv", "use": "dev"}]}),
        r"rows\.from\.0\.use='dev'.*'train', 'val' or 'test'",
    ),
    (
        rows_file(**{"from": [{"file": "rows.csv", "pole": "god"}]}),
        r"rows\.from\.0\.pole='god' is not one of the poles",
    ),
    (rows_file(**{"from": [{"file": "missing.csv"}]}), r"no such file: .*missing\.csv; .*local=PATH"),
    (rows_file(**{"from": [{"file": "task.yaml"}]}), "files of rows end in"),
    (rows_file(text="bdy"), r"rows\.csv, row 1: no column 'bdy'.*the columns are body, mood, author"),
    (rows_file(labels={"x": "good", "y": "bad"}), r"row 1: the value '0' is one that labels does not list \(x, y\)"),
    (
        rows_file(labels={True: "good", False: "bad"}),
        r"does not list \(True, False\).*YAML reads yes, no, true and false as truth values unless they are quoted",
    ),
    (rows_file(text="{review body"), "the pattern '{review body' is not understood; slots are"),
    (rows_file(marked="author") | {"reads": ["marked"]}, "the marked word 'a0' does not stand in"),
    (
        rows_file(split="mood", splits={0: "train", 1: "test"}, group="author"),
        "the group 'a0' is in both train and test",
    ),
]


@pytest.mark.parametrize(("content", "sentence"), BAD_FILES, ids=[s[:50] for _, s in BAD_FILES])
def test_a_bad_file_is_refused_with_file_key_and_remedy(tmp_path: Path, content: dict[str, Any], sentence: str) -> None:
    (tmp_path / "rows.csv").write_text(CSV)
    with pytest.raises(ConfigError, match=sentence) as caught:
        load_task(written(tmp_path, content))
    assert str(caught.value).startswith(str(tmp_path / "task.yaml"))


@pytest.mark.parametrize(
    ("name", "local", "sentence"),
    [
        ("gendr", None, "did you mean 'gender'"),
        ("nowhere.yaml", None, "no such file"),
        ("gender", ".", "has nothing to replace"),
        ("public/facts", "nowhere", "no such file or folder"),
    ],
)
def test_a_wrong_name_or_local_is_answered(name: str, local: str | None, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        load_task(name, local=local)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("rows.csv", "body,mood\nx,0,1\n", "row 1: not a row of named columns"),
        ("rows.csv", "", "has no rows"),
        ("rows.jsonl", '{"body": 1', "cannot be read as jsonl"),
        ("rows.json", "[1]", "row 1: not a row of named columns"),
        ("rows.csv", "body,mood\n ,0\n", "row 1: the text is empty"),
        (
            "rows.jsonl",
            '{"body": {"en": "x"}, "mood": 0}',
            r"the column 'body' holds dict, not text; .* as in {body\[en\]}",
        ),
        ("rows.jsonl", '{"body": ["x"], "mood": 0}', "the column 'body' holds list, not text"),
    ],
)
def test_a_broken_data_file_is_refused(tmp_path: Path, name: str, content: str, sentence: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(ConfigError, match=sentence):
        load_task(written(tmp_path, rows_file(**{"from": [{"file": name}]})))


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.floats()
    | st.dates()
    | st.sampled_from(["he", "she", "last", "marked", "{he|she} {day}", "[{day}", "rows.csv", "body", ""]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["he", "she", "day", "text", "from", "file", "kind", "pole", "tokens", "prompts"])
            | st.integers(0, 1)
            | st.none(),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)
KEYS = st.sampled_from([info.alias or name for name, info in TaskFile.model_fields.items()])


@settings(max_examples=300)
@given(st.dictionaries(KEYS, VALUES, max_size=3), st.booleans())
def test_an_arbitrary_mapping_raises_nothing_but_config_error(changes: dict[Any, Any], rows: bool) -> None:
    raw = {**(rows_file() if rows else minimal()), **changes}
    caught = None
    try:
        build_task(check_task(raw, where="x.yaml"), where="x.yaml", folder=Path("/nonexistent"))
    except ConfigError as error:
        caught = str(error)
    assert caught is None or re.match(r"x\.yaml: .{10}", caught)
