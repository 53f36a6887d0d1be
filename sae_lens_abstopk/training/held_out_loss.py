"""Reconstruction and Loss Recovered of SAEs in training, on held-out text."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

from sae_lens import SAETrainer, TrainingSAE

from sae_lens_abstopk.dictionary.reconstruction import LossRecovered, Reconstruction, evaluate_reconstruction
from sae_lens_abstopk.model.model_passes import ModelPasses
from sae_lens_abstopk.model.text_store import token_batches
from sae_lens_abstopk.model.token_filter import TokenFilter
from sae_lens_abstopk.saes.codec import ScaledCodec
from sae_lens_abstopk.saes.signed_training import SignedTrainingSAE
from sae_lens_abstopk.training.config.training_config import TrainingConfig


class HeldOutLoss:
    """Measurement of SAEs in training on ``perf_tokens`` held-out tokens; raises ConfigError if there are fewer."""

    reference: LossRecovered | None = None
    """An earlier result; its clean and ablated losses are reused."""

    def __init__(self, model: Any, cfg: TrainingConfig, saes: Mapping[str, TrainingSAE[Any]]) -> None:
        self.model, self.cfg = model, cfg
        self._n_saes = len(saes)
        d_sae = max(sae.cfg.d_sae for sae in saes.values())
        self.batches = token_batches(
            model, cfg.model_spec, cfg.text_spec, cfg.perf_tokens, part="held_out", d_sae=d_sae, with_logits=True
        )
        """Token ids, each [batch, context_size]."""

    @property
    def n_passes(self) -> int:
        """Number of passes of the language model that the next measurement takes."""
        ablations = 0 if self.reference is not None else 2
        return len(self.batches) * (1 + ablations + self._n_saes)

    def measure(
        self, trainers: Mapping[str, SAETrainer[Any, Any]], *, on_pass: Callable[[], None] | None = None
    ) -> dict[str, Reconstruction]:
        """
        Measure the SAEs as they are now, by name; no other thread may run the model meanwhile.

        ``on_pass`` is called after each pass of the language model; what it raises ends the measurement.
        """
        codecs = {}
        for name, trainer in trainers.items():
            trainer.sae.eval()
            codecs[name] = ScaledCodec(trainer.sae, trainer.activation_scaler)
        with ExitStack() as stack:
            for trainer in trainers.values():
                if isinstance(trainer.sae, SignedTrainingSAE):
                    stack.enter_context(trainer.sae.vectors_normalized())
            try:
                results = evaluate_reconstruction(
                    ModelPasses.of_spec(self.model, self.cfg.model_spec, d_in=self.cfg.sae.d_in),
                    codecs,
                    self.batches,
                    token_filter=TokenFilter.of_sae(trainers["sae"].sae, getattr(self.model, "tokenizer", None)),
                    reference=self.reference,
                    on_pass=on_pass,
                )
            finally:
                for trainer in trainers.values():
                    trainer.sae.train()
        self.reference = results["sae"].loss
        return results
