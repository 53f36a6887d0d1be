"""Models, texts and passes of a training config, for tests below training."""

from collections.abc import Sequence
from typing import Any

from sae_lens_abstopk.model import check_hook as hook_checks
from sae_lens_abstopk.model.language_model import load_language_model
from sae_lens_abstopk.model.model_passes import ModelPasses
from sae_lens_abstopk.model.text_store import token_batches
from sae_lens_abstopk.text.documents import Text, load_text
from sae_lens_abstopk.text.text_spec import TextPart
from sae_lens_abstopk.training.config.training_config import TrainingConfig


def model_of(cfg: TrainingConfig, hook_names: Sequence[str] | None = None) -> Any:
    return load_language_model(cfg.model_spec, cfg.text_spec, hook_names)


def documents_of(cfg: TrainingConfig, part: TextPart) -> Text:
    return load_text(cfg.text_spec, part)


def passes_of(model: Any, cfg: TrainingConfig) -> ModelPasses:
    return ModelPasses.of_spec(model, cfg.model_spec, d_in=cfg.sae.d_in)


def tokens_of(model: Any, cfg: TrainingConfig, n_tokens: int, **options: Any) -> Any:
    return token_batches(model, cfg.model_spec, cfg.text_spec, n_tokens, **options)


def check_hook(cfg: TrainingConfig) -> None:
    hook_checks.check_hook(cfg.model_spec, d_in=cfg.sae.d_in, context_size=cfg.context_size)


def check_activations(model: Any, cfg: TrainingConfig) -> None:
    hook_checks.check_activations(model, cfg.model_spec, d_in=cfg.sae.d_in)
