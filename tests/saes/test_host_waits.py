"""How often a training step makes the host wait for the device: operations whose result the host has to see."""

from collections import Counter
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.saes.test_signed_saes import per_batch, per_token, step, tokens
from tests.saes.test_sparse_step import batchtopk, matryoshka, topk

# a value handed to Python, or a result whose size depends on the data
WAITS = {"_local_scalar_dense", "nonzero", "masked_select", "bincount", "unique", "_unique2", "unique_consecutive"}


class CountWaits(TorchDispatchMode):
    """Counts the operations that would wait on a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.removeprefix("aten::")
        by_mask = name in ("index", "index_put", "index_put_") and any(
            index is not None and index.dtype == torch.bool for index in args[1]
        )
        unsized = name == "repeat_interleave" and (kwargs or {}).get("output_size") is None
        if name in WAITS or by_mask or unsized:
            self.waits[name] += 1
        return func(*args, **(kwargs or {}))


def waits(sae: Any) -> Counter[str]:
    x, dead = tokens(16), torch.arange(24) < 3
    step(sae, x, n=1, dead=dead)
    with CountWaits() as counter:
        step(sae, x, n=2, dead=dead).loss.backward()
    return counter.waits


# Dead latents are gathered (1); TopK drops what is not positive (1); a batch is asked whether any token has more to
# offer (1), and SAELens reads the threshold of BatchTopK (1); nested prefixes cut the codes apart.
@pytest.mark.parametrize(("make", "most"), [(per_token, 1), (topk, 2), (per_batch, 2), (batchtopk, 5), (matryoshka, 5)])
def test_a_step_waits_for_the_device_only_where_sizes_depend_on_the_data(make: Any, most: int) -> None:
    assert waits(make(selection_dtype="float32")).total() <= most
