"""The streaming pass: exact counts, uniform samples, bounded memory, and saved passes that are resumed and reused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from sae_lens import TopKSAE, TopKSAEConfig

from sae_lens_abstopk import ConfigError, SignedJumpReLUSAE, SignedJumpReLUSAEConfig
from sae_lens_abstopk.explorer import pass_cache
from sae_lens_abstopk.explorer.collection import CollectionSettings, Collector, collect
from sae_lens_abstopk.explorer.pass_cache import PASSES_KEPT
from sae_lens_abstopk.model.token_filter import TokenFilter
from tests.saes.test_signed_saes import with_random_weights

SMALL = CollectionSettings(strongest=3, sampled=4, before=4, after=2, tokens_sampled=5, bins=8)


class FakePasses:
    """Activations that are a fixed function of the token and its position."""

    hook_name = "hook"
    autocast = False
    reads_bfloat16 = None

    def __init__(self) -> None:
        self.calls = 0
        torch.manual_seed(3)
        self.model = torch.nn.Linear(8, 4)

    def activations(self, tokens: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        table = torch.randn(50, 8, generator=torch.Generator().manual_seed(1))
        return table[tokens] + torch.linspace(0, 1, tokens.shape[1])[None, :, None]


def run(saes: dict[str, Any], batches: list[torch.Tensor], **options: Any) -> dict[str, Collector]:
    passes: Any = options.pop("passes", None) or FakePasses()
    token_filter = TokenFilter(seqpos_slice=(1, None))
    return collect(passes, saes, batches, **{"token_filter": token_filter, "settings": SMALL} | options)


@pytest.fixture
def stream_saes() -> dict[str, Any]:
    """A signed and a one-sided SAE with random weights, for :class:`FakePasses`."""
    signed = with_random_weights(SignedJumpReLUSAE(SignedJumpReLUSAEConfig(d_in=8, d_sae=20)))
    with torch.no_grad():
        signed.threshold.fill_(5.0)
    return {"signed": signed, "topk": with_random_weights(TopKSAE(TopKSAEConfig(d_in=8, d_sae=16, k=3)))}


@pytest.fixture
def batches() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    return [torch.randint(0, 50, (3, 12), generator=generator) for _ in range(6)]


def test_counts_samples_and_reconstruction_agree_with_all_codes_at_once(
    stream_saes: dict[str, Any], batches: list[torch.Tensor]
) -> None:
    found = run(stream_saes, batches)["signed"]
    tokens = torch.cat(batches)
    x = FakePasses().activations(tokens)[:, 1:].flatten(0, 1)
    codes = stream_saes["signed"].encode(x).detach()
    assert found.n_tokens == found.sums.n_tokens == len(codes) == 18 * 11
    assert torch.equal(found.pole_counts, torch.stack([(codes > 0).sum(0), (codes < 0).sum(0)]))
    error = (x - stream_saes["signed"].decode(codes).detach()).square().sum()
    assert found.sums.fvu() == pytest.approx(float(error / (x - x.mean(0)).square().sum()), rel=1e-4)
    for latent in range(20):
        values = set(codes[:, latent].tolist())
        for pole, sign in enumerate((1, -1)):
            kept = [context.code for context in found.sampled.of(latent, pole)]
            assert len(kept) == min(4, int(found.pole_counts[pole, latent]))
            assert all(code in values and code * sign > 0 for code in kept)


@pytest.mark.parametrize(("value", "max_norm"), [(torch.inf, None), (torch.nan, 100.0)])
def test_activations_that_overflowed_are_refused(
    stream_saes: dict[str, Any], batches: list[torch.Tensor], value: float, max_norm: float | None
) -> None:
    class Overflowing(FakePasses):
        def activations(self, tokens: torch.Tensor) -> torch.Tensor:
            return super().activations(tokens).masked_fill(tokens[..., None] == 7, value)

    token_filter = TokenFilter(seqpos_slice=(1, None), max_norm=max_norm)
    with pytest.raises(ConfigError, match=r"\d+ of \d+ activations .* at hook are NaN or infinite"):
        run(stream_saes, batches, passes=Overflowing(), token_filter=token_filter)


def test_codes_that_overflowed_and_text_without_a_kept_token_are_refused(
    stream_saes: dict[str, Any], batches: list[torch.Tensor]
) -> None:
    with pytest.raises(ConfigError, match=r"no token of the text is kept .*1e-09"):
        run(stream_saes, batches, token_filter=TokenFilter(max_norm=1e-9))
    with torch.no_grad():
        stream_saes["topk"].b_enc[3] = torch.inf
    with pytest.raises(ConfigError, match="SAE 'topk' gives codes that are NaN or infinite"):
        run(stream_saes, batches)


def bytes_of(state: Any) -> int:
    """Return the size of all tensors in a collector."""
    if isinstance(state, torch.Tensor):
        return state.untyped_storage().nbytes()
    state = getattr(state, "__dict__", state)
    parts = state.values() if isinstance(state, dict) else state if isinstance(state, list) else ()
    return sum(map(bytes_of, parts))


def test_a_collector_stops_growing_once_the_samples_are_full(
    stream_saes: dict[str, Any], batches: list[torch.Tensor]
) -> None:
    settings = CollectionSettings(
        strongest=3, sampled=4, before=4, after=2, tokens_sampled=5, bins=8, cofiring_tokens=20
    )
    some, many = (run(stream_saes, batches * times, settings=settings) for times in (1, 5))
    for name in stream_saes:
        assert many[name].n_tokens == 5 * some[name].n_tokens
        assert bytes_of(many[name]) == bytes_of(some[name])


def equal(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a.nan_to_num(), b.nan_to_num())
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(equal, a, b))
    return equal(vars(a), vars(b)) if hasattr(a, "__dict__") else a == b


def test_a_resumed_pass_ends_where_one_pass_ends(
    stream_saes: dict[str, Any], batches: list[torch.Tensor], tmp_path: Path
) -> None:
    whole = run(stream_saes, batches)
    run(stream_saes, batches[:4], checkpoint=tmp_path)
    passes, steps = FakePasses(), []
    resumed = run(
        stream_saes,
        batches,
        passes=passes,
        checkpoint=tmp_path,
        on_progress=lambda done, total: steps.append((done, total)),
    )
    assert passes.calls == 2
    assert steps == [(5, 6), (6, 6)]
    again = run(stream_saes, batches, passes=passes, checkpoint=tmp_path)
    assert passes.calls == 2
    for name in stream_saes:
        assert equal(resumed[name], whole[name])
        assert equal(again[name], whole[name])


def test_an_interrupted_pass_resumes_from_the_last_save(
    stream_saes: dict[str, Any], batches: list[torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end_at_4(done: int, _: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    for seconds, calls in ((300.0, 6), (0.0, 2)):
        monkeypatch.setattr("sae_lens_abstopk.explorer.collection.SECONDS_BETWEEN_SAVES", seconds)
        with pytest.raises(KeyboardInterrupt):
            run(stream_saes, batches, checkpoint=tmp_path / str(seconds), on_progress=end_at_4)
        assert len(list(tmp_path.rglob("*.safetensors"))) == (seconds == 0), "each save replaces the one before"
        passes = FakePasses()
        run(stream_saes, batches, passes=passes, checkpoint=tmp_path / str(seconds))
        assert passes.calls == calls
        for path in tmp_path.rglob("*.safetensors"):
            path.unlink()


def test_a_torn_file_is_not_used(stream_saes: dict[str, Any], batches: list[torch.Tensor], tmp_path: Path) -> None:
    whole = run(stream_saes, batches, checkpoint=tmp_path)
    (file,) = tmp_path.iterdir()
    for content in (file.read_bytes()[:-100], b"", b"text"):
        file.write_bytes(content)
        with pytest.warns(UserWarning, match=r"\.safetensors cannot be read \(.+\)"):
            again = run(stream_saes, batches, checkpoint=tmp_path)
        assert all(equal(again[name], whole[name]) for name in stream_saes)


@pytest.mark.parametrize("change", ["weights", "settings", "text", "model", "autocast", "code"])
def test_a_pass_of_something_else_is_not_reused(
    change: str,
    stream_saes: dict[str, Any],
    batches: list[torch.Tensor],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run(stream_saes, batches[:4], checkpoint=tmp_path)
    passes = FakePasses()
    options: dict[str, Any] = {"checkpoint": tmp_path, "passes": passes}
    if change == "weights":
        with torch.no_grad():
            stream_saes["topk"].W_dec[0, 0] += 1
    elif change == "settings":
        options["settings"] = CollectionSettings(strongest=2)
    elif change == "text":
        batches[0][0, 0] += 1
    elif change == "code":
        monkeypatch.setattr(pass_cache, "CODE_DIGEST", "another")
    elif change == "autocast":
        passes.autocast = True
    else:
        with torch.no_grad():
            passes.model.weight[0, 0] += 1
    run(stream_saes, batches, **options)
    assert passes.calls == 6


def test_only_the_last_used_passes_are_kept(
    stream_saes: dict[str, Any], batches: list[torch.Tensor], tmp_path: Path
) -> None:
    for number in range(PASSES_KEPT + 2):
        run(stream_saes, [(batches[0] + number) % 50], checkpoint=tmp_path)
        passes = FakePasses()
        run(stream_saes, batches[:1], checkpoint=tmp_path, passes=passes)
        assert passes.calls == 0, "a pass that is used stays"
    assert len(list(tmp_path.iterdir())) == PASSES_KEPT
