"""Checkpoints built as the other projects write them, and their own forward passes as oracles."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from sae_lens import SAE
from safetensors.torch import load_file, save_file

from sae_lens_abstopk import ConfigError
from sae_lens_abstopk.saes.converters import convert
from tests.cli.test_cli import invoke

D, F, K = 8, 32, 5


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


X = numbers(600, D, seed=7) + 0.5


def sparsify_folder(root: Path, dtype: torch.dtype = torch.float32, **settings: Any) -> Path:
    """As ``Sae.save_to_disk`` of EleutherAI's sae writes it."""
    folder = root / "layers.5"
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        "encoder.weight": numbers(F, D),
        "encoder.bias": numbers(F, seed=1),
        "W_dec": numbers(F, D, seed=2),
        "b_dec": numbers(D, seed=3),
    }
    save_file({name: tensor.to(dtype) for name, tensor in tensors.items()}, folder / "sae.safetensors")
    cfg = {"expansion_factor": 4, "normalize_decoder": True, "num_latents": 0, "k": K, "signed": True, "d_in": D}
    (folder / "cfg.json").write_text(json.dumps(cfg | settings))
    return folder


def sparsify_forward(folder: Path, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """``Sae.pre_acts``, ``select_topk`` and ``decode``: dense codes and the output."""
    tensors = load_file(folder / "sae.safetensors")
    latents = torch.nn.functional.linear(x - tensors["b_dec"], tensors["encoder.weight"], tensors["encoder.bias"])
    indices = latents.abs().topk(K, sorted=False).indices
    codes = torch.zeros_like(latents).scatter(-1, indices, latents.gather(-1, indices))
    return codes, codes @ tensors["W_dec"] + tensors["b_dec"]


@pytest.mark.parametrize("settings", [{}, {"num_latents": F, "expansion_factor": 99}])
def test_a_signed_sparsify_sae_has_its_own_codes(tmp_path: Path, settings: dict[str, Any]) -> None:
    folder = sparsify_folder(tmp_path, **settings)
    sae = convert(folder, model_name="EleutherAI/pythia-70m")
    codes, out = sparsify_forward(folder, X)
    torch.testing.assert_close(sae.encode(X), codes, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(sae(X), out, rtol=1e-5, atol=1e-5)
    assert (codes < 0).any()
    assert sae.cfg.architecture() == "abstopk"
    assert (sae.cfg.metadata.hook_name, sae.cfg.metadata.model_name) == ("model.layers.5", "EleutherAI/pythia-70m")


def test_the_command_writes_a_folder_that_sae_lens_loads(tmp_path: Path) -> None:
    folder = sparsify_folder(tmp_path, torch.bfloat16)
    done = invoke("convert", str(folder), "--out", str(tmp_path / "out"), "--hook", "gpt_neox.layers.5")
    assert done.exit_code == 0, done.output
    assert "abstopk, 32 latents on 8 dimensions" in done.output
    loaded = SAE.load_from_disk(tmp_path / "out")
    assert loaded.dtype == torch.bfloat16
    assert loaded.cfg.metadata.hook_name == "gpt_neox.layers.5"
    assert torch.equal(loaded.W_enc, convert(folder).W_enc)
    again = invoke("convert", str(folder), "--out", str(tmp_path / "out"))
    assert again.exit_code == 2
    assert "is not an empty folder" in again.stderr


def reference_weights(root: Path, dtype: torch.dtype = torch.float32, **settings: Any) -> Path:
    """As ``save_checkpoint`` of the reference trainer writes it."""
    root.mkdir(parents=True, exist_ok=True)
    W_dec = numbers(F, D, seed=4)
    tensors = {
        "b_dec": numbers(D, seed=3) / 5,
        "b_enc": numbers(F, seed=1),
        "W_enc": numbers(D, F),
        "W_dec": W_dec / W_dec.norm(dim=-1, keepdim=True),
    }
    save_file({name: tensor.to(dtype) for name, tensor in tensors.items()}, root / "sae_20000.safetensors")
    cfg = {
        "sae_name": "batchabsolutek",
        "k": K,
        "act_size": D,
        "dict_size": F,
        "input_unit_norm": True,
        "model_name": "EleutherAI/pythia-70m",
        "hook_point": "blocks.3.hook_resid_post",
        "dataset": "monology/pile-uncopyrighted",
        "seq_len": 128,
        "dtype": "torch.bfloat16",
    }
    (root / "config_20000.json").write_text(json.dumps(cfg | settings))
    return root / "sae_20000.safetensors"


def reference_forward(weights: Path, x: torch.Tensor, *, unit_norm: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """``BatchAbsoluteKSAE.forward`` on one batch: codes and output."""
    tensors = load_file(weights)
    mean = x.mean(dim=-1, keepdim=True) if unit_norm else 0.0
    std = (x - mean).std(dim=-1, keepdim=True) if unit_norm else 1.0
    normed = (x - mean) / (std + 1e-5) if unit_norm else x
    acts = (normed - tensors["b_dec"]) @ tensors["W_enc"]
    flat = acts.flatten()
    kept = flat.abs().topk(K * len(x)).indices
    codes = torch.zeros_like(flat).scatter(-1, kept, flat[kept]).view_as(acts)
    return codes, (codes @ tensors["W_dec"] + tensors["b_dec"]) * std + mean


@pytest.mark.parametrize("unit_norm", [True, False])
def test_a_reference_checkpoint_has_the_codes_of_one_large_batch(tmp_path: Path, unit_norm: bool) -> None:
    weights = reference_weights(tmp_path, input_unit_norm=unit_norm)
    sae = convert(weights, activations=X)
    codes, out = reference_forward(weights, X, unit_norm=unit_norm)
    # the threshold is placed to one part in 4,096, so a few codes beside it may differ
    ours = sae.encode(X)
    same = ((ours != 0) == (codes != 0)).all(-1)
    assert same.float().mean() > 0.99
    torch.testing.assert_close(ours[same], codes[same], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(sae(X)[same], out[same], rtol=1e-4, atol=1e-4)
    assert (ours != 0).sum(-1).float().mean() == pytest.approx(K, abs=0.01)
    assert (sae.b_enc == 0).all(), "the reference code never adds it"
    assert sae.cfg.metadata.hook_name == "blocks.3.hook_resid_post"


def test_the_command_takes_activations_from_a_file_and_a_pickled_state_dict(tmp_path: Path) -> None:
    weights = reference_weights(tmp_path)
    torch.save(load_file(weights), tmp_path / "sae_20000.pt")
    save_file({"activations": X}, tmp_path / "x.safetensors")
    options = {"--out": tmp_path / "out", "--activations": tmp_path / "x.safetensors"}
    done = invoke("convert", str(tmp_path / "sae_20000.pt"), *(str(word) for pair in options.items() for word in pair))
    assert done.exit_code == 0, done.output
    loaded = SAE.load_from_disk(tmp_path / "out")
    assert torch.equal(loaded.threshold, convert(weights, activations=X).threshold)


def compressae_weights(root: Path) -> Path:
    """The state dict of a CompresSAE (arXiv 2505.11388): rows of the decoder have norm 1, inputs are made so."""
    W_dec = numbers(F, D, seed=4)
    tensors = {"encoder_w": numbers(D, F), "encoder_b": numbers(F, seed=1) / 5}
    tensors["decoder_w"] = W_dec / W_dec.norm(dim=-1, keepdim=True)
    torch.save(tensors, root / "compressae.pt")
    return root / "compressae.pt"


def compressae_forward(weights: Path, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Its definition: codes of unit vectors, k largest magnitudes with their signs, and a decoder without a bias."""
    tensors = torch.load(weights, weights_only=True)
    pre = torch.stack([row / row.square().sum().sqrt() for row in x]) @ tensors["encoder_w"] + tensors["encoder_b"]
    least = pre.abs().sort(dim=-1, descending=True).values[:, K - 1 : K]
    codes = pre * (pre.abs() >= least)
    return codes, codes @ tensors["decoder_w"]


def test_a_compressae_has_its_own_codes_and_directions(tmp_path: Path) -> None:
    weights = compressae_weights(tmp_path)
    done = invoke("convert", str(weights), "--k", str(K), "--out", str(tmp_path / "out"), "--model", "embedder")
    assert done.exit_code == 0, done.output
    sae: Any = SAE.load_from_disk(tmp_path / "out")
    assert sae.cfg.metadata.model_name == "embedder"
    codes, out = compressae_forward(weights, X)
    assert ((codes != 0).sum(-1) == K).all()
    torch.testing.assert_close(sae.encode(X), codes, rtol=0, atol=1e-5)
    torch.testing.assert_close(sae.encode(X * 7), codes, rtol=0, atol=1e-5)
    norms = X.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(sae(X), out * norms, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(sae(X / norms), out, rtol=1e-5, atol=1e-5)


def test_a_file_that_is_no_compressae_is_refused(tmp_path: Path) -> None:
    weights = compressae_weights(tmp_path)
    for k, sentence in ((0, "k=0 must be at least 1"), (99, "k=99 must be at .* at most 32, the number of latents")):
        with pytest.raises(ConfigError, match=sentence):
            convert(weights, k=k)
    with pytest.raises(ConfigError, match="with --k N"):
        convert(weights, k=K, activations=X)
    tensors = torch.load(weights, weights_only=True)
    torch.save(tensors | {"decoder_w": numbers(D, F)}, weights)
    with pytest.raises(ConfigError, match="it should hold"):
        convert(weights, k=K)
    with pytest.raises(ConfigError, match="is not the state dict of a CompresSAE: it lacks encoder_w"):
        convert(reference_weights(tmp_path), k=K)


class Evil:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("was-run"),))


def test_a_pickle_that_holds_more_than_tensors_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    reference_weights(tmp_path)
    torch.save({"W_enc": numbers(D, F), "evil": Evil()}, tmp_path / "sae_20000.pt")
    with pytest.raises(ConfigError, match="holds more than tensors, and opening it could run code"):
        convert(tmp_path / "sae_20000.pt", activations=X)
    assert not (tmp_path / "was-run").exists()
    torch.save({"W_enc": numbers(D, F), "step": 3}, tmp_path / "sae_20000.pt")
    with pytest.raises(ConfigError, match="must map names to tensors"):
        convert(tmp_path / "sae_20000.pt", activations=X)
    (tmp_path / "sae_20000.pt").write_bytes(b"PK nonsense")
    with pytest.raises(ConfigError):
        convert(tmp_path / "sae_20000.pt", activations=X)


def damaged(path: Path, **changes: torch.Tensor | None) -> None:
    tensors = load_file(path) | {name: tensor for name, tensor in changes.items() if tensor is not None}
    save_file({name: tensor for name, tensor in tensors.items() if changes.get(name, 0) is not None}, path)


def settings(**changes: Any) -> Callable[[Path], object]:
    return lambda folder: sparsify_folder(folder.parent, **changes)


def weights(**changes: torch.Tensor | None) -> Callable[[Path], object]:
    return lambda folder: damaged(folder / "sae.safetensors", **changes)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (settings(signed=False), "does not say signed: true.*sparsify_disk_loader"),
        (settings(transcode=True), "transcode.* change the function"),
        (settings(k=0), "k=0 must be at least 1"),
        (settings(num_latents="16"), "num_latents='16' has the wrong type"),
        (settings(k=99), "k=99 must be at most 32, the number of latents"),
        (settings(num_latents=16), r"\(32, 8\).* by its settings it should hold .*\(16, 8\)"),
        (weights(b_dec=None), "it should hold .*b_dec"),
        (weights(W_skip=numbers(2)), "holds .*W_skip.* it should hold"),
        (weights(b_dec=torch.full((D,), torch.nan)), "finite floating-point numbers"),
        (weights(b_dec=torch.zeros(D).half()), "float16.*of one type"),
        (lambda folder: (folder / "sae.safetensors").write_bytes(b"x"), "is missing or damaged"),
        (lambda folder: (folder / "cfg.json").write_text("{"), "must be a JSON object"),
        (lambda folder: (folder / "cfg.json").unlink(), "No such file"),
        (lambda folder: (folder / "sae.safetensors").unlink(), "No such file"),
    ],
)
def test_a_sparsify_folder_that_cannot_be_right_is_refused(tmp_path: Path, change: Any, sentence: str) -> None:
    folder = sparsify_folder(tmp_path)
    change(folder)
    with pytest.raises(ConfigError, match=sentence):
        convert(folder)


def test_a_reference_checkpoint_needs_activations_and_its_settings(tmp_path: Path) -> None:
    weights = reference_weights(tmp_path)
    for source, activations in ((weights, None), (tmp_path / "notes.txt", X), (sparsify_folder(tmp_path), X)):
        with pytest.raises(ConfigError, match=r"give a folder of sparsify .* with --activations FILE"):
            convert(source, activations=activations)
    for unusable in (X[:, :4], X[:0], X * torch.nan):
        with pytest.raises(ConfigError, match=r"this SAE needs \[n, 8\], without rows that are NaN"):
            convert(weights, activations=unusable)
    reference_weights(tmp_path, sae_name="batchtopk")
    with pytest.raises(ConfigError, match="sae_name='batchtopk' must be batchabsolutek"):
        convert(weights, activations=X)
