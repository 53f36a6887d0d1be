"""A mistake in a notebook that no type checker finds is answered in a sentence, and changes nothing."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from sae_lens import AbsTopKSAE, AbsTopKSAEConfig, StandardSAE, StandardSAEConfig

from sae_lens_abstopk import (
    BatchAbsTopKTrainingSAE,
    BatchAbsTopKTrainingSAEConfig,
    ConfigError,
    encode_topk,
    merge_antipodal,
    mirror,
)
from sae_lens_abstopk.explorer.exploration import Exploration
from sae_lens_abstopk.model.representations import represent

SIZES: dict[str, Any] = {"d_in": 8, "d_sae": 16}
anything: Any = None


def with_another_k() -> AbsTopKSAE:
    sae = AbsTopKSAE(AbsTopKSAEConfig(**SIZES, k=3))
    sae.cfg.k = 5
    return sae


def in_training() -> BatchAbsTopKTrainingSAE:
    return BatchAbsTopKTrainingSAE(BatchAbsTopKTrainingSAEConfig(**SIZES, k=3))


MISTAKES: dict[str, tuple[Callable[[], object], str]] = {
    "encoding with a k that only the config has": (lambda: encode_topk(with_another_k(), torch.ones(1, 8)), r"cfg\.k="),
    "mirroring with a k that only the config has": (lambda: mirror(with_another_k()), r"activation_fn\.k"),
    "activations with NaN": (
        lambda: merge_antipodal(StandardSAE(StandardSAEConfig(**SIZES)), activations=torch.full((4, 8), torch.nan)),
        "NaN",
    ),
    "the scale of a latent of two SAEs": (
        lambda: Exploration(saes={"a": anything, "b": anything}, about=anything).scale(3),
        "2 SAEs .*a, b",
    ),
    "representing with an SAE in training": (
        lambda: represent(anything, anything, {"a": in_training()}, ["a text"]),
        "'a' selects over the batch",
    ),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_answered_in_a_sentence(case: str) -> None:
    call, sentence = MISTAKES[case]
    with pytest.raises(ConfigError, match=sentence):
        call()
