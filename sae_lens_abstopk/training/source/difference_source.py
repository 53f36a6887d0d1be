"""Differences of the activations of two models: the activation store of tokens, with two passes a batch."""

from typing_extensions import override

from sae_lens_abstopk.model.model_pair import ModelPair
from sae_lens_abstopk.model.template_tokens import unmarked
from sae_lens_abstopk.system.errors import ConfigError
from sae_lens_abstopk.training.source.language_model_source import RECORDED, LanguageModelSource, RawBatch


class DifferenceSource(LanguageModelSource):
    """
    An :class:`.ActivationSource` of h_tuned - h_base, of the same tokens at one hook.

    Tokens are left out by the norms of the base model.
    """

    recorded_keys = (*RECORDED, "source", "tuned_model", "adapter", "use_chat_formatting", "exclude_chat_template")
    pair: ModelPair
    _differs: bool = False

    @override
    def raw_batch(self, raise_on_epoch_end: bool = False) -> RawBatch:
        tokens = self.get_batch_tokens(raise_at_epoch_end=raise_on_epoch_end)
        found = self.pair.activations(tokens)
        read = (slice(None), slice(*self.seqpos_slice))
        tokens, base, x = (each[read].flatten(0, 1).to(self.device) for each in (tokens, found.base, found.difference))
        if not self._differs and not x.any():
            raise ConfigError(
                f"nothing differs at {self.hook_name}: all differences of the first {self.store_batch_size_prompts} "
                f"contexts are 0. The fine-tune {self.pair.spec.tuned!r} changed nothing up to there; take a later "
                "layer, or give another fine-tune."
            )
        self._differs = True
        batch = RawBatch(x, unmarked(tokens), base.float().norm(dim=-1))
        return batch.rows(tokens >= 0) if self.marks_template else batch
