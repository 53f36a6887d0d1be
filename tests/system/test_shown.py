"""Results print as one line, and as a small table in a notebook."""

import re
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from sae_lens_abstopk import (
    DifferenceInMeansFitter,
    ReconstructionOptions,
    Suite,
    evaluate,
    latent_scale,
    open_subjects,
    represent,
)
from sae_lens_abstopk.model.reconstruction import evaluate_reconstruction
from sae_lens_abstopk.saes.loading import load_sae
from sae_lens_abstopk.training.train import TrainingResult


def test_a_fit_is_a_line_and_a_table() -> None:
    fit: Any = DifferenceInMeansFitter().update(torch.eye(576)[:3], torch.tensor([0, 1, 1])).result
    facts = {"width": 576, "examples of A": 1, "examples of B": 2, "distance of the means": 1.225, "threshold": -0.2041}
    assert repr(fit) == str(fit) == f"<DifferenceInMeans {', '.join(f'{name}: {facts[name]}' for name in facts)}>"
    cells = re.findall("<t[hd]>(.*?)</t[hd]>", fit._repr_html_())
    assert cells == [*facts, *map(str, facts.values())]


def test_what_is_measured_prints_without_its_tensors(folders: list[Path], tmp_path: Path) -> None:
    subjects = open_subjects({"<b>": folders[0], "topk": folders[1]}, device="cpu")
    batches = subjects.batches(256)
    found = evaluate_reconstruction(subjects.passes, subjects.saes, batches, token_filter=subjects.token_filter)
    assert re.fullmatch(
        r"<Reconstruction FVU: .*, L0: 4\.0, loss recovered .*, did not fire on 2\d\d tokens: \d+ of 64 latents>",
        repr(found["topk"]),
    )
    with represent(subjects.passes, subjects.tokenizer, subjects.saes, ["He", "We loved"]) as rows:
        assert "<Representations texts: 2, read at: last and mean, width: 32, codes of <b>: 64" in repr(rows)
        assert "<th>codes of &lt;b&gt;</th>" in rows._repr_html_()
    scales = latent_scale(subjects.model, subjects.saes["topk"], batches, latents=range(64))
    assert re.match(r"<LatentScales latents: 64, fired: \d+, tokens: 2\d\d, smallest scale: ", repr(scales))
    suite = Suite(name="short", reconstruction=ReconstructionOptions(tokens=256))
    results = evaluate(folders, suite=suite, out=tmp_path / "results", console=Console(quiet=True))
    assert re.match(r"<Results SAE: batch_abstopk, latents: 64, FVU: .*; SAE: topk, latents: 64, ", str(results))
    assert results._repr_html_().count("<tr>") == 3
    trained = TrainingResult({"sae": folders[0]}, {"sae": load_sae(folders[0])})  # type: ignore[dict-item]
    assert (
        repr(trained) == f"<TrainingResult SAE: sae, architecture: signed_jumprelu, latents: 64, folder: {folders[0]}>"
    )
