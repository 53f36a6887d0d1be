from rich.console import Console

from sae_lens_abstopk.cli.output import rows
from sae_lens_abstopk.diffs.tables import latents_table, summary
from tests.diffs.diff_example import example


def test_the_table_has_the_latents_by_kl_share() -> None:
    console = Console(width=80, record=True, quiet=False, file=None)
    with console.capture() as captured:
        console.print(latents_table(example()))
    lines = captured.get().splitlines()
    assert [line.split()[:4] for line in lines[1:]] == [
        ["2", "40.0%", "36.0%", "4.0%"],
        ["0", "10.0%", "9.0%", "1.0%"],
        ["1", "~1.0%", "~0.9%", "~0.1%"],
    ]
    assert "-0.0%" not in captured.get()
    said = " ".join(summary(example().results))
    assert "FVU .400 (one-sided F .450, one-sided 2F .380) at L0 2.0; 2.2 with the saved thresholds." in said
    assert "PCA with 2 directions: FVU 0.500, recovered 0.300." in said
    assert "--show one-sided-2F shows SAEs that recover 0.650." in said
    assert "0.600 by the SAE, 0.900 by the difference itself" in said


def test_long_tokens_are_cut_on_a_terminal_only() -> None:
    diff, console = example(), Console(width=80)
    context = diff.contexts.latents[0].positive[0]
    context.tokens[context.at] = "incomprehensibilities"
    table = latents_table(diff)
    with console.capture() as captured:
        console.print(table)
    assert "incomprehensi…" in captured.get()
    assert next(rows(table))["strongest at +"] == "incomprehensibilities"
