"""Layers that are filled in one pass: what each layer's own run would have stored, with the passes of one."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from experiments.study import fill, runs
from sae_lens_abstopk.training.config.training_config import TrainingConfig
from sae_lens_abstopk.training.source import activation_cache
from sae_lens_abstopk.training.source.activation_cache import ActivationCache
from sae_lens_abstopk.training.train import train

TOKENS = 2048


@pytest.fixture
def of_layer(texts: Path, tiny_models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Config of a small run of a layer, by the folder of its caches."""
    monkeypatch.setattr(activation_cache, "SHARD_BYTES", 2**14)
    whole = yaml.safe_load((runs.HERE / "study.yaml").read_text())
    common = [f"model_name={tiny_models['llama-3.1-8b']}", f"dataset_path={texts}", f"training_tokens={TOKENS}"]
    common += ["context_size=16", "train_batch_size_tokens=64", "n_batches_in_buffer=16"]
    common += ["lr_warm_up_steps=2", "lr_decay_steps=4", "checkpoint_freq=0"]

    def config(layer: int, folder: str) -> TrainingConfig:
        run = runs.Run(layer, expansion=2, k=4, variant="topk", seed=0)
        return runs.config_of(run, whole, common, tmp_path / folder, rates={})

    return config


def stored(cfg: TrainingConfig) -> torch.Tensor:
    """All rows of the cache of a run."""
    cache = ActivationCache.of_run(cfg)
    rows = sum(sum(shard.rows) for shard in cache.manifest.shards)
    blocks, found = cache.blocks(lambda _: iter(())), []
    while sum(map(len, found)) < rows:
        found.append(next(blocks))
    return torch.cat(found)


def test_layers_filled_together_hold_what_their_own_runs_store(of_layer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[fill.SharedPasses] = []

    class Watched(fill.SharedPasses):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            passes.append(self)

    monkeypatch.setattr(fill, "SharedPasses", Watched)
    together = [of_layer(layer, "together") for layer in (0, 2)]
    assert not any(map(fill.is_filled, together))
    fill.fill([*together, together[0]])
    assert all(map(fill.is_filled, together))
    for cfg, layer in zip(together, (0, 2), strict=True):
        alone = of_layer(layer, "alone")
        train(alone)
        theirs, ours = stored(alone), stored(cfg)
        assert TOKENS <= len(theirs) <= len(ours)
        assert torch.equal(ours[: len(theirs)], theirs)
    lm_batches = max(sum(len(shard.rows) for shard in ActivationCache.of_run(cfg).manifest.shards) for cfg in together)
    assert lm_batches <= passes[0].n_passes < 1.5 * lm_batches  # not twice as many
    fill.fill(together)
    assert len(passes) == 1  # nothing was left to do
