"""What an evaluation found is on the model card, beside the weights that it is of."""

import re
from html import unescape
from pathlib import Path

import pytest
import torch
from markdown_it import MarkdownIt

from sae_lens_abstopk import ConfigError, publish
from sae_lens_abstopk.evaluation.results.facts import weights_sha256
from sae_lens_abstopk.evaluation.results.records import ExampleRecord, Interval
from sae_lens_abstopk.evaluation.results.schema import read_results
from sae_lens_abstopk.hub.model_card import SETTINGS, bold_text, cell_text
from sae_lens_abstopk.hub.results import results_of
from sae_lens_abstopk.hub.staging import stage
from sae_lens_abstopk.saes.poles import PoleActivity
from tests.cli.test_cli import invoke
from tests.equivalents.test_mirror import F, K
from tests.evaluation.results_document import results_document
from tests.hub.published import REPO, an_sae, saved
from tests.hub.server import HubServer


def results_file(path: Path, name: str, *, weights: Path | None = None, predicted: int = 50_000) -> Path:
    """As ``abstopk eval`` writes it, of the SAE in ``weights``."""
    document = results_document(saes={name: None}, tasks={"gender": ("he", "she"), "tense": ("past", "present")})
    document.saes[name].weights_sha256 = None if weights is None else weights_sha256(weights)
    found = document.reconstruction[name]
    found.tokens, found.fvu, found.nmse, found.l0, found.dead_latents = 50_610, 0.1921, 0.2, 58.8, 44
    found.dead_poles, found.two_sidedness, found.two_sidedness_histogram = 3, 0.4, [1, 0, 0, 0, 0, 0, 0, 2, 3, 7]
    found.loss.tokens, found.loss.recovered_zero, found.loss.recovered_mean = predicted, 0.982, 0.97
    document.examples[name] = [
        ExampleRecord(latent=3, code=2.5, before="so ", token="she", after=" went"),
        ExampleRecord(latent=3, code=-2.25, before="so ", token="he", after=" went"),
    ]
    document.tasks["gender"].saes[name].probes["single latent"].auroc = Interval(
        value=0.91, low=0.88, high=0.94, n_units=7
    )
    document.write(path)
    return path


def test_an_evaluation_is_on_the_card_with_its_intervals_and_is_shown_by_pull(hub: HubServer, tmp_path: Path) -> None:
    numbers = results_file(tmp_path / "n.json", "mine")  # the label of the SAE
    done = invoke("publish", f"layer3={saved(tmp_path)}", "--repo", REPO, "--results", str(numbers))
    assert done.exit_code == 0, done.output
    card = hub.repos[REPO].files()["README.md"].content.decode()
    numbers_of_layer3 = "| `layer3` | 58.8 | 0.192 | 0.200 | 0.982 | 0.970 | 44 | 3 | 0.40 | 50,610 tokens"
    assert f"{numbers_of_layer3} of smollm2_samples.jsonl.gz, held out |" in card
    assert re.search(r"\| gender \| he / she \| \d+ \| 0\.91 \[0\.88, 0\.94\] \|", card)
    assert re.search(r"\| tense \| past / present \| \d+ \| 0\.\d\d \[", card)
    steered = next(line for line in card.splitlines() if line.startswith("| gender |")).split("|")
    assert re.fullmatch(r" \+\d\.\d\d \[.*\] \(unmatched\) ", steered[8])
    assert re.fullmatch(r" \+\d\.\d\d \[.*\] ", steered[9])
    assert "Unmatched: the largest strength tried" in card
    towards = read_results(numbers).steering["gender"]["mine"].interventions["latent"]
    for place, effect in ((8, towards.towards_a), (9, towards.towards_b)):
        assert steered[place].startswith(f" {effect.log_odds.value:+.2f} ["), "to A, then to B"
    assert steered[-3:-1] == [" 2154 ", " 7 "], "the latent that was steered with, and the groups"
    assert "| 3 | positive | +2.50 | so <b>she</b> went |\n| 3 | negative | -2.25 | so <b>he</b> went |" in card
    assert "One run on one set of data: there are no intervals." in card, "of the reconstruction"
    assert "with its 95 % interval" in card
    assert "is approximate" not in card
    picture = hub.repos[REPO].files()["layer3/two_sidedness.svg"].content.decode()
    assert "13 live latents; tallest bar 7" in picture
    shown = invoke("pull", REPO, "layer3")
    assert re.search(r"FVU +0\.192", shown.output)
    assert re.search(r"measured on +50,610 tokens of smollm2_samples\.jsonl\.gz, held out", shown.output)
    assert re.search(r"gender +latent \d+, AUROC 0\.91 \[0\.88, 0\.94\]", shown.output)


def test_results_beside_the_weights_are_found_by_their_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = saved(tmp_path)
    results_file(folder / "results.json", "of-another-name", weights=folder)
    done = invoke("publish", f"layer3={folder}", "--repo", REPO, "--dry-run", "--out", "one")
    assert done.exit_code == 0, done.output
    assert "| `layer3` | 58.8 |" in Path("one/README.md").read_text()
    (folder / "results.json").rename(tmp_path / "results.json")
    (folder / "results.json").write_text("[]")  # of something else
    above = invoke("publish", f"layer3={folder}", "--repo", REPO, "--dry-run", "--out", "above")
    assert above.exit_code == 0, above.output
    assert "| `layer3` | 58.8 |" in Path("above/README.md").read_text()
    publish({"layer3": str(folder)}, REPO, dry_run_folder="python")
    assert Path("python/README.md").read_text() == Path("above/README.md").read_text()
    an_sae("abstopk").save_model(folder)  # other weights
    with pytest.raises(ConfigError, match="measure=True needs folders, and mine is in memory"):
        publish({"mine": an_sae()}, REPO, measure=True, dry_run_folder="memory")
    again = invoke("publish", f"layer3={folder}", "--repo", REPO, "--dry-run", "--out", "two")
    assert again.exit_code == 0, again.output
    assert "None were published with these weights." in Path("two/README.md").read_text()


def test_what_was_measured_stays_where_the_same_weights_are_published_without_it(
    hub: HubServer, tmp_path: Path
) -> None:
    folder = saved(tmp_path)
    numbers = results_file(tmp_path / "n.json", "mine")
    assert invoke("publish", f"layer3={folder}", "--repo", REPO, "--results", str(numbers)).exit_code == 0
    before = hub.repos[REPO].files()
    again = invoke("publish", f"layer3={folder}", "--repo", REPO, "--license", "mit")
    assert again.exit_code == 0, again.output
    after = hub.repos[REPO].files()
    card = after["README.md"].content.decode()
    assert "license: mit" in card
    assert "| `layer3` | 58.8 | 0.192 |" in card
    assert "two_sidedness.svg" in again.output, "it is of the release too"
    assert after["layer3/two_sidedness.svg"].content == before["layer3/two_sidedness.svg"].content
    an_sae("abstopk").save_model(folder)
    other = invoke("publish", f"layer3={folder}", "--repo", REPO, "--overwrite")
    assert other.exit_code == 0, other.output
    assert "None were published" in hub.repos[REPO].files()["README.md"].content.decode()
    assert "layer3/two_sidedness.svg" not in hub.repos[REPO].files()


def test_results_of_other_saes_or_weights_are_refused(tmp_path: Path) -> None:
    folder, other = saved(tmp_path), saved(tmp_path, "abstopk")
    numbers = tmp_path / "n.json"

    def refusal(*options: str) -> str:
        done = invoke("publish", f"layer3={folder}", "--repo", REPO, "--results", str(numbers), *options)
        assert done.exit_code == 2
        return done.stderr

    results_file(numbers, "layer3", weights=other)
    assert "the results of 'layer3' were measured on other weights than those in" in refusal()
    results_file(numbers, "another")
    assert "the results are of another, and no SAE here has these weights" in refusal("--measure"), "before it measures"
    numbers.write_text("[]")
    assert "is missing or damaged" in refusal()


def test_results_go_by_a_label_only_where_they_record_no_hash(tmp_path: Path) -> None:
    """SAEs of two hooks have one label, the name of their architecture."""
    layer5, layer10 = saved(tmp_path / "5"), saved(tmp_path / "10", "abstopk")
    of_5 = results_file(tmp_path / "5.json", "mine", weights=layer5)
    with pytest.raises(ConfigError, match="the results are of mine, and no SAE here has these weights"):
        publish({"l10": an_sae("abstopk")}, REPO, results=of_5, dry_run_folder=tmp_path / "in-memory")
    publish({"l5": layer5, "l10": layer10}, REPO, results=of_5, dry_run_folder=tmp_path / "one")
    card = (tmp_path / "one/README.md").read_text()
    assert "| `l5` | 58.8 |" in card
    assert "| `l10` | 58.8 |" not in card
    of_10 = results_file(tmp_path / "10.json", "mine", weights=layer10)
    done = invoke(
        *("publish", f"l5={layer5}", f"l10={layer10}", "--repo", REPO, "--dry-run", "--out", str(tmp_path / "both")),
        *("--results", str(of_5), "--results", str(of_10)),
    )
    assert done.exit_code == 0, done.output
    card = (tmp_path / "both/README.md").read_text()
    assert "| `l5` | 58.8 |" in card
    assert "| `l10` | 58.8 |" in card


def test_the_card_says_which_tokens_and_how_many_latents_its_numbers_are_about(tmp_path: Path) -> None:
    sae = an_sae("signed_jumprelu pole_thresholds", dtype="bfloat16")
    sae.negative_threshold.data[2:] = torch.inf
    sae.cfg.metadata.seqpos_slice, sae.cfg.metadata.max_activation_norm = [1, None], 839.4
    numbers = results_file(tmp_path / "n.json", "mine", predicted=49_999)
    document = read_results(numbers)
    document.kept_tokens = "positions 1:, norms up to 839.4"
    document.write(numbers)
    publish({"layer3": sae}, REPO, results=numbers, dry_run_folder=tmp_path / "out")
    card = (tmp_path / "out/README.md").read_text()
    assert f"Of the latents of `layer3`, 1 of {F} have both poles; the others have one." in card
    assert "Tokens of `layer3`: positions 1:, norms up to 839.4." in card
    assert "(`seqpos_slice`, `exclude_special_tokens`, `max_activation_norm` in `cfg.json`)" in card
    assert "At these, position 0 above all, codes" in " ".join(card.split())
    assert "dead poles" not in card.split("\n\nL0:")[0], "most never had a second one"
    assert "| `model.layers.3` (`blocks.3.hook_resid_post`) |" in card
    assert "The loss recovered of `layer3` is approximate: a quotable number needs 50,000 predicted tokens." in card
    assert f'SAE.from_pretrained("{REPO}", "layer3", dtype="bfloat16")' in card, "as it is stored"


@pytest.mark.parametrize("flips", [False, True])
def test_contexts_change_their_side_with_the_latent(tmp_path: Path, flips: bool) -> None:
    counts = torch.ones(2, F, dtype=torch.int64)
    energy = torch.tensor([1.0, 4.0] if flips else [4.0, 1.0]).double()[:, None].expand(2, F)
    results, activity = (
        results_of(read_results(results_file(tmp_path / "n.json", "mine"))),
        PoleActivity(counts, energy, 9),
    )
    staged = stage({"mine": an_sae()}, tmp_path / "out", results=results, poles={"mine": activity}).saes["mine"].results
    shown = [(each.latent, each.pole, each.code, each.token) for each in staged.examples]
    she, he = ((3, 1, -2.5, "she"), (3, 0, 2.25, "he")) if flips else ((3, 0, 2.5, "she"), (3, 1, -2.25, "he"))
    assert shown == ([he, she] if flips else [she, he]), "the positive pole first"


@pytest.mark.parametrize(
    "text",
    [
        "AT&T's top_k < 5 > [3] (4), C:\\x & 🦊 “it’s”",
        "*a* _b_ __c__ ~~d~~ `e` \\*f\\\\",
        "<b>&lt;</b> &#60; <!-- <a@b.c>",
    ],
)
def test_text_in_a_cell_reads_as_it_is_written(text: str) -> None:
    reader = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    for cell in (cell_text(text), f"before {bold_text(text)} after"):
        html = reader.render(f"|a|\n|-|\n| {cell} |")
        assert text in unescape(re.sub("</?(table|thead|tbody|tr|th|td)>", "", html))
    assert cell_text("AT&T's top_k < 5 > [3]") == "AT&T's top_k < 5 > [3]"


def test_training_is_a_table_of_eight_settings_with_all_others_in_a_file(tmp_path: Path) -> None:
    sae = an_sae("abstopk")
    recorded = {"train_batch_size_tokens": 4096, "lr": 0.001, "training_architecture": "sparse_abstopk"}
    for key, value in (recorded | {"dead_latents": 2, "dead_latents_tokens": 51_200}).items():
        sae.cfg.metadata[key] = value
    publish({"one/mine": sae, "other": an_sae()}, REPO, base_model="someone/tiny", dry_run_folder=tmp_path / "out")
    card = (tmp_path / "out/README.md").read_text()
    table = card.split("## Training")[1].split("## Results")[0].strip().splitlines()
    assert table[0].split(" | ")[1:-1] == list(SETTINGS)
    row = f"| `one/mine` | someone/tiny | texts.jsonl | 204,800 | 4,096 | - | sparse_abstopk | {K} | 0.001 |"
    assert table[2] == f"{row} [cfg.json](one/mine/cfg.json) |"
    assert (tmp_path / "out/one/mine/cfg.json").is_file()
    assert f"Dead latents of `one/mine`, over its last 51,200 training tokens: 2 of {F}." in table
    assert not any(line.startswith("Dead latents of `other`") for line in table), "it records none"
