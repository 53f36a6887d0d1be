"""Patch SAEBench 0.6 to use a loaded model and local texts, which it does not accept as arguments."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib import import_module
from typing import Any
from unittest.mock import patch

import torch
from transformer_lens import HookedTransformer
from transformer_lens.HookedRootModule import HookedRootModule

from sae_lens_abstopk.interop.class_sets import ClassSet


@contextmanager
def saebench_patches(model: HookedRootModule, class_sets: Sequence[ClassSet] = ()) -> Iterator[None]:
    """
    Make SAEBench run ``model``, and find ``class_sets`` as data sets by their names.

    Args:
        model: A model with TransformerLens hooks.
        class_sets: Labelled texts.
    """
    import jaxtyping

    utils = import_module("sae_bench.sae_bench_utils.dataset_utils")
    from_hub, own = utils.get_multi_label_train_test_data, {one.name: one for one in class_sets}

    def texts(name: str, *args: Any, **kwargs: Any) -> Any:
        return (own[name].train, own[name].test) if name in own else from_hub(name, *args, **kwargs)

    with ExitStack() as stack:
        # each run_eval loads a HookedTransformer by its name on the Hub, which leaves out local folders and the models
        # of TransformerBridge: sparse_probing/main.py:310, scr_and_tpp/main.py:791, absorption/main.py:62 and
        # sae_probes/generate_model_activations.py:223
        stack.enter_context(patch.object(HookedTransformer, "from_pretrained_no_processing", lambda *_, **__: model))
        # and beartype rejects any other class: sae_bench_utils/activation_collection.py:94
        stack.callback(jaxtyping.config.update, "jaxtyping_disable", jaxtyping.config.jaxtyping_disable)
        jaxtyping.config.update("jaxtyping_disable", True)
        # unknown data sets are rejected: sae_bench_utils/dataset_utils.py:461; the tables below are read at
        # sparse_probing/main.py:55 and scr_and_tpp/main.py:552
        stack.enter_context(patch.object(utils, "get_multi_label_train_test_data", texts))
        classes = {name: list(one.train) for name, one in own.items()}
        stack.enter_context(patch.dict(utils.dataset_info.chosen_classes_per_dataset, classes))
        scr_and_tpp = import_module("sae_bench.evals.scr_and_tpp.main")
        stack.enter_context(patch.dict(scr_and_tpp.COLUMN2_VALS_LOOKUP, dict.fromkeys(own)))
        # SAEBench switches gradients on and off for the whole process
        stack.callback(torch.set_grad_enabled, torch.is_grad_enabled())
        yield
