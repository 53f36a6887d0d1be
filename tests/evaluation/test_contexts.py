import torch

from sae_lens_abstopk.evaluation.contexts import PoleContexts


def test_the_strongest_contexts_of_each_pole_are_kept_whatever_the_batches() -> None:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, 1000, (6, 10), generator=generator)
    codes = torch.randn(60, 5, generator=generator) * (torch.rand(60, 5, generator=generator) < 0.4)
    where = torch.cartesian_prod(torch.arange(6), torch.arange(10))
    collected = PoleContexts(5, n=3)
    for start in (0, 2, 4):  # batches of two contexts
        rows = (where[:, 0] >= start) & (where[:, 0] < start + 2)
        collected.update(codes[rows], where[rows] - torch.tensor([start, 0]), tokens[start : start + 2])
    for latent in range(5):
        for pole, sign in enumerate((1, -1)):
            best = (sign * codes[:, latent]).topk(3)
            found = collected.of(latent, pole, before=3, after=2)
            assert [round(context.code, 5) for context in found] == [round(sign * v, 5) for v in best.values.tolist()]
            for context, index in zip(found, best.indices.tolist(), strict=True):
                row, position = divmod(index, 10)
                assert context.token == tokens[row, position]
                assert context.before == tuple(tokens[row, max(0, position - 3) : position].tolist())
                assert context.after == tuple(tokens[row, position + 1 : position + 3].tolist())


def test_a_pole_that_fired_once_has_one_context() -> None:
    collected = PoleContexts(2, n=3)
    collected.update(torch.tensor([[0.0, 5.0], [0.0, 0.0]]), torch.tensor([[0, 0], [0, 1]]), torch.tensor([[8, 9]]))
    assert [context.code for context in collected.of(1, 0)] == [5.0]
    assert collected.of(1, 1) == []
    assert collected.of(0, 0) == []
