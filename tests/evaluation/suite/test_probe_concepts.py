"""One task of a suite, probed: on which split, by what units, and against which control."""

from pathlib import Path
from typing import Any

import pytest
import torch

from sae_lens_abstopk.evaluation.subjects.subjects import open_subjects
from sae_lens_abstopk.evaluation.suite import probe_concepts
from sae_lens_abstopk.evaluation.suite.probe_concepts import probe_on_task, untrained_saes
from sae_lens_abstopk.evaluation.suite.suite import Suite, tasks_of_suite
from sae_lens_abstopk.model.representations import represent


def test_a_task_is_probed_by_groups_on_the_split_of_the_seed(trained: Path, small: dict[str, Any]) -> None:
    subjects, task = open_subjects({"mine": trained}), tasks_of_suite(Suite(**small))["temperature"]
    probed = probe_on_task(subjects, task, untrained={}, seed=2, on_progress=lambda *_: None)
    found, split = probed.record.saes["mine"], task.split(2)
    assert split.train.tolist() != task.split(0).train.tolist()
    groups = len({task.examples[row].group for row in split.test})
    assert probed.record.test_groups == found.probes["single latent"].auroc.n_units == groups < len(split.test)
    what = subjects.passes, subjects.tokenizer, subjects.saes, task.texts
    with represent(*what, reads=task.reads, rules=subjects.rules) as stored:
        x = torch.from_numpy(stored.x(found.probes["difference in means"].read, split.train)).double()
    poles = torch.as_tensor(task.labels)[split.train]
    direction = x[poles == 1].mean(0) - x[poles == 0].mean(0)
    torch.testing.assert_close(torch.tensor(probed.direction).double(), direction, rtol=1e-4, atol=1e-6)
    for latent in (found.latent, found.best_coverage):
        row = subjects.saes["mine"].W_dec[latent.latent].detach().double()
        cosine = torch.nn.functional.cosine_similarity(row, direction, dim=0).item()
        assert latent.direction_cosine == pytest.approx(cosine, rel=1e-4)


@torch.no_grad()
def test_the_untrained_control_has_fresh_weights_and_is_centred_on_the_tokens_that_count(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe_concepts, "UNTRAINED_TOKENS", 256)
    subjects = open_subjects({"mine": trained})
    made = untrained_saes(subjects, 0)["mine"]
    assert not torch.allclose(made.W_enc, subjects.saes["mine"].W_enc)
    everything, kept = [], []
    for tokens in subjects.batches(256):
        everything.append(subjects.passes.activations(tokens))
        kept.append(everything[-1][subjects.token_filter.keep(tokens, everything[-1])])
    torch.testing.assert_close(made.b_dec, torch.cat(kept).mean(0))
    assert not torch.allclose(made.b_dec, torch.cat(everything).flatten(0, 1).mean(0))
