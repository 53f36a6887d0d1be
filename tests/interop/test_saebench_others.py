"""What SAEBench's other evaluations make of signed codes: each verdict shown on the function that decides it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch
from sae_lens import SAE

from sae_lens_abstopk import SignedJumpReLUSAE, SignedJumpReLUSAEConfig
from sae_lens_abstopk.equivalents.mirror import mirror
from sae_lens_abstopk.interop.saebench import run_saebench
from sae_lens_abstopk.interop.saebench_evals import saebench_patches
from sae_lens_abstopk.model.model_passes import ModelPasses
from sae_lens_abstopk.system.errors import ConfigError
from tests.interop.conftest import BLOCKS, F

pytestmark = pytest.mark.interop
D = 8


@pytest.fixture
def axes() -> SignedJumpReLUSAE:
    """Latent j reads and writes axis j; a code is on from a magnitude of 0.5."""
    sae = SignedJumpReLUSAE(SignedJumpReLUSAEConfig(d_in=D, d_sae=D))
    with torch.no_grad():
        sae.W_enc.copy_(torch.eye(D))
        sae.W_dec.copy_(torch.eye(D))
        sae.threshold.fill_(0.5)
    return sae


def test_absorption_finds_a_letter_at_a_negative_pole_through_the_mirror_alone(axes: SAE[Any]) -> None:
    from sae_bench.evals.absorption.k_sparse_probing import train_k_sparse_probes

    torch.manual_seed(0)
    along = torch.tensor([3.0] * 40 + [-3.0] * 40 + [0.0] * 40)
    x = torch.randn(120, D) * 0.3
    x[:, 0] += along
    labels = [("word", 0)] * 40 + [("word", 1)] * 40 + [("word", 2)] * 40
    chosen = {
        name: train_k_sparse_probes(sae, labels, x, ks=[1], num_epochs=500)[1]
        for name, sae in (("as is", axes), ("mirrored", mirror(axes)))
    }
    assert chosen["as is"][0].feature_ids.tolist() == [0]
    assert chosen["as is"][1].feature_ids.tolist() != [0], "its weight would have to be negative"
    assert [chosen["mirrored"][label].feature_ids.tolist() for label in (0, 1)] == [[0], [D]]


def test_absorption_by_a_negative_pole_is_seen_through_the_mirror_alone(axes: SAE[Any]) -> None:
    from sae_bench.evals.absorption.feature_absorption_calculator import FeatureAbsorptionCalculator

    with torch.no_grad():  # the negative pole of latent 1 writes what the probe reads
        axes.W_dec[1] = torch.tensor([-0.8, 0.6, 0, 0, 0, 0, 0, 0])
    x = torch.zeros(1, 3, D)
    x[..., 1], x[..., 0] = -4, 0.4
    model: Any = SimpleNamespace(
        run_with_cache=lambda *_, **__: (None, {"blocks.0.hook_resid_post": x}), to_tokens=lambda _: torch.zeros(1, 3)
    )
    calculator = FeatureAbsorptionCalculator(
        model=model, icl_word_list=["pear", "plum"], max_icl_examples=2, topk_feats=2
    )
    probe = torch.eye(D)[0]
    as_is, mirrored = (
        calculator.calculate_absorption(sae, ["apple"], probe, [0], 0, show_progress=False).word_results[0]
        for sae in (axes, mirror(axes))
    )
    assert mirrored.is_full_absorption
    assert mirrored.absorption_fraction == 1
    assert not as_is.is_full_absorption
    assert as_is.absorption_fraction == 0


def test_absorption_writes_into_its_own_folder_alone_and_says_when_the_model_cannot_spell(
    signed_folder: Path, texts: Path, tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sae_bench.evals.absorption.main as absorption

    places: list[Path] = []

    def no_letter_is_found(*, model: Any, experiment_dir: Path, probes_dir: Path, **_: Any) -> pd.DataFrame:
        places.extend([experiment_dir, probes_dir, Path.cwd()])
        assert model.cfg.model_name == tiny_llama.name, "a path would make SAEBench write into the model's folder"
        return pd.DataFrame({"letter": ["a"], "f1_probe": [0.0]})

    monkeypatch.setattr(absorption, "run_k_sparse_probing_experiment", no_letter_is_found)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"absorption gave no result for llama; .*saebench\.log"):
        run_saebench(signed_folder, out=Path("out"), evals=["absorption"], text=str(texts))
    assert places[0].parent == places[1].parent == places[2]
    assert "insufficent first-letter features" in (tmp_path / "out" / "saebench.log").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_autointerp_shows_the_contexts_of_each_pole_through_the_mirror(passes: ModelPasses, signed: SAE[Any]) -> None:
    from sae_bench.evals.autointerp.eval_config import AutoInterpEvalConfig
    from sae_bench.evals.autointerp.main import AutoInterp
    from sae_bench.sae_bench_utils.general_utils import _standardize_sae_cfg

    tokens = torch.randint(2, 300, (48, 40), generator=torch.Generator().manual_seed(0))
    codes = signed.encode(passes.activations(tokens))[:, 10:-10]
    latent = int(((codes > 0).sum((0, 1)).minimum((codes < 0).sum((0, 1)))).argmax())
    found: dict[str, list[Any]] = {}
    for name, sae, shown in (("as is", signed, [latent]), ("mirrored", mirror(signed), [latent, F + latent])):
        sae.cfg.metadata.hook_name = BLOCKS
        _standardize_sae_cfg(sae.cfg)
        torch.manual_seed(0)
        config: Any = AutoInterpEvalConfig(n_latents=None, override_latents=shown, llm_batch_size=16)
        with saebench_patches(passes.model):
            judge = AutoInterp(config, passes.model, sae, tokens, torch.ones(2 * F), "cpu", "")
            generation, _ = judge.gather_data()
        found[name] = [max(max(example.acts) for example in generation[i].examples) for i in shown]
    largest = [codes[..., latent].max().item(), -codes[..., latent].min().item()]
    assert found["mirrored"] == pytest.approx(largest, rel=0.01), "in bfloat16"
    assert found["as is"] == pytest.approx(largest[:1], rel=0.01)


def test_unlearning_clamps_a_pole_to_the_strength_of_its_opposite(axes: SAE[Any]) -> None:
    from sae_bench.evals.unlearning.utils.intervention import anthropic_clamp_resid_SAE_features

    x = torch.zeros(1, 3, D)
    x[0, 1, 0], x[0, 2, 0] = 2, -2
    hook: Any = None
    as_is = anthropic_clamp_resid_SAE_features(x, hook, axes, [0], multiplier=25.0)
    mirrored = anthropic_clamp_resid_SAE_features(x, hook, mirror(axes), [D], multiplier=25.0)
    assert as_is[0, :, 0].tolist() == [0, -25, -2], "the token at the negative pole is left alone"
    assert mirrored[0, :, 0].tolist() == [0, 2, 25], "the negative pole at -25 is the positive one at 25"


@pytest.mark.filterwarnings("ignore:torch.searchsorted")
def test_mdl_puts_negative_codes_into_the_lowest_bin_and_the_mirror_cancels_the_error_at_0(axes: SAE[Any]) -> None:
    from sae_bench.evals.mdl.main import build_bins, quantize_features_to_bin_midpoints

    x = torch.zeros(2, D)
    x[0, 0], x[1, 0] = 40, -40
    quantised = {}
    for name, sae in (("as is", axes), ("mirrored", mirror(axes))):
        codes = sae.encode(x)
        bins = build_bins(torch.zeros(codes.shape[1]), torch.full((codes.shape[1],), 100.0), num_bins=10)
        quantised[name] = sae.decode(quantize_features_to_bin_midpoints(codes, bins))
    assert quantised["as is"][:, 0].tolist() == [35, 5], "bins of 10: -40 came out as 5"
    assert quantised["as is"][:, 1].tolist() == [5, 5], "and 0 as well"
    torch.testing.assert_close(quantised["mirrored"][:, 0], torch.tensor([30.0, -30.0]))
    assert not quantised["mirrored"][:, 1:].any()


def ravel_hook(sae: SAE[Any], on: list[int], source: torch.Tensor, place: torch.Tensor) -> Any:
    from sae_bench.evals.ravel.mdbm import MDBM
    from sae_bench.sae_bench_utils.general_utils import _standardize_sae_cfg

    sae.cfg.metadata.hook_name, sae.cfg.metadata.model_name = "blocks.0.hook_resid_post", "any"
    _standardize_sae_cfg(sae.cfg)
    model: Any = torch.nn.Linear(1, 1)
    model.device = torch.device("cpu")
    nothing: Any = SimpleNamespace(llm_batch_size=1)
    mixing = MDBM(model, nothing, nothing, sae)
    mixing.binary_mask.data[on] = 1
    return mixing.create_intervention_hook(source, place)


def test_ravel_mixes_signed_codes_as_those_of_both_poles(axes: SAE[Any]) -> None:
    base, source, place = torch.randn(4, 3, D) * 3, torch.randn(4, D) * 3, torch.tensor([0, 1, 2, 1])
    (as_is, _), (mirrored, _) = (
        ravel_hook(sae, on, source, place)(None, None, (base.clone(), None))
        for sae, on in ((axes, [2, 5]), (mirror(axes), [2, 5, D + 2, D + 5]))
    )
    torch.testing.assert_close(as_is, mirrored)
    assert not torch.equal(as_is, base)


def test_ravel_does_not_run_where_layers_return_a_tensor(axes: SAE[Any]) -> None:
    with pytest.raises(ValueError, match="Unexpected output shape"):
        ravel_hook(axes, [0], torch.zeros(1, D), torch.tensor([0]))(None, None, torch.zeros(1, 3, D))


@pytest.mark.filterwarnings("ignore:Inconsistent values", "ignore:The max_iter was reached")
def test_sae_probes_through_saebench_and_on_the_signed_sae_as_it_is(
    signed_folder: Path, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "sae_bench.evals.sparse_probing_sae_probes.eval_config.DATASETS", ["80_side-effects"], raising=True
    )
    accuracy = {}
    for as_is in (False, True):
        (result,) = run_saebench(
            signed_folder, out=tmp_path / str(as_is), evals=["sparse_probing_sae_probes"], text=str(texts), as_is=as_is
        )
        accuracy[as_is] = result.metrics["sae"]["sae_top_5_test_accuracy"]
        assert result.metrics["llm"]["llm_test_accuracy"] > 0.4
    assert all(0.3 < value <= 1 for value in accuracy.values())
