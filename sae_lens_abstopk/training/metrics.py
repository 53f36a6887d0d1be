"""Metrics of a run: of each logged step, of what is held out, and of massive activations in the first batch."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from sae_lens import SAE, SAETrainer
from sae_lens.saes.sae import TrainStepOutput

from sae_lens_abstopk.model.inference import casts_shared
from sae_lens_abstopk.model.model_passes import ModelPasses
from sae_lens_abstopk.model.model_spec import ModelSpec
from sae_lens_abstopk.model.reconstruction import (
    LossRecovered,
    Reconstruction,
    ReconstructionSums,
    evaluate_reconstruction,
)
from sae_lens_abstopk.model.text_store import token_batches
from sae_lens_abstopk.model.token_filter import TokenFilter
from sae_lens_abstopk.saes.codec import ScaledCodec
from sae_lens_abstopk.saes.poles import pole_counts, pole_statistics
from sae_lens_abstopk.saes.signed_training import SignedTrainingSAE
from sae_lens_abstopk.saes.traits import sparsity_coefficient
from sae_lens_abstopk.system.ranks import averaged, n_ranks, summed
from sae_lens_abstopk.training.config.training_config import TrainingConfig

Trainers = Mapping[str, SAETrainer[Any, Any]]
# multiple of the median norm that ordinary tokens stay below
MASSIVE = 20


@torch.no_grad()
def step_metrics(trainer: SAETrainer[Any, Any], output: TrainStepOutput) -> dict[str, float]:
    """
    Return the metrics of one step on its own batch, the same on all ranks, in units of the raw activations.

    ``dead_latents`` have not fired in the last ``dead_feature_window`` steps. ``dead_poles`` and ``two_sidedness`` are
    of all firings that the SAE counts, else of the batch. ``losses/NAME`` and ``metrics/NAME`` are in the units of
    training.
    """
    scaler = trainer.activation_scaler
    sums = ReconstructionSums()
    sums.update(scaler.unscale(output.sae_in), scaler.unscale(output.sae_out))
    sums = sums.over_ranks()
    codes = output.feature_acts
    n_active = int(summed((codes._values() if codes.is_sparse else codes).count_nonzero()))
    counted = getattr(trainer.sae, "pole_counts", None)
    poles = pole_statistics(summed(pole_counts(codes)) if counted is None else counted)
    row = {
        "tokens": trainer.n_training_samples,
        "loss": averaged(output.loss.detach().clone()).item(),
        "mse": sums.mse(),
        "nmse": sums.nmse(),
        "fvu": sums.fvu(),
        "l0": n_active / (len(codes) * n_ranks()),
        "dead_latents": int(trainer.dead_neurons.sum()),
        "dead_poles": poles.dead_poles,
        "two_sidedness": poles.mean_two_sidedness,
        "learning_rate": trainer.optimizer.param_groups[0]["lr"],
    }
    if (coefficient := sparsity_coefficient(trainer.sae.cfg)) is not None:
        row["sparsity_coefficient"] = trainer.coefficient_schedulers[coefficient].value
    row |= {f"losses/{name}": _mean_over_ranks(value) for name, value in output.losses.items()}
    columns = ("dead_poles", "two_sidedness")  # signed SAEs report these; the row has them already
    added = {name: value for name, value in output.metrics.items() if name not in columns}
    return row | {f"metrics/{name}": _mean_over_ranks(value) for name, value in added.items()}


def _mean_over_ranks(value: Any) -> float:
    """Average a number, a scalar tensor or a function that returns one; SAELens allows all three."""
    found = value() if callable(value) else value
    return averaged(torch.as_tensor(found).detach().double().cpu().clone()).item()


def held_out_metrics(found: Reconstruction) -> dict[str, float]:
    """Return the metrics on what is held out, in evaluation mode."""
    row = {"held_out_fvu": found.fvu, "held_out_l0": found.l0}
    if (loss := found.loss) is not None:
        row |= {key: getattr(loss, key) for key in ("ce_clean", "ce_sae", "ce_zero", "ce_mean")}
        row |= {"loss_recovered_zero": loss.zero, "loss_recovered_mean": loss.mean}
    return row


@contextmanager
def codecs_of(trainers: Trainers) -> Iterator[dict[str, ScaledCodec]]:
    """Hold SAEs in training in evaluation mode, and provide them as codecs of raw activations, by name."""
    with ExitStack() as stack:
        for trainer in trainers.values():
            trainer.sae.eval()
            if isinstance(trainer.sae, SignedTrainingSAE):
                stack.enter_context(trainer.sae.vectors_normalized())
        try:
            yield {name: ScaledCodec(trainer.sae, trainer.activation_scaler) for name, trainer in trainers.items()}
        finally:
            for trainer in trainers.values():
                trainer.sae.train()


@dataclass
class HeldOutBatches:
    """Measurement of SAEs in training on the ``n_passes`` batches [n, d_in] that ``read`` yields for the first SAE."""

    n_passes: int
    """Number of calls of ``on_pass`` in a measurement; what that raises ends the measurement."""
    read: Callable[[SAE[Any]], Iterable[torch.Tensor]]

    @torch.no_grad()
    @casts_shared()
    def measure(self, trainers: Trainers, on_pass: Callable[[], None]) -> dict[str, Reconstruction]:
        sums = {name: ReconstructionSums() for name in trainers}
        with codecs_of(trainers) as codecs:
            for x in self.read(trainers["sae"].sae):
                for name, codec in codecs.items():
                    codes = codec.encode(x)
                    sums[name].update(x, codec.decode(codes).to(x), codes)
                on_pass()
        return {name: total.result(None) for name, total in sums.items()}


def held_out_tokens(model: Any, spec: ModelSpec, cfg: TrainingConfig, *, with_logits: bool) -> list[torch.Tensor]:
    """Return ``perf_tokens`` held-out token ids or a few more, in batches [batch, context_size]."""
    d_sae = max(sae.d_sae for sae in cfg.all_saes.values())
    n = cfg.perf_tokens
    return token_batches(model, spec, cfg.text_spec, n, part="held_out", d_sae=d_sae, with_logits=with_logits)


class HeldOutLoss:
    """Measurement of SAEs in training in their language model; no other thread may run the model meanwhile."""

    reference: LossRecovered | None = None
    """An earlier result; its clean and ablated losses are reused."""

    def __init__(self, model: Any, cfg: TrainingConfig) -> None:
        self.model, self.cfg = model, cfg
        self.batches = held_out_tokens(model, cfg.model_spec, cfg, with_logits=True)

    @property
    def n_passes(self) -> int:
        """Number of passes of the language model that the next measurement takes."""
        ablations = 0 if self.reference is not None else 2
        return len(self.batches) * (1 + ablations + len(self.cfg.all_saes))

    def measure(self, trainers: Trainers, on_pass: Callable[[], None]) -> dict[str, Reconstruction]:
        with codecs_of(trainers) as codecs:
            results = evaluate_reconstruction(
                ModelPasses.of_spec(self.model, self.cfg.model_spec, d_in=self.cfg.sae.d_in),
                codecs,
                self.batches,
                token_filter=TokenFilter.of_sae(trainers["sae"].sae, getattr(self.model, "tokenizer", None)),
                reference=self.reference,
                on_pass=on_pass,
            )
        self.reference = results["sae"].loss
        return results


HeldOut = HeldOutBatches | HeldOutLoss


def massive_norms_warning(x: torch.Tensor, cfg: TrainingConfig) -> str | None:
    """Return a warning if the first batch ``x`` [n, d_in] has massive activations that the config could filter."""
    remedies = {
        "max_norm_multiple=10": cfg.max_norm_multiple is None or cfg.max_norm_multiple > MASSIVE,
        "'seqpos_slice=[1,null]'": tuple(cfg.seqpos_slice) == (None,) and not cfg.use_cached_activations,
        "exclude_special_tokens=true": cfg.exclude_special_tokens is False and not cfg.use_cached_activations,
    }
    norms = x.float().norm(dim=1)
    massive = int((norms > MASSIVE * norms.median()).sum())
    if not massive or not any(remedies.values()):
        return None
    found = f"of the first {len(x):,} activations are massive: their norm is more than {MASSIVE} times the median"
    if cfg.source == "vectors":
        return f"{massive:,} {found}. Such rows dominate the loss and FVU; leave them out of the data, or scale them."
    return (
        f"{massive:,} {found}. Such tokens dominate the loss and FVU, and win most latents of a batch; leave them out "
        "as the presets do: " + " ".join(remedy for remedy, helps in remedies.items() if helps)
    )
