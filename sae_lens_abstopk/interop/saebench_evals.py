"""The evaluations of SAEBench 0.6 for one SAE on one machine, with patches for what it does not take as an argument."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, chdir, contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from sae_lens import ActivationsStore
from transformer_lens import HookedTransformer
from transformer_lens.HookedRootModule import HookedRootModule

from sae_lens_abstopk.interop.saebench_input import BenchInput, ClassSet, joined
from sae_lens_abstopk.model.text_store import LOGITS_OF_A_PASS

DTYPE = "float32"
CODES_AT_ONCE = 2**27
"""Number of codes that SAEBench holds at a time: 512 MiB of float32."""


@contextmanager
def saebench_patches(model: HookedRootModule, class_sets: Sequence[ClassSet] = ()) -> Iterator[None]:
    """Make SAEBench run ``model``, with TransformerLens hooks, and find ``class_sets`` as data sets by their names."""
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


def _core(subject: BenchInput, folder: Path, _artifacts: Path) -> None:
    # core's entry point, multiple_evals, loads model and text by name; the functions that it calls accept both loaded
    core, config = import_module("sae_bench.evals.core.main"), import_module("sae_bench.evals.core.eval_config")
    sae_id, sae, _ = core.general_utils.load_and_format_sae(subject.name, subject.sae, subject.device)
    tokenizer: Any = subject.model.tokenizer
    length = sae.cfg.context_size
    codes, logits = CODES_AT_ONCE // (length * sae.cfg.d_sae), LOGITS_OF_A_PASS // (length * len(tokenizer))
    prompts = max(1, min(subject.prompts, codes, logits))
    batches = math.ceil(subject.n_tokens / (prompts * length))
    settings = config.CoreEvalConfig(
        model_name=subject.model_name,
        llm_dtype=DTYPE,
        batch_size_prompts=prompts,
        n_eval_reconstruction_batches=batches,
        n_eval_sparsity_variance_batches=batches,
        dataset=subject.text_name,
        context_size=length,
        exclude_special_tokens_from_reconstruction=True,
        **{name: True for name in config.CoreEvalConfig.__dataclass_fields__ if name.startswith("compute_")},
    )
    store = ActivationsStore.from_sae(
        subject.model, sae, subject.dataset, store_batch_size_prompts=prompts, device=subject.device
    )
    scalars, features = core.run_evals(
        sae=sae,
        activation_store=store,
        model=subject.model,
        eval_config=settings,
        ignore_tokens={tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.bos_token_id},
    )
    scalars["misc_metrics"] = core.calculate_misc_metrics(features)
    found = {"sae_id": sae_id, "sae_set": subject.name, "metrics": scalars, "feature_metrics": features}
    core.save_single_eval_result(
        core.replace_nans_with_negative_one(found) | {"eval_cfg": settings},
        core.get_eval_uuid(),
        core.get_sae_lens_version(),
        core.get_sae_bench_version(),
        core.general_utils.get_results_filepath(str(folder), subject.name, sae_id),
        sae,
    )


def _run(
    subject: BenchInput, module: str, config: str, folder: Path, options: dict[str, Any], **run_options: Any
) -> None:
    """Call ``run_eval`` of an evaluation with the ``options`` of its config."""
    evaluation = f"sae_bench.evals.{module}"
    config_class = getattr(import_module(f"{evaluation}.eval_config"), config)
    settings = config_class(model_name=subject.model_name, random_seed=subject.seed, **options)
    main, saes = import_module(f"{evaluation}.main"), [(subject.name, subject.sae)]
    main.run_eval(settings, saes, subject.device, str(folder), force_rerun=True, **run_options)


def _run_on_labelled(
    subject: BenchInput, module: str, config: str, folder: Path, artifacts: Path, options: dict[str, Any]
) -> None:
    length = subject.text_length
    options = options | {
        "llm_batch_size": 32,
        "llm_dtype": DTYPE,
        "context_length": length,
        "sae_batch_size": max(1, min(125, CODES_AT_ONCE // (length * subject.sae.cfg.d_sae))),
    }
    # activations (up to 100 GB) are not kept: there is only one SAE
    _run(subject, module, config, folder, options, artifacts_path=str(artifacts), save_activations=False)


def _sparse_probing(subject: BenchInput, folder: Path, artifacts: Path) -> None:
    own = {"dataset_names": [one.name for one in subject.tasks]} if subject.tasks else {}
    options = {"k_values": [1, 2, 5, 10], **own}
    _run_on_labelled(subject, "sparse_probing", "SparseProbingEvalConfig", folder, artifacts, options)


def _scr_or_tpp(subject: BenchInput, folder: Path, artifacts: Path, *, perform_scr: bool) -> None:
    own = {"dataset_names": [joined(subject.tasks).name]} if subject.tasks else {}
    n_values = [n for n in (2, 5, 10, 20, 50, 100, 500) if n <= subject.sae.cfg.d_sae]
    options = {"n_values": n_values, "perform_scr": perform_scr, **own}
    _run_on_labelled(subject, "scr_and_tpp", "ScrAndTppEvalConfig", folder, artifacts, options)


def _absorption(subject: BenchInput, folder: Path, artifacts: Path) -> None:
    # run_eval leaves two experiments' folders at their defaults, beside SAEBench's code, and would reuse probes of
    # another model with the same name there: absorption/main.py:82 and :120
    main, probes = import_module("sae_bench.evals.absorption.main"), {"probes_dir": artifacts / "probes"}
    sparse, full = artifacts / "k_sparse_probing", artifacts / "feature_absorption"
    first = partial(main.run_k_sparse_probing_experiment, experiment_dir=sparse, **probes)
    second = partial(
        main.run_feature_absortion_experiment, experiment_dir=full, sparse_probing_experiment_dir=sparse, **probes
    )
    with (
        patch.object(main, "run_k_sparse_probing_experiment", first),
        patch.object(main, "run_feature_absortion_experiment", second),
        chdir(artifacts),  # for absorption/main.py:101
    ):
        _run(subject, "absorption", "AbsorptionEvalConfig", folder, {"llm_dtype": DTYPE})


def _sae_probes(subject: BenchInput, folder: Path, artifacts: Path) -> None:
    options = {"results_path": str(artifacts / "probes"), "model_cache_path": str(artifacts / "activations")}
    _run(subject, "sparse_probing_sae_probes", "SparseProbingSaeProbesEvalConfig", folder, options)


EVALS: dict[str, Callable[[BenchInput, Path, Path], None]] = {
    "core": _core,
    "sparse_probing": _sparse_probing,
    "sparse_probing_sae_probes": _sae_probes,
    "tpp": partial(_scr_or_tpp, perform_scr=False),
    "scr": partial(_scr_or_tpp, perform_scr=True),
    "absorption": _absorption,
}
"""Functions of the subject, the folder of the result and a folder for temporary files."""
