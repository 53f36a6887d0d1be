"""SAEBench with a model that is loaded already, and with texts of one's own."""

import importlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from transformer_lens.HookedRootModule import HookedRootModule

from sae_lens_abstopk.interop.class_sets import ClassSet
from sae_lens_abstopk.system.errors import ConfigError

VERSION = "0.6"
# where SAEBench and sae-probes load a HookedTransformer by name
LOADERS = (
    "sae_bench.evals.sparse_probing.main",
    "sae_bench.evals.scr_and_tpp.main",
    "sae_bench.evals.absorption.main",
    "sae_probes.generate_model_activations",
)


def require_saebench() -> None:
    """
    Raises:
        ConfigError: SAEBench is not installed.
    """
    if find_spec("sae_bench") is None:
        raise ConfigError(
            f"SAEBench is not installed. It needs numpy below 2 and datasets below 4, so install this package and "
            f"'sae-bench=={VERSION}.*' in a separate environment, and run this command there."
        )


def bench_module(name: str) -> ModuleType:
    """A module of SAEBench, by its name below ``sae_bench``."""
    return importlib.import_module(f"sae_bench.{name}")


@contextmanager
def saebench_session(model: HookedRootModule, *, class_sets: Sequence[ClassSet] = ()) -> Iterator[None]:
    """
    While this is open, SAEBench runs ``model`` whatever the name it is given, and knows ``class_sets`` as data sets.

    SAEBench loads a ``HookedTransformer`` by name and checks by beartype that it is one, which leaves out local folders
    and all models that only ``TransformerBridge`` has; the check is off here.

    Args:
        model: The model, with the hooks of TransformerLens.
        class_sets: Data sets of labelled texts, under their names.
    """
    import jaxtyping

    dataset_info, dataset_utils = (
        bench_module("sae_bench_utils.dataset_info"),
        bench_module("sae_bench_utils.dataset_utils"),
    )
    scr_and_tpp = bench_module("evals.scr_and_tpp.main")
    loaded = SimpleNamespace(from_pretrained_no_processing=lambda *_, **__: model)
    from_hub = dataset_utils.get_multi_label_train_test_data
    own = {one.name: one for one in class_sets}

    def texts(name: str, *args: Any, **kwargs: Any) -> Any:
        return (own[name].train, own[name].test) if name in own else from_hub(name, *args, **kwargs)

    with ExitStack() as stack:
        for name in LOADERS:
            stack.enter_context(patch.object(importlib.import_module(name), "HookedTransformer", loaded))
        stack.enter_context(patch.object(dataset_utils, "get_multi_label_train_test_data", texts))
        classes = {name: list(one.train) for name, one in own.items()}
        stack.enter_context(patch.dict(dataset_info.chosen_classes_per_dataset, classes))
        # looked up for every data set, though used for SCR alone
        stack.enter_context(patch.dict(scr_and_tpp.COLUMN2_VALS_LOOKUP, dict.fromkeys(own)))
        # SAEBench switches gradients on and off for everybody
        stack.callback(torch.set_grad_enabled, torch.is_grad_enabled())
        checked = jaxtyping.config.jaxtyping_disable
        jaxtyping.config.update("jaxtyping_disable", True)
        stack.callback(jaxtyping.config.update, "jaxtyping_disable", checked)
        yield
