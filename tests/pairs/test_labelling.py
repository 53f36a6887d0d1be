"""Labels of axes by an endpoint that stands in for a language model."""

import json
from pathlib import Path

import numpy as np
import pytest

from sae_lens_abstopk import PairAxes, read_pairs
from sae_lens_abstopk.evaluation.labelling.labeler import RELATIONS
from sae_lens_abstopk.pairs.labelling import EXAMPLES, PAIRS
from sae_lens_abstopk.pairs.pair_files import read_fit
from sae_lens_abstopk.pairs.tables import ordered
from tests.cli.test_cli import invoke
from tests.labeler_stand_in import StandIn
from tests.pairs.pair_files import write_rows

pytestmark = pytest.mark.slow

N, AXES = 300, 3
WORDS = ("red", "green", "blue")


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a fit in which one text of a pair is a colour, and the other names it as missing."""
    root, random = tmp_path_factory.mktemp("labels"), np.random.default_rng(0)
    axis, sign = random.integers(0, AXES, N), random.choice([-1, 1], N)
    texts = [(f"{WORDS[n]} {i}", f"not {WORDS[n]} {i}") for i, n in enumerate(axis)]
    rows = [{"a": a, "b": b} if s > 0 else {"a": b, "b": a} for (a, b), s in zip(texts, sign, strict=True)]
    difference = np.eye(AXES)[axis] * sign[:, None] * random.uniform(1, 2, (N, 1))
    pairs = read_pairs(write_rows(root / "pairs.jsonl", rows))
    arrays = (difference, np.zeros_like(difference) + 1e-3 * random.normal(size=(N, AXES)))
    axes = PairAxes.fit(pairs, arrays=arrays, d_sae=AXES, k=1, seeds=1, baselines=False)
    axes.report(root / "out")
    return root / "out"


def label(folder: Path, *more: str, answer: str = "") -> str:
    options = ("--labeler", StandIn.address, "--labeler-model", "m", *more)
    done = invoke("pairs", "label", str(folder), *options, answer=answer)
    assert done.exit_code == 0, done.output
    return done.output


def test_both_poles_are_named_from_the_strongest_pairs(fitted: Path, stand_in: StandIn) -> None:
    known = [json.dumps({"a": "x", "b": "y", "relation": relation}) for relation, _ in PAIRS.cases()]
    stand_in.script = [(200, answer) for answer in known]
    said = label(fitted, "--axes", "2", "--yes")
    results = read_fit(fitted).results
    first, second, last = ordered(results.axes)
    assert (first.label, second.label, last.label) == (first.label, first.label, None)
    assert first.label
    assert (first.label.negative, first.label.positive, first.label.relation) == ("men", "women", "opposites")
    assert results.judge == f"2 axes labelled by m, right on {len(known)} of {len(known)} planted ones"
    assert results.judge in " ".join(said.split())
    assert "opposites" in (fitted / "index.html").read_text()
    assert "opposites" in (fitted / "axes.csv").read_text()
    (question,) = stand_in.asked[len(known)]["messages"]
    shown = [line for line in question["content"].splitlines() if line.startswith(("A: ", "B: "))]
    assert len(shown) == 2 * EXAMPLES
    assert len({("not" in line) == line.startswith("A") for line in shown}) == 1  # one pole has all that is missing


def test_nothing_is_sent_without_consent_and_made_up_axes_are_of_every_relation(
    fitted: Path, stand_in: StandIn
) -> None:
    before = (fitted / "pairs.json").read_bytes()
    assert "This sends" in label(fitted, "--labeler-prompt", str(_prompt(fitted)), answer="n\n")
    assert stand_in.asked == []
    assert (fitted / "pairs.json").read_bytes() == before
    assert {relation for relation, _ in PAIRS.cases()} == set(RELATIONS)
    assert all(len(sides.negative) == len(sides.positive) for _, sides in PAIRS.cases())


def _prompt(folder: Path) -> Path:
    path = folder / "prompt.txt"
    path.write_text("{{ negative }} or {{ positive }}?")
    return path
