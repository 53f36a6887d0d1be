"""Reading answers by `TextVectors` beside a plain loop over transformers, in turn, and the vectors of both."""

import argparse
import time
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from sae_lens_abstopk.model.answer_tokens import Answer, AnswerTokens, padded, tokenised
from sae_lens_abstopk.model.answer_vectors import AnswerReader
from sae_lens_abstopk.model.inference import casts_shared
from sae_lens_abstopk.pairs.axes import PairAxes
from sae_lens_abstopk.pairs.pair_set import PairSet
from sae_lens_abstopk.pairs.pair_vectors import TextVectors
from sae_lens_abstopk.pairs.reading import read_pairs
from sae_lens_abstopk.system.precision import BFLOAT16

LAYER, MAX_TOKENS = 15, 256
# answers of a turn, and of a batch of the plain loop
TURN, PLAIN_BATCH = 128, 8
# fewer pairs are not fitted
LEAST_FITTED = 100
QUANTILES = (0.01, 0.05, 0.5)


class PlainLoop:
    """The plain loop over transformers: all layers and the LM head in float32, eight padded texts at a time."""

    def __init__(self, model: str, max_norm: float) -> None:
        self.model, self.max_norm = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval(), max_norm

    @torch.no_grad()
    def __call__(self, answers: list[AnswerTokens]) -> torch.Tensor:
        rows = []
        for start in range(0, len(answers), PLAIN_BATCH):
            batch = answers[start : start + PLAIN_BATCH]
            ids = torch.from_numpy(padded([np.concatenate([each.before, each.own]) for each in batch]))
            lengths = torch.tensor([each.n for each in batch])
            mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
            hidden = self.model(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states[LAYER + 1]
            for each, x in zip(batch, hidden, strict=True):
                own = x[max(len(each.before), 1) : each.n]
                rows.append(own[own.norm(dim=1) <= self.max_norm].mean(0))
        return torch.stack(rows)


def measure_reading(args: argparse.Namespace) -> dict[str, Any]:
    """Time both in turn on the answers of the first pairs, and compare their vectors and fits."""
    pairs = read_pairs(args.data, limit=args.pairs or 500)
    numbers: dict[Answer, int] = {}
    a, b = (
        [numbers.setdefault(answer, len(numbers)) for answer in map(Answer, pairs.prompts, side)]
        for side in (pairs.a, pairs.b)
    )
    answers = list(numbers)
    vectors = TextVectors.of(args.model, layer=LAYER, max_tokens=MAX_TOKENS, device="cpu")
    precision = vectors.precision()
    reader: AnswerReader = vectors._reader(vectors._passes().in_bfloat16(precision == BFLOAT16), answers)  # pyright: ignore[reportPrivateUsage]
    assert reader.max_norm is not None
    plain, seconds = PlainLoop(args.model, reader.max_norm), {"ours": 0.0, "plain loop": 0.0}
    found: dict[str, list[torch.Tensor]] = {name: [] for name in seconds}
    tokens = computed = width = 0
    with casts_shared():
        reader(answers[:TURN])
        plain(tokenised(reader.tokenizer, answers[:PLAIN_BATCH], MAX_TOKENS)[0])
        for start in range(0, len(answers), TURN):
            part = answers[start : start + TURN]
            ids = tokenised(reader.tokenizer, part, MAX_TOKENS)[0]
            tokens += sum(each.n for each in ids)
            for name, read in (("ours", lambda part=part: reader(part)), ("plain loop", lambda ids=ids: plain(ids))):
                started = time.perf_counter()
                found[name].append(read())
                seconds[name] += time.perf_counter() - started
            print(start + len(part), seconds, flush=True)
    planned = reader.plan(answers)
    for batch in planned.batches:
        lengths = [each.n if batch.prompts is None else len(each.own) for each in batch.answers]
        computed, width = computed + sum(lengths), width + max(lengths) * len(lengths)
    both = {name: torch.cat(parts) for name, parts in found.items()}
    ours, theirs = both.values()
    return {
        "pairs": len(pairs),
        "texts": len(answers),
        "tokens": tokens,
        "precision": precision,
        "padding": 1 - computed / width,
        "prompts_shared": sum(map(len, planned.prompts)),
        "seconds": seconds,
        "tokens_per_second": {name: tokens / each for name, each in seconds.items()},
        "times_as_fast": seconds["plain loop"] / seconds["ours"],
        "differences": _agreement(ours[a] - ours[b], theirs[a] - theirs[b]),
        "fits": {name: _fit(pairs, x[a], x[b]) for name, x in both.items()} if len(pairs) >= LEAST_FITTED else {},
    }


def _agreement(x: torch.Tensor, exact: torch.Tensor) -> dict[str, Any]:
    cosine = torch.cosine_similarity(x, exact)
    error = (x - exact).square().sum() / (exact - exact.mean(0)).square().sum()
    quantiles = {str(q): cosine.quantile(q).item() for q in QUANTILES}
    return {"cosine_quantiles": quantiles, "fvu": error.item()}


def _fit(pairs: PairSet, a: torch.Tensor, b: torch.Tensor) -> dict[str, Any]:
    arrays = np.zeros((2, pairs.counts.read, a.shape[1]), dtype=np.float32)
    arrays[0, pairs.rows], arrays[1, pairs.rows] = a, b
    found = PairAxes.fit(pairs, arrays=(arrays[0], arrays[1])).results
    auc = None if found.preference is None else found.preference.auc_codes.value
    stability = [axis.stability for axis in found.axes if axis.stability is not None]
    return {"fvu": found.signed.fvu.value, "auc": auc, "stability": float(np.mean(stability))}
