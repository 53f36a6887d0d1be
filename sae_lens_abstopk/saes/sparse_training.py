"""Base of training SAEs on the sparse kernels: checked options, and the fallback to the dense step."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from sae_lens import TopKTrainingSAE, TopKTrainingSAEConfig
from sae_lens.registry import SAE_TRAINING_CLASS_REGISTRY
from sae_lens.saes.sae import SAEConfig, TrainStepInput, TrainStepOutput, mse_loss
from torch import Tensor
from typing_extensions import override

from sae_lens_abstopk.saes.sparse_step import dead_latent_loss, encoder_of, sparse_training_step
from sae_lens_abstopk.saes.traits import Traits, overridden
from sae_lens_abstopk.sparse import EncoderWeights, SparseCodes
from sae_lens_abstopk.sparse.candidates import bfloat16_is_fast
from sae_lens_abstopk.system.errors import ConfigError, require_choice, require_range
from sae_lens_abstopk.system.typed_values import field_types, require_default, typed_value

# the dead-latent loss is in units of the raw activation; these two normalise each token at run time, where SAELens's
# loss raises at the first step with a dead latent
RUN_TIME_NORMALISATIONS = ("constant_norm_rescale", "layer_norm")


def require_one_scale(cfg: SAEConfig, why: str) -> None:
    """Raise a ConfigError if an SAE scales each activation by its own norm or deviation, as it runs."""
    if cfg.normalize_activations in RUN_TIME_NORMALISATIONS:
        raise ConfigError(
            f"normalize_activations={cfg.normalize_activations!r} scales each activation by itself, and {why}; use "
            "'none', 'expected_average_only_in' or 'covariance_whitening'."
        )


# methods of SAELens's step that the sparse one does not call
SKIPPED = (
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
            to the rounding of float32 sums, in steps of 768 tokens or more. ``"auto"`` takes it where the processor
            multiplies bfloat16 matrices fast. On a GPU it is always float32: products there may round partial sums,
            and the proof allows for one rounding.
        reconstruction_loss: Squared error, or the cosine distance at k latents plus an eighth of that at 4 k, as
            CompresSAE trains (arXiv 2505.11388). With the cosine, lengths of reconstructions are free, so FVU means
            little; it needs the sparse backend, float32 or float64, and no dead-latent loss.
    """

    traits: ClassVar[Traits] = Traits(k_per="token")
    sparse_backend: Literal["sparse", "dense"] = "sparse"
    selection_dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    reconstruction_loss: Literal["mse", "cosine"] = "mse"

    @override
    def __post_init__(self) -> None:
        for key, hint in field_types(type(self)).items():
            if key not in ("metadata", "normalize_activations"):  # SAELens checks the latter, for more than its type
                setattr(self, key, typed_value(key, getattr(self, key), hint))
        require_range("d_in", self.d_in, at_least=1)
        require_range("d_sae", self.d_sae, at_least=1)
        require_range("k", self.k, at_least=1, at_most=self.d_sae, remedy=" (d_sae)")
        require_range("aux_loss_coefficient", self.aux_loss_coefficient, at_least=0)
        require_default(self, "use_sparse_activations", "set sparse_backend")
        if self.aux_loss_coefficient != 0:
            require_one_scale(self, "the dead-latent loss (aux_loss_coefficient) is in other units")
        if self.reconstruction_loss == "cosine":
            for key, allowed in (
                ("aux_loss_coefficient", (0,)),
                ("sparse_backend", ("sparse",)),
                ("dtype", ("float32", "float64")),
            ):
                require_choice(key, getattr(self, key), allowed, remedy=" with reconstruction_loss='cosine'")
        super().__post_init__()

    @property
    def n_signed(self) -> int:
        """Number of latents that may fire on both sides, the first ones."""
        return self.d_sae if self.traits.signed else 0


class SparseTrainingSAE(TopKTrainingSAE):
    """A TopK-like training SAE that uses :func:`sparse_training_step` if it can, else SAELens's own step."""

    cfg: SparseTrainingSAEConfig  # type: ignore[assignment]

    def __init__(self, cfg: SparseTrainingSAEConfig, use_error_term: bool = False) -> None:
        super().__init__(cfg, use_error_term)
        self._require_saved_as_trained()

    @property
    def inner_widths(self) -> tuple[int, ...]:
        """Widths of prefixes of latents that shall reconstruct by themselves too."""
        return ()

    def encoder(self) -> EncoderWeights:
        """Return the weights for :meth:`select`, without gradients."""
        wanted, device = self.cfg.selection_dtype, self.W_dec.device
        half = bfloat16_is_fast(device) if wanted == "auto" else wanted == "bfloat16" and device.type == "cpu"
        return encoder_of(self, n_signed=self.cfg.n_signed, half_precision=half)

    @abstractmethod
    def select(self, encoder: EncoderWeights, centred_BD: Float[Tensor, "B D"], multiple: int = 1) -> SparseCodes:
        """Return the entries that :meth:`get_activation_fn` keeps at ``multiple`` times k, by the sparse kernels."""

    @abstractmethod
    @override
    def get_activation_fn(self) -> Callable[[Tensor], Tensor]: ...

    @override
    def training_forward_pass(self, step_input: TrainStepInput) -> TrainStepOutput:
        # for tokens [n, d_in], not contexts
        if self.takes_sparse_step() and step_input.sae_in.ndim == 2:
            return sparse_training_step(self, step_input)
        if self.cfg.reconstruction_loss == "cosine":
            raise ConfigError(
                "reconstruction_loss='cosine' is computed by the sparse step only: for tokens [n, d_in], without hooks "
                "on the codes, and without a loss, encoder or decoder of your own."
            )
        return super().training_forward_pass(step_input)

    def takes_sparse_step(self) -> bool:
        """Return whether the next training step runs on the sparse kernels."""
        if self.cfg.sparse_backend == "dense" or self.dtype not in (torch.float32, torch.float64):
            return False
        on_codes: tuple[Any, ...] = (self.hook_sae_acts_pre, self.hook_sae_acts_post)
        hooked = any(point._forward_hooks or point._backward_hooks for point in on_codes)
        same_loss = self.mse_loss_fn is mse_loss and not overridden(self, SparseTrainingSAE, SKIPPED)
        same_choice = bool(overridden(self, self._base_of_activation(), ("select",)))
        return same_loss and same_choice and not hooked

    def _base_of_activation(self) -> type:
        """Return the class whose activation this one replaces; ``SparseTrainingSAE`` if there is none."""
        return [each for each in type(self).__mro__ if "get_activation_fn" in vars(each)][1]

    def _require_saved_as_trained(self) -> None:
        """Raise a ConfigError if a user's activation would be saved and measured as its base's."""
        base = self._base_of_activation()
        config_of: dict[type, type] = dict(SAE_TRAINING_CLASS_REGISTRY.values())
        saved_as: Any = getattr(config_of.get(base), "get_inference_config_class", None)
        missing = None
        if type(self.cfg).get_inference_config_class is saved_as:
            missing = f"{type(self.cfg).__name__}.get_inference_config_class, the config that it is saved as"
        elif hasattr(self, "over_threshold") and not overridden(self, base, ("over_threshold",)):
            missing = "over_threshold(hidden_pre), which codes one token in evaluation mode"
        if missing is not None:
            raise ConfigError(
                f"{type(self).__name__} has an activation of its own, but would be saved or measured with that of "
                f"{base.__name__}; override {missing}."
            )

    @override
    def calculate_aux_loss(
        self, step_input: TrainStepInput, feature_acts: Tensor, hidden_pre: Tensor, sae_out: Tensor
    ) -> dict[str, Tensor]:
        """Compute SAELens's loss on dead latents against the detached residual; our own if only some are signed."""
        if self.cfg.aux_loss_coefficient == 0:
            return {}
        mask, partly_signed = step_input.dead_neuron_mask, self.cfg.traits.signed and self.cfg.n_signed < self.cfg.d_sae
        if partly_signed and mask is not None and len(dead := mask.nonzero().squeeze(1)):
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
        state_dict["W_enc"] = state_dict["W_enc"].contiguous()  # safetensors needs contiguous tensors


def along_d_in(W_enc: Float[Tensor, "D F"]) -> Float[Tensor, "D F"]:
    """Lay out the encoder along D, because its gradient comes latent by latent."""
    return W_enc.T.contiguous().T
