"""SAELens's own command line and its cache of activations, with the signed architectures."""

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import load_from_disk
from sae_lens import (
    SAE,
    CacheActivationsRunner,
    CacheActivationsRunnerConfig,
    LanguageModelSAERunnerConfig,
    LanguageModelSAETrainingRunner,
    LoggingConfig,
)
from sae_lens.llm_sae_training_runner import _run_cli

from sae_lens_abstopk import BatchAbsTopKTrainingSAEConfig
from sae_lens_abstopk.text.documents import open_dataset

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
HOOK = "model.layers.2"


def options(model: Path, texts: Path) -> dict[str, Any]:
    """Options of SAELens for a run of four steps on a tiny model."""
    return {
        "model_name": str(model),
        "model_class_name": "AutoModelForCausalLM",
        "hook_name": HOOK,
        "dataset_path": str(texts.parent),
        "streaming": False,
        "context_size": 16,
        "training_tokens": 256,
        "train_batch_size_tokens": 64,
        "store_batch_size_prompts": 4,
        "n_batches_in_buffer": 8,
        "device": "cpu",
        "n_checkpoints": 0,
        "save_final_checkpoint": False,
    }


def trained(texts: Path, **keys: Any) -> Any:
    """A run of SAELens's own runner on a signed SAE, loaded from the folder that it writes."""
    sae = BatchAbsTopKTrainingSAEConfig(d_in=32, d_sae=64, k=4)
    cfg = LanguageModelSAERunnerConfig(sae=sae, prepend_bos=False, logger=LoggingConfig(log_to_wandb=False), **keys)
    dataset: Any = open_dataset(str(texts), streaming=False)
    LanguageModelSAETrainingRunner(cfg, override_dataset=dataset).run()
    saved = SAE.load_from_disk(keys["output_path"])
    assert saved.cfg.architecture() == "signed_jumprelu"
    return saved


def test_the_command_line_trains_a_batch_abstopk_sae(tiny_llama: Path, texts: Path, tmp_path: Path) -> None:
    flags = {"architecture": "batch_abstopk", "d_in": 32, "d_sae": 64, "k": 4, "log_to_wandb": False}
    flags |= options(tiny_llama, texts) | {"output_path": tmp_path / "out"}
    _run_cli([word for flag, value in flags.items() for word in (f"--{flag}", str(value))])
    saved = SAE.load_from_disk(tmp_path / "out")
    assert saved.cfg.architecture() == "signed_jumprelu"
    codes = saved.encode(torch.randn(8, 32))
    assert (codes < 0).any()
    assert (codes > 0).any()


def test_activations_that_saelens_cached_train_a_signed_sae(
    tiny_llama: Path, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys, cache = options(tiny_llama, texts), str(tmp_path / "cache")
    of_runs = ("train_batch_size_tokens", "store_batch_size_prompts", "n_batches_in_buffer", "n_checkpoints")
    shared = {key: value for key, value in keys.items() if key not in (*of_runs, "save_final_checkpoint")}
    shared |= {"training_tokens": 512, "prepend_bos": False, "new_cached_activations_path": cache}
    dataset: Any = open_dataset(str(texts), streaming=False)
    CacheActivationsRunner(
        CacheActivationsRunnerConfig(**shared, d_in=32, model_batch_size=4, buffer_size_gb=1e-5),
        override_dataset=dataset,
    ).run()
    monkeypatch.setattr("sae_lens.ActivationsStore.get_activations", lambda *_: pytest.fail("the model was run"))
    keys |= {"use_cached_activations": True, "cached_activations_path": cache, "output_path": str(tmp_path / "out")}
    saved = trained(texts, **keys)
    centre = torch.tensor(load_from_disk(cache)[HOOK]).flatten(0, 1).mean(0)
    # four steps on; from zeros it would be about 1
    assert torch.dist(saved.b_dec, centre) < 0.75 * centre.norm()


def test_saelens_runner_takes_a_batch_abstopk_run_up_again(tiny_llama: Path, texts: Path, tmp_path: Path) -> None:
    keys = options(tiny_llama, texts) | {"checkpoint_path": str(tmp_path / "checkpoints")}
    first = trained(texts, **keys | {"save_final_checkpoint": True, "output_path": str(tmp_path / "first")})
    (checkpoint,) = [path.parent for path in (tmp_path / "checkpoints").rglob("trainer_state.pt")]
    keys["resume_from_checkpoint"] = str(checkpoint)
    same = trained(texts, **keys, output_path=str(tmp_path / "no-further"))
    further = trained(texts, **keys | {"training_tokens": 512}, output_path=str(tmp_path / "further"))
    for name, weight in first.state_dict().items():
        assert torch.equal(same.state_dict()[name], weight), "weights and threshold are those of the checkpoint"
        assert not torch.allclose(further.state_dict()[name], weight, rtol=1e-3), "and training went on"
