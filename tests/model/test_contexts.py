import math

import pytest
import torch

from sae_lens_abstopk.model.contexts import GroupTop, PoleContexts


@pytest.mark.parametrize("layout", [torch.strided, torch.sparse_coo])
def test_the_strongest_contexts_of_each_pole_are_kept_whatever_the_batches(layout: torch.layout) -> None:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, 1000, (6, 10), generator=generator)
    codes = torch.randn(60, 5, generator=generator) * (torch.rand(60, 5, generator=generator) < 0.4)
    where = torch.cartesian_prod(torch.arange(6), torch.arange(10))
    collected = PoleContexts(5, n=3, before=3, after=2)
    for start in (0, 2, 4):  # batches of two contexts
        rows = (where[:, 0] >= start) & (where[:, 0] < start + 2)
        part = codes[rows] if layout is torch.strided else codes[rows].to_sparse()
        collected.update(part, where[rows] - torch.tensor([start, 0]), tokens[start : start + 2])
    assert collected.n_tokens == 60
    assert torch.equal(collected.fires, torch.stack([(codes > 0).sum(0), (codes < 0).sum(0)]))
    for latent in range(5):
        for pole, sign in enumerate((1, -1)):
            of_rows = (sign * codes[:, latent]).view(6, 10).max(dim=1)  # of each row one at most
            best = of_rows.values.topk(3)
            found = collected.of(latent, pole)
            assert [context.code for context in found] == [sign * v for v in best.values.tolist()]
            assert collected.strength[pole, latent].tolist() == best.values.tolist()
            for context, row in zip(found, best.indices.tolist(), strict=True):
                position = int(of_rows.indices[row])
                window = slice(max(0, position - 3), position + 3)
                assert context.token == tokens[row, position]
                assert context.before == tuple(tokens[row, max(0, position - 3) : position].tolist())
                assert context.after == tuple(tokens[row, position + 1 : position + 3].tolist())
                assert context.codes == tuple(codes.view(6, 10, 5)[row, window, latent].tolist())


def test_tokens_that_were_left_out_have_no_code() -> None:
    collected = PoleContexts(1, n=1, before=2, after=1)
    collected.update(torch.tensor([[2.0], [-1.0]]), torch.tensor([[0, 1], [0, 3]]), torch.tensor([[7, 8, 9, 10]]))
    (positive,), (negative,) = collected.of(0, 0), collected.of(0, 1)
    assert (positive.before, positive.token, positive.after) == ((7,), 8, (9,))
    assert math.isnan(positive.codes[0])
    assert positive.codes[1] == 2.0
    assert math.isnan(positive.codes[2])
    assert negative.before == (8, 9)
    assert negative.after == ()


def test_random_scores_keep_a_uniform_sample() -> None:
    generator = torch.Generator().manual_seed(0)
    kept = GroupTop(500, 4, {"index": ((), torch.int64)})
    for start in range(0, 20, 5):  # 500 groups see the entries 0 to 19 in four batches
        groups = torch.arange(500).repeat_interleave(5)
        index = torch.arange(start, start + 5).repeat(500)
        kept.update(groups, torch.rand(2500, generator=generator), lambda chosen, index=index: {"index": index[chosen]})
    counts = torch.bincount(kept.payload["index"].flatten(), minlength=20)
    assert counts.sum() == 2000
    # 100 expected of each, with a standard deviation of sqrt(500 * 0.2 * 0.8) = 9
    assert counts.min() > 100 - 4 * 9
    assert counts.max() < 100 + 4 * 9
    assert all(len(set(row)) == 4 for row in kept.payload["index"].tolist())


def test_sparse_two_sided_latents_are_suggested_first_then_by_strength_and_dead_ones_last() -> None:
    codes = torch.zeros(100, 7)
    codes[:, 0] = torch.tensor([9.0, -9.0]).repeat(50)  # dense
    codes[:, 6] = 9.0  # dense and one-sided
    codes[0, 2], codes[1, 1], codes[2, 5] = 2.0, 3.0, 2.0  # one-sided; 4 is dead
    codes[3, 3], codes[4, 3] = 1.0, -1.0
    where = torch.stack([torch.zeros(100, dtype=torch.int64), torch.arange(100)], dim=1)
    collected = PoleContexts(7, n=1)
    collected.update(codes, where, torch.zeros(1, 100, dtype=torch.int64))
    assert collected.suggested(7) == [3, 0, 1, 2, 5, 6, 4]
