"""Differences against the subtraction of two arrays."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sae_lens_abstopk import ConfigError, load_config, train
from sae_lens_abstopk.training.source.vector_source import VectorSource
from sae_lens_abstopk.vectors import vectors
from sae_lens_abstopk.vectors.differences import Differences
from sae_lens_abstopk.vectors.vector_spec import VectorSpec
from sae_lens_abstopk.vectors.vectors import Vectors, open_vectors

N, D = 200, 6


@pytest.fixture(params=["kept", "given back"])
def differences(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Differences:
    """Differences of the vectors of a small file, whose pages are kept in memory or given back once they are read."""
    if request.param == "given back":
        monkeypatch.setattr(vectors, "KEPT_BYTES", 0)
    rows = np.random.default_rng(0).normal(size=(N, D)).astype(np.float16)
    np.save(tmp_path / "v.npy", rows)
    opened = open_vectors(VectorSpec(dataset_path=str(tmp_path / "v.npy")))
    assert bool(opened.mapped) == (request.param == "given back")
    generator = torch.Generator().manual_seed(0)
    a = torch.randperm(N, generator=generator)[:90]
    b = (a + torch.randint(1, N, (90,), generator=generator)) % N  # no difference is 0
    return Differences("d", opened.chunks, mapped=opened.mapped, a=a, b=b, held_out=torch.arange(90) % 5 == 0)


def test_rows_are_read_from_the_file_and_subtracted(differences: Differences) -> None:
    v = differences.chunks[0].float()
    expected = v[differences.a] - v[differences.b]
    torch.testing.assert_close(torch.cat(list(differences.blocks())), expected, rtol=0, atol=0)
    picked = torch.tensor([7, 3, 3])
    torch.testing.assert_close(differences.rows(picked), expected[picked], rtol=0, atol=0)
    spec = VectorSpec(dataset_path="d")
    parts = [differences.part(spec, part) for part in ("train", "held_out", "all")]
    assert [len(part) for part in parts] == [72, 18, 90]


def test_a_scaled_row_times_its_unit_is_the_difference(differences: Differences) -> None:
    scaled, rows = replace(differences, unit=True), torch.arange(90)
    differ = scaled.a != scaled.b
    torch.testing.assert_close(scaled.rows(rows[differ]).norm(dim=1), torch.full((int(differ.sum()),), D**0.5))
    torch.testing.assert_close(scaled.rows(rows) * scaled.units()[:, None], differences.rows(rows))
    assert (differences.units() == 1).all()


def test_pages_with_changes_that_only_memory_has_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors, "KEPT_BYTES", 0)
    np.save(tmp_path / "v.npy", np.zeros((9, D), dtype=np.float32))
    changed = np.load(tmp_path / "v.npy", mmap_mode="c")
    changed[:] = 1
    opened = Vectors.of_array(changed)
    assert all((opened.rows(torch.arange(9)) == 1).all() for _ in range(2))
    assert Vectors.of_array(np.load(tmp_path / "v.npy", mmap_mode="r")).mapped


def test_each_epoch_draws_new_signs_and_a_run_can_resume_anywhere(differences: Differences) -> None:
    def source() -> VectorSource:
        return VectorSource(differences, torch.arange(90), batch_size=30, seed=3, recorded={}, random_signs=True)

    whole = source()
    batches = [next(iterator) for iterator in [whole.batches()] for _ in range(6)]
    x = differences.rows(torch.arange(90))
    epochs = [torch.cat(batches[:3]), torch.cat(batches[3:])]
    signs = []
    for epoch in epochs:
        match = torch.cdist(epoch.abs(), x.abs()).argmin(1)
        assert match.unique().numel() == 90
        sign = (epoch * x[match]).sum(1).sign()
        torch.testing.assert_close(epoch, x[match] * sign[:, None], rtol=0, atol=0)
        signs.append(sign[match.argsort()])
    assert 20 < (signs[0] > 0).sum() < 70
    assert (signs[0] != signs[1]).any()
    resumed, position = source(), whole.position()
    resumed.go_to(position)
    torch.testing.assert_close(next(resumed.batches()), next(whole.batches()), rtol=0, atol=0)


def test_seeds_of_one_pass_have_the_weights_of_runs_of_their_own(differences: Differences, tmp_path: Path) -> None:
    settings = {"sae.d_sae": 8, "sae.k": 2, "train_batch_size_tokens": 24, "training_steps": 5}
    both = load_config(
        "pairs",
        settings | {"companions.other": {}, "weight_seeds": {"other": 7}, "output_path": str(tmp_path / "both")},
        vectors=differences,
    )
    saes = train(both, vectors=differences).saes
    assert not torch.equal(saes["sae"].W_dec, saes["other"].W_dec)
    for name, seed in (("sae", 42), ("other", 7)):
        alone = load_config(
            "pairs",
            settings | {"weight_seeds": {"sae": seed}, "output_path": str(tmp_path / name)},
            vectors=differences,
        )
        torch.testing.assert_close(saes[name].W_dec, train(alone, vectors=differences).sae.W_dec, rtol=0, atol=0)
        assert saes[name].cfg.metadata.seed == seed
    with pytest.raises(ConfigError, match="weight_seeds names 'third'"):
        load_config("pairs", settings | {"weight_seeds": {"third": 1}}, vectors=differences)
