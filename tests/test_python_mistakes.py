"""What a notebook gets wrong: it is answered in a sentence, or does what was meant, and nothing is left changed."""

import csv
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sae_lens import (
    AbsTopKSAE,
    AbsTopKSAEConfig,
    BatchTopKTrainingSAE,
    BatchTopKTrainingSAEConfig,
    LanguageModelSAERunnerConfig,
    StandardSAE,
    StandardSAEConfig,
)
from sae_lens.saes.sae import SAEMetadata

from sae_lens_abstopk import (
    BatchAbsTopKTrainingSAE,
    BatchAbsTopKTrainingSAEConfig,
    ConfigError,
    DifferenceInMeansFitter,
    canonical_gauge,
    encode_topk,
    evaluate,
    load_task,
    merge_antipodal,
    mirror,
    publish,
    steer,
    train,
)
from sae_lens_abstopk.evaluation.steering.doses import require_part
from sae_lens_abstopk.evaluation.steering.steering_edit import require_codes, steering_edit
from sae_lens_abstopk.evaluation.tasks.task_rows import file_rows
from sae_lens_abstopk.explorer.exploration import Exploration
from sae_lens_abstopk.model.representations import represent
from sae_lens_abstopk.model.token_filter import TokenFilter

HOOK: Any = SAEMetadata(hook_name="model.layers.2")


def signed() -> AbsTopKSAE:
    return AbsTopKSAE(AbsTopKSAEConfig(d_in=8, d_sae=16, k=3, metadata=HOOK))


def over_batch() -> BatchAbsTopKTrainingSAE:
    return BatchAbsTopKTrainingSAE(BatchAbsTopKTrainingSAEConfig(d_in=8, d_sae=16, k=3))


def of_saelens() -> BatchTopKTrainingSAE:
    return BatchTopKTrainingSAE(BatchTopKTrainingSAEConfig(d_in=8, d_sae=16, k=3)).eval()


def with_other_k() -> AbsTopKSAE:
    sae = signed()
    sae.cfg.k = 5
    return sae


def two_explored() -> Exploration:
    return Exploration(saes={"a": None, "b": None}, about=None)  # type: ignore[dict-item, arg-type]


nothing: Any = None
pole_activity: Any = SimpleNamespace(energy=torch.ones(2, 16))
MISTAKES: dict[str, tuple[Callable[[], object], str]] = {
    "config of SAELens": (lambda: train(LanguageModelSAERunnerConfig(sae=of_saelens().cfg)), "needs a TrainingConfig"),  # type: ignore[arg-type]
    "config as a mapping": (lambda: train({"lr": 1}), "train needs a TrainingConfig, and was given a dict"),  # type: ignore[arg-type]
    "folder to steer with": (
        lambda: steering_edit("runs/a", latent=1, strength=1.0),  # type: ignore[arg-type]
        "steering needs an SAE in memory, and was given 'runs/a'; load it",
    ),
    "folder to mirror": (lambda: mirror("runs/a"), "mirror needs an SAE in memory"),  # type: ignore[arg-type]
    "folder to encode with": (lambda: encode_topk("runs/a", torch.ones(1, 8)), "encode_topk needs an SAE in memory"),  # type: ignore[arg-type]
    "folder to merge": (lambda: merge_antipodal("runs/a"), "merge_antipodal needs an SAE in memory"),  # type: ignore[arg-type]
    "several latents": (lambda: steering_edit(signed(), latent=[1, 2], strength=1.0), r"must be one whole number"),  # type: ignore[arg-type]
    "latent that is NaN": (lambda: steering_edit(signed(), latent=float("nan"), strength=1.0), "one whole number"),  # type: ignore[arg-type]
    "scales in a mapping": (
        lambda: steering_edit(signed(), latent=1, strength=1.0, scale={1: 2.0}),  # type: ignore[arg-type]
        r"scale={1: 2.0} must be a number, or called with a latent",
    ),
    "SAELens's batchtopk in evaluation mode": (
        lambda: require_codes(of_saelens()),
        "selects over the batch .* save it by",
    ),
    "a batch architecture before its first step": (
        lambda: require_codes(over_batch().eval()),
        "selects over the batch .* save it by",
    ),
    "k changed in the config alone": (
        lambda: encode_topk(with_other_k(), torch.ones(1, 8)),
        "keeps k=3 latents, and its",
    ),
    "k changed before a mirror": (lambda: mirror(with_other_k()), "set sae.cfg.k and sae.activation_fn.k"),
    "activations with NaN": (
        lambda: merge_antipodal(
            StandardSAE(StandardSAEConfig(d_in=8, d_sae=16)), activations=torch.full((4, 8), torch.nan)
        ),
        "activations hold values that are NaN",
    ),
    "activity as energy": (
        lambda: canonical_gauge(signed(), pole_activity),
        r"give a tensor \[2, 16\], such as measure_poles",
    ),
    "activity as counts": (
        lambda: mirror(signed(), prune_dead_poles=True, pole_counts=pole_activity),
        r"pole_counts is a SimpleNamespace; give a tensor \[2, 16\]",
    ),
    "folders without ids": (lambda: publish(["runs/a"], "someone/name"), r"must say by which id .* \{ID: FOLDER\}"),  # type: ignore[arg-type]
    "activity without an id": (
        lambda: publish({"a": "runs/a"}, "someone/name", poles=pole_activity),
        r"poles must be by SAE id what measure_poles gives",
    ),
    "a task as its steering part": (lambda: require_part(load_task("gender")), "must be the steering part of a task"),
    "a slice of positions": (lambda: TokenFilter(seqpos_slice=slice(1, None)), r"must be a tuple of what slice takes"),  # type: ignore[arg-type]
    "whose scale": (lambda: two_explored().scale(3), r"2 SAEs were explored \(a, b\); say whose scale"),
    "an SAE in training to represent with": (
        lambda: represent(nothing, nothing, {"a": over_batch()}, ["a text"]),  # type: ignore[dict-item]
        "SAE 'a' selects over the batch that it is given",
    ),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_answered_in_a_sentence(case: str) -> None:
    call, sentence = MISTAKES[case]
    with pytest.raises(ConfigError, match=sentence):
        call()


def test_folders_may_come_from_a_generator(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="none: no such folder"):
        evaluate((folder for folder in [tmp_path / "none"]), suite="quick", out=tmp_path / "out")  # type: ignore[arg-type]


def test_special_tokens_may_be_a_set() -> None:
    kept = TokenFilter(special_tokens={1, 2}).keep(torch.tensor([[0, 1, 2, 3]]), torch.ones(1, 4, 8))  # type: ignore[arg-type]
    assert kept.tolist() == [[True, False, False, True]]


def test_arguments_in_the_wrong_order_leave_the_fit_as_it_was() -> None:
    fitter, x, poles = DifferenceInMeansFitter(), torch.randn(4, 8), np.array([0, 1, 0, 1])
    with pytest.raises(ConfigError, match=r"x has shape \(4,\); activations of this fit are \[n, d_in\]"):
        fitter.update(poles, x)
    assert fitter.update(x, poles).result.n == (2, 2)


def test_reading_a_file_of_rows_leaves_the_limit_of_csv(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("text\n" + "x" * 200_000)
    before = csv.field_size_limit()
    assert len(file_rows(tmp_path / "rows.csv")) == 1
    assert csv.field_size_limit() == before


def test_a_scale_may_be_a_tensor_and_special_tokens_one_number() -> None:
    x, sae = torch.ones(2, 8), signed()
    edits = [steering_edit(sae, latent=1, strength=1.0, scale=scale)(x) for scale in (2.5, torch.tensor(2.5))]  # type: ignore[arg-type]
    assert torch.equal(*edits)
    assert TokenFilter(special_tokens=5) == TokenFilter([None], (5,))  # type: ignore[arg-type]


def test_steer_says_what_is_wrong_before_the_model_is_looked_at() -> None:
    with pytest.raises(ConfigError, match="steering needs an SAE in memory"):
        steer(torch.nn.Identity(), "runs/a", latent=3, strength=1.0)  # type: ignore[arg-type]
