"""The Markdown report: numbers as measured, and where they come from."""

import csv
import io
import re
from statistics import fmean

from sae_lens_abstopk.evaluation.reports.report_files import csv_report
from sae_lens_abstopk.evaluation.results.merging import merge_results
from sae_lens_abstopk.evaluation.results.records import Interval
from tests.evaluation.reports.markdown_tables import columns, markdown_of, row, section
from tests.evaluation.results_document import results_document


def test_the_numbers_of_the_markdown_are_those_of_the_document() -> None:
    document = results_document()
    shown = markdown_of(document)
    found = document.reconstruction["batch_abstopk"]
    assert found.loss is not None
    assert columns(shown, "By SAE", "batch_abstopk") == {
        "SAE": "batch_abstopk",
        "saved as": "signed_jumprelu",
        "latents": "4,608",
        "L0": f"{found.l0:.1f}",
        "FVU": f"{found.fvu:.4f}",
        "nMSE": f"{found.nmse:.4f}",
        "cosine": f"{found.cosine:.3f}",
        "recovered, zero": f"{found.loss.recovered_zero:.4f}",
        "recovered, mean": f"{found.loss.recovered_mean:.4f}",
        "KL": f"{found.loss.kl:.3f}",
        "did not fire": f"{found.dead_latents / 4608:.1%}",
        "dead poles": f"{found.dead_poles / found.live_latents:.0%}",
        "two-sidedness": f"{found.two_sidedness:.3f}",
    }
    geometry = document.geometry["batch_abstopk"]
    densities = [found.density_quantiles[pole][2] for pole in ("positive", "negative")]
    assert columns(shown, "Geometry", "batch_abstopk") == {
        "SAE": "batch_abstopk",
        "antipodal pairs": str(geometry.antipodal_pairs),
        "latents in them": f"{geometry.latents_in_antipodal_pairs / 4608:.1%}",
        "norm, 5 %": f"{geometry.decoder_norm_quantiles[0]:.3f}",
        "norm, median": f"{geometry.decoder_norm_quantiles[2]:.3f}",
        "norm, 95 %": f"{geometry.decoder_norm_quantiles[4]:.3f}",
        "density +, median": f"{densities[0]:.2%}",
        "density -, median": f"{densities[1]:.2%}",
    }
    probes = document.tasks["tense"].saes["topk"].probes
    cells = row(section(shown, "Probes on codes: AUROC on test"), "tense", "topk")
    assert cells[2:4] == [str(probes["single latent"].auroc), str(probes["pair"].auroc)]
    assert re.fullmatch(r"0\.\d{3} \[0\.\d{3}, \d\.\d{3}\]", cells[2]), "with its interval"
    assert cells[-1] == str(probes["single latent, untrained SAE"].auroc)
    permuted = probes["single latent, permuted"].auroc
    assert cells[-2] == f"{permuted.value:.3f} ({permuted.low:.3f} to {permuted.high:.3f})", "a range, not an interval"
    cells = row(section(shown, "Probes on activations: AUROC on test"), "tense")
    assert cells[1:3] == [str(probes[of].auroc) for of in ("difference in means", "logistic regression")]
    cells = row(section(shown, "Probes: accuracy on test"), "tense", "topk")
    assert cells[2:4] == [str(probes[name].accuracy) for name in ("single latent", "pair")]
    assert cells[-1] == str(probes["logistic regression"].accuracy)
    covered = document.tasks["tense"].saes["topk"]
    cells = row(section(shown, "Pole coverage on test"), "tense", "topk")
    assert cells[2:5] == [str(each.coverage) for each in (covered.latent, covered.best_coverage, covered.pair)]
    assert cells[5] == covered.coverage_controls["permuted"].as_range()
    assert cells[6] == str(covered.coverage_controls["untrained SAE"])
    steered = document.steering["gender"]["topk"].interventions["clamp"]
    clamp = f"clamp {document.steering['gender']['topk'].latent}"
    cells = row(section(shown, "Steering at matched cost"), "gender", "topk", clamp)
    assert cells[3] == f"{steered.towards_a.strength:+.2f} (unmatched) / {steered.towards_b.strength:+.2f}"
    assert cells[4:6] == [f"{steered.towards_a.log_odds} †", str(steered.towards_b.log_odds)]
    assert cells[-1] == f"{steered.symmetry} †", "a ratio of both directions"


def test_each_direction_of_steering_has_its_own_columns() -> None:
    document = results_document()
    steered = document.steering["gender"]["topk"]
    effects = (steered.interventions["clamp"].towards_a, steered.interventions["clamp"].towards_b)
    names = ("score", "generated_cost", "log_odds_area", "neutral_cost")
    for effect, first in zip(effects, (1.0, 5.0), strict=True):
        for number, name in enumerate(names):
            setattr(effect, name, Interval(value=first + number, low=first, high=first + 4, n_units=8))
    latent = document.steering["gender"]["topk"].latent
    clamp = ("gender", "topk", f"clamp {latent}")
    cells = columns(markdown_of(document), "Generated text at these strengths, and areas", *clamp)
    for at, (pole, mark) in enumerate((("A", " †"), ("B", ""))):
        assert cells[f"score to {pole}"] == f"{effects[at].score}{mark}"
        assert cells[f"area to {pole}"] == f"{effects[at].log_odds_area}{mark}"
    assert cells["generated cost A / B"] == "2.000 / 6.000"
    cells = columns(markdown_of(document), "Steering at matched cost", *clamp)
    assert cells["cost A / B"] == "4.000 / 8.000"
    for pole, behaviour in zip(("he", "she"), steered.behaviour["latent"], strict=True):
        cells = columns(
            markdown_of(document),
            "What the model does at these strengths",
            *("gender", "topk", f"latent {latent}", f"to {pole}"),
        )
        assert cells["strength"] == f"{behaviour.strength:+.2f}{'' if behaviour.reached else ' (unmatched)'}"
        assert cells["refuses harmful"] == str(behaviour.refused_harmful)
        assert cells["refuses harmless"] == str(behaviour.refused_harmless)
        assert cells["multiple choice"] == str(behaviour.multiple_choice)
        assert cells["change"] == str(behaviour.multiple_choice_change)


def test_the_markdown_says_where_the_numbers_come_from() -> None:
    shown = markdown_of(results_document(seed=3))
    head = shown.split("## ")[0]
    for part in (
        "model.layers.15",
        "50,610 tokens (a BOS in front, positions 1:, ",
        "suite: full, seed 3",
        "0123456789abcdef",
        "torch 2.9.0",
    ):
        assert part in head


def test_dead_latents_are_those_of_training_with_their_tokens_and_others_did_not_fire() -> None:
    document = results_document(saes={"a": None, "b": None})
    assert "dead latents" not in markdown_of(document), "neither SAE records them"
    document.saes["a"].dead_latents, document.saes["a"].dead_latents_tokens = 46, 204_800
    older = results_document(saes={"a": None, "b": None})
    for shown in (markdown_of(document), markdown_of(older, document)):
        cells = columns(shown, "By SAE", "a")
        assert (cells["dead latents"], columns(shown, "By SAE", "b")["dead latents"]) == ("1.0%", "-")
        assert cells["did not fire"] == f"{document.reconstruction['a'].dead_latents / 4608:.1%}"
        assert "dead latents: did not fire on the last training tokens (204,800)." in shown
    document.saes["b"].dead_latents, document.saes["b"].dead_latents_tokens = 0, 1024
    assert "(b: 1,024; a: 204,800)" in markdown_of(document)
    of_a, of_b = csv.DictReader(io.StringIO(csv_report(merge_results([document]))))
    assert (of_a["dead_latents"], of_a["dead_latents_tokens"], of_b["dead_latents"]) == ("46", "204800", "0")
    assert of_a["did_not_fire"] == str(document.reconstruction["a"].dead_latents)


def test_texts_that_were_not_read_as_meant_are_told() -> None:
    document = results_document(tasks={"size": ("small", "large"), "age": ("old", "young")})
    document.tasks["size"].fallbacks = {"last_moved": 4, "unfiltered": 2, "marked_left_out": 3, "truncated": 1_300}
    document.tasks["age"].fallbacks = {"last_moved": 7, "truncated": 0}
    shown = markdown_of(document)
    assert "Texts of size: 2 without a token that is kept, 3 left out with their marked token, 1,300 cut." in shown
    assert "Texts of age" not in shown


def test_seeds_of_a_variant_are_shown_with_mean_and_range() -> None:
    document = results_document(saes={"signed-0": "signed", "signed-1": "signed", "topk-0": "topk"})
    cells, seeds = columns(markdown_of(document), "By variant", "signed", "2"), ("signed-0", "signed-1")
    found = [document.reconstruction[seed] for seed in seeds]
    of_tasks = [[task.saes[seed] for task in document.tasks.values()] for seed in seeds]
    for column, values in {
        "FVU": [each.fvu for each in found],
        "recovered, zero": [each.loss.recovered_zero for each in found if each.loss],
        "recovered, mean": [each.loss.recovered_mean for each in found if each.loss],
        "two-sidedness": [each.two_sidedness for each in found],
        "AUROC, single latent": [fmean(one.probes["single latent"].auroc.value or 0 for one in of) for of in of_tasks],
        "pole coverage": [fmean(one.latent.coverage.value or 0 for one in of) for of in of_tasks],
    }.items():
        digits = 4 if column == "FVU" or column.startswith("recovered") else 3
        shown = [f"{value:.{digits}f}" for value in (sum(values) / 2, min(values), max(values))]
        assert cells[column] == f"{shown[0]} ({shown[1]} to {shown[2]})", column
    assert "By variant" not in markdown_of(results_document()), "one SAE a variant has no range"
    assert row(section(markdown_of(document), "Stability across seeds"), "signed-0", "signed-1")[2] == "0.613"


def test_a_name_does_not_break_a_markdown_table() -> None:
    shown = markdown_of(results_document(saes={"a|b\n`c` [d](http://e) _f_": None}))
    line = next(line for line in section(shown, "By SAE").splitlines() if line.startswith("| a"))
    assert r"a\|b \`c\` [d]\(http://e) \_f\_" in line
    header = section(shown, "By SAE").strip().splitlines()[0]
    assert len(re.findall(r"(?<!\\)\|", line)) == header.count("|")
