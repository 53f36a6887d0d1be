"""What every signed training SAE shares: checked options, centring, row norms, firing counts of each pole."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from sae_lens import AbsTopKTrainingSAE as SAELensAbsTopKTrainingSAE
from sae_lens import TopKTrainingSAEConfig, TrainingSAE
from sae_lens.saes.sae import TrainStepInput, TrainStepOutput
from typing_extensions import override

from sae_lens_abstopk.errors import ConfigError
from sae_lens_abstopk.saes.load_note import write_load_note
from sae_lens_abstopk.saes.poles import PoleStatistics, pole_counts, pole_statistics

B_DEC_INIT_METHODS = ("mean", "geometric_median", "zeros")
# The dead-latent loss compares a decoder output with a residual in the units of the raw activation; these two
# normalise token by token at run time, where SAELens's loss raises at the first step with a dead latent.
RUN_TIME_NORMALISATIONS = ("constant_norm_rescale", "layer_norm")


@dataclass(kw_only=True)
class SignedTrainingSAEConfig(TopKTrainingSAEConfig):
    """
    Options that the signed training SAEs add to SAELens's TopK options; checked when the config is made.

    Args:
        b_dec_init_method: What ``b_dec`` is set to on the first training batch: the ``"mean"`` or the
            ``"geometric_median"`` of its tokens, or ``"zeros"``. An SAE that selects by magnitude and is not centred
            spends latents on the mean, which fire on every token.
        unit_norm_encoder: Hold every encoder column at norm 1, so that no latent wins a slot by the size of its row.
            With ``rescale_acts_by_decoder_norm`` the decoder norm still scales the selection.
        unit_norm_decoder: Hold every decoder row at norm 1.
        pole_window: Training steps after which the firing counts of the poles are halved, so that old ones fade.

    Raises:
        ConfigError: (a ``ValueError``) for a value out of range or a combination that SAELens would only refuse
            hours later; the text names the key, the value, the bound and the remedy.
    """

    b_dec_init_method: Literal["mean", "geometric_median", "zeros"] = "mean"
    unit_norm_encoder: bool = False
    unit_norm_decoder: bool = False
    pole_window: int = 2000

    @override
    def __post_init__(self) -> None:
        for key in ("d_in", "d_sae", "pole_window"):
            require_count(key, getattr(self, key))
        self._check_k()
        if self.b_dec_init_method not in B_DEC_INIT_METHODS:
            raise ConfigError(
                f"b_dec_init_method={self.b_dec_init_method!r} is not known; use one of {', '.join(B_DEC_INIT_METHODS)}."
            )
        if self.aux_loss_coefficient < 0:
            raise ConfigError(f"aux_loss_coefficient={self.aux_loss_coefficient!r} must be 0 or more; 0 turns it off.")
        if self.use_sparse_activations:
            raise ConfigError(
                "use_sparse_activations=True has no effect on signed codes in SAELens; leave it at False."
            )
        if self.normalize_activations in RUN_TIME_NORMALISATIONS and self.aux_loss_coefficient != 0:
            raise ConfigError(
                f"normalize_activations={self.normalize_activations!r} cannot be combined with the dead-latent loss, "
                f"whose residual is in other units (aux_loss_coefficient={self.aux_loss_coefficient!r}); use 'none', "
                "'expected_average_only_in' or 'covariance_whitening', or set aux_loss_coefficient to 0."
            )
        super().__post_init__()

    def _check_k(self) -> None:
        if isinstance(self.k, bool) or not isinstance(self.k, int):
            raise ConfigError(
                f"k={self.k!r} must be an integer: every token keeps exactly k latents. "
                "For an average over the batch, use the architecture batch_abstopk."
            )
        require_k_in_range(self.k, self.d_sae)


class SignedTrainingSAE(SAELensAbsTopKTrainingSAE):
    """
    SAELens's AbsTopK training SAE with the options of :class:`SignedTrainingSAEConfig`.

    Subclasses name an architecture and select the code in ``get_activation_fn``. ``pole_counts`` [2, d_sae] holds how
    often each latent fired in training, positive row first (see ``pole_window``).
    """

    cfg: SignedTrainingSAEConfig  # type: ignore[assignment]
    pole_counts: torch.Tensor

    def __init__(self, cfg: SignedTrainingSAEConfig, use_error_term: bool = False) -> None:
        super().__init__(cast(Any, cfg), use_error_term)
        self.register_buffer("pole_counts", torch.zeros(2, cfg.d_sae, dtype=torch.int64, device=self.device))
        self._rows_may_have_moved = True

    @override
    def training_forward_pass(self, step_input: TrainStepInput) -> TrainStepOutput:
        self._rows_may_have_moved = True
        self.normalize_rows()
        if step_input.n_training_steps == 0:
            initialize_b_dec(self, step_input.sae_in, self.cfg.b_dec_init_method)
        output = super().training_forward_pass(step_input)
        self._rows_may_have_moved = True
        self._count_poles(output.feature_acts, step_input.n_training_steps)
        statistics = self.pole_statistics
        output.metrics.update(
            dead_poles=lambda: statistics().dead_poles,
            two_sidedness=lambda: statistics().mean_two_sidedness,
        )
        return output

    @override
    def calculate_aux_loss(
        self,
        step_input: TrainStepInput,
        feature_acts: torch.Tensor,
        hidden_pre: torch.Tensor,
        sae_out: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        """SAELens's loss on dead latents, selected by magnitude, against the detached residual; none at weight 0."""
        if self.cfg.aux_loss_coefficient == 0:
            return {}
        return super().calculate_aux_loss(step_input, feature_acts, hidden_pre, sae_out)

    @torch.no_grad()
    def normalize_rows(self) -> None:
        """Project the rows that the config holds at norm 1, if an optimiser step may have moved them."""
        # Folding the activation scale into the weights changes their norms for good: project before it, never after.
        if not self._rows_may_have_moved:
            return
        self._rows_may_have_moved = False
        if self.cfg.unit_norm_encoder:
            self.W_enc.div_(self.W_enc.norm(dim=0, keepdim=True).clamp(min=1e-8))
        if self.cfg.unit_norm_decoder:
            self.W_dec.div_(self.W_dec.norm(dim=1, keepdim=True).clamp(min=1e-8))

    def pole_statistics(self) -> PoleStatistics:
        """Dead poles and two-sidedness of the latents, from the firings counted in training."""
        return pole_statistics(self.pole_counts)

    @torch.no_grad()
    def _count_poles(self, feature_acts: torch.Tensor, n_training_steps: int) -> None:
        if n_training_steps > 0 and n_training_steps % self.cfg.pole_window == 0:
            self.pole_counts //= 2
        self.pole_counts += pole_counts(feature_acts)

    @override
    @torch.no_grad()
    def fold_activation_norm_scaling_factor(self, scaling_factor: float) -> None:
        self.normalize_rows()
        super().fold_activation_norm_scaling_factor(scaling_factor)

    @override
    @torch.no_grad()
    def fold_activation_whitening(
        self, mean: torch.Tensor, whitening_matrix: torch.Tensor, unwhitening_matrix: torch.Tensor
    ) -> None:
        self.normalize_rows()
        super().fold_activation_whitening(mean, whitening_matrix, unwhitening_matrix)

    @override
    def save_model(self, path: str | Path) -> tuple[Path, Path]:
        self.normalize_rows()
        written = super().save_model(path)
        write_load_note(path, self.cfg.architecture(), training=True)
        return written

    @override
    def save_inference_model(self, path: str | Path) -> tuple[Path, Path]:
        self.normalize_rows()
        written = super().save_inference_model(path)
        write_load_note(path, self.cfg.get_inference_config_class().architecture())
        return written

    @override
    def process_state_dict_for_saving_inference(self, state_dict: dict[str, Any]) -> None:
        super().process_state_dict_for_saving_inference(state_dict)
        del state_dict["pole_counts"]

    @override
    def get_activation_fn(self) -> Callable[[torch.Tensor], torch.Tensor]:
        raise NotImplementedError(f"{type(self).__name__} must say how it selects its code")


@torch.no_grad()
def initialize_b_dec(sae: TrainingSAE[Any], activations: torch.Tensor, method: str) -> None:
    """
    Centre an SAE that is about to take its first step.

    Args:
        sae: One whose ``b_dec`` is still zero; a fine-tuned one keeps what it has.
        activations: [n_tokens, d_in], in the units that the SAE is given.
        method: One of ``B_DEC_INIT_METHODS``.
    """
    if method == "zeros" or sae.b_dec.any():
        return
    x_BD = sae.run_time_activation_norm_fn_in(activations.to(sae.dtype)).flatten(0, -2).float()
    sae.b_dec.copy_(x_BD.mean(0) if method == "mean" else geometric_median(x_BD))


def geometric_median(x: torch.Tensor, *, iterations: int = 100, tolerance: float = 1e-6) -> torch.Tensor:
    """
    The point with the least summed distance to the rows of ``x``, by Weiszfeld's iteration from the mean.

    Args:
        x: [n, d], float32 or float64.
        iterations: At most this many.
        tolerance: Stop when a step is shorter than this share of the median's own norm.

    Returns:
        [d].
    """
    median = x.mean(0)
    for _ in range(iterations):
        weights = 1 / (x - median).norm(dim=1).clamp(min=1e-8)
        moved = (weights[:, None] * x).sum(0) / weights.sum()
        step = (moved - median).norm()
        median = moved
        if step <= tolerance * median.norm():
            break
    return median


def require_count(key: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"{key}={value!r} must be a whole number of at least 1.")


def require_k_in_range(k: float, d_sae: int) -> None:
    if k < 1 or k > d_sae:
        raise ConfigError(f"k={k!r} must lie between 1 and d_sae={d_sae}; a token cannot keep more latents than exist.")
