"""Loaders of files return a value or raise ConfigError, for any content."""

import copy
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sae_lens import TopKSAE, TopKSAEConfig

from sae_lens_abstopk import ConfigError, load_task
from sae_lens_abstopk.evaluation.results.schema import read_results
from sae_lens_abstopk.evaluation.suite.suite import load_suite
from sae_lens_abstopk.hub.manifest import Manifest, NumberWithInterval, PublishedFile, PublishedResults, PublishedSAE
from sae_lens_abstopk.saes.loading import load_as_saved
from sae_lens_abstopk.training.checkpoints.checkpoint import damage
from sae_lens_abstopk.training.config.config_file import build_config
from sae_lens_abstopk.training.config.keys import key_docs
from sae_lens_abstopk.training.source.activation_cache import ActivationCache
from tests.evaluation.results_document import results_document

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
places = st.lists(st.integers(0, 50), min_size=1, max_size=4)
changes = st.lists(
    st.tuples(places, st.sampled_from(sorted(key_docs())), values, st.booleans()), min_size=1, max_size=3
)


def spoilt(content: dict[str, Any], edits: list[Any], names: bool) -> dict[str, Any]:
    """``content`` with some parts, chosen by number, replaced or removed (value None), or with a known key added."""
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
    max_examples=500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def check(load: Callable[[Any], object], whole: dict[str, Any], settings: Any = many, *, names: bool = False) -> None:
    """Load ``whole`` spoilt in many ways."""

    @settings
    @given(edits=changes)
    def loaded_or_refused(edits: list[Any]) -> None:
        with suppress(ConfigError):
            load(spoilt(whole, edits, names))

    loaded_or_refused()


def written(load: Callable[[Path], object], path: Path) -> Callable[[Any], object]:
    """Write content to ``path`` and load it from there."""
    dump = json.dumps if path.suffix == ".json" else yaml.safe_dump
    return lambda content: (path.write_text(dump(content)), load(path))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # SAELens warns about odd values
def test_a_spoilt_config_is_built_or_refused(raw_config: dict[str, Any]) -> None:
    whole = raw_config | {"companions": {"a": {"architecture": "standard", "remove": ["k"]}}, "target_l0": {"a": 3.0}}
    check(build_config, whole, names=True)


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


def manifest_of_a_release() -> Any:
    results = PublishedResults(10, "text", held_out=True, numbers={"fvu": NumberWithInterval(0.1, 0.0, 0.2)})
    files = {"a/cfg.json": PublishedFile("0" * 64, 1)}
    sae = PublishedSAE("abstopk", 1, 1, "float32", "as trained", None, {}, results, files)
    return json.loads(Manifest(saes={"a": sae}).to_json())


def read_cache(path: Path) -> None:
    cache = ActivationCache(path.parent, {})
    assert cache.n_rows >= 0
    list(cache._stored(0, 0))


def config_of_an_sae() -> Any:
    return TopKSAEConfig(d_in=4, d_sae=8, k=2).to_dict() | {"metadata": {"model_name": "m", "hook_name": "h"}}


SUITE = {
    "reconstruction": {"tokens": 10},
    "tasks": ["gender", "refusal"],
    "steering": {"tasks": ["refusal"], "strengths": [1], "behaviour": {"task": "refusal"}},
}
SHARD = {"file": "activations-00000.safetensors", "rows": [1, 2], "sha256": "0" * 64}
FILES: dict[str, tuple[Any, Callable[[Path], object]]] = {
    "t.yaml": (TASK, load_task),
    "s.yaml": (SUITE, load_suite),
    "abstopk.json": (manifest_of_a_release(), lambda path: Manifest.from_json(path.read_bytes(), "it")),
    "results.json": (json.loads(results_document().model_dump_json()), read_results),
    "activations.json": ({"defined_by": {}, "max_norm": 1.0, "skipped_batches": 0, "shards": [SHARD]}, read_cache),
    "checkpoint.json": ({"step": 1, "files": {"a": {"bytes": 1, "sha256": "0"}}}, lambda path: damage(path.parent)),
    "cfg.json": (config_of_an_sae(), lambda path: load_as_saved(path.parent)),
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FILES)
def test_a_spoilt_file_is_read_or_refused(name: str, tmp_path: Path) -> None:
    whole, read = FILES[name]
    TopKSAE(TopKSAEConfig(d_in=4, d_sae=8, k=2)).save_model(tmp_path)
    check(written(read, tmp_path / name), whole, settings(many, max_examples=200))


@pytest.mark.parametrize("metadata", [None, [], 3])
def test_an_sae_whose_metadata_are_none_is_refused(metadata: Any, tmp_path: Path) -> None:
    TopKSAE(TopKSAEConfig(d_in=4, d_sae=8, k=2)).save_model(tmp_path)
    (tmp_path / "cfg.json").write_text(json.dumps(config_of_an_sae() | {"metadata": metadata}))
    with pytest.raises(ConfigError, match="could not be loaded as an SAE"):
        load_as_saved(tmp_path)
