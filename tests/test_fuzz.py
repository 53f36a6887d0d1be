"""Whatever a YAML file holds, the loaders answer with a config, a task or a ConfigError and nothing else."""

import copy
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sae_lens_abstopk import ConfigError, load_task
from sae_lens_abstopk.config.config_file import build_config
from sae_lens_abstopk.config.keys import key_docs
from sae_lens_abstopk.evaluation.suite import load_suite

EXAMPLES = 10_000
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(10**6), 10**6)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(
        ["abstopk", "topk", "gated", "cpu", "{layer}", "{thing}", "[x|y]", "{a|b}", "last", "float32", ""]
    )
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6) | scalars, inner, max_size=3),
    max_leaves=5,
)
# None as the last entry takes the key away
places = st.lists(st.integers(0, 50), min_size=1, max_size=4)
changes = st.lists(
    st.tuples(places, st.sampled_from(sorted(key_docs())), values, st.booleans()), min_size=1, max_size=3
)


def spoilt(content: dict[str, Any], edits: list[Any], names: bool) -> dict[str, Any]:
    """``content`` with some of its parts, chosen by number, replaced or removed, or with a known key added."""
    content = copy.deepcopy(content)
    for place, name, value, adds in edits:
        at: Any = content
        for step in place[:-1]:
            inner = [v for v in (at.values() if isinstance(at, dict) else at) if isinstance(v, dict | list) and v]
            at = inner[step % len(inner)] if inner else at
        if isinstance(at, list):
            at[place[-1] % len(at)] = value
        elif adds and names:
            section = content["sae"] if name.startswith("sae.") and isinstance(content.get("sae"), dict) else content
            section[name.rpartition(".")[2]] = value
        elif at:
            key = list(at)[place[-1] % len(at)]
            if value is None:
                del at[key]
            else:
                at[key] = value
    return content


many = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # SAELens warns about odd values
def test_a_spoilt_config_is_built_or_refused(raw_config: dict[str, Any]) -> None:
    whole = raw_config | {"companions": {"a": {"architecture": "standard", "remove": ["k"]}}, "target_l0": {"a": 3.0}}

    @many
    @given(edits=changes)
    def check(edits: list[Any]) -> None:
        with suppress(ConfigError):
            build_config(spoilt(whole, edits, names=True))

    check()


TASK: dict[str, Any] = {
    "name": "t",
    "about": "a test",
    "poles": ["a", "b"],
    "licence": "MIT",
    "source": "here",
    "reads": ["last", "marked"],
    "expansions": 2,
    "templates": [{"text": f"It was {w} {{thing}} [{{good|bad}}].", "group": w} for w in ("my", "his", "her", "our")],
    "fillers": {"thing": ["cat", ["dog", "dogs"]]},
    "steering": {
        "prompts": ["It is", "This is", "We are", "They are"],
        "tokens": {"a": [" good"], "b": [" bad"]},
        "scorer": {"kind": "words", "a": ["good"], "b": ["bad"]},
    },
}


@pytest.mark.slow
def test_a_spoilt_task_is_loaded_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.yaml"

    @many
    @given(edits=changes)
    def check(edits: list[Any]) -> None:
        path.write_text(yaml.safe_dump(spoilt(TASK, edits, names=False)))
        with suppress(ConfigError):
            load_task(path)

    check()


@pytest.mark.slow
def test_a_spoilt_suite_is_loaded_or_refused(tmp_path: Path) -> None:
    whole = {
        "reconstruction": {"tokens": 10},
        "tasks": ["gender", "refusal"],
        "steering": {"tasks": ["refusal"], "strengths": [1], "behaviour": {"task": "refusal"}},
    }

    @settings(many, max_examples=2000)
    @given(edits=changes)
    def check(edits: list[Any]) -> None:
        (tmp_path / "s.yaml").write_text(yaml.safe_dump(spoilt(whole, edits, names=False)))
        with suppress(ConfigError):
            load_suite(tmp_path / "s.yaml")

    check()
