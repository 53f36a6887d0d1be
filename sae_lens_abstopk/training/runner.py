"""A training run on a language model: SAELens's runner with several SAEs a pass, exact resume and a run folder."""

from typing import Any, TypeVar

import torch
from datasets import Dataset
from rich.console import Console
from sae_lens import LanguageModelSAETrainingRunner, TrainingSAE
from transformer_lens.HookedRootModule import HookedRootModule
from typing_extensions import override

from sae_lens_abstopk.model.check_hook import check_activations, check_hook
from sae_lens_abstopk.model.language_model import load_language_model
from sae_lens_abstopk.model.text_store import saelens_notes_off
from sae_lens_abstopk.text.documents import load_text
from sae_lens_abstopk.training.config.training_config import TrainingConfig
from sae_lens_abstopk.training.metrics import HeldOut, HeldOutLoss
from sae_lens_abstopk.training.run import Run
from sae_lens_abstopk.training.source.activation_cache import ActivationCache
from sae_lens_abstopk.training.source.language_model_source import LanguageModelSource

S = TypeVar("S", bound=LanguageModelSource)


class TrainingRun(Run, LanguageModelSAETrainingRunner):
    """A run on activations of a language model; the model, the metadata and the final files are SAELens's."""

    cfg: TrainingConfig  # type: ignore[assignment]

    def __init__(self, cfg: TrainingConfig, *, console: Console | None = None) -> None:
        Run.__init__(self, cfg, console=console)
        self._say(f"SAEs on {self.cfg.device}, language model on {self.cfg.llm_device}")

    @override
    def _check_source(self) -> None:
        cfg = self.cfg
        self._check_hook()
        self._documents = load_text(cfg.text_spec, "train")
        if self._measures:
            load_text(cfg.text_spec, "held_out")  # report too little text before the model is loaded
        if cfg.activation_cache is not None:
            ActivationCache.of_run(cfg).require_room(cfg)

    def _check_hook(self) -> None:
        """Raise a :class:`ConfigError` if the model does not fit the config, before its weights are read."""
        check_hook(self.cfg.model_spec, d_in=self.cfg.sae.d_in, context_size=self.cfg.context_size)

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
        return HeldOutLoss(self.model, self.cfg, self.saes)

    @override
    def _set_sae_metadata(self) -> None:
        LanguageModelSAETrainingRunner._set_sae_metadata(self)
        super()._set_sae_metadata()

    @override
    def save_final_sae(
        self, sae: TrainingSAE[Any], output_path: str, log_feature_sparsity: torch.Tensor | None = None
    ) -> None:
        LanguageModelSAETrainingRunner.save_final_sae(self, sae, output_path, log_feature_sparsity)
