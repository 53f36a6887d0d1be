"""Training runs on a language model, or on the differences of two: SAELens's runner with several SAEs a pass."""

from collections.abc import Iterator
from typing import Any, TypeVar

import torch
from datasets import Dataset
from rich.console import Console
from sae_lens import SAE, LanguageModelSAETrainingRunner
from transformer_lens.HookedRootModule import HookedRootModule
from typing_extensions import override

from sae_lens_abstopk.model.check_hook import check_activations, check_hook
from sae_lens_abstopk.model.check_pair import check_pair
from sae_lens_abstopk.model.language_model import load_language_model
from sae_lens_abstopk.model.model_pair import ModelPair
from sae_lens_abstopk.model.text_store import saelens_notes_off
from sae_lens_abstopk.model.token_filter import TokenFilter
from sae_lens_abstopk.text.documents import load_text
from sae_lens_abstopk.training.config.training_config import TrainingConfig
from sae_lens_abstopk.training.metrics import HeldOut, HeldOutBatches, HeldOutLoss, held_out_tokens
from sae_lens_abstopk.training.run import Run
from sae_lens_abstopk.training.source.activation_cache import ActivationCache
from sae_lens_abstopk.training.source.difference_source import DifferenceSource
from sae_lens_abstopk.training.source.language_model_source import LanguageModelSource

S = TypeVar("S", bound=LanguageModelSource)


def require_hook(cfg: TrainingConfig) -> None:
    """Raise a :class:`ConfigError` if a model does not fit the config, before its weights are read."""
    if cfg.source == "model_difference":
        check_pair(cfg.pair_spec, cfg.text_spec, d_in=cfg.sae.d_in)
    elif cfg.source == "tokens":
        check_hook(cfg.model_spec, d_in=cfg.sae.d_in, context_size=cfg.context_size)


class TrainingRun(Run, LanguageModelSAETrainingRunner):
    """A run on activations of a language model; the model, the metadata and the final files are SAELens's."""

    cfg: TrainingConfig  # type: ignore[assignment]

    def __init__(self, cfg: TrainingConfig, *, console: Console | None = None) -> None:
        Run.__init__(self, cfg, console=console)
        self._say(f"SAEs on {self.cfg.device}, language model on {self.cfg.llm_device}")

    @override
    def _check_source(self) -> None:
        cfg = self.cfg
        require_hook(cfg)
        self._documents = load_text(cfg.text_spec, "train")
        if cfg.measures:
            load_text(cfg.text_spec, "held_out")  # report too little text before the model is loaded
        if cfg.activation_cache is not None:
            ActivationCache.of_run(cfg).require_room(cfg)

    @override
    def _open_source(self) -> LanguageModelSource:
        cfg = self.cfg
        model = load_language_model(cfg.model_spec, cfg.text_spec)
        check_activations(model, cfg.model_spec, d_in=cfg.sae.d_in)
        return self._open_store(model, LanguageModelSource)

    def _open_store(self, model: HookedRootModule, kind: type[S], **own: Any) -> S:
        """Set up SAELens's runner with ``model``, and open its source of activations."""
        cfg = self.cfg
        with saelens_notes_off():
            # for SAELens's own store, which the source replaces
            no_text = Dataset.from_dict({"text": [""], "messages": [""]})
            LanguageModelSAETrainingRunner.__init__(
                self, cfg, override_dataset=no_text, override_model=model, override_sae=self.saes["sae"]
            )
            self.activations_store = store = kind.for_training(self.model, cfg, self._documents, **own)
        return store

    @override
    def _open_held_out(self) -> HeldOut:
        return HeldOutLoss(self.model, self.cfg)


class DifferenceRun(TrainingRun):
    """A run on h_tuned - h_base; each training token is read by both models."""

    source_kind: type[DifferenceSource] = DifferenceSource

    @override
    def _open_source(self) -> DifferenceSource:
        pair = self.pair = ModelPair.load(self.cfg.pair_spec, self.cfg.text_spec, d_in=self.cfg.sae.d_in)
        return self._open_store(pair.base_model, self.source_kind, pair=pair)

    @override
    def _open_held_out(self) -> HeldOut:
        pair = self.pair  # self in the function would keep the run and its models in a cycle
        batches = held_out_tokens(pair.base_model, pair.spec, self.cfg, with_logits=False)

        def read(sae: SAE[Any]) -> Iterator[torch.Tensor]:
            token_filter, n_tokens = TokenFilter.of_sae(sae, pair.tokenizer), 0
            for tokens in batches:
                x = pair.read(tokens, token_filter).x
                n_tokens += len(x)
                yield x
            token_filter.require_any(n_tokens)

        return HeldOutBatches(len(batches), read)
