"""Training on vectors of a file: from the command to an SAE that takes raw vectors, resumed to the bit."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from rich.console import Console
from sae_lens import SAE

from sae_lens_abstopk import ConfigError, load_config, train
from sae_lens_abstopk.model.reconstruction import ReconstructionSums
from sae_lens_abstopk.training import training_loop
from sae_lens_abstopk.training.checkpoints.resume import is_finished
from sae_lens_abstopk.training.config.config_file import build_config, dump_config
from sae_lens_abstopk.training.metrics import massive_norms_warning
from sae_lens_abstopk.training.step_control import EarlyStopping
from sae_lens_abstopk.training.vector_run import VectorRun
from tests.cli.test_cli import invoke
from tests.sentence_model import WORDS, save_sentence_model
from tests.training.rank_processes import on_ranks
from tests.training.runs import signals_in

QUIET = Console(quiet=True)
D, N = 16, 400
SMALL = ("train_batch_size_tokens=64", "sae.k=3", "device=cpu", "lr=5e-3", "perf_log_freq=10")


@pytest.fixture(scope="module")
def array() -> np.ndarray:
    """Sums of few of ten signed directions, far from the origin."""
    random = np.random.default_rng(0)
    codes = random.normal(size=(N, 10)) * (random.random((N, 10)) < 0.2)
    return (codes @ random.normal(size=(10, D)) + 5 * random.normal(size=D)).astype(np.float16)


@pytest.fixture
def data(array: np.ndarray, tmp_path: Path) -> str:
    np.save(tmp_path / "x.npy", array)
    return f"data={tmp_path / 'x.npy'}"


@pytest.mark.parametrize("scale", ["none", "expected_average_only_in"])
def test_thresholds_are_set_so_that_the_l0_is_k(array: np.ndarray, tmp_path: Path, scale: str) -> None:
    def l0s(name: str, *keys: str) -> list[float]:
        own = ("sae.architecture=batch_abstopk", f"sae.normalize_activations={scale}", "epochs=5", *keys)
        one_sided = "companions.topk.architecture=sparse_batchtopk", "companions.lens.architecture=batchtopk"
        cfg = load_config("vectors", [*SMALL, *own, *one_sided, f"output_path={tmp_path / name}"], vectors=array)
        saes = [SAE.load_from_disk(each) for each in train(cfg, vectors=array, console=QUIET).folders.values()]
        x = torch.from_numpy(array).float()[torch.arange(N) % 10 != 9]
        return [float((sae.encode(x) != 0).float().sum(1).mean()) for sae in saes]

    assert l0s("set", "threshold_tokens=1800") == pytest.approx([3, 3, 3], rel=0.02)
    assert l0s("kept", "threshold_tokens=0") != pytest.approx([3, 3, 3], rel=0.02)


@pytest.mark.parametrize("scale", ["none", "expected_average_only_in"])
def test_the_command_trains_an_sae_that_takes_raw_vectors(
    data: str, array: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scale: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = invoke("train", "vectors", data, *SMALL, "epochs=40", f"sae.normalize_activations={scale}")
    assert done.exit_code == 0, done.output
    sae = SAE.load_from_disk("runs/vectors")
    held_out, sums = torch.from_numpy(array)[9::10].float(), ReconstructionSums()
    sums.update(held_out, sae(held_out))
    with Path("runs/vectors/metrics.csv").open() as file:
        *_, last = csv.DictReader(file)
    assert sums.fvu() == pytest.approx(float(last["held_out_fvu"]), rel=1e-3)
    assert sums.fvu() < 0.3, "the mean alone would be 1"
    assert int(last["tokens"]) == -(-40 * N * 9 // 10 // 64) * 64
    metadata = sae.cfg.metadata
    assert (metadata.source, metadata.n_vectors, metadata.held_out_every) == ("vectors", N * 9 // 10, 10)
    assert metadata.model_name is None


def test_a_sweep_trains_vectors(data: str, tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("runs:\n- config: vectors\n  grid: {seed: [1, 2]}\n")
    done = invoke("sweep", str(tmp_path / "s.yaml"), data, *SMALL, "epochs=1", "--out", str(tmp_path / "out"))
    assert done.exit_code == 0, done.output
    assert len(list((tmp_path / "out").glob("*/sae_weights.safetensors"))) == 2


def weights_of(cfg: Any, out: Path, **changes: Any) -> dict[str, torch.Tensor]:
    for key, value in (changes | {"output_path": str(out)}).items():
        setattr(cfg, key, value)
    return {
        f"{name}.{key}": weight
        for name, sae in train(cfg, console=QUIET).saes.items()
        for key, weight in sae.state_dict().items()
    }


def test_a_run_that_was_stopped_goes_on_to_the_same_bits(
    data: str, tmp_path: Path, stop_after: Callable[..., None]
) -> None:
    one_sided = "companions={one_sided: {architecture: sparse_topk}}"
    cfg = load_config("vectors", [data, *SMALL, "training_steps=30", "early_stopping_patience=2", one_sided])
    whole = weights_of(cfg, tmp_path / "whole")
    stop_after(10)
    with pytest.raises(KeyboardInterrupt):
        weights_of(cfg, tmp_path / "stopped")
    resumed = weights_of(cfg, tmp_path / "stopped", resume_from_checkpoint="newest")
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(weight, resumed[name]) for name, weight in whole.items())


def test_two_ranks_that_were_stopped_train_the_sae_of_one(data: str, tmp_path: Path) -> None:
    cfg = load_config("vectors", [data, *SMALL, "training_steps=30", "early_stopping_patience=2"])

    def stopping() -> None:
        training_loop.step_metrics = signals_in(10)
        weights_of(cfg, tmp_path / "two")

    whole = weights_of(cfg, tmp_path / "one")
    assert all(isinstance(end, KeyboardInterrupt) for end in on_ranks(2, stopping, tmp_path / "a"))
    resume = {"resume_from_checkpoint": "newest"}
    first, second = on_ranks(2, lambda: weights_of(cfg, tmp_path / "two", **resume), tmp_path / "b")
    assert whole.keys() == first.keys()
    for name, weight in whole.items():
        assert torch.equal(first[name], second[name])
        torch.testing.assert_close(first[name], weight, rtol=1e-3, atol=1e-4)


def test_a_run_that_learns_no_more_stops_early(data: str, tmp_path: Path) -> None:
    changes = ["lr=1e-30", "early_stopping_patience=2", f"output_path={tmp_path}"]
    cfg = load_config("vectors", [data, *SMALL, *changes, "training_steps=100"])
    result = train(cfg, console=QUIET)
    assert result.sae.cfg.metadata.training_tokens == 30 * 64, "the first of three measurements is the best"
    cfg.resume_from_checkpoint = "newest"
    assert is_finished(cfg)


def test_the_best_measurement_of_any_sae_counts() -> None:
    early = EarlyStopping(2)
    seen = [{"a": 0.5, "b": 0.5}, {"a": 0.5, "b": 0.4}, {"a": 0.6, "b": 0.4}, {"a": 0.49, "b": 0.6}]
    assert not any(early.note(fvu) for fvu in seen)
    assert [early.note({"a": 0.49, "b": 0.4}) for _ in range(2)] == [False, True]


def test_one_option_trains_one_sided_saes_of_both_widths(data: str, tmp_path: Path) -> None:
    done = invoke(
        "train", "vectors", data, *SMALL, "training_steps=2", "--compare-one-sided", "-o", str(tmp_path / "x")
    )
    assert done.exit_code == 0, done.output
    saes = {name: SAE.load_from_disk(str(tmp_path / "x" / name)) for name in ("", "one_sided", "one_sided_2F")}
    assert [(sae.cfg.architecture(), sae.cfg.d_sae) for sae in saes.values()] == [
        ("abstopk", 16),
        ("topk", 16),
        ("topk", 32),
    ]
    done = invoke("train", "vectors/topk", data, *SMALL, "--compare-one-sided", "--dry-run")
    assert "sae.architecture='topk' must be one of abstopk, batch_abstopk" in done.output


def test_what_is_written_is_the_same_config(data: str, tmp_path: Path) -> None:
    cfg = load_config("vectors", [data, *SMALL])
    (tmp_path / "config.yaml").write_text(dump_config(cfg))
    assert load_config(tmp_path / "config.yaml") == cfg
    assert "hook_name" not in dump_config(cfg)


def test_no_group_is_trained_on_and_held_out(array: np.ndarray, tmp_path: Path) -> None:
    who = [f"writer {i % 23}" for i in range(N)]
    Dataset.from_dict({"vector": array.astype(np.float32).tolist(), "who": who}).save_to_disk(tmp_path / "set")
    cfg = load_config("vectors", [f"data={tmp_path / 'set'}", "group=who", f"output_path={tmp_path / 'run'}", *SMALL])
    run = VectorRun(cfg, console=QUIET)
    trained, held_out = ({who[i] for i in rows.tolist()} for rows in (run._train_rows, run._held_out_rows))
    assert held_out == {"writer 9", "writer 19"}
    assert not trained & held_out


def test_epochs_are_of_the_rows_that_are_trained_on(data: str, tmp_path: Path) -> None:
    raw = {"source": "vectors", "dataset_path": data.removeprefix("data="), "epochs": 1, "train_batch_size_tokens": 10}
    cfg = build_config(raw | {"sae": {"d_sae": 16, "k": 2}, "output_path": str(tmp_path / "run")})
    assert cfg.training_tokens == -(-len(VectorRun(cfg, console=QUIET)._train_rows) // 10) * 10


def test_a_warning_of_massive_rows_names_no_key_of_tokens(data: str) -> None:
    x = torch.ones(40, 8)
    x[0] *= 100
    warning = massive_norms_warning(x, load_config("vectors", [data, *SMALL])) or ""
    assert "1 of the first 40 activations are massive" in warning
    assert "scale them" in warning
    assert "max_norm_multiple" not in warning


def test_an_array_trains_like_its_file(data: str, array: np.ndarray, tmp_path: Path) -> None:
    changes = [*SMALL, "epochs=2"]
    of_file = weights_of(load_config("vectors", [data, *changes]), tmp_path / "file")
    for name, given in {"array": array, "tensor": torch.from_numpy(array)}.items():
        cfg = load_config("vectors", [*changes, f"output_path={tmp_path / name}"], vectors=given)
        found = train(cfg, vectors=given, console=QUIET).saes["sae"].state_dict()
        assert all(torch.equal(weight, of_file[f"sae.{key}"]) for key, weight in found.items())
    of_tokens = load_config("vectors", [data, *changes])
    of_tokens.source = "tokens"
    with pytest.raises(ConfigError, match="set source: vectors too"):
        train(of_tokens, vectors=array, console=QUIET)
    with pytest.raises(ConfigError, match="values of type object; save it as float16"):
        load_config("vectors", changes, vectors=np.array([[None]]))


def test_texts_are_embedded_by_a_named_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ABSTOPK_CACHE", str(tmp_path / "cache"))
    model = save_sentence_model(tmp_path / "model")
    texts = [" ".join(WORDS[(i + j) % len(WORDS)] for j in range(i % 7 + 1)) for i in range(200)]
    Dataset.from_dict({"text": texts}).to_json(tmp_path / "texts.jsonl")
    out = tmp_path / "run"
    arguments = (f"model={model}", f"data={tmp_path / 'texts.jsonl'}", "column=text", *SMALL)
    done = invoke("train", "vectors", *arguments, "epochs=2", "--out", str(out))
    assert done.exit_code == 0, done.output
    metadata = SAE.load_from_disk(str(out)).cfg.metadata
    assert (metadata.model_name, metadata.n_vectors) == (str(model), 180)
    done = invoke("train", "vectors", *arguments, "column=words", "--dry-run")
    assert "text='words' must be text" in done.output


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (["sae.d_in=17"], "16 wide, and the SAE takes 17"),
        (["train_batch_size_tokens=361"], "rows to train on=360 must be at least"),
        (["held_out_every=401"], "400 rows, too few for held_out_every=401"),
        (["group=who"], "column='who'"),
        (["hook_name=x"], "hook_name='x' has no effect here.*source is vectors"),
        (["epochs=2", "training_steps=3"], "give epochs or training_steps, not both"),
        (["epochs=0"], "epochs=0.0 must be above 0"),
        (["source=pairs"], "source='pairs'.*tokens, vectors"),
    ],
)
def test_what_cannot_be_trained_on_is_said_before_the_first_step(
    data: str, tmp_path: Path, changes: list[str], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        VectorRun(load_config("vectors", [data, *SMALL, f"output_path={tmp_path / 'run'}", *changes]), console=QUIET)
    assert not (tmp_path / "run").exists()
