"""Keys and values of prompts, read once for all answers to each."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Self, cast

import numpy as np
import torch
from jaxtyping import Float, Int
from sae_lens.load_model import HookedProxyLM
from torch import Tensor
from transformers import DynamicCache

from sae_lens_abstopk.model.answer_tokens import padded
from sae_lens_abstopk.model.inference import in_evaluation_mode
from sae_lens_abstopk.model.model_passes import ModelPasses

# of layers whose keys and values can be put together from several prompts
KINDS = {"full_attention", "sliding_attention"}
# largest relative difference of activations in a check, by the type of the weights
TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-3}
ROUGHLY = 0.1
# lengths of the prompts and answers of the check
CHECKED = ((3, 6), (5, 4))


class _SeenError(Exception):
    """Ends a pass at the hook."""


class SharedPrompts(NamedTuple):
    """
    Keys and values of prompts, up to the layer of a hook.

    Of each prompt, and each layer, keys and values [heads, p, d_head].
    """

    passes: ModelPasses
    of: dict[bytes, list[tuple[Tensor, Tensor]]]

    @classmethod
    def read(cls, passes: ModelPasses, prompts: Sequence[Int[np.ndarray, " p"]], *, batch_tokens: int) -> Self:
        """Run each prompt once."""
        found, left = {}, sorted(prompts, key=len)
        while left:
            size = max(1, batch_tokens // len(left[-1]))
            taken, left = left[-size:], left[:-size]
            cache = DynamicCache()
            _run(passes, padded(taken), past_key_values=cache)
            for i, prompt in enumerate(taken):
                found[prompt.tobytes()] = [
                    (layer.keys[i, :, : len(prompt)].clone(), layer.values[i, :, : len(prompt)].clone())
                    for layer in cast(Any, cache.layers)
                ]
        return cls(passes, found)

    def activations(
        self, prompts: Sequence[Int[np.ndarray, " p"]], answers: Sequence[Int[np.ndarray, " n"]]
    ) -> Float[Tensor, "b t d_in"]:
        """
        Return the activations of answers, padded on the right, each behind its prompt.

        Prompts are padded on the left, so that answers start at one place.
        """
        every, lengths = [self.of[prompt.tobytes()] for prompt in prompts], [len(prompt) for prompt in prompts]
        ids, most = padded(answers), max(lengths)
        cache = DynamicCache()
        for number, (keys, values) in enumerate(every[0]):
            both = []
            for part, like in enumerate((keys, values)):
                made = like.new_zeros(len(every), len(like), most, like.shape[-1])
                for row, layers, n in zip(made, every, lengths, strict=True):
                    row[:, most - n :] = layers[number][part]
                both.append(made)
            cache.update(*both, number)
        before = np.array(lengths)[:, None]
        mask = np.ones((len(ids), most + ids.shape[1]), dtype=np.int64)
        mask[:, :most] = np.arange(most) >= most - before
        positions = before + np.arange(ids.shape[1])
        return _run(self.passes, ids, past_key_values=cache, attention_mask=mask, position_ids=positions)


def shares_prompts(passes: ModelPasses) -> bool:
    """
    Return whether answers behind shared prompts have the activations that they have behind their own.

    True of transformers models with plain or sliding attention for which a small example shows it.
    """
    if not isinstance(passes.model, HookedProxyLM) or passes.head_index is not None:
        return False
    config: Any = cast(Any, passes.model).model.config.get_text_config()
    if set(getattr(config, "layer_types", None) or KINDS) - KINDS:
        return False
    prompts, answers = ([np.arange(2, 2 + sizes[part]) for sizes in CHECKED] for part in (0, 1))
    weight = next(passes.model.parameters())
    try:
        shared = SharedPrompts.read(passes, prompts, batch_tokens=100).activations(prompts, answers)
        for prompt, answer, found in zip(prompts, answers, shared, strict=True):
            whole = torch.from_numpy(np.concatenate([prompt, answer]))[None].to(weight.device)
            plain = passes.activations(whole)[0, len(prompt) :].float()
            error = (found[: len(answer)].float() - plain).norm() / plain.norm()
            rounds = passes.autocast if passes.reads_bfloat16 is None else passes.reads_bfloat16
            if not error <= (ROUGHLY if rounds else TOLERANCE.get(weight.dtype, ROUGHLY)):
                return False
    except Exception:  # each model without such a cache has an error of its own
        return False
    return True


def _run(passes: ModelPasses, ids: Int[np.ndarray, "b t"], **options: Any) -> Tensor:
    """Return the activations at the hook; the layers above it do not run."""
    proxy: Any = passes.model
    device, seen = next(proxy.parameters()).device, list[Tensor]()

    def stop(module: Any, given: Any, output: Any) -> None:  # noqa: ARG001  # torch calls it so
        seen.append(output if isinstance(output, Tensor) else output[0])
        raise _SeenError

    moved = {name: torch.from_numpy(value).to(device) for name, value in options.items() if name != "past_key_values"}
    handle = proxy.named_modules_dict[passes.hook_name].register_forward_hook(stop)
    try:
        with torch.no_grad(), in_evaluation_mode(proxy), passes.reading(device):
            proxy.model(
                torch.from_numpy(ids).to(device),
                **moved,
                past_key_values=options["past_key_values"],
                use_cache=True,
            )
    except _SeenError:
        pass
    finally:
        handle.remove()
    return seen[0].flatten(2)
