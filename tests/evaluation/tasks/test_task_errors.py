import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sae_lens_abstopk import ConfigError
from sae_lens_abstopk.evaluation.tasks.load_task import build_task, load_task
from sae_lens_abstopk.evaluation.tasks.task_schema import TaskFile
from sae_lens_abstopk.system.typed_values import parsed
from tests.evaluation.task_files import CSV, minimal, rows_file, written


def steering(**changes: Any) -> dict[str, Any]:
    return minimal(steering={"prompts": list("abcd"), "tokens": {"he": [" he"], "she": [" she"]}, **changes})


BAD_FILES: list[tuple[dict[str, Any], str]] = [
    (minimal(pole=["he", "she"]), r"unknown key 'pole'; did you mean 'poles'\?"),
    (minimal(poles=["he"]), r"poles=\['he'\].*at least 2 items.*the two poles in words"),
    (minimal(poles=["he", "he"]), "poles: the entry 'he' comes twice"),
    (minimal(licence=None), "licence is missing: the licence of the texts"),
    (minimal(reads=["first"]), r"reads\.0='first'.*'last', 'mean' or 'marked'"),
    (minimal(templates=None, fillers=None), "give templates or rows, not neither"),
    (minimal(local={"path": "x"}), "give templates or local, not both"),
    (minimal(fillers={"day": ["a", "a"]}), "comes twice; take one out"),
    (minimal(fillers={"day": ["a {b}"]}), r"not \{words of A\|words of B\}"),
    (minimal(fillers={"dya": ["Monday"]}), "slot='day' must be dya; did you mean 'dya'"),
    (minimal(fillers={"day": [["a", "b"]]}), r"\{day\} must name one of the 2 columns of day, such as \{day\.1\}"),
    (minimal(templates=["It rained on {day}."]), "the text .* comes twice"),
    (minimal(templates=["{day} {he|she} came"]), "has 1 groups of texts in train; a split by group needs at least 5"),
    (minimal(templates=[{"text": "{day} {he|she}", "pole": "it"}]), r"templates\.0\.pole='it' must be one of he, she"),
    (minimal(templates=[{"txt": "{day} {he|she}"}]), r"templates\.0: unknown key 'txt'; did you mean 'text'"),
    (minimal(reads=["marked"], templates=["{day} {he|she} came."]), r"the template .* no \[word\]"),
    (minimal(templates=["[{he|she}] [came] on {day}."]), "marks 2 words"),
    (steering(prompts=["a", "b", "c", " "]), r"steering\.prompts\.3=' '"),
    (steering(tokens={"he": [" he"], "her": [" she"]}), r"steering\.tokens has keys \['he', 'her'\]"),
    (steering(scorer={"kind": "prefixes", "she": ["No"]}), r"steering\.scorer \['she'\].*prefixes has only the first"),
    (rows_file(**{"from": [{}]}), r"rows\.from\.0: give file or hub, not neither"),
    (rows_file(label=None), "must say which row belongs to which pole"),
    (rows_file(text={"good": "body"}), "must say which row belongs to which pole"),
    (rows_file(labels={1: "good"}), r"rows .* which lead to both poles"),
    (rows_file(split="part"), "rows: split needs splits"),
    (rows_file(extract={"body": "("}), r"rows\.extract\.body='\('.*regular expression"),
    (rows_file(extract={"body": "(?P<a>x)"}), r"body='Review, number 0' does not match"),
    (
        rows_file(**{"from": [{"file": "missing.csv"}]}),
        r"missing\.csv cannot be read: .* no such file.*local=",
    ),
    (rows_file(**{"from": [{"file": "task.yaml"}]}), r"ending='.yaml' must be one of \.csv"),
    (rows_file(text="bdy"), r"rows\.csv, row 1: no column 'bdy'.*the columns are body, mood, author"),
    (rows_file(labels={"x": "good", "y": "bad"}), r"row 1: labels does not list the value '0' \(x, y\)"),
    (rows_file(labels={True: "good", False: "bad"}), r"does not list.*\(True, False\).*Quote yes, no"),
    (rows_file(text="{review body"), "the pattern '{review body' is not understood; slots are"),
    (rows_file(marked="author") | {"reads": ["marked"]}, "the marked word 'a0' does not occur in"),
    (rows_file(split="mood", splits={0: "train", 1: "test"}, group="author"), "group 'a0' is in both train and test"),
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
        ("nowhere.yaml", None, r"must be one of .*, or give a \.yaml file"),
        ("gender", ".", "has nothing to replace"),
        ("public/facts", "nowhere", "local='nowhere' must be the file facts_true_false.csv"),
        ("public/sst2", "nowhere", "local='nowhere' must be a folder with train_binary_sent.csv"),
    ],
)
def test_a_wrong_name_or_local_is_answered(name: str, local: str | None, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        load_task(name, local=local)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("rows.csv", "body,mood\nx,0,1\n", "more fields in a row than in the header"),
        ("rows.csv", "", r"rows\.csv cannot be read"),
        ("rows.csv", "body,mood\n", "pole A has 0 groups"),
        ("rows.jsonl", '{"body": 1', r"rows\.jsonl cannot be read"),
        ("rows.json", "[1]", "row 1: no column 'mood'"),
        ("rows.jsonl", '{"body": {"en": "x"}, "mood": 0}', r"{body} is a dict, not text; use {column\[part\]}"),
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
        build_task(parsed(TaskFile, raw), Path("/nonexistent"))
    except ConfigError as error:
        caught = str(error)
    assert caught is None or re.match(r".{10}", caught)
