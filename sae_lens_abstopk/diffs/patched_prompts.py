"""Both models' continuations of prompts, each also with the other model's part along a latent."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sae_lens_abstopk.diffs.diff_files import SAE_FOLDER
from sae_lens_abstopk.diffs.writing import NEW_TOKENS, Writer
from sae_lens_abstopk.evaluation.steering.steer import written_by
from sae_lens_abstopk.evaluation.subjects.sae_specs import model_of_metadata
from sae_lens_abstopk.model.model_pair import ModelPair
from sae_lens_abstopk.model.model_spec import ModelPairSpec
from sae_lens_abstopk.model.token_filter import TokenFilter
from sae_lens_abstopk.saes.loading import load_sae
from sae_lens_abstopk.system.errors import require_range
from sae_lens_abstopk.system.typed_values import from_keys
from sae_lens_abstopk.text.text_spec import TextSpec


class PatchedPrompt(NamedTuple):
    """Greedy continuations of a prompt."""

    prompt: str
    base: str
    base_patched: str
    """By the base model, with the tuned model's part along the latent."""
    tuned: str
    tuned_patched: str
    """By the tuned model, with the base model's part along the latent: without what it changed there."""


def patch_prompts(
    folder: str | Path,
    latent: int,
    prompts: Sequence[str],
    *,
    chat: bool = False,
    max_new_tokens: int = NEW_TOKENS,
    device: str = "auto",
) -> list[PatchedPrompt]:
    """
    Continue prompts with both models, and with either while its part along a latent is the other's.

    While both models read the same tokens, the projection on the latent's decoder row at the hook is exchanged at every
    token that the SAE was trained on.

    Args:
        folder: Output of ``abstopk diff``.
        latent: The latent.
        prompts: Texts to continue.
        chat: The prompts are a user's turns.
        max_new_tokens: Longest continuation.
        device: Where the models run.

    Raises:
        ConfigError: the folder holds no SAE of two models, the SAE lacks the latent, or a model cannot be loaded.
    """
    at = Path(folder) / SAE_FOLDER
    sae = load_sae(at)
    require_range("latent", latent, at_least=0, below=sae.cfg.d_sae)
    metadata: Any = sae.cfg.metadata
    models = {name: metadata.get(name) for name in ("tuned_model", "adapter")}
    spec = from_keys(ModelPairSpec, vars(model_of_metadata(at, sae, device=device)) | models)
    text = TextSpec(dataset_path="prompts", context_size=2, use_chat_formatting=chat)
    pair = ModelPair.load(spec, text, d_in=sae.cfg.d_in)
    write = Writer(pair, TokenFilter.of_sae(sae, pair.tokenizer), list(prompts), {"chat": chat}, max_new_tokens)
    row = written_by(sae, latent)
    columns = write(pair.base), write.patched(row, of="base"), write(pair.tuned), write.patched(row, of="tuned")
    return [PatchedPrompt(*each) for each in zip(prompts, *columns, strict=True)]
