"""A loaded base model and its fine-tune: both at a hook, and either by itself."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self, cast

import torch
from jaxtyping import Bool, Float, Int
from sae_lens.load_model import HookedProxyLM
from sae_lens.training.activations_store import _get_input_token_device
from transformer_lens.HookedRootModule import HookedRootModule

from sae_lens_abstopk.model.adapter_switch import AdapterSwitch
from sae_lens_abstopk.model.check_hook import check_activations
from sae_lens_abstopk.model.check_pair import check_pair
from sae_lens_abstopk.model.language_model import load_language_model
from sae_lens_abstopk.model.model_passes import ModelPasses
from sae_lens_abstopk.model.model_shape import model_shape
from sae_lens_abstopk.model.model_spec import ModelPairSpec
from sae_lens_abstopk.model.template_tokens import unmarked
from sae_lens_abstopk.model.token_filter import TokenFilter, require_finite
from sae_lens_abstopk.system.precision import weights_precision
from sae_lens_abstopk.text.text_spec import TextSpec


class PairActivations(NamedTuple):
    """Activations of the same tokens in both models, on the device of the base model."""

    base: Float[torch.Tensor, "batch context d_in"]
    tuned: Float[torch.Tensor, "batch context d_in"]

    @property
    def difference(self) -> Float[torch.Tensor, "batch context d_in"]:
        """Tuned minus base, in float32: positive where the tuned model has more."""
        return self.tuned.float() - self.base.float()


class KeptDifferences(NamedTuple):
    """Differences of the tokens that a filter keeps."""

    activations: PairActivations
    """Activations of all tokens, also of those that are not kept."""
    kept: Bool[torch.Tensor, "batch context"]
    x: Float[torch.Tensor, "n d_in"]
    """h_tuned - h_base of the kept tokens, float32."""


@dataclass(frozen=True, eq=False)
class ModelPair:
    """
    A base model and its fine-tune, with the tuned model's tokenizer. Use :meth:`base` and :meth:`tuned` to run one.

    An adapter is switched on and off on one copy of the model, so only one of the two can run at a time.
    """

    spec: ModelPairSpec
    d_in: int
    """Width of the activations at the hook."""
    base_model: HookedRootModule
    tuned_model: HookedRootModule
    """With an adapter, the same object as ``base_model``."""
    switch: AdapterSwitch | None = None

    @classmethod
    def load(cls, spec: ModelPairSpec, text: TextSpec, *, d_in: int | None = None) -> Self:
        """
        Load both models, in evaluation mode.

        Args:
            text: What they will read: its contexts have to fit, and conversations need a chat template.
            d_in: Width of the activations at the hook, by default that of the residual stream.

        Raises:
            ConfigError: as :func:`.check_pair`, before weights are read; or the hook is not ``d_in`` wide.
        """
        d_in = d_in or model_shape(spec.model_name, spec.model_class_name, spec.load_options).width
        tokenizer = check_pair(spec, text, d_in=d_in)
        # the base model may have no chat template
        plain = replace(text, use_chat_formatting=False, exclude_chat_template=False)
        base = load_language_model(spec, plain)
        switch = None
        if spec.adapter is not None:
            inner: Any = cast(HookedProxyLM, base).model
            switch = AdapterSwitch(inner, spec.adapter)
            # the adapter may have replaced the module of the hook
            base = tuned = HookedProxyLM(inner, cast(Any, base).tokenizer, hook_names=[spec.hook_name])
        else:
            tuned = load_language_model(spec.tuned_spec, plain)
        for model, of_model in ((base, spec), (tuned, spec.tuned_spec)):
            cast(Any, model).tokenizer = tokenizer
            check_activations(model, of_model, d_in=d_in)
        return cls(spec, d_in, base.eval(), tuned.eval(), switch)

    @property
    def tokenizer(self) -> Any:
        """The tokenizer of both models."""
        return cast(Any, self.base_model).tokenizer

    @property
    def precision(self) -> str:
        """
        The precision in which both models read: that of the weights, unless the spec wants autocast.

        There is no trial of bfloat16. Its rounding can be as large as what a light fine-tune changes: of one whose
        differences had 2 % of the activations' norm, it was 16 % of their variance.
        """
        return "bfloat16" if self.spec.autocast_lm else weights_precision(self.base_model)

    @contextmanager
    def base(self) -> Iterator[HookedRootModule]:
        """
        Provide the base model, for passes, edits at the hook and generation.

        Example:
            >>> with pair.base() as model, intervene(model, pair.spec.hook_name, edit):
            ...     TextModel(model).generate(prompts, samples=1, max_new_tokens=20)
        """
        with self._turned(on=False):
            yield self.base_model

    @contextmanager
    def tuned(self) -> Iterator[HookedRootModule]:
        """Provide the tuned model, as :meth:`base` does the base model."""
        with self._turned(on=True):
            yield self.tuned_model

    def passes(self, model: HookedRootModule) -> ModelPasses:
        """Return the passes around the hook of the model that :meth:`base` or :meth:`tuned` provides."""
        return ModelPasses.of_spec(model, self.spec, d_in=self.d_in)

    def activations(self, tokens: Int[torch.Tensor, "batch context"]) -> PairActivations:
        """Run each model once over the tokens, up to the hook; ids may be marked (:mod:`.template_tokens`)."""
        tokens = unmarked(tokens)
        with self.base() as model:
            base = self.passes(model).activations(tokens.to(_get_input_token_device(model)))
        with self.tuned() as model:
            tuned = self.passes(model).activations(tokens.to(_get_input_token_device(model)))
        return PairActivations(base, tuned.to(base.device))

    def read(self, tokens: Int[torch.Tensor, "batch context"], token_filter: TokenFilter) -> KeptDifferences:
        """Return the differences of the tokens that are kept by their base activations; all have to be finite."""
        found = self.activations(tokens)
        kept = token_filter.keep(tokens.to(found.base.device), found.base)
        x = found.difference[kept]
        require_finite(x, self.spec.hook_name)
        return KeptDifferences(found, kept, x)

    def _turned(self, *, on: bool) -> AbstractContextManager[None]:
        return nullcontext() if self.switch is None else self.switch.turned(on=on)
