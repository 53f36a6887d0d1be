"""The sparse training step against SAELens's dense one, step by step and over a run, and its waits for a device."""

from collections import Counter
from copy import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from sae_lens import SAE, SAETrainer
from sae_lens.config import SAETrainerConfig
from sae_lens.registry import get_sae_training_class
from sae_lens.saes.abstopk_sae import AbsTopK
from torch.utils._python_dispatch import TorchDispatchMode

from sae_lens_abstopk import (
    AbsTopKTrainingSAE,
    MatryoshkaBatchAbsTopKTrainingSAE,
    MatryoshkaBatchAbsTopKTrainingSAEConfig,
)
from sae_lens_abstopk.saes.topk import (
    SparseBatchTopKTrainingSAE,
    SparseBatchTopKTrainingSAEConfig,
    SparseTopKTrainingSAE,
    SparseTopKTrainingSAEConfig,
)
from sae_lens_abstopk.sparse import select_per_token
from sae_lens_abstopk.system.errors import ConfigError
from tests.saes.test_signed_saes import per_batch, per_token, step, tokens, with_random_weights

OPTIONS = [
    {},
    {"rescale_acts_by_decoder_norm": False},
    {"apply_b_dec_to_input": False},
    {"normalize_activations": "layer_norm", "aux_loss_coefficient": 0},
    {"aux_loss_coefficient": 0.5},
]


def topk(**options: Any) -> SparseTopKTrainingSAE:
    return with_random_weights(
        SparseTopKTrainingSAE(SparseTopKTrainingSAEConfig(**{"d_in": 8, "d_sae": 24, "k": 5} | options))
    )


def batchtopk(**options: Any) -> SparseBatchTopKTrainingSAE:
    cfg = SparseBatchTopKTrainingSAEConfig(**{"d_in": 8, "d_sae": 24, "k": 5} | options)
    return with_random_weights(SparseBatchTopKTrainingSAE(cfg))


def matryoshka(**options: Any) -> MatryoshkaBatchAbsTopKTrainingSAE:
    cfg = MatryoshkaBatchAbsTopKTrainingSAEConfig(
        **{"d_in": 8, "d_sae": 24, "k": 5, "matryoshka_widths": [3, 10]} | options
    )
    return with_random_weights(MatryoshkaBatchAbsTopKTrainingSAE(cfg))


CASES = [
    (make, options)
    for make in (per_token, per_batch, topk, batchtopk, matryoshka)
    for options in OPTIONS
    if not (make is matryoshka and "normalize_activations" in options)  # which it refuses
]
CASES += [
    (make, {"signed_share": 0.25} | more) for make in (per_batch, matryoshka) for more in (OPTIONS[1], OPTIONS[4])
]


@pytest.mark.parametrize("n_dead", [0, 3, 15])
@pytest.mark.parametrize(("make", "options"), CASES)
def test_losses_codes_and_gradients_are_those_of_the_dense_step(
    make: Any, options: dict[str, Any], n_dead: int
) -> None:
    sparse, dense = make(**options), make(sparse_backend="dense", **options)
    dead = torch.arange(24) < n_dead
    x = tokens(16)
    for n in (1, 2):
        a, b = step(sparse, x, n=n, dead=dead), step(dense, x, n=n, dead=dead)
        assert a.feature_acts.is_sparse
        torch.testing.assert_close(a.feature_acts.to_dense(), b.feature_acts)
        torch.testing.assert_close(a.sae_out, b.sae_out)
        torch.testing.assert_close(a.loss, b.loss)
        assert set(a.losses) == set(b.losses)
        for name in a.losses:
            torch.testing.assert_close(a.losses[name], b.losses[name], msg=name)
        if sparse.cfg.traits.signed:
            assert torch.equal(sparse.pole_counts, dense.pole_counts)
    if make in (per_batch, batchtopk):
        # float64, but of pre-activations in float32
        torch.testing.assert_close(sparse.topk_threshold.float(), dense.topk_threshold.float())
    a.loss.backward()
    b.loss.backward()
    for name, parameter in dense.named_parameters():
        torch.testing.assert_close(sparse.get_parameter(name).grad, parameter.grad, rtol=1e-4, atol=1e-4, msg=name)


@pytest.mark.parametrize("make", [topk, batchtopk])
def test_the_unsigned_twins_are_saelens_own_saes(make: Any, tmp_path: Path) -> None:
    twin = make()
    stock_class, stock_config = get_sae_training_class(twin.cfg.architecture().removeprefix("sparse_"))
    stock = stock_class(stock_config(d_in=8, d_sae=24, k=5))
    stock.load_state_dict(twin.state_dict())
    x, dead = tokens(16), torch.arange(24) < 7
    a, b = step(twin, x, dead=dead), step(stock, x, dead=dead)
    torch.testing.assert_close(a.feature_acts.to_dense(), b.feature_acts)
    torch.testing.assert_close(a.loss, b.loss)
    for name, sae in (("twin", twin), ("stock", stock)):
        sae.save_inference_model(tmp_path / name)
    ours, theirs = (SAE.load_from_disk(tmp_path / name) for name in ("twin", "stock"))
    assert type(ours) is type(theirs)
    torch.testing.assert_close(ours.encode(x), theirs.encode(x))


@pytest.mark.parametrize("make", [per_token, per_batch, topk, batchtopk, matryoshka])
def test_300_steps_agree_with_the_dense_path(make: Any) -> None:
    generator = torch.Generator().manual_seed(5)
    axes = torch.randn(40, 16, generator=generator)
    batches = [
        (torch.randn(128, 40, generator=generator) * (torch.rand(128, 40, generator=generator) < 0.1)) @ axes
        for _ in range(300)
    ]
    losses, fired = {}, {}
    for backend in ("sparse", "dense"):
        sae = make(d_in=16, d_sae=64, k=4, decoder_init_norm=0.1, sparse_backend=backend)
        cfg = SAETrainerConfig(
            total_training_samples=300 * 128, train_batch_size_samples=128, lr=1e-3, lr_end=1e-3, dead_feature_window=20
        )
        trainer = SAETrainer(cfg=cfg, sae=sae, data_provider=iter(batches))
        losses[backend] = []
        for batch in batches:
            losses[backend].append(trainer.step(batch).loss.item())
            trainer.n_training_steps += 1
        fired[backend] = trainer.act_freq_scores > 0
        assert trainer.dead_neurons.shape == (64,)
    sparse, dense = (torch.tensor(losses[backend]) for backend in ("sparse", "dense"))
    assert ((sparse - dense).abs() / dense).max() < 1e-3
    assert torch.equal(fired["sparse"], fired["dense"])
    assert dense[-1] < 0.8 * dense[0]


@pytest.mark.parametrize("make", [per_token, per_batch, topk, batchtopk])
def test_tokens_in_contexts_take_the_dense_step(make: Any) -> None:
    together, apart = step(make(), tokens(12).view(3, 4, 8)), step(make(), tokens(12))
    assert not together.feature_acts.is_sparse
    torch.testing.assert_close(together.feature_acts.flatten(0, 1), apart.feature_acts.to_dense())
    torch.testing.assert_close(together.loss, apart.loss)


def test_hooks_on_the_codes_and_half_precision_take_the_dense_step() -> None:
    sae = per_token()
    seen = []
    sae.hook_sae_acts_post.add_hook(lambda codes, hook: seen.append(codes.shape))  # noqa: ARG005
    assert not step(sae, tokens(6)).feature_acts.is_sparse
    assert seen == [(6, 24)]
    sae.reset_hooks()
    assert step(sae, tokens(6)).feature_acts.is_sparse
    half = per_token(dtype="bfloat16")
    assert not step(half, tokens(6).bfloat16()).feature_acts.is_sparse


def coded_alike(cfg: Any) -> Any:
    """A config elsewhere that says by itself what its SAE is saved as: here, what it was."""
    kind, cfg = type(cfg), copy(cfg)
    cfg.__class__ = type(
        "Own", (kind,), {"get_inference_config_class": lambda self: kind.get_inference_config_class(self)}
    )
    return cfg


@pytest.mark.parametrize("make", [per_token, per_batch])
def test_an_activation_of_ones_own_is_not_saved_as_another(make: Any) -> None:
    kind = type("Own", (type(make()),), {"get_activation_fn": lambda _: torch.nn.Tanh()})
    with pytest.raises(ConfigError, match=r"Own has an activation of its own.* override .*get_inference_config_class"):
        kind(make().cfg)
    if make is per_batch:
        with pytest.raises(ConfigError, match=r"override over_threshold\(hidden_pre\)"):
            kind(coded_alike(make().cfg))


@pytest.mark.parametrize("make", [per_token, per_batch, topk, batchtopk, matryoshka])
@pytest.mark.parametrize(
    "method",
    [
        *("process_sae_in", "encode_with_hidden_pre", "decode", "get_activation_fn"),
        *("calculate_aux_loss", "loss of dead latents"),
    ],
)
def test_a_method_that_a_subclass_overrides_is_called_by_the_step(make: Any, method: str) -> None:
    original, called = type(make()), []
    if method == "loss of dead latents":
        names = ("calculate_abstopk_aux_loss", "calculate_topk_aux_loss")
        method = next(name for name in names if hasattr(original, name))

    def override(self: Any, *args: Any, **options: Any) -> Any:
        called.append(method)
        return getattr(original, method)(self, *args, **options)

    thresholds = {}
    if hasattr(original, "over_threshold"):
        thresholds["over_threshold"] = lambda self, hidden_pre: original.over_threshold(self, hidden_pre)
    sae = with_random_weights(type("Own", (original,), {method: override} | thresholds)(coded_alike(make().cfg)))
    called.clear()
    output = step(sae, tokens(16), dead=torch.arange(24) < 7)
    assert called or method == "get_activation_fn"  # which has been called when the SAE was made
    assert not output.feature_acts.is_sparse
    torch.testing.assert_close(output.loss, step(make(), tokens(16), dead=torch.arange(24) < 7).loss)


def test_an_architecture_elsewhere_that_selects_by_itself_trains_on_the_sparse_kernels() -> None:
    class Own(AbsTopKTrainingSAE):
        def get_activation_fn(self) -> Any:
            return AbsTopK(3)

        def select(self, encoder: Any, centred_BD: torch.Tensor) -> Any:
            return select_per_token(encoder, centred_BD, 3)

    codes = step(with_random_weights(Own(coded_alike(per_token().cfg))), tokens(6)).feature_acts
    assert codes.is_sparse
    assert ((codes.to_dense() != 0).sum(-1) == 3).all()


def test_under_autocast_the_codes_are_still_exact() -> None:
    exact = step(per_token(), tokens(16))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = step(per_token(), tokens(16))
    assert torch.equal(cast.feature_acts.to_dense(), exact.feature_acts.to_dense())
    assert torch.equal(cast.loss, exact.loss)


def test_each_prefix_has_the_loss_of_its_own_reconstruction(tmp_path: Path) -> None:
    sae, x = matryoshka(), tokens(16)
    output = step(sae, x)
    u = output.feature_acts.to_dense() / sae.W_dec.norm(dim=-1)
    for width in (3, 10):
        x_hat = u[:, :width] @ sae.W_dec[:width] + sae.b_dec
        torch.testing.assert_close(output.losses[f"inner_mse_loss_{width}"], (x - x_hat).square().sum(-1).mean())
    torch.testing.assert_close(output.loss, sum(output.losses.values()))
    sae.save_inference_model(tmp_path)
    saved = SAE.load_from_disk(tmp_path)
    assert saved.cfg.metadata.training_architecture_details["matryoshka_widths"] == [3, 10, 24]


# a value handed to Python, or a result whose size depends on the data
WAITS = {"_local_scalar_dense", "nonzero", "masked_select", "bincount", "unique", "_unique2", "unique_consecutive"}


class CountWaits(TorchDispatchMode):
    """Counts the operations that would wait on a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.removeprefix("aten::")
        by_mask = name in ("index", "index_put", "index_put_") and any(
            index is not None and index.dtype == torch.bool for index in args[1]
        )
        unsized = name == "repeat_interleave" and (kwargs or {}).get("output_size") is None
        if name in WAITS or by_mask or unsized:
            self.waits[name] += 1
        return func(*args, **(kwargs or {}))


def waits(sae: Any) -> Counter[str]:
    x, dead = tokens(16), torch.arange(24) < 3
    step(sae, x, n=1, dead=dead)
    with CountWaits() as counter:
        step(sae, x, n=2, dead=dead).loss.backward()
    return counter.waits


# Dead latents are gathered (1); TopK drops what is not positive (1); a batch is asked whether any token has more to
# offer (1), and SAELens reads the threshold of BatchTopK (1); nested prefixes cut the codes apart.
@pytest.mark.parametrize(("make", "most"), [(per_token, 1), (topk, 2), (per_batch, 2), (batchtopk, 5), (matryoshka, 5)])
def test_a_step_waits_for_the_device_only_where_sizes_depend_on_the_data(make: Any, most: int) -> None:
    assert waits(make(selection_dtype="float32")).total() <= most
