"""Checkpoint folders are whole or not there."""

import contextlib
import errno
import io
import json
import os
import shutil
import stat
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from sae_lens import SAE
from sae_lens.training.activation_scaler import ActivationScaler
from safetensors import SafetensorError
from safetensors.torch import load_file

from sae_lens_abstopk import (
    AbsTopKTrainingSAE,
    AbsTopKTrainingSAEConfig,
    BatchAbsTopKTrainingSAE,
    BatchAbsTopKTrainingSAEConfig,
    ConfigError,
)
from sae_lens_abstopk.config.config_file import build_config
from sae_lens_abstopk.errors import TrainingStopped
from sae_lens_abstopk.files import lack_of_space
from sae_lens_abstopk.training import checkpoint as checkpoint_module
from sae_lens_abstopk.training import runner as runner_module
from sae_lens_abstopk.training.checkpoint import (
    CheckpointError,
    all_at_once,
    checkpoint_step,
    checkpoints,
    damage,
    keep_newest,
    new_checkpoint,
    newest_checkpoint,
)
from sae_lens_abstopk.training.run_checkpoints import checkpoint_bytes
from sae_lens_abstopk.training.runner import TrainingRun
from sae_lens_abstopk.training.trainers import new_sae
from tests.training.runs import QUIET, begin, run_of

Usage = namedtuple("Usage", "total used free")


def write(folder: Path, step: int = 1, text: str = "numbers") -> None:
    with new_checkpoint(folder, step=step) as partial:
        (partial / "state.json").write_text(text)
        (partial / "topk").mkdir()
        (partial / "topk" / "weights").write_text("more")


def test_a_checkpoint_is_listed_with_sizes_and_hashes(tmp_path: Path) -> None:
    write(tmp_path / "320", step=5)
    manifest = json.loads((tmp_path / "320" / "checkpoint.json").read_text())
    assert set(manifest["files"]) == {"state.json", "topk/weights"}
    assert manifest["files"]["topk/weights"]["bytes"] == 4
    assert damage(tmp_path / "320") is None
    assert checkpoint_step(tmp_path / "320") == 5


def test_a_file_that_the_disk_does_not_give_is_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: Path) -> str:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    write(tmp_path / "320")
    monkeypatch.setattr(checkpoint_module, "file_sha256", fails)
    found = newest_checkpoint(tmp_path)
    assert found.torn[tmp_path / "320"] == "state.json cannot be read (Input/output error)"


@pytest.mark.parametrize(
    ("harm", "problem"),
    [
        (lambda folder: (folder / "state.json").unlink(), "state.json is missing"),
        (lambda folder: (folder / "state.json").write_text("numb"), "state.json has 4 bytes in place of 7"),
        (lambda folder: (folder / "topk" / "weights").write_text("less"), "topk/weights is not what was written"),
        (lambda folder: (folder / "checkpoint.json").unlink(), "it has no checkpoint.json"),
        (lambda folder: (folder / "checkpoint.json").write_text('{"files": ['), "its checkpoint.json cannot be read"),
        (lambda folder: (folder / "checkpoint.json").write_text("[]"), "its checkpoint.json cannot be read"),
    ],
)
def test_damage_is_found_and_the_one_before_is_taken(tmp_path: Path, harm: Any, problem: str) -> None:
    for tokens in (64, 128, 1024):
        write(tmp_path / str(tokens))
    harm(tmp_path / "1024")
    found = newest_checkpoint(tmp_path)
    assert found.folder == tmp_path / "128"
    assert list(found.torn) == [tmp_path / "1024"]
    assert found.torn[tmp_path / "1024"].startswith(problem)


def test_what_ends_the_writing_leaves_the_old_one_and_from_some_point_on_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    newest = []
    for fails_at in range(12):
        root, syncs = tmp_path / str(fails_at), iter(range(fails_at))
        write(root / "64")

        def dies(_: int, syncs: Iterator[int] = syncs) -> None:
            if next(syncs, None) is None:
                raise KeyboardInterrupt

        with monkeypatch.context() as patched, contextlib.suppress(KeyboardInterrupt):
            patched.setattr(os, "fsync", dies)
            write(root / "128")
        found = newest_checkpoint(root)
        assert found.folder is not None
        assert found.torn == {}
        assert not list(root.glob(".partial-*"))
        newest.append(int(found.folder.name))
    assert newest == sorted(newest)
    assert set(newest) == {64, 128}


def test_a_full_disk_is_said_in_a_sentence_and_what_was_there_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "64")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint_module, "sync", full)
    with pytest.raises(CheckpointError, match=r"128 could not be written \(No space left on device\); earlier ones"):
        write(tmp_path / "128")
    assert [path.name for path in tmp_path.iterdir()] == ["64"]
    assert damage(tmp_path / "64") is None


def test_the_newest_are_kept_and_those_of_a_later_step_are_not_counted(tmp_path: Path) -> None:
    for tokens in (64, 128, 192, 1024):
        write(tmp_path / str(tokens))
    keep_newest(tmp_path / "192", 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1024", "128", "192"]


def test_files_move_together_and_the_last_one_last(tmp_path: Path) -> None:
    (tmp_path / ".partial-files").mkdir()  # of a process that was killed
    with all_at_once(tmp_path, last="a") as staging:
        for name in ("a", "b"):
            (staging / name).write_text(name)
        assert not (tmp_path / "b").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
    assert (tmp_path / "a").stat().st_ctime_ns >= (tmp_path / "b").stat().st_ctime_ns


def test_final_files_that_cannot_be_moved_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = iter([None, OSError(5, "Input/output error")])

    def sync(_: Path) -> None:
        error = next(synced)
        if error is not None:
            raise error

    monkeypatch.setattr(checkpoint_module, "sync", sync)
    kept = r"\(Input/output error\); the last of them are kept in .*unmoved-1\. Mend .*, a last"
    with pytest.raises(TrainingStopped, match=kept), all_at_once(tmp_path, last="a") as staging:
        _ = [(staging / name).write_text(name) for name in ("a", "b")]
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")) == [
        "b",
        "unmoved-1",
        "unmoved-1/a",
    ]
    with (
        pytest.raises(TrainingStopped, match=r"could not be written \(I/O error\)\. Free"),
        all_at_once(tmp_path, last="a"),
    ):
        raise SafetensorError("I/O error")
    assert not list(tmp_path.glob(".partial-*"))


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EIO])
def test_a_file_system_that_syncs_no_folders_takes_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def sync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, "refused")

    monkeypatch.setattr(os, "fsync", sync)
    with contextlib.nullcontext() if number == errno.EINVAL else pytest.raises(CheckpointError, match="refused"):
        write(tmp_path / "64")


def test_room_is_asked_for_before_the_run_and_before_each_checkpoint(
    raw_config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = build_config(raw_config | {"checkpoint_freq": 2, "perf_log_freq": 0})
    free = 10**12
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**13, 0, free))
    run = TrainingRun(cfg, console=QUIET)

    def fills_up(*_: Any, **__: Any) -> None:
        nonlocal free
        free = 1000

    monkeypatch.setattr("sae_lens_abstopk.training.run_checkpoints.keep_newest", fills_up)
    with pytest.raises(
        CheckpointError, match=r"a checkpoint needs 1\.\d MB and the disk of .* has 1\.0 kB free; the last one"
    ):
        run.run()
    assert [path.name for path in (run.output / "checkpoints").iterdir()] == ["128"]
    assert damage(run.output / "checkpoints" / "128") is None
    monkeypatch.setattr(runner_module, "load_language_model", None)  # reading weights would fail
    with pytest.raises(ConfigError, match=r"has 1\.0 kB free; free some, lower checkpoints_kept=3, or set check"):
        TrainingRun(build_config(raw_config | {"checkpoint_freq": 2, "output_path": f"{cfg.output_path}2"}))
    assert not Path(f"{cfg.output_path}2").exists()
    assert lack_of_space(run.output, 1000) is None


def test_room_is_asked_for_all_that_the_run_leaves_and_the_oldest_makes_room_for_the_newest(
    raw_config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    room = 1000
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**13, 0, room))
    with pytest.raises(
        ConfigError, match=r"what the run saves needs 17\.\d kB .*; free some, or choose another output_path"
    ):
        TrainingRun(build_config(raw_config), console=QUIET)  # checkpoint_freq=0
    with pytest.raises(
        ConfigError, match=r"what the run saves needs 1\.\d MB .* save_final_checkpoint=false to save no"
    ):
        TrainingRun(build_config(raw_config | {"save_final_checkpoint": True}), console=QUIET)
    often = raw_config | {"checkpoint_freq": 1, "perf_log_freq": 0}
    room = 4 * 2**20  # more than one takes
    with pytest.raises(ConfigError, match=r"what the run saves needs 4\.\d MB"):
        TrainingRun(build_config(often), console=QUIET)
    room = 10**9
    run = TrainingRun(build_config(often), console=QUIET)
    root = run.output / "checkpoints"
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**13, 0, 10**9 * (len(checkpoints(root)) < 2)))
    run.run()
    assert sorted(path.name for path in root.iterdir()) == ["256", "320"]


def test_the_room_that_is_asked_for_is_what_a_checkpoint_takes(raw_config: dict[str, Any]) -> None:
    wide = {"sae": raw_config["sae"] | {"d_sae": 8192}, "companions": {"topk": {"architecture": "topk"}}}
    run = TrainingRun(build_config(raw_config | wide | {"checkpoint_freq": 4, "perf_log_freq": 0}), console=QUIET)
    run.run()
    taken = sum(path.stat().st_size for path in (run.output / "checkpoints").rglob("*") if path.is_file())
    assert taken <= checkpoint_bytes(run.cfg, run.saes) <= taken + 2**21


@pytest.mark.parametrize("sae", [{}, {"architecture": "batch_abstopk", "signed_share": 0.25}], ids=["all", "a quarter"])
def test_a_checkpoint_starts_a_new_run_from_its_weights(
    raw_config: dict[str, Any], tmp_path: Path, sae: dict[str, Any]
) -> None:
    raw_config["sae"] |= sae
    first = TrainingRun(build_config(raw_config | {"checkpoint_freq": 4}), console=QUIET)
    first.run()
    source = first.output / "checkpoints" / "256"
    again = raw_config | {"from_pretrained_path": str(source), "output_path": str(tmp_path / "again")}
    again["sae"] = again["sae"] | {"k": 7, "aux_loss_coefficient": 0.5}  # of the new run, not of the checkpoint
    run = TrainingRun(build_config(again), console=QUIET)
    assert (run.sae.cfg.k, run.sae.cfg.aux_loss_coefficient) == (7, 0.5)  # type: ignore[attr-defined]
    assert run.sae.b_dec.any()
    for count in {"pole_counts", "topk_threshold"} & dict(run.sae.named_buffers()).keys():
        assert not getattr(run.sae, count).any(), f"{count} is of the other run, and of its k"
    before = run.sae.b_dec.detach().clone()
    run.run()
    assert torch.dist(run.sae.b_dec, before) < torch.dist(torch.zeros_like(before), before)


@pytest.mark.parametrize(
    ("stock", "ours"),
    [("sae_lens_abstopk", "abstopk"), ("topk", "sparse_topk"), ("batchtopk", "sparse_batchtopk")],
)
def test_a_checkpoint_of_saelens_own_trainer_starts_a_run_of_the_same_sae(
    raw_config: dict[str, Any], tmp_path: Path, stock: str, ours: str
) -> None:
    raw_config["sae"] |= {"architecture": stock}
    written: Any = new_sae(build_config(raw_config).sae, seed=0)
    if stock == "batchtopk":
        written.topk_threshold.fill_(0.3)
    written.save_model(tmp_path / "stock")
    raw_config["sae"] |= {"architecture": ours}
    run = run_of(raw_config, from_pretrained_path=str(tmp_path / "stock"))
    for name, weight in written.state_dict().items():
        assert torch.equal(run.sae.state_dict()[name], weight), name


@pytest.mark.parametrize(
    ("architecture", "key", "here"),
    [
        ("abstopk", "normalize_activations", "expected_average_only_in"),
        ("topk", "apply_b_dec_to_input", False),
        ("topk", "rescale_acts_by_decoder_norm", False),
        ("batch_abstopk", "signed_share", 0.25),
    ],
)
def test_weights_that_mean_something_else_start_no_new_run(
    raw_config: dict[str, Any], tmp_path: Path, architecture: str, key: str, here: Any
) -> None:
    raw_config["sae"] |= {"architecture": architecture}
    written = build_config(raw_config).sae
    new_sae(written, seed=0).save_model(tmp_path / "first")
    raw_config["sae"] |= {key: here}
    sentence = f"an SAE with {key} {getattr(written, key)}, but this run has {here}"
    with pytest.raises(ConfigError, match=sentence):
        TrainingRun(build_config(raw_config | {"from_pretrained_path": str(tmp_path / "first")}))


@pytest.mark.parametrize("normalisation", ["covariance_whitening", "expected_average_only_in"])
def test_weights_keep_the_activation_statistics_that_they_were_trained_with(
    raw_config: dict[str, Any], tmp_path: Path, normalisation: str
) -> None:
    raw = raw_config | {"checkpoint_freq": 4, "perf_log_freq": 0, "n_batches_for_norm_estimate": 2}
    raw["sae"] = raw["sae"] | {"normalize_activations": normalisation}
    raw["companions"] = {"topk": {"architecture": "topk"}}
    TrainingRun(build_config(raw), console=QUIET).run()
    source = tmp_path / "source"
    shutil.copytree(Path(raw["output_path"]) / "checkpoints" / "256", source)
    raw["companions"] = raw["companions"] | {"batchtopk": {"architecture": "batchtopk"}}
    said = io.StringIO()
    again = {"from_pretrained_path": str(source), "output_path": str(tmp_path / "again")}
    run = TrainingRun(
        build_config(raw | again | {"n_batches_for_norm_estimate": 3}), console=Console(file=said, width=300)
    )
    run.output.mkdir()
    begin(run)
    for name, folder in (("sae", source), ("topk", source / "topk")):
        then = ActivationScaler()
        then.load(folder / "activation_scaler.json")
        x = torch.randn(5, 32)
        assert torch.equal(run.trainers[name].activation_scaler(x), then(x))
        assert torch.equal(run.saes[name].W_dec, load_file(folder / "sae_weights.safetensors")["W_dec"])
    assert f"batchtopk starts from new weights: {source} has no companion of that name" in said.getvalue()
    assert run.trainers["batchtopk"].activation_scaler == ActivationScaler()
    if normalisation == "covariance_whitening":
        shutil.rmtree(run.output)
        (source / "topk" / "activation_whitening.safetensors").unlink()
        with pytest.raises(
            ConfigError, match=r"is no whole checkpoint: topk/activation_whitening\.safetensors is missing"
        ):
            TrainingRun(build_config(raw | again))
        (source / "checkpoint.json").unlink()  # as SAELens's own have none
        with pytest.raises(ConfigError, match="source/topk' lacks the whitening that its weights were trained with"):
            TrainingRun(build_config(raw | again))
        (source / "sae_weights.safetensors").write_bytes(b"torn")
        with pytest.raises(ConfigError, match="holds an SAE that cannot be read"):
            TrainingRun(build_config(raw | again))


def test_a_run_goes_on_without_the_checkpoint_that_it_once_started_from(
    raw_config: dict[str, Any], tmp_path: Path
) -> None:
    raw = raw_config | {"checkpoint_freq": 4, "perf_log_freq": 0}
    TrainingRun(build_config(raw), console=QUIET).run()
    again = raw | {
        "from_pretrained_path": f"{raw['output_path']}/checkpoints/256",
        "output_path": str(tmp_path / "again"),
    }
    TrainingRun(build_config(again), console=QUIET).run()
    shutil.rmtree(raw["output_path"])
    (tmp_path / "again" / "sae_weights.safetensors").unlink()
    run = TrainingRun(build_config(again | {"resume_from_checkpoint": "newest"}), console=QUIET)
    assert run.resumed == tmp_path / "again" / "checkpoints" / "256"
    run.run()
    shutil.rmtree(tmp_path / "again")
    with pytest.raises(ConfigError, match=r"from_pretrained_path=.* no such folder"):
        TrainingRun(build_config(again | {"resume_from_checkpoint": "newest"}), console=QUIET)


@pytest.mark.parametrize("architecture", ["abstopk", "batch_abstopk", "sparse_topk", "sparse_batchtopk"])
def test_a_finished_sae_starts_a_run_as_the_function_that_it_was(
    raw_config: dict[str, Any], tmp_path: Path, architecture: str
) -> None:
    raw_config["sae"] |= {"architecture": architecture} | (
        {"signed_share": 0.25} if architecture == "batch_abstopk" else {}
    )
    first = run_of(raw_config)
    first.run()
    saved, x = SAE.load_from_disk(first.output), torch.randn(64, 32)
    again = run_of(raw_config, from_pretrained_path=str(first.output), output_path=str(tmp_path / "again"))
    trained: Any = again.sae
    if architecture == "batch_abstopk":
        assert trained.topk_threshold == 0, "the first batch sets it"
        trained.topk_threshold.fill_(saved.threshold[0])
    torch.testing.assert_close(trained.eval().encode(x), saved.encode(x))
    torch.testing.assert_close(trained(x), saved(x))
    trained.train()
    again.run()


def test_a_finished_sae_of_another_function_starts_no_run(raw_config: dict[str, Any], tmp_path: Path) -> None:
    cfg = BatchAbsTopKTrainingSAEConfig(d_in=32, d_sae=64, k=4, signed_share=0.25)
    BatchAbsTopKTrainingSAE(cfg).save_inference_model(tmp_path / "quarter")
    own = SAE.load_from_disk(tmp_path / "quarter")
    own.threshold.data = torch.rand(64) + 0.5
    own.save_model(tmp_path / "own thresholds")
    own.threshold.data[0] = torch.inf
    own.save_model(tmp_path / "closed")
    scaled = AbsTopKTrainingSAE(AbsTopKTrainingSAEConfig(d_in=32, d_sae=64, k=4, rescale_acts_by_decoder_norm=False))
    scaled.W_dec.data *= 3
    scaled.save_inference_model(tmp_path / "scaled")
    scaled.save_inference_model(tmp_path / "torn")
    (tmp_path / "torn" / "sae_weights.safetensors").write_bytes(b"torn")
    (tmp_path / "empty").mkdir()
    of_batch = {"architecture": "batch_abstopk", "d_in": 32, "d_sae": 64, "k": 4}
    per_token = of_batch | {"architecture": "abstopk"}
    for name, sae, sentence in (
        (
            "quarter",
            per_token,
            "signed_jumprelu, but this run has sparse_abstopk, which is saved as abstopk",
        ),
        ("quarter", of_batch, "of which 16 latents are signed, and this run signs the first 64; set sae.signed_share"),
        ("quarter", of_batch | {"d_sae": 96}, "an SAE with d_sae 64, but this run has 96; set sae.d_sae to that"),
        ("quarter", of_batch | {"normalize_activations": "expected_average_only_in"}, "set sae.normalize_activations"),
        ("own thresholds", of_batch | {"signed_share": 0.25}, "whose latents have thresholds of their own"),
        (
            "closed",
            of_batch | {"signed_share": 0.25},
            "1 latents never fire on their positive side, and batch_abstopk closes none",
        ),
        ("quarter", of_batch | {"signed_share": 0.25, "unit_norm_encoder": True}, "set sae.unit_norm_encoder to false"),
        ("scaled", per_token, "decoder vectors are not of norm 1, .* set sae.rescale_acts_by_decoder_norm to False"),
        ("torn", per_token, "holds an SAE that cannot be read"),
        ("empty", per_token, r"holds no SAE \(cfg\.json is missing\); name a checkpoint of a run .* or a finished SAE"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            TrainingRun(build_config(raw_config | {"sae": sae, "from_pretrained_path": str(tmp_path / name)}))


@pytest.mark.parametrize("architecture", ["jumprelu", "standard", "gated"])
def test_a_finished_sae_with_thresholds_or_gates_of_its_own_starts_one_of_its_kind(
    raw_config: dict[str, Any], tmp_path: Path, architecture: str
) -> None:
    raw_config["sae"] = {"architecture": architecture, "d_in": 32, "d_sae": 64}
    first = run_of(raw_config)
    first.run()
    again = run_of(raw_config, from_pretrained_path=str(first.output), output_path=str(tmp_path / "again"))
    x = torch.randn(64, 32)
    torch.testing.assert_close(again.sae.eval()(x), SAE.load_from_disk(first.output)(x))
