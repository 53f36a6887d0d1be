"""The row of metrics of a training step."""

from typing import Any

import torch
from sae_lens import SAETrainer
from sae_lens.saes.sae import TrainStepOutput

from sae_lens_abstopk.dictionary.reconstruction import Reconstruction, ReconstructionSums
from sae_lens_abstopk.saes.poles import pole_counts, pole_statistics
from sae_lens_abstopk.saes.traits import sparsity_coefficient
from sae_lens_abstopk.system.ranks import averaged, n_ranks, summed


@torch.no_grad()
def step_metrics(trainer: SAETrainer[Any, Any], output: TrainStepOutput) -> dict[str, float]:
    """
    Return the metrics of one step on its own batch, the same on all ranks, in units of the raw activations.

    ``dead_latents`` counts latents that have not fired in the last ``dead_feature_window`` steps. ``dead_poles`` and
    ``two_sidedness`` use the firings counted over training where the SAE counts them, else those of the batch.
    ``losses/NAME`` are the parts of the loss and ``metrics/NAME`` what the SAE adds, both in the units of training.
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
    """Return the metrics on held-out text, in evaluation mode."""
    loss = found.loss
    assert loss is not None
    return {
        "held_out_fvu": found.fvu,
        "held_out_l0": found.l0,
        "ce_clean": loss.ce_clean,
        "ce_sae": loss.ce_sae,
        "ce_zero": loss.ce_zero,
        "ce_mean": loss.ce_mean,
        "loss_recovered_zero": loss.zero,
        "loss_recovered_mean": loss.mean,
    }
