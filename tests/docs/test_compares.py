"""The page that compares tools has recorded numbers, and ends."""

import json
import re
from statistics import mean

from experiments.pairs.study import RESULTS
from experiments.speed.chart import pages
from tests.docs.test_pages import DOCS, ROOT, prose

PAGE = " ".join((DOCS / "compares.md").read_text(encoding="utf-8").split())


def test_it_has_the_numbers_of_speed() -> None:
    speed = pages()[ROOT / "experiments" / "speed" / "README.md"]
    alone = dict(re.findall(r"^\| 9,216 \| ([\w ]+) \| [\d., ]+ \| ([\d.]+ to [\d.]+) \|$", speed, re.MULTILINE))
    for name in ("sae_lens abstopk", "sparsify", "dictionary_learning"):
        assert f"| {alone[name]} |" in PAGE
    ours, theirs = (
        re.findall(rf"^\| {name} \| ([\d,]+) \|$", speed, re.MULTILINE)
        for name in (r"`abstopk train`", "SAELens's runner")
    )
    assert f"| {ours[0]} | {theirs[0]} |" in PAGE


def test_it_has_the_numbers_of_pairs() -> None:
    places = json.loads((RESULTS / "gpt4.json").read_text())["places"]
    saved = sorted(100 * (1 - each["signed"]["fvu"]["value"] / each["one_sided_F"]["fvu"]["value"]) for each in places)
    assert f"{saved[0]:.1f} to {saved[-1]:.1f} % less" in PAGE
    runs = json.loads((RESULTS / "peer.json").read_text())["runs"]
    fvu, seconds = (
        [mean(run[key] for run in runs if run["sae"] == sae) for sae in ("ours", "theirs")]
        for key in ("fvu", "seconds")
    )
    assert (
        f"FVU is {fvu[0]:.3f} against {fvu[1]:.3f} of WIMHF's SAE, in {seconds[0]:.0f} s against {seconds[1]:.0f}"
        in PAGE
    )


def test_it_ends() -> None:
    assert prose(DOCS / "compares.md") <= 700
