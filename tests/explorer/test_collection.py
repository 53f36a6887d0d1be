"""The streaming pass: exact counts, uniform samples, bounded memory."""

from typing import Any

import pytest
import torch

from sae_lens_abstopk import ConfigError
from sae_lens_abstopk.explorer.collection import CollectionSettings, Collector
from sae_lens_abstopk.model.token_filter import TokenFilter
from tests.explorer.streams import FakePasses, run


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


@pytest.mark.parametrize("value", [torch.inf, torch.nan])
@pytest.mark.parametrize("max_norm", [None, 100.0])
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


def test_samples_are_drawn_from_all_firings_and_not_from_the_strongest() -> None:
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


def suggested(codes: torch.Tensor) -> list[int]:
    where = torch.stack([torch.zeros(100, dtype=torch.int64), torch.arange(100)], dim=1)
    collector = Collector(codes.shape[1], CollectionSettings(strongest=1, sampled=1, tokens_sampled=1))
    collector.update(codes, where, torch.zeros(1, 100, dtype=torch.int64))
    return collector.suggested(codes.shape[1])


def test_sparse_two_sided_latents_are_suggested_first_then_by_strength() -> None:
    codes = torch.zeros(100, 6)
    codes[:, 0], codes[::2, 0] = 9.0, -9.0  # dense
    codes[0, 2], codes[1, 1], codes[2, 5] = 2.0, 3.0, 2.0  # one-sided; 4 is dead
    codes[3, 3], codes[4, 3] = 1.0, -1.0
    assert suggested(codes) == [3, 0, 1, 2, 5, 4]
    one_sided = torch.zeros(100, 4)
    one_sided[:, 0] = 9.0  # dense
    one_sided[0, 1], one_sided[1, 3] = 2.0, 3.0  # 2 is dead
    assert suggested(one_sided) == [3, 1, 0, 2]
