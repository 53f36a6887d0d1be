"""
Measure how far SAEs of the map move the language model's predictions.

    python -m experiments.map.loss FOLDER --model HuggingFaceTB/SmolLM2-135M-Instruct --text TEXT.txt ... \
        --kinds "attention output, layer 15" --f-over-d 1 --k 32

FOLDER is what `collect.py` wrote from the same model and texts. SAEs of a cell, signed and one-sided ones of F and of
2F latents, train as in `run.py`, and replace the activations of the documents that are reported. Appends a line a cell
to `results/loss.jsonl`; what is there is skipped.
"""

import argparse
import json
import re
import tempfile
from pathlib import Path
from typing import Any

import torch
from sae_lens import SAE
from torch import Tensor
from transformers import AutoTokenizer

from experiments.map.collect import BATCH, MAX_NORM_MULTIPLE, contexts, parser_of
from experiments.map.kinds import PARTS, REPORTED, KindVectors, read_kind
from experiments.map.measured import ONE_SIDED, SIGNED
from experiments.map.run import Cell, chosen_saes
from experiments.speed.recording import command
from sae_lens_abstopk.evaluation.results.facts import origin_facts
from sae_lens_abstopk.model.language_model import load_language_model
from sae_lens_abstopk.model.model_passes import ModelPasses
from sae_lens_abstopk.model.model_spec import ModelSpec
from sae_lens_abstopk.model.reconstruction import evaluate_reconstruction
from sae_lens_abstopk.model.token_filter import TokenFilter
from sae_lens_abstopk.text.text_spec import TextSpec

RECORD = Path(__file__).resolve().parent / "results" / "loss.jsonl"
PLACES = {"residual stream": "", "attention output": ".self_attn", "MLP output": ".mlp"}
"""Modules of a layer by what they write."""


def hook_of(kind: str) -> str:
    """Return the module whose output is a kind."""
    place, layer = re.fullmatch(r"(.+), layer (\d+)", kind).groups()  # type: ignore[union-attr]
    return f"model.layers.{layer}{PLACES[place]}"


def reported_contexts(tokenizer: Any, files: list[Path], n: int) -> list[Tensor]:
    """Return the contexts of the documents that are reported, in batches."""
    ids, _, documents = zip(*contexts(tokenizer, files, n), strict=True)
    numbers = torch.tensor(documents).unique(return_inverse=True)[1]
    return list(torch.tensor(ids)[numbers % PARTS == REPORTED].split(BATCH))


def trained(cell: Cell, vectors: KindVectors, seeds: int) -> dict[str, SAE[Any]]:
    """Return the SAEs of a cell, and the one-sided ones of twice its width, named by what they are and their seed."""
    twice = Cell(cell.kind, cell.selection, 2 * cell.f_over_d, cell.k)
    found: dict[str, SAE[Any]] = {}
    for where, names in ((cell, {SIGNED: "signed", ONE_SIDED: "F"}), (twice, {ONE_SIDED: "2F"})):
        with tempfile.TemporaryDirectory() as folder:
            members, saes, _ = chosen_saes(where, vectors, tuple(names), seeds, Path(folder))
        found |= {f"{names[each.share]} {each.seed}": sae for each, sae in zip(members, saes, strict=True)}
    return found


def measured(
    passes: ModelPasses, saes: dict[str, SAE[Any]], batches: list[Tensor], kept: TokenFilter
) -> dict[str, Any]:
    """Return the loss of the model, as it is, with the hook ablated and through each SAE, and each SAE's KL (nats)."""
    found = evaluate_reconstruction(passes, saes, batches, token_filter=kept, with_kl=True)
    losses = {name: each.loss for name, each in found.items() if each.loss is not None}
    first = next(iter(losses.values()))
    return {
        **{key: getattr(first, key) for key in ("n_tokens", "ce_clean", "ce_zero", "ce_mean")},
        "ce_sae": {name: loss.ce_sae for name, loss in losses.items()},
        "kl": {name: loss.kl_sae for name, loss in losses.items()},
        "fvu": {name: each.fvu for name, each in found.items()},
        "l0": {name: each.l0 for name, each in found.items()},
    }


def loss_parser(description: str | None, record: Path) -> argparse.ArgumentParser:
    """Return a parser with the folder of vectors, the model, the text, and one cell of each of some kinds."""
    parser = parser_of(description)
    parser.add_argument("--kinds", nargs="+", required=True)
    parser.add_argument("--f-over-d", type=float, required=True)
    parser.add_argument("--k", type=int, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--record", type=Path, default=record)
    return parser


def known_cells(record: Path) -> set[tuple[str, float, int]]:
    """Return kind, F / D and k of the lines of a record."""
    lines = record.read_text(encoding="utf-8").splitlines() if record.is_file() else []
    return {tuple(json.loads(line)[key] for key in ("kind", "f_over_d", "k")) for line in lines}


def passes_of(kind: str, args: argparse.Namespace, vectors: KindVectors) -> tuple[ModelPasses, Any]:
    """Load the model; return passes around the hook of a kind, and the tokenizer."""
    spec = ModelSpec(model_name=args.model, hook_name=hook_of(kind), device="cpu", autocast_lm=True)
    model = load_language_model(spec, TextSpec(dataset_path=str(args.text[0]), prepend_bos=False))
    return ModelPasses.of_spec(model, spec, d_in=vectors.d_in), model.tokenizer


def kept_tokens(vectors: KindVectors) -> TokenFilter:
    """Return which tokens are measured: not the first of a context, and none of massive norm."""
    norm = vectors.rows(vectors.numbers(REPORTED)).norm(dim=1).median()
    return TokenFilter((1, None), max_norm=MAX_NORM_MULTIPLE * float(norm))


def main() -> None:
    args = loss_parser(__doc__, RECORD).parse_args()
    known = known_cells(args.record)
    batches = reported_contexts(AutoTokenizer.from_pretrained(args.model), args.text, args.contexts)
    for kind in args.kinds:
        if (kind, args.f_over_d, args.k) in known:
            continue
        vectors, source = read_kind(args.folder, kind)
        passes, _ = passes_of(kind, args, vectors)
        saes = trained(Cell(kind, "batch", args.f_over_d, args.k), vectors, args.seeds)
        line = {"kind": kind, "f_over_d": args.f_over_d, "k": args.k}
        line |= measured(passes, saes, batches, kept_tokens(vectors))
        line |= origin_facts("cpu") | {"source": source, "command": command()}
        with args.record.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        print(kind, line["ce_clean"], line["ce_mean"], line["kl"], flush=True)


if __name__ == "__main__":
    main()
