"""Planted axes are found, codes are odd, a fit is written and read again, and its pairs are curated."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sae_lens import SAE

from sae_lens_abstopk import ConfigError, PairAxes, read_pairs
from sae_lens_abstopk.pairs.pair_files import read_fit
from sae_lens_abstopk.pairs.pair_set import pairs_of_rows
from sae_lens_abstopk.pairs.tables import summary
from tests.cli.test_cli import invoke
from tests.pairs.pair_files import write_rows

pytestmark = pytest.mark.slow

N, D, AXES = 1600, 24, 6


def planted(n: int = N) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the vectors of A and of B, the axes [AXES, D], and their codes: unequal frequencies, both signs."""
    random = np.random.default_rng(0)
    axes = np.linalg.qr(random.normal(size=(D, D)))[0][:AXES]
    on = random.random((n, AXES)) < np.linspace(0.1, 0.5, AXES)
    codes = on * random.choice([-1, 1], (n, AXES)) * random.uniform(1, 2, (n, AXES))
    b = random.normal(size=(n, D))
    return b + codes @ axes + 0.05 * random.normal(size=(n, D)), b, axes, codes


@pytest.fixture(scope="module")
def fitted() -> PairAxes:
    a, b, *_ = planted()
    return PairAxes.fit(pairs_of_rows(N), arrays=(a, b), d_sae=AXES, k=1.6, seeds=2)


def test_every_planted_axis_is_found(fitted: PairAxes) -> None:
    _, _, axes, _ = planted()
    rows = torch.nn.functional.normalize(fitted.sae.W_dec.detach(), dim=1)
    cosines = np.abs(rows.numpy() @ axes.T)
    assert cosines.max(0).min() >= 0.9
    found = fitted.results
    fvu = [each.fvu.value or 0 for each in found.fits.values()]
    assert fvu[0] < 0.2
    assert fvu[0] < min(fvu[1:])
    assert found.signed.not_odd == 0
    assert found.fits["one_sided_F"].not_odd > 0.01
    assert sum(axis.stability or 0 for axis in found.axes) >= AXES - 2


def test_swapping_a_and_b_negates_every_code_to_the_bit(fitted: PairAxes) -> None:
    a, b, *_ = planted()
    x = torch.from_numpy(a - b).float()
    assert torch.equal(fitted.sae.encode(x), -fitted.sae.encode(-x))
    np.testing.assert_allclose(fitted.codes, fitted.sae.encode(x).detach().numpy(), rtol=1e-4, atol=1e-5)


def test_rows_of_arrays_have_names_but_no_words_and_share_nothing(fitted: PairAxes) -> None:
    names = fitted.pairs.a
    assert (names[7], names[-1], names[:2]) == ("row 7 of A", f"row {N - 1} of A", ["row 0 of A", "row 1 of A"])
    assert len(list(names)) == N
    assert fitted.results.n_components == N
    assert not any(axis.words_positive + axis.words_negative for axis in fitted.results.axes)


def test_two_equal_vectors_have_no_codes_and_spoil_no_number() -> None:
    a, b, *_ = planted()
    b[::9] = a[::9]
    axes = PairAxes.fit(pairs_of_rows(N), arrays=(a, b), d_sae=AXES, k=1.6, seeds=1, baselines=False, device="cpu")
    assert not axes.codes[::9].any()
    assert np.isfinite(axes.codes).all()
    assert (axes.results.signed.fvu.value or 1) < 0.5


def write_pairs(path: Path, n: int, *, turned: np.ndarray | None = None) -> np.ndarray:
    """
    Write pairs that prefer the positive side of the last planted axis, or the negative one where ``turned``.

    Returns the rows that prefer A.
    """
    codes, turned = planted(n)[3], np.zeros(n, dtype=bool) if turned is None else turned
    prefers_a = np.where(turned, -1, 1) * codes[:, -1] + 0.3 * np.random.default_rng(1).normal(size=n) > 0
    rows = (
        {"prompt": f"prompt {i}", "response_a": f"answer {i}", "response_b": f"reply {i}", "label": int(prefers) + 1}
        | {"annotator": ["ann", "bob"][int(turned[i])]}
        for i, prefers in enumerate(~prefers_a)
    )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return prefers_a


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fit made by the command."""
    root = tmp_path_factory.mktemp("pairs")
    a, b, *_ = planted()
    np.save(root / "a.npy", a.astype(np.float32))
    np.save(root / "b.npy", b.astype(np.float32))
    write_pairs(root / "data.jsonl", N)
    sizes = ("--d-sae", str(AXES), "--k", "1.6", "--seeds", "2", "--no-baselines")
    arrays = f"{root / 'a.npy'},{root / 'b.npy'}"
    done = invoke("pairs", str(root / "data.jsonl"), "--arrays", arrays, *sizes, "--out", str(root / "out"))
    assert done.exit_code == 0, done.output
    assert "AUC of preferences: codes" in done.output
    return root


def test_the_command_writes_an_sae_results_and_a_page(folder: Path) -> None:
    out = folder / "out"
    assert {"sae", "pairs.json", "axes.csv", "codes.parquet", "index.html", "effects.svg"} <= {
        path.name for path in out.iterdir()
    }
    results = json.loads((out / "pairs.json").read_text())
    assert results["preference"]["auc_codes"]["value"] > 0.7
    confirmed = [axis for axis in results["axes"] if axis["confirmed"]]
    assert len(confirmed) == 1
    sae = SAE.load_from_disk(out / "sae")
    row = torch.nn.functional.normalize(sae.W_dec[confirmed[0]["latent"]].detach(), dim=0).numpy()
    assert row @ planted()[2][-1] > 0.9  # the positive pole is what is preferred
    assert confirmed[0]["win_rate"]["value"] > 0.7


def test_pairs_of_an_axis_are_flipped(folder: Path) -> None:
    fit = read_fit(folder / "out")
    axis = next(axis.latent for axis in fit.results.axes if axis.confirmed)
    new = folder / "new.jsonl"
    done = invoke(
        *("pairs", "flip", str(folder / "out"), "--axis", str(axis), "--side", "+", "--above", "0.5"),
        *("--out", str(new)),
    )
    assert done.exit_code == 0, done.output
    before, after = read_pairs(folder / "data.jsonl"), read_pairs(new)
    turned = before.preferred != after.preferred
    expected = fit.codes[:, axis] * before.preferred > 0.5
    assert turned.any()
    assert np.array_equal(turned, expected)
    again = invoke("pairs", "drop", str(folder / "out"), "--axis", str(axis), "--out", str(new))
    assert again.exit_code == 2
    assert "exists" in again.output
    (folder / "data.jsonl").write_text((folder / "data.jsonl").read_text().partition("\n")[2])
    changed = invoke("pairs", "drop", str(folder / "out"), "--axis", "0", "--out", str(folder / "other.jsonl"))
    assert changed.exit_code == 2
    assert "data.jsonl has changed since" in " ".join(changed.output.split())


def test_annotators_of_opposite_preferences_are_named_on_the_page_and_in_the_summary(tmp_path: Path) -> None:
    a, b, axes, _ = planted()
    write_pairs(tmp_path / "data.jsonl", N, turned=np.arange(N) % 2 == 1)
    pairs = read_pairs(tmp_path / "data.jsonl", columns="group=annotator")
    fit = PairAxes.fit(pairs, arrays=(a, b), d_sae=AXES, k=1.6, seeds=1, baselines=False)
    latent = int(np.abs(torch.nn.functional.normalize(fit.sae.W_dec.detach(), dim=1).numpy() @ axes[-1]).argmax())
    parted = [axis.latent for axis in fit.results.axes if axis.disagreement and axis.disagreement.found]
    assert parted == [latent]
    of_axis = fit.results.axes[latent].disagreement
    assert of_axis
    assert sorted(of_axis.groups) == ["ann", "bob"]
    low, high = (rate.value for rate in of_axis.win_rates)
    assert low is not None
    assert high is not None
    assert low < 0.2 < 0.8 < high
    (said,) = (sentence for sentence in summary(fit.results) if sentence.startswith("Groups disagree"))
    assert f"axis {latent}, whose + pole wins" in said
    assert '"found":true' in fit.report(tmp_path / "out").read_text()


def test_preferences_are_left_out_if_the_pairs_to_train_on_share_one_prompt(tmp_path: Path) -> None:
    rows = [
        {"prompt": f"prompt {max(i - 239, 0)}", "chosen": f"answer {i}", "rejected": f"reply {i}"} for i in range(300)
    ]
    pairs = read_pairs(write_rows(tmp_path / "pairs.jsonl", rows))
    a, b, *_ = planted(300)
    fitted = PairAxes.fit(pairs, arrays=(a, b), d_sae=4, k=1, seeds=1, baselines=False)
    assert fitted.results.preference is None
    assert fitted.results.n_held_out == 60


def test_codes_of_further_texts_need_a_model(fitted: PairAxes) -> None:
    with pytest.raises(ConfigError, match="fitted to arrays"):
        fitted.encode(["a"], ["b"])
