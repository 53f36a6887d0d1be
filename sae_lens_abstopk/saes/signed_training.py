"""Base of the signed training SAEs: centring, vector norms, firing counts of each pole, files."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from sae_lens import AbsTopKTrainingSAE as SAELensAbsTopKTrainingSAE
from sae_lens.saes.sae import TrainStepInput, TrainStepOutput
from torch import Tensor
from typing_extensions import override

from sae_lens_abstopk.saes.centring import BDecInitMethod, initialize_b_dec
from sae_lens_abstopk.saes.load_note import write_load_note
from sae_lens_abstopk.saes.poles import PoleStatistics, pole_counts, pole_statistics
from sae_lens_abstopk.saes.sparse_training import SparseTrainingSAE, SparseTrainingSAEConfig
from sae_lens_abstopk.saes.traits import Traits
from sae_lens_abstopk.sparse import row_norms
from sae_lens_abstopk.system.errors import ConfigError, require_range
from sae_lens_abstopk.system.ranks import summed


@dataclass(kw_only=True)
class SignedTrainingSAEConfig(SparseTrainingSAEConfig):
    """
    Options that the signed training SAEs add to those of :class:`SparseTrainingSAEConfig`.

    Args:
        b_dec_init_method: Value of ``b_dec`` from the first training batch on: the ``"mean"`` or the
            ``"geometric_median"`` of its tokens, or ``"zeros"``. An SAE that selects by magnitude and is not centred
            spends latents on the mean, which fire on every token.
        unit_norm_encoder: Hold every encoder vector at norm 1, so that no latent wins a slot by its size.
            With ``rescale_acts_by_decoder_norm`` the decoder norm still scales the selection.
        unit_norm_decoder: Hold every decoder vector at norm 1.
        pole_window: Training steps after which the firing counts of the poles are halved, so that old ones fade.
        odd: Train without biases, so that z(-x) = -z(x) to the bit. For inputs whose sign is arbitrary, such as
            differences; all latents are signed, and nothing is centred.
    """

    traits: ClassVar[Traits] = Traits(signed=True, k_per="token")
    b_dec_init_method: BDecInitMethod = "mean"
    unit_norm_encoder: bool = False
    unit_norm_decoder: bool = False
    pole_window: int = 2000
    odd: bool = False

    @override
    def __post_init__(self) -> None:
        super().__post_init__()
        require_range("pole_window", self.pole_window, at_least=1)
        if self.odd:
            for key, centring in (
                ("normalize_activations", "covariance_whitening"),
                ("b_dec_init_method", "geometric_median"),
            ):
                if getattr(self, key) == centring:
                    raise ConfigError(f"{key}={centring!r} subtracts a centre, and an odd SAE has none; leave it out.")
            self.b_dec_init_method = "zeros"


class SignedTrainingSAE(SparseTrainingSAE, SAELensAbsTopKTrainingSAE):
    """SAELens's AbsTopK training SAE with the options of :class:`SignedTrainingSAEConfig`."""

    cfg: SignedTrainingSAEConfig  # type: ignore[assignment]
    pole_counts: Tensor
    """Firings in training, [2, d_sae], positive row first (see ``pole_window``)."""

    def __init__(self, cfg: SignedTrainingSAEConfig, use_error_term: bool = False) -> None:
        super().__init__(cast(Any, cfg), use_error_term)
        self.register_buffer("pole_counts", torch.zeros(2, cfg.d_sae, dtype=torch.int64, device=self.device))
        self._vectors_may_have_moved = False  # an optimiser step moves them; loaded ones may have a folded scale

    @override
    def initialize_weights(self) -> None:
        super().initialize_weights()
        for bias in (self.b_enc, self.b_dec):
            bias.requires_grad_(not self.cfg.odd)

    @override
    def training_forward_pass(self, step_input: TrainStepInput) -> TrainStepOutput:
        self._vectors_may_have_moved = True
        self.normalize_vectors()
        if step_input.n_training_steps == 0:
            initialize_b_dec(self, step_input.sae_in, self.cfg.b_dec_init_method)
        output = super().training_forward_pass(step_input)
        self._vectors_may_have_moved = True
        if step_input.n_training_steps > 0 and step_input.n_training_steps % self.cfg.pole_window == 0:
            self.pole_counts //= 2
        self.pole_counts += summed(pole_counts(output.feature_acts.detach()))
        output.metrics.update(
            dead_poles=lambda: self.pole_statistics().dead_poles,
            two_sidedness=lambda: self.pole_statistics().mean_two_sidedness,
        )
        return output

    @torch.no_grad()
    def normalize_vectors(self) -> None:
        """Project the vectors that the config holds at norm 1, if an optimiser step may have moved them."""
        # folding the activation scale changes the norms for good: project before, never after
        if not self._vectors_may_have_moved:
            return
        self._vectors_may_have_moved = False
        if self.cfg.unit_norm_encoder:
            self.W_enc.div_(row_norms(self.W_enc.T).clamp(min=1e-8))
        if self.cfg.unit_norm_decoder:
            self.W_dec.div_(row_norms(self.W_dec).clamp(min=1e-8)[:, None])

    @contextmanager
    def vectors_normalized(self) -> Generator[None]:
        """Hold the vectors at norm 1 within this context, as at the next step or when the SAE is saved."""
        if not (self.cfg.unit_norm_encoder or self.cfg.unit_norm_decoder):
            yield
            return
        kept, moved = (self.W_enc.data, self.W_dec.data), self._vectors_may_have_moved
        self.W_enc.data, self.W_dec.data = (weight.clone() for weight in kept)
        self.normalize_vectors()
        try:
            yield
        finally:
            self.W_enc.data, self.W_dec.data = kept
            self._vectors_may_have_moved = moved

    def pole_statistics(self) -> PoleStatistics:
        return pole_statistics(self.pole_counts)

    @override
    @torch.no_grad()
    def fold_activation_norm_scaling_factor(self, scaling_factor: float) -> None:
        self.normalize_vectors()
        super().fold_activation_norm_scaling_factor(scaling_factor)

    @override
    @torch.no_grad()
    def fold_activation_whitening(self, mean: Tensor, whitening_matrix: Tensor, unwhitening_matrix: Tensor) -> None:
        self.normalize_vectors()
        super().fold_activation_whitening(mean, whitening_matrix, unwhitening_matrix)

    @override
    @torch.no_grad()
    def fold_W_dec_norm(self) -> None:
        self.normalize_vectors()
        super().fold_W_dec_norm()

    @override
    def save_model(self, path: str | Path) -> tuple[Path, Path]:
        self.normalize_vectors()
        written = super().save_model(path)
        write_load_note(path, self.cfg.architecture(), training=True)
        return written

    @override
    def save_inference_model(self, path: str | Path) -> tuple[Path, Path]:
        self.normalize_vectors()
        written = super().save_inference_model(path)
        write_load_note(path, self.cfg.get_inference_config_class().architecture())
        return written

    @override
    def process_state_dict_for_loading(self, state_dict: dict[str, Any]) -> None:
        super().process_state_dict_for_loading(state_dict)
        # SAELens's own abstopk has no counts, and its loader casts all tensors to the SAE's dtype
        none_yet = state_dict["W_dec"].new_zeros(2, self.cfg.d_sae)
        # float16 ends at 65,504
        state_dict["pole_counts"] = state_dict.get("pole_counts", none_yet).nan_to_num(posinf=65_504).long()

    @override
    def process_state_dict_for_saving_inference(self, state_dict: dict[str, Any]) -> None:
        super().process_state_dict_for_saving_inference(state_dict)
        del state_dict["pole_counts"]
