"""`abstopk diff report` with names of poles by an endpoint that stands in for a language model."""

from pathlib import Path

from sae_lens_abstopk.diffs.diff_files import Diff
from sae_lens_abstopk.explorer.judging import LATENTS
from tests.cli.test_cli import invoke
from tests.diffs.diff_example import example
from tests.labeler_stand_in import StandIn


def test_the_latents_of_the_report_are_named_once_one_agrees(tmp_path: Path, stand_in: StandIn) -> None:
    example().write(tmp_path)
    before = (tmp_path / "diff.json").read_bytes()
    command = ["diff", "report", str(tmp_path), "--labeler", StandIn.address, "--labeler-model", "m"]
    refused = invoke(*command, answer="n\n")
    assert "This sends" in refused.output
    assert stand_in.asked == []
    assert (tmp_path / "diff.json").read_bytes() == before
    assert (tmp_path / "report.html").is_file(), "without names"
    done = invoke(*command, "--yes")
    assert done.exit_code == 0, done.output
    label = Diff.read(tmp_path).results.latents[0].label
    assert label is not None
    assert (label.negative, label.positive, label.relation) == ("men", "women", "opposites")
    n = len(LATENTS.cases())
    (question,) = stand_in.asked[n]["messages"]
    assert question["content"].count("<s>Where is <<it>>?") == 2
    for page in ("index.html", "report.html"):
        assert "women" in (tmp_path / page).read_text()
