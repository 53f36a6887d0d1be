"""Matryoshka batch AbsTopK: signed latents, with nested prefixes that each reconstruct the input."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from sae_lens import MatryoshkaBatchTopKTrainingSAE, MatryoshkaBatchTopKTrainingSAEConfig
from typing_extensions import override

from sae_lens_abstopk.saes.batch_abstopk import BatchAbsTopKTrainingSAE, BatchAbsTopKTrainingSAEConfig
from sae_lens_abstopk.saes.sparse_training import require_one_scale
from sae_lens_abstopk.saes.traits import Traits
from sae_lens_abstopk.system.errors import ConfigError
from sae_lens_abstopk.system.typed_values import require_default


@dataclass(kw_only=True)
class MatryoshkaBatchAbsTopKTrainingSAEConfig(BatchAbsTopKTrainingSAEConfig, MatryoshkaBatchTopKTrainingSAEConfig):
    """
    Config for training nested signed SAEs (arXiv 2503.17547) with batch-level selection; saved as ``signed_jumprelu``.

    Args:
        matryoshka_widths: Numbers of latents of the nested prefixes, increasing; ``d_sae`` is the last, given or not.
            By default a sixteenth, a quarter, and all.
    """

    traits: ClassVar[Traits] = Traits(signed=True, k_per="batch")

    @override
    @classmethod
    def architecture(cls) -> str:
        return "matryoshka_batch_abstopk"

    @override
    def __post_init__(self) -> None:
        super().__post_init__()
        widths = list(self.matryoshka_widths) or [max(1, self.d_sae // 16), max(2, self.d_sae // 4)]
        require_default(self, "use_matryoshka_aux_loss", "it does not exist for signed codes")
        require_one_scale(self, "nested losses undo that several times a step")
        self.matryoshka_widths = up_to_all(widths, self.d_sae)


def up_to_all(widths: Sequence[int], d_sae: int) -> list[int]:
    """Complete the widths of nested prefixes with ``d_sae``; raise a ConfigError unless they increase."""
    nested = [*widths, *([d_sae] if widths[-1] != d_sae else [])]
    if nested[0] < 1 or any(narrow >= wide for narrow, wide in pairwise(nested)):
        raise ConfigError(f"matryoshka_widths={list(widths)!r} must increase from at least 1 to d_sae={d_sae}.")
    return nested


class MatryoshkaBatchAbsTopKTrainingSAE(BatchAbsTopKTrainingSAE, MatryoshkaBatchTopKTrainingSAE):
    """Training SAE whose loss sums the reconstruction errors of all prefixes of its latents."""

    cfg: MatryoshkaBatchAbsTopKTrainingSAEConfig  # type: ignore[assignment]

    @property
    @override
    def inner_widths(self) -> tuple[int, ...]:
        return tuple(self.cfg.matryoshka_widths[:-1])
