"""The streaming pass: exact where it counts, the same however it is cut, and bounded."""

import math
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sae_lens import TopKSAE, TopKSAEConfig

from sae_lens_abstopk import ConfigError, SignedJumpReLUSAE, SignedJumpReLUSAEConfig
from sae_lens_abstopk.dictionary.code_batch import CodeBatch
from sae_lens_abstopk.explorer.cofiring import CofiringSample
from sae_lens_abstopk.explorer.collection import CollectionSettings, Collector, collect
from sae_lens_abstopk.explorer.histograms import GrowingHistograms, LogHistograms
from sae_lens_abstopk.model.token_filter import TokenFilter
from tests.saes.test_signed_saes import with_random_weights

SMALL = CollectionSettings(strongest=3, sampled=4, before=4, after=2, tokens_sampled=5, bins=8)


class FakePasses:
    """Activations that are a fixed function of the token and its position."""

    hook_name = "hook"
    autocast = False

    def __init__(self) -> None:
        self.calls = 0
        torch.manual_seed(3)
        self.model = torch.nn.Linear(8, 4)

    def activations(self, tokens: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        table = torch.randn(50, 8, generator=torch.Generator().manual_seed(1))
        return table[tokens] + torch.linspace(0, 1, tokens.shape[1])[None, :, None]


@pytest.fixture
def saes() -> dict[str, Any]:
    signed = with_random_weights(SignedJumpReLUSAE(SignedJumpReLUSAEConfig(d_in=8, d_sae=20)))
    with torch.no_grad():
        signed.threshold.fill_(5.0)
    return {"signed": signed, "topk": with_random_weights(TopKSAE(TopKSAEConfig(d_in=8, d_sae=16, k=3)))}


@pytest.fixture
def batches() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    return [torch.randint(0, 50, (3, 12), generator=generator) for _ in range(6)]


def run(saes: dict[str, Any], batches: list[torch.Tensor], **options: Any) -> dict[str, Collector]:
    passes: Any = options.pop("passes", None) or FakePasses()
    token_filter = TokenFilter(seqpos_slice=(1, None))
    return collect(passes, saes, batches, **{"token_filter": token_filter, "settings": SMALL} | options)


def equal(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a.nan_to_num(), b.nan_to_num())
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(equal, a, b))
    return equal(vars(a), vars(b)) if hasattr(a, "__dict__") else a == b


def test_counts_samples_and_reconstruction_agree_with_all_codes_at_once(
    saes: dict[str, Any], batches: list[torch.Tensor]
) -> None:
    found = run(saes, batches)["signed"]
    tokens = torch.cat(batches)
    x = FakePasses().activations(tokens)[:, 1:].flatten(0, 1)
    codes = saes["signed"].encode(x).detach()
    assert found.n_tokens == len(codes) == 18 * 11
    assert torch.equal(found.pole_counts, torch.stack([(codes > 0).sum(0), (codes < 0).sum(0)]))
    assert found.sums.n_tokens == len(codes)
    error = (x - saes["signed"].decode(codes).detach()).square().sum()
    assert found.sums.fvu() == pytest.approx(float(error / (x - x.mean(0)).square().sum()), rel=1e-4)
    for latent in range(20):
        values = set(codes[:, latent].tolist())
        for pole, sign in enumerate((1, -1)):
            kept = [context.code for context in found.sampled.of(latent, pole)]
            assert len(kept) == min(4, int(found.pole_counts[pole, latent]))
            assert all(code in values and code * sign > 0 for code in kept)


def test_a_pass_taken_up_again_ends_where_one_pass_ends(
    saes: dict[str, Any], batches: list[torch.Tensor], tmp_path: Path
) -> None:
    whole = run(saes, batches)
    run(saes, batches[:4], checkpoint=tmp_path / "c.pt")
    passes, steps = FakePasses(), []
    resumed = run(
        saes,
        batches,
        passes=passes,
        checkpoint=tmp_path / "c.pt",
        on_progress=lambda done, total: steps.append((done, total)),
    )
    assert passes.calls == 2
    assert steps == [(5, 6), (6, 6)]
    for name in saes:
        assert equal(resumed[name], whole[name])


def test_a_pass_that_ends_on_the_way_goes_on_from_what_was_saved_last(
    saes: dict[str, Any], batches: list[torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end_at_4(done: int, _: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    for seconds, calls in ((300.0, 6), (0.0, 2)):
        monkeypatch.setattr("sae_lens_abstopk.explorer.collection.SECONDS_BETWEEN_SAVES", seconds)
        with pytest.raises(KeyboardInterrupt):
            run(saes, batches, checkpoint=tmp_path / f"{seconds}.pt", on_progress=end_at_4)
        passes = FakePasses()
        run(saes, batches, passes=passes, checkpoint=tmp_path / f"{seconds}.pt")
        assert passes.calls == calls


def test_a_pass_whose_file_is_torn_starts_anew(
    saes: dict[str, Any], batches: list[torch.Tensor], tmp_path: Path
) -> None:
    torn = tmp_path / "c.pt"
    whole = run(saes, batches, checkpoint=torn)
    torch.save({"collectors": {"topk": {}}}, tmp_path / "lacking.pt")
    for content in (torn.read_bytes()[:-100], b"", b"text", (tmp_path / "lacking.pt").read_bytes()):
        torn.write_bytes(content)
        with pytest.warns(UserWarning, match=r"c\.pt cannot be read \(.+\); the text is read from the beginning"):
            again = run(saes, batches, checkpoint=torn)
        assert all(equal(again[name], whole[name]) for name in saes)


@pytest.mark.parametrize("error", [RuntimeError("PytorchStreamWriter failed"), OSError(28, "No space left on device")])
def test_a_pass_that_cannot_be_saved_goes_on(
    error: Exception, saes: dict[str, Any], batches: list[torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(saes, batches)

    def full(_: object, path: Path) -> None:
        path.write_text("as far as it went")
        raise error

    monkeypatch.setattr(torch, "save", full)
    with pytest.warns(UserWarning, match=r"c\.pt could not be written \(.+\); the pass goes on"):
        unsaved = run(saes, batches, checkpoint=tmp_path / "c.pt")
    assert all(equal(unsaved[name], whole[name]) for name in saes)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "other"),
    [
        ("weights", None),
        ("settings", None),
        ("text", None),
        ("model", "model"),
        ("autocast", "model"),
        ("code", "code or environment"),
        ("format", "format"),
    ],
)
def test_a_pass_of_something_else_is_not_taken_up(
    change: str,
    other: str | None,
    saes: dict[str, Any],
    batches: list[torch.Tensor],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run(saes, batches[:4], checkpoint=tmp_path / "c.pt")
    passes = FakePasses()
    options: dict[str, Any] = {"checkpoint": tmp_path / "c.pt", "passes": passes}
    if change == "weights":
        with torch.no_grad():
            saes["topk"].W_dec[0, 0] += 1
    elif change == "settings":
        options["settings"] = CollectionSettings(strongest=2)
    elif change == "text":
        batches[0][0, 0] += 1
    elif change == "code":
        monkeypatch.setattr("sae_lens_abstopk.explorer.collection.code_digest", lambda: "another")
    elif change == "format":
        monkeypatch.setattr("sae_lens_abstopk.explorer.collection.FORMAT", 0)
    elif change == "autocast":
        passes.autocast = True
    else:
        with torch.no_grad():
            passes.model.weight[0, 0] += 1
    told = pytest.warns(UserWarning, match=rf"c\.pt is of other {other}; the text is read from the beginning")
    with told if other else nullcontext():
        run(saes, batches, **options)
    assert passes.calls == 6


@given(st.lists(st.floats(0.01, 1e4), min_size=1, max_size=60), st.integers(1, 60))
def test_a_histogram_that_grew_counts_like_one_that_knew(strengths: list[float], cut: int) -> None:
    values = torch.tensor(strengths)
    grown = GrowingHistograms(2, bins=8)
    for part in (values[:cut], values[cut:]):
        grown.add(torch.zeros(len(part), dtype=torch.int64), torch.ones(len(part), dtype=torch.int64), part)
    limit = float(grown.limit[1])
    assert float(values.max()) <= limit
    index = (values * (8 / limit)).long().clamp(max=7)
    assert grown.counts[0, 1].tolist() == torch.bincount(index, minlength=8).tolist()
    assert grown.counts[:, 0].sum() == grown.counts[1].sum() == 0


@given(st.lists(st.floats(0.01, 1e4), min_size=1, max_size=60), st.integers(1, 60))
def test_quantiles_are_within_a_bin_whatever_the_largest_code_is(strengths: list[float], cut: int) -> None:
    values = torch.tensor(strengths)
    grown, known = LogHistograms(2), LogHistograms(2)
    one, poles = torch.ones(len(values), dtype=torch.int64), torch.arange(len(values)) % 2
    known.add(poles, one, values)
    for part in (slice(cut), slice(cut, None)):
        grown.add(poles[part], one[part], values[part])
    assert torch.equal(grown.counts, known.counts)
    assert torch.equal(grown.largest, known.largest)
    assert int(grown.counts[:, 1].sum()) == len(values)
    lowest = float(values.max()) / 2**8.9  # the lowest bin takes all below it
    for q in (0.1, 0.5, 0.99):
        exact = float(values.sort().values[math.ceil(q * len(values) - 1e-9) - 1])  # the least with a share q up to it
        found = float(grown.quantile(q)[1])
        assert found == pytest.approx(exact, rel=0.045) or max(found, exact) <= lowest
    assert float(grown.quantile(1.0)[1]) <= float(values.max())
    assert float(grown.quantile(0.99)[0]) == 0.0, "never fired"
    own = values[poles == 0]
    middle = float(own.median())
    if middle > lowest:
        near = float(((own / middle).log2().abs() < 1 / 16).float().mean())
        assert abs(grown.share_below(0, 1, middle) - float((own < middle).float().mean())) <= near + 1e-6
    assert math.isnan(grown.share_below(1, 0, 1.0))


def test_one_very_large_code_leaves_the_scale_of_the_others() -> None:
    strengths = torch.cat([torch.linspace(1, 5, 999), torch.tensor([200.0])])
    nothing = torch.zeros(1000, dtype=torch.int64)
    found = LogHistograms(1)
    found.add(nothing, nothing, strengths)
    assert float(found.quantile(0.99)) == pytest.approx(4.96, rel=0.045)
    assert found.share_below(0, 0, 3.0) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("value", [torch.inf, torch.nan])
@pytest.mark.parametrize("max_norm", [None, 100.0])
def test_activations_that_overflowed_are_refused(
    saes: dict[str, Any], batches: list[torch.Tensor], value: float, max_norm: float | None
) -> None:
    class Overflowing(FakePasses):
        def activations(self, tokens: torch.Tensor) -> torch.Tensor:
            return super().activations(tokens).masked_fill(tokens[..., None] == 7, value)

    token_filter = TokenFilter(seqpos_slice=(1, None), max_norm=max_norm)
    with pytest.raises(
        ConfigError, match=r"\d+ of \d+ activations .* at hook are NaN or infinite.* in bfloat16 or float32"
    ):
        run(saes, batches, passes=Overflowing(), token_filter=token_filter)


def test_codes_that_overflowed_are_refused(saes: dict[str, Any], batches: list[torch.Tensor]) -> None:
    with torch.no_grad():
        saes["topk"].b_enc[3] = torch.inf
    with pytest.raises(ConfigError, match="SAE 'topk' gives codes that are NaN or infinite"):
        run(saes, batches)


def test_text_of_which_no_token_is_kept_is_refused(saes: dict[str, Any], batches: list[torch.Tensor]) -> None:
    with pytest.raises(ConfigError, match=r"no token of the text is kept \(all positions, norms up to 1e-09\)"):
        run(saes, batches, token_filter=TokenFilter(max_norm=1e-9))


def test_codes_under_the_smallest_normal_number_are_counted() -> None:
    histograms = GrowingHistograms(2)
    histograms.add(torch.tensor([0]), torch.tensor([1]), torch.tensor([1e-39]))
    assert histograms.counts.sum() == 1


@pytest.fixture
def every_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """Joint firings are counted on all tokens."""
    monkeypatch.setattr("sae_lens_abstopk.explorer.cofiring.ONE_IN", 1)


@pytest.mark.usefixtures("every_token")
def test_joint_firings_are_counted_with_their_sides() -> None:
    generator = torch.Generator().manual_seed(0)
    codes = torch.zeros(40, 4)
    codes[:20, 0] = torch.randn(20, generator=generator)
    codes[:20, 1] = -codes[:20, 0]  # always with 0, on the other side
    codes[:10, 2] = codes[:10, 0]  # half of the time, on the same side
    codes[:2, 3] = 1.0  # too seldom to say
    where = torch.stack([torch.zeros(40, dtype=torch.int64), torch.arange(40)], dim=1)
    sample = CofiringSample(4, 100)
    sample.add(CodeBatch.of(codes, where, torch.zeros(1, 40, dtype=torch.int64)), generator)
    first, second, third, last = sample.top(3)
    assert [c.latent for c in first] == [1, 2]
    assert first[0].overlap == pytest.approx(1)
    assert first[1].overlap == pytest.approx(10 / math.sqrt(200))
    assert [c.same_side for c in first] == [0, 1]
    assert [c.latent for c in second] == [0, 2]
    assert [c.latent for c in third] == [0, 1]
    assert last == []


def test_joint_firings_are_counted_on_a_share_of_each_batch() -> None:
    where = torch.stack([torch.zeros(20, dtype=torch.int64), torch.arange(20)], dim=1)
    sample, batch = CofiringSample(2, 8), CodeBatch.of(torch.ones(20, 2), where, torch.zeros(1, 20, dtype=torch.int64))
    for taken in (3, 6, 8, 8):
        sample.add(batch, torch.Generator())
        assert sample.tokens_seen == taken


@pytest.mark.usefixtures("every_token")
def test_joint_firings_are_those_of_all_pairs_at_once_and_ties_go_by_index() -> None:
    generator = torch.Generator().manual_seed(0)
    codes = torch.randn(60, 300, generator=generator).sign() * (torch.rand(60, 300, generator=generator) < 0.3)
    where = torch.stack([torch.zeros(60, dtype=torch.int64), torch.arange(60)], dim=1)
    sample = CofiringSample(300, 60)
    sample.add(CodeBatch.of(codes, where, torch.zeros(1, 60, dtype=torch.int64)), generator)
    on, signs = codes.abs().numpy(), codes.numpy()
    together, agreement = on.T @ on, signs.T @ signs
    overlap = together / np.sqrt(np.outer(together.diagonal(), together.diagonal()))
    overlap[together < 5] = 0
    np.fill_diagonal(overlap, 0)
    best = np.argsort(-overlap, axis=1, kind="stable")[:, :4]
    for latent, (row, others) in enumerate(zip(sample.top(4), best, strict=True)):
        same_side = (1 + agreement[latent, others] / together[latent, others]) / 2
        expected = zip(others.tolist(), overlap[latent, others].tolist(), same_side.tolist(), strict=True)
        assert row == list(expected)


def bytes_of(state: Any) -> int:
    """Of all tensors in what is collected."""
    if isinstance(state, torch.Tensor):
        return state.untyped_storage().nbytes()
    state = getattr(state, "__dict__", state)
    parts = state.values() if isinstance(state, dict) else state if isinstance(state, list) else ()
    return sum(map(bytes_of, parts))


def test_what_is_kept_grows_no_further_once_the_samples_are_full(
    saes: dict[str, Any], batches: list[torch.Tensor]
) -> None:
    settings = CollectionSettings(
        strongest=3, sampled=4, before=4, after=2, tokens_sampled=5, bins=8, cofiring_tokens=20
    )
    some, many = (run(saes, batches * times, settings=settings) for times in (1, 5))
    for name in saes:
        assert many[name].n_tokens == 5 * some[name].n_tokens
        assert bytes_of(many[name]) == bytes_of(some[name])


def test_what_is_sampled_is_drawn_from_all_firings_and_not_from_the_strongest() -> None:
    collector = Collector(1, CollectionSettings(strongest=4, sampled=20, tokens_sampled=20))
    where = torch.cartesian_prod(torch.arange(5), torch.arange(40))
    collector.update(torch.arange(1.0, 201)[:, None], where, torch.arange(200).view(5, 40))
    assert [context.code for context in collector.strongest.of(0, 0)] == [200, 160, 120, 80]
    for codes in (
        torch.tensor([context.code for context in collector.sampled.of(0, 0)]),
        collector.tokens.payload["code"][0],
    ):
        assert len(codes.unique()) == 20
        assert codes.min() < 50
        assert 70 < codes.mean() < 130


def test_of_a_partly_signed_sae_two_sided_latents_come_before_one_sided_ones_by_their_strength() -> None:
    codes = torch.zeros(100, 6)
    codes[:, 0], codes[::2, 0] = 9.0, -9.0  # dense
    codes[0, 2], codes[1, 1], codes[2, 5] = 2.0, 3.0, 2.0  # one-sided; 4 is dead
    codes[3, 3], codes[4, 3] = 1.0, -1.0
    where = torch.stack([torch.zeros(100, dtype=torch.int64), torch.arange(100)], dim=1)
    collector = Collector(6, CollectionSettings(strongest=1, sampled=1, tokens_sampled=1))
    collector.update(codes, where, torch.zeros(1, 100, dtype=torch.int64))
    assert collector.suggested(6) == [3, 0, 1, 2, 5, 4]


def test_of_a_one_sided_sae_the_strongest_sparse_latents_are_suggested() -> None:
    codes = torch.zeros(100, 4)
    codes[:, 0] = 9.0  # dense
    codes[0, 1], codes[1, 3] = 2.0, 3.0  # 2 is dead
    where = torch.stack([torch.zeros(100, dtype=torch.int64), torch.arange(100)], dim=1)
    collector = Collector(4, CollectionSettings(strongest=1, sampled=1, tokens_sampled=1))
    collector.update(codes, where, torch.zeros(1, 100, dtype=torch.int64))
    assert collector.suggested(4) == [3, 1, 0, 2]
