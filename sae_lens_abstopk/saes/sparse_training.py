"""Base of the training SAEs whose step runs on the sparse kernels: options that are checked, and the switch back."""

import math
import numbers
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from sae_lens import TopKTrainingSAE, TopKTrainingSAEConfig
from sae_lens.saes.sae import TrainStepInput, TrainStepOutput, mse_loss
from typing_extensions import override

from sae_lens_abstopk.saes.own_code import has_foreign
from sae_lens_abstopk.saes.sparse_step import dead_latent_loss, sparse_training_step
from sae_lens_abstopk.saes.topk_codes import encoder_of
from sae_lens_abstopk.sparse import EncoderWeights, SparseCodes
from sae_lens_abstopk.sparse.candidates import bfloat16_is_fast
from sae_lens_abstopk.system.errors import ConfigError

SparseBackend = Literal["sparse", "dense"]
SelectionDtype = Literal["auto", "float32", "bfloat16"]
# The dead-latent loss compares a decoder output with a residual in the units of the raw activation; these two
# normalise token by token at run time, where SAELens's loss raises at the first step with a dead latent.
RUN_TIME_NORMALISATIONS = ("constant_norm_rescale", "layer_norm")
# methods of SAELens's step that the sparse one does not call
COMPUTED_OTHERWISE = (
    *("process_sae_in", "encode_with_hidden_pre", "decode"),
    *("calculate_aux_loss", "calculate_topk_aux_loss", "calculate_abstopk_aux_loss"),
)


@dataclass(kw_only=True)
class SparseTrainingSAEConfig(TopKTrainingSAEConfig):
    """
    SAELens's TopK options, checked when the config is made.

    Args:
        sparse_backend: ``"sparse"`` trains on the kernels of :mod:`sae_lens_abstopk.sparse`; ``"dense"`` on SAELens's
            own step, which gives the same numbers. Half-precision parameters, hooks on the codes, and a subclass or an
            ``mse_loss_fn`` of your own that changes the loss, the encoder or the decoder always take it.
        selection_dtype: Precision of the search for the latents to keep. ``"bfloat16"`` finds candidates in half
            precision, then computes them and proves the choice in float32: the latents and values of ``"float32"``, up
            to the rounding of float32 sums, in steps of 768 tokens or more. ``"auto"`` takes it where the processor multiplies
            bfloat16 matrices fast.
            On a GPU it is always float32: products there may round partial sums, and the proof allows for one rounding.

    Raises:
        ConfigError: (a ``ValueError``) for a value out of range or a combination that SAELens would only refuse
            hours later; the text names the key, the value, the bound and the remedy.
    """

    sparse_backend: SparseBackend = "sparse"
    selection_dtype: SelectionDtype = "auto"

    @override
    def __post_init__(self) -> None:
        for key in ("d_in", "d_sae"):
            setattr(self, key, require_count(key, getattr(self, key)))
        self._check_k()
        for key, choices in (("sparse_backend", SparseBackend), ("selection_dtype", SelectionDtype)):
            require_choice(key, getattr(self, key), get_args(choices))
        if not 0 <= self.aux_loss_coefficient < math.inf:
            raise ConfigError(
                f"aux_loss_coefficient={self.aux_loss_coefficient!r} must be 0 or more and finite; 0 turns it off."
            )
        if self.use_sparse_activations:
            raise ConfigError(
                "use_sparse_activations=True has no effect here; leave it at False (sparse_backend says how it trains)."
            )
        if self.normalize_activations in RUN_TIME_NORMALISATIONS and self.aux_loss_coefficient != 0:
            raise ConfigError(
                f"normalize_activations={self.normalize_activations!r} cannot be combined with the dead-latent loss, "
                f"whose residual is in other units (aux_loss_coefficient={self.aux_loss_coefficient!r}); use 'none', "
                "'expected_average_only_in' or 'covariance_whitening', or set aux_loss_coefficient to 0."
            )
        super().__post_init__()

    def _check_k(self) -> None:
        if isinstance(self.k, bool) or not isinstance(self.k, numbers.Integral):
            raise ConfigError(
                f"k={self.k!r} must be an integer: every token keeps exactly k latents. "
                "For an average over the batch, use an architecture that selects over the batch."
            )
        self.k = int(self.k)
        require_k_in_range(self.k, self.d_sae)


class SparseTrainingSAE(TopKTrainingSAE):
    """A TopK-like training SAE that takes :func:`sparse_training_step` where it can, SAELens's own step elsewhere."""

    cfg: SparseTrainingSAEConfig  # type: ignore[assignment]
    signed = False

    def __init__(self, cfg: SparseTrainingSAEConfig, use_error_term: bool = False) -> None:
        super().__init__(cfg, use_error_term)
        self._require_saved_as_trained()

    @property
    def open_poles(self) -> torch.Tensor | None:
        """Poles that may be on, bool [2, d_sae], positive row first; None for all."""
        return None

    @property
    def inner_widths(self) -> tuple[int, ...]:
        """Numbers of leading latents that are to reconstruct by themselves too."""
        return ()

    def encoder(self) -> EncoderWeights:
        """The weights that :meth:`select` looks at, without gradients."""
        return encoder_of(self, signed=self.signed, half_precision=self.selects_in_half_precision())

    @abstractmethod
    def select(self, encoder: EncoderWeights, centred_BD: torch.Tensor) -> SparseCodes:
        """The entries that :meth:`get_activation_fn` keeps, found by the sparse kernels."""

    @abstractmethod
    @override
    def get_activation_fn(self) -> Callable[[torch.Tensor], torch.Tensor]: ...

    @override
    def training_forward_pass(self, step_input: TrainStepInput) -> TrainStepOutput:
        # of tokens [n, d_in], not of contexts
        if self.takes_sparse_step() and step_input.sae_in.ndim == 2:
            return sparse_training_step(self, step_input)
        return super().training_forward_pass(step_input)

    def takes_sparse_step(self) -> bool:
        """Whether the next training step runs on the sparse kernels."""
        if self.cfg.sparse_backend == "dense" or self.dtype not in (torch.float32, torch.float64):
            return False
        on_codes = (self.hook_sae_acts_pre, self.hook_sae_acts_post)
        hooked = any(point._forward_hooks or point._backward_hooks for point in on_codes)
        same_loss = self.mse_loss_fn is mse_loss and not any(has_foreign(self, method) for method in COMPUTED_OTHERWISE)
        same_choice = not has_foreign(self, "get_activation_fn") or has_foreign(self, "select")
        return same_loss and same_choice and not hooked

    def _require_saved_as_trained(self) -> None:
        """
        Refuse a subclass elsewhere that trains with an activation of its own, and would be saved and measured with ours.

        Raises:
            ConfigError: always then; names what to override.
        """
        if not has_foreign(self, "get_activation_fn"):
            return
        own, config = type(self).__name__, type(self.cfg).__name__
        if not has_foreign(self.cfg, "get_inference_config_class"):
            raise ConfigError(
                f"{own} has an activation of its own, but its config would save it as "
                f"{self.cfg.get_inference_config_class().architecture()!r}, whose codes are others; let "
                f"{config}.get_inference_config_class return the config of an SAE whose encode gives the codes of {own}."
            )
        if hasattr(self, "over_threshold") and not has_foreign(self, "over_threshold"):
            raise ConfigError(
                f"{own} has an activation of its own, but in evaluation mode codes by the threshold of {self.cfg.architecture()!r}'s "
                "base class; override over_threshold(hidden_pre) too."
            )

    def selects_in_half_precision(self) -> bool:
        """Whether the sparse step looks for its candidates in bfloat16."""
        asked = self.cfg.selection_dtype
        device = self.W_dec.device
        return bfloat16_is_fast(device) if asked == "auto" else asked == "bfloat16" and device.type == "cpu"

    @override
    def calculate_aux_loss(
        self,
        step_input: TrainStepInput,
        feature_acts: torch.Tensor,
        hidden_pre: torch.Tensor,
        sae_out: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        """SAELens's loss on dead latents against the detached residual; none at weight 0. Closed poles need our own."""
        if self.cfg.aux_loss_coefficient == 0:
            return {}
        mask = step_input.dead_neuron_mask
        if self.open_poles is not None and mask is not None and len(dead := mask.nonzero().squeeze(1)):
            centred_BD, residual_BD = self.process_sae_in(step_input.sae_in), (step_input.sae_in - sae_out).detach()
            loss = dead_latent_loss(self, centred_BD, residual_BD, dead, self.encoder())
            return {"auxiliary_reconstruction_loss": loss}
        return super().calculate_aux_loss(step_input, feature_acts, hidden_pre, sae_out)

    @override
    def initialize_weights(self) -> None:
        super().initialize_weights()
        self.W_enc.data = along_d_in(self.W_enc.data)

    @override
    def process_state_dict_for_loading(self, state_dict: dict[str, Any]) -> None:
        super().process_state_dict_for_loading(state_dict)
        state_dict["W_enc"] = along_d_in(state_dict["W_enc"])

    @override
    def process_state_dict_for_saving(self, state_dict: dict[str, Any]) -> None:
        super().process_state_dict_for_saving(state_dict)
        state_dict["W_enc"] = state_dict["W_enc"].contiguous()  # safetensors takes no other layout


def along_d_in(W_enc: torch.Tensor) -> torch.Tensor:
    """The same numbers [D, F], laid out along D: the encoder gradient comes latent by latent."""
    return W_enc.T.contiguous().T


def require_count(key: str, value: object) -> int:
    """``value``, which may be NumPy's, as an int; refused where it is not a whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
        raise ConfigError(f"{key}={value!r} must be a whole number of at least 1.")
    return int(value)


def require_choice(key: str, value: str, choices: tuple[str, ...]) -> None:
    """Refuse what is not one of ``choices``."""
    if value not in choices:
        raise ConfigError(f"{key}={value!r} is not known; use one of {', '.join(choices)}.")


def require_k_in_range(k: float, d_sae: int) -> None:
    """Refuse a k that no code can have."""
    if not 1 <= k <= d_sae:
        why = "a token cannot keep more latents than exist" if k > d_sae else "a token keeps at least one latent"
        raise ConfigError(f"k={k:g} must lie between 1 and d_sae={d_sae}; {why}.")
