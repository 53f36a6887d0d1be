"""The mixing buffer against SAELens's."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sae_lens.training.mixing_buffer import mixing_buffer
from torch.utils._python_dispatch import TorchDispatchMode

from sae_lens_abstopk.training.source.mixing_buffer import MixingBuffer


def blocks(sizes: list[int]) -> Iterator[torch.Tensor]:
    start = 0
    for size in sizes:
        yield torch.arange(start, start + size)[:, None] * torch.ones(1, 3)
        start += size


@given(
    sizes=st.lists(st.integers(0, 40), max_size=12),
    buffer_size=st.integers(8, 60),
    batch_size=st.integers(1, 8),
    mix_fraction=st.sampled_from([0.0, 0.3, 0.5, 1.0]),
    seed=st.integers(0, 99),
)
def test_batches_are_those_of_saelens(
    sizes: list[int], buffer_size: int, batch_size: int, mix_fraction: float, seed: int
) -> None:
    torch.manual_seed(seed)
    expected = list(mixing_buffer(buffer_size, batch_size, blocks(sizes), mix_fraction))
    torch.manual_seed(seed)
    found = list(MixingBuffer(blocks(sizes), buffer_size=buffer_size, batch_size=batch_size, mix_fraction=mix_fraction))
    assert len(found) == len(expected)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@given(
    sizes=st.lists(st.integers(0, 40), max_size=12), mix_fraction=st.sampled_from([0.0, 0.5]), taken=st.integers(0, 30)
)
def test_a_buffer_refilled_with_the_rows_of_another_goes_on_with_its_batches(
    sizes: list[int], mix_fraction: float, taken: int
) -> None:
    def buffer(source: Iterator[torch.Tensor], generator: torch.Generator) -> MixingBuffer:
        return MixingBuffer(source, buffer_size=20, batch_size=4, mix_fraction=mix_fraction, generator=generator)

    source, generator, again = blocks(sizes), torch.Generator().manual_seed(3), torch.Generator()
    first = buffer(source, generator)
    for _ in range(taken):
        next(first, None)
    rest = list(source)
    second = buffer(iter(rest), again)
    again.set_state(generator.get_state())
    second.refill(*first.rows())
    first._activations = iter(rest)
    expected = list(first)
    found = list(second)
    assert len(found) == len(expected)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize(("saved", "new"), [(torch.bfloat16, torch.float32), (torch.float32, torch.bfloat16)])
def test_rows_saved_where_the_model_ran_in_another_type_are_mixed_with_new_ones(
    saved: torch.dtype, new: torch.dtype
) -> None:
    buffer = MixingBuffer((rows.to(new) for rows in blocks([9, 9])), buffer_size=16, batch_size=4, mix_fraction=0.0)
    buffer.refill(torch.full((4, 3), -1.0).to(saved), torch.full((2, 3), -2.0).to(saved))
    found = torch.cat(list(buffer))
    assert found.dtype == torch.float32
    assert found[:, 0].tolist() == [-1.0] * 4 + [-2.0] * 2 + list(range(18))


class LargeStorages(TorchDispatchMode):
    """Bytes of every storage, by address, that is made with room for as many rows as a buffer has."""

    def __init__(self, least: int) -> None:
        super().__init__()
        self.least, self.found = least, dict[int, int]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **kwargs or {})
        if isinstance(made, torch.Tensor) and made.untyped_storage().nbytes() >= self.least:
            self.found[made.untyped_storage().data_ptr()] = made.untyped_storage().nbytes()
        return made


def test_no_more_than_the_buffer_and_one_block_is_held() -> None:
    row = 4 * 100
    source = (block.repeat(1, 100)[:, :100] for block in blocks([10] * 50))
    with LargeStorages(40 * row) as large:
        batches = list(MixingBuffer(source, buffer_size=40, batch_size=5, mix_fraction=0.5))
    assert list(large.found.values()) == [50 * row]
    assert torch.equal(torch.cat(batches)[:, 0].sort().values, torch.arange(500.0))
