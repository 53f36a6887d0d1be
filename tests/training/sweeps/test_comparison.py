"""Comparisons: variants that share everything but their SAE, and L0s that are held at a target."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from sae_lens_abstopk import ConfigError
from sae_lens_abstopk.training.config.config_file import load_config
from sae_lens_abstopk.training.runner import TrainingRun
from sae_lens_abstopk.training.sweeps.comparison import load_comparison, run_comparison
from tests.training.runs import QUIET

pytestmark = pytest.mark.slow

VARIANTS = {
    "signed": {"architecture": "abstopk"},
    "topk_2F": {"architecture": "sparse_topk", "times_wider": 2},
    "standard": {"architecture": "standard", "l1_coefficient": 0.1},
}


def written(raw_config: dict[str, Any], folder: Path, **changes: Any) -> str:
    base = folder / "base.yaml"
    base.write_text(yaml.safe_dump(raw_config))
    content = {"config": str(base), "k": [3, 5], "seeds": [0, 1], "variants": VARIANTS, **changes}
    (folder / "comparison.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return str(folder / "comparison.yaml")


def test_every_variant_is_trained_at_every_k_and_seed_and_nothing_twice(
    raw_config: dict[str, Any], tmp_path: Path
) -> None:
    comparison = load_comparison(written(raw_config, tmp_path), out=tmp_path / "runs")
    assert [run.name for run in comparison.runs] == ["k3_seed0", "k3_seed1", "k5_seed0", "k5_seed1"]
    run_comparison(comparison, console=QUIET)
    for run in comparison.runs:
        assert list(run.folders()) == list(VARIANTS)
        cfgs = {name: json.loads((path / "cfg.json").read_text()) for name, path in run.folders().items()}
        assert [cfg["architecture"] for cfg in cfgs.values()] == ["abstopk", "topk", "standard"]
        assert [cfg["d_sae"] for cfg in cfgs.values()] == [64, 128, 64]
        assert cfgs["signed"]["k"] == run.k
        assert run.config.seed == run.seed
        for key in ("variant", "label"):  # of the report, of the screen and the trackers
            assert [cfg["metadata"][key] for cfg in cfgs.values()] == list(VARIANTS)
        assert run.config.target_l0 == {"standard": run.k}
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*.safetensors")}
    again = load_comparison(written(raw_config, tmp_path), out=tmp_path / "runs")
    run_comparison(again, console=QUIET)
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    # SAEs of other settings are not taken for those that are asked for
    longer = load_comparison(written(raw_config, tmp_path), ["training_tokens=512"], out=tmp_path / "runs")
    with pytest.raises(ConfigError, match=r"k3_seed0 is of a run with other settings: training_tokens is"):
        run_comparison(longer, console=QUIET)
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    stopped = comparison.runs[1].folders()["signed"]
    (stopped / "sae_weights.safetensors").unlink()
    run_comparison(again, console=QUIET)  # the run that was stopped is started again or gone on with
    assert (stopped / "sae_weights.safetensors").is_file()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ks": [1]}, "unknown key 'ks'"),
        ({"k": 3}, "k=3: .* valid list"),
        ({"k": [3, 5, 3]}, r"k: the value 3 comes twice"),
        ({"variants": {"a": 3}}, r"variants\.a=3"),
        ({"variants": {"a": {"architecture": "abstopp"}}}, "did you mean 'abstopk'"),
        ({"variants": {"a": {"times_wider": -1}}}, r"variants\.a\.times_wider=-1: .* greater than 0"),
        ({"config": {"lr": 1e-3}}, "config={'lr': 0.001}"),
        ({"variants": {"a": {"architecture": "sparse_topk", "k": 9}}}, r"variants\.a: k is the same for all"),
        ({"variants": {"a": {"times_wider": 2, "d_sae": 64}}}, "give times_wider or d_sae, not both"),
        ({"variants": {"a": {"architecture": "matching_pursuit"}}}, "matching_pursuit has neither k nor a sparsity"),
        ({"variants": {"Checkpoints": {}}}, "the name 'Checkpoints' cannot be"),
        ({"k": [65]}, "k=65 must be at least 1 and at most 64"),
    ],
)
def test_a_bad_comparison_is_refused_before_anything_is_trained(
    raw_config: dict[str, Any], tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        load_comparison(written(raw_config, tmp_path, **changes), out=tmp_path / "runs")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("sae.k=7", "has no effect on a comparison: .* decides k, seeds and variants, --out the folder"),
        ("output_path=other", "has no effect on a comparison"),
        ("from_pretrained_path=a", "from_pretrained_path='a' has weights for one variant only"),
        ("source=vectors", "source: vectors, and a comparison is evaluated on a language model"),
        ("autocast=true", "variants on the sparse kernels in float32 and others in bfloat16"),
    ],
)
def test_an_override_that_cannot_hold_for_all_variants_is_refused(
    raw_config: dict[str, Any], tmp_path: Path, override: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        load_comparison(written(raw_config, tmp_path), [override], out=tmp_path / "runs")


def test_all_variants_are_centred_in_one_way(raw_config: dict[str, Any], tmp_path: Path) -> None:
    variants = VARIANTS | {"own": {"architecture": "batch_abstopk", "b_dec_init_method": "mean"}}
    file = written(raw_config, tmp_path, variants=variants)
    (run, *_) = load_comparison(file, ["b_dec_init_method=zeros"], out=tmp_path / "runs").runs
    cfgs: dict[str, Any] = run.config.all_saes
    assert (run.config.b_dec_init_method, cfgs["sae"].b_dec_init_method) == ("zeros", "zeros")
    assert cfgs["own"].b_dec_init_method == "mean", "it was asked for"
    signed_only = written(raw_config, tmp_path, variants={"signed": {}})
    (run, *_) = load_comparison(signed_only, ["b_dec_init_method=zeros"], out=tmp_path / "runs").runs
    assert run.config.sae.b_dec_init_method == "zeros"


def test_a_run_of_a_comparison_that_goes_on_by_its_config_calls_its_saes_as_before(
    raw_config: dict[str, Any], tmp_path: Path, stop_after: Callable[..., None]
) -> None:
    (run, *_) = load_comparison(written(raw_config, tmp_path), out=tmp_path / "runs").runs
    stop_after(4)
    with pytest.raises(KeyboardInterrupt):
        TrainingRun(run.config, console=QUIET).run()
    cfg = load_config(tmp_path / "runs" / run.name / "config.yaml", "resume_from_checkpoint=newest")
    again = TrainingRun(cfg, console=QUIET)
    again.run()
    metadata = [json.loads((path / "cfg.json").read_text())["metadata"] for path in run.folders().values()]
    assert [each["variant"] for each in metadata] == [each["label"] for each in metadata] == list(VARIANTS)
    assert list(again.state.watch.state()) == list(VARIANTS), "losses from before are what later ones are compared with"


def test_variants_take_their_size_from_the_config_and_have_targets_and_multiples_of_the_rate_of_their_own(
    raw_config: dict[str, Any], tmp_path: Path
) -> None:
    raw_config |= {"companions": {"relu": {"architecture": "standard"}}, "target_l0": {"relu": 9.0}}
    raw_config |= {"weight_seeds": {"sae": 5, "relu": 5}}
    aims = {"architecture": "jumprelu", "jumprelu_sparsity_loss_mode": "quadratic", "lr_multiple": 2}
    variants = {"abstopk": {"lr_multiple": 0.5, "expansion_factor": 3}, "aims": aims}
    file = written(raw_config, tmp_path, config="base.yaml", variants=variants)
    for run in load_comparison(file, ["lr=1e-4"], out=tmp_path / "runs").runs:
        assert run.config.target_l0 == {}
        assert run.config.companions["aims"].target_l0 == run.k
        assert (run.config.lr, run.config.lr_multiples) == (1e-4, {"sae": 0.5, "aims": 2})
        assert run.config.sae.d_sae == 3 * run.config.sae.d_in
        assert run.config.weight_seeds == {}, "the seed of a run is that of its weights"
