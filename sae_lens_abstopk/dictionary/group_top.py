"""Keep the highest-scoring entries of each of many groups from a stream."""

from collections.abc import Callable, Mapping

import torch

Payload = Mapping[str, torch.Tensor]


class GroupTop:
    """
    Keeps the ``n`` entries of highest score in each group, each with a ``payload`` of tensors: name to (shape, dtype).

    Memory is [n_groups, n] scores and as much of each payload, however many entries come by. With scores drawn
    uniformly at random the kept entries are a uniform sample of all.
    """

    def __init__(self, n_groups: int, n: int, payload: Mapping[str, tuple[tuple[int, ...], torch.dtype]]) -> None:
        self.n = n
        self.scores = torch.full((n_groups, n), -torch.inf)
        self.payload = {name: torch.zeros(n_groups, n, *shape, dtype=kind) for name, (shape, kind) in payload.items()}
        self._least = torch.full((n_groups,), -torch.inf)

    def update(
        self,
        groups: torch.Tensor,
        scores: torch.Tensor,
        payload: Callable[[torch.Tensor], Payload],
        *,
        sources: torch.Tensor | None = None,
    ) -> None:
        """
        Add entries of ``groups`` [N] with finite ``scores`` [N].

        Of the entries of one group with one number in ``sources`` [N], only the best of this call counts. ``payload``
        is called with the indices [m] of the few entries that may stay, and gives their payload [m, ...].
        """
        chosen = (scores > self._least[groups]).nonzero()[:, 0]
        if len(chosen) == 0:
            return
        chosen = chosen[scores[chosen].argsort(descending=True, stable=True)]
        chosen = chosen[groups[chosen].argsort(stable=True)]
        if sources is not None:
            pairs = groups[chosen] * (int(sources.max()) + 1) + sources[chosen]
            order = pairs.argsort(stable=True)  # the best of each pair first, as before
            first = pairs[order].diff(prepend=pairs.new_tensor([-1])) != 0
            chosen = chosen[order[first].sort().values]
        touched, counts = groups[chosen].unique_consecutive(return_counts=True)
        rank = torch.arange(len(chosen)) - (counts.cumsum(0) - counts).repeat_interleave(counts)
        row = torch.arange(len(touched)).repeat_interleave(counts)
        chosen, row, rank = (part[rank < self.n] for part in (chosen, row, rank))

        offered = torch.full((len(touched), self.n), -torch.inf)
        offered[row, rank] = scores[chosen]
        best = torch.cat([self.scores[touched], offered], dim=1).topk(self.n, dim=1)
        self.scores[touched] = best.values
        self._least[touched] = best.values[:, -1]
        for name, new in payload(chosen).items():
            kept = self.payload[name]
            candidates = kept.new_zeros(len(touched), 2 * self.n, *kept.shape[2:])
            candidates[:, : self.n] = kept[touched]
            candidates[row, self.n + rank] = new.to(kept.dtype)
            kept[touched] = candidates[torch.arange(len(touched))[:, None], best.indices]
