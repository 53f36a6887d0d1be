"""Ranks against one process: the same losses, weights, selections and counts."""

from pathlib import Path
from typing import Any

import pytest
import torch
from sae_lens import SAETrainer
from sae_lens.config import SAETrainerConfig
from sae_lens.registry import get_sae_training_class

from sae_lens_abstopk import ConfigError
from sae_lens_abstopk.sparse import EncoderWeights, candidates, select_over_batch, select_over_ranks
from sae_lens_abstopk.system.ranks import n_ranks, nth_highest, this_rank
from sae_lens_abstopk.training import distributed
from sae_lens_abstopk.training.config.config_file import build_config, build_sae_config
from sae_lens_abstopk.training.distributed import require_one_process, require_shareable
from sae_lens_abstopk.training.metrics import step_metrics
from sae_lens_abstopk.training.trainers import RankTrainer, use_fused_adam
from tests.training.rank_processes import on_ranks

STEPS, BATCH, D_IN = 50, 128, 16


def data() -> torch.Tensor:
    """Activations [STEPS, BATCH, D_IN] of sparse signed combinations."""
    generator = torch.Generator().manual_seed(0)
    axes = torch.randn(24, D_IN, generator=generator)
    on = torch.rand(STEPS, BATCH, 24, generator=generator) < 0.1
    return (torch.randn(STEPS, BATCH, 24, generator=generator) * on) @ axes + 0.5


def trained(sae: dict[str, Any]) -> dict[str, Any]:
    """Losses, numbers and state after ``STEPS`` steps on this rank's rows."""
    cfg = build_sae_config({"d_in": D_IN, "d_sae": 48, **sae})
    torch.manual_seed(this_rank())  # the ranks' own weights must not matter
    size: dict[str, Any] = {"total_training_samples": STEPS * BATCH, "train_batch_size_samples": BATCH}
    settings = SAETrainerConfig(**size, lr=3e-3, lr_end=3e-3, dead_feature_window=5)
    model = get_sae_training_class(cfg.architecture())[0](cfg)
    kind = RankTrainer if n_ranks() > 1 else SAETrainer
    trainer = use_fused_adam(kind(cfg=settings, sae=model, data_provider=iter(())))
    metrics = []
    for batch in data():
        output = trainer.step(batch[this_rank() :: n_ranks()])
        metrics.append(step_metrics(trainer, output))
        trainer.n_training_steps += 1
    return {
        "metrics": {key: torch.tensor([row[key] for row in metrics]) for key in metrics[0]},
        "state": {name: value.clone() for name, value in model.state_dict().items()},
        "since_fired": trainer.n_forward_passes_since_fired,
        "frequency": trainer.act_freq_scores / trainer.n_frac_active_samples,
    }


@pytest.mark.parametrize(
    "sae",
    [
        pytest.param({"architecture": "abstopk", "k": 3, "unit_norm_encoder": True}, marks=pytest.mark.slow),
        {"architecture": "batch_abstopk", "k": 2.5, "b_dec_init_method": "mean"},
        pytest.param(
            {"architecture": "matryoshka_batch_abstopk", "k": 3, "matryoshka_widths": [12]}, marks=pytest.mark.slow
        ),
        {"architecture": "sparse_batchtopk", "k": 3},
        {"architecture": "jumprelu"},
        pytest.param({"architecture": "gated"}, marks=pytest.mark.slow),
    ],
    ids=lambda sae: sae["architecture"],
)
def test_two_ranks_with_half_the_batch_are_one_with_the_whole(sae: dict[str, Any], tmp_path: Path) -> None:
    whole = trained(sae)
    first, second = on_ranks(2, lambda: trained(sae), tmp_path / "ranks")
    for key, values in whole["metrics"].items():
        torch.testing.assert_close(first["metrics"][key], second["metrics"][key], rtol=0, atol=0)
        torch.testing.assert_close(first["metrics"][key], values, rtol=1e-4, atol=1e-4)
    assert whole["metrics"]["loss"][-1] < 0.8 * whole["metrics"]["loss"][0]
    for name, value in whole["state"].items():
        torch.testing.assert_close(first["state"][name], second["state"][name], rtol=0, atol=0)
        torch.testing.assert_close(first["state"][name].float(), value.float(), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(first["since_fired"], whole["since_fired"], rtol=0, atol=0)
    torch.testing.assert_close(first["frequency"], whole["frequency"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("ranks", "half_precision", "signed"), [(2, False, True), (2, True, False), (3, False, False), (3, True, True)]
)
def test_ranks_keep_exactly_what_one_process_would_keep(
    ranks: int, half_precision: bool, signed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidates, "LEAST_TOKENS", 1)
    generator = torch.Generator().manual_seed(ranks)
    x = torch.randn(60, 8, generator=generator)
    x[20:] *= 1e-2  # nearly all that is kept lies on the first rank
    W, b = torch.randn(8, 48, generator=generator), torch.randn(48, generator=generator)
    scale = torch.rand(48, generator=generator) + 0.5
    tokens, latents = 60 // ranks, 48 // ranks
    whole = EncoderWeights(W, b, scale, 48 if signed else 0, half_precision)

    def select() -> list[torch.Tensor]:
        rows, columns = (slice(n * this_rank(), n * (this_rank() + 1)) for n in (tokens, latents))
        shard = EncoderWeights(W[:, columns], b[columns], scale[columns], latents if signed else 0, half_precision)
        return [
            select_over_ranks(whole, x[rows], 500).to_coo(48).to_dense(),
            select_over_ranks(shard, x, 500).to_coo(latents).to_dense(),
        ]

    by_tokens, by_latents = zip(*on_ranks(ranks, select, tmp_path / "ranks"), strict=True)
    expected = select_over_batch(whole, x, 500).to_coo(48).to_dense()
    for found, dim in ((by_tokens, 0), (by_latents, 1)):
        joined = torch.cat(found, dim)
        assert torch.equal(joined != 0, expected != 0)
        torch.testing.assert_close(joined, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_nth_highest_of_all_ranks_is_found_to_the_bit(dtype: torch.dtype, tmp_path: Path) -> None:
    scores = torch.randn(300, generator=torch.Generator().manual_seed(2), dtype=dtype).relu()
    scores[:50] = 0.5
    scores[-1] = -0.0

    def find() -> list[torch.Tensor]:
        own = scores[: 10 * this_rank()] if this_rank() < 2 else scores[10:]
        return [nth_highest(own, n) for n in (1, 7, 120, 150, 300, 301)]

    expected = scores.sort(descending=True).values[[0, 6, 119, 149, 299]]
    for found in on_ranks(3, find, tmp_path / "ranks"):
        assert torch.equal(torch.stack(found[:-1]), expected)
        assert found[-1] == 0


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"train_batch_size_tokens": 65}, "train_batch_size_tokens=65 is not a multiple of 2; use 64 or 66"),
        ({"activation_cache": "cache"}, "activation_cache is for one process; set it to null"),
        ({"companions": {"b": {"architecture": "batchtopk"}}}, "companions.b (batchtopk) selects over"),
        ({"sae": {"architecture": "batch_abstopk", "sparse_backend": "dense"}}, "with sparse_backend=sparse"),
    ],
)
def test_what_cannot_be_shared_is_refused(raw_config: dict[str, Any], changes: dict[str, Any], sentence: str) -> None:
    raw = raw_config | changes | {"sae": raw_config["sae"] | changes.get("sae", {})}
    with pytest.raises(ConfigError) as refused:
        require_shareable(build_config(raw), 2)
    assert sentence in str(refused.value)
    require_shareable(build_config(raw_config), 2)


@pytest.mark.parametrize("key", ["device", "llm_device", "act_store_device"])
def test_every_rank_has_a_gpu_of_its_own(raw_config: dict[str, Any], monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    cfg = build_config(raw_config)
    setattr(cfg, key, "cuda:0")
    with pytest.raises(ConfigError, match=rf"{key}='cuda:0' names one GPU; use cuda or auto"):
        require_shareable(cfg, 2)
    setattr(cfg, key, "cuda")
    monkeypatch.setattr(distributed, "n_ranks", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert getattr(distributed.of_this_rank(cfg), key) == "cuda:1"


def test_only_training_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    require_one_process("sweep")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="sweep runs in one process; start it without torchrun"):
        require_one_process("sweep")
