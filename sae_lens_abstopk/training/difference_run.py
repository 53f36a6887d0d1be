"""A training run on the differences of two models at one hook."""

from collections.abc import Callable, Mapping
from typing import Any

from sae_lens import SAETrainer
from typing_extensions import override

from sae_lens_abstopk.model.check_pair import check_pair
from sae_lens_abstopk.model.inference import casts_shared
from sae_lens_abstopk.model.model_pair import ModelPair
from sae_lens_abstopk.model.reconstruction import Reconstruction
from sae_lens_abstopk.model.text_store import token_batches
from sae_lens_abstopk.model.token_filter import TokenFilter
from sae_lens_abstopk.training.config.training_config import TrainingConfig
from sae_lens_abstopk.training.metrics import HeldOut, reconstruct
from sae_lens_abstopk.training.runner import TrainingRun
from sae_lens_abstopk.training.source.difference_source import DifferenceSource


class DifferenceRun(TrainingRun):
    """A run on h_tuned - h_base; each training token is read by both models."""

    @override
    def _check_hook(self) -> None:
        check_pair(self.cfg.pair_spec, self.cfg.text_spec, d_in=self.cfg.sae.d_in)

    @override
    def _open_source(self) -> DifferenceSource:
        pair = self.pair = ModelPair.load(self.cfg.pair_spec, self.cfg.text_spec, d_in=self.cfg.sae.d_in)
        return self._open_store(pair.base_model, DifferenceSource, pair=pair)

    @override
    def _open_held_out(self) -> HeldOut:
        return HeldOutDifferences(self.pair, self.cfg)


class HeldOutDifferences:
    """Measurement of SAEs in training on the differences of ``perf_tokens`` held-out tokens, or a few more."""

    def __init__(self, pair: ModelPair, cfg: TrainingConfig) -> None:
        self.pair = pair
        d_sae = max(sae.d_sae for sae in cfg.all_saes.values())
        tokens: dict[str, Any] = {"part": "held_out", "d_sae": d_sae, "with_logits": False}
        self.batches = token_batches(pair.base_model, pair.spec, cfg.text_spec, cfg.perf_tokens, **tokens)
        self.n_passes = len(self.batches)

    @casts_shared()
    def measure(
        self, trainers: Mapping[str, SAETrainer[Any, Any]], *, on_pass: Callable[[], None] = lambda: None
    ) -> dict[str, Reconstruction]:
        token_filter = TokenFilter.of_sae(trainers["sae"].sae, self.pair.tokenizer)
        found = reconstruct(trainers, (self.pair.read(tokens, token_filter).x for tokens in self.batches), on_pass)
        token_filter.require_any(found["sae"].n_tokens)
        return found
