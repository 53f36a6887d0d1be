"""
Write vectors of every kind of the map into a folder.

    python -m experiments.map.collect FOLDER --model HuggingFaceTB/SmolLM2-135M-Instruct --text TEXT.txt ... \
        --embedder sentence-transformers/all-MiniLM-L6-v2 --pairs PAIRS.jsonl --adapter PEFT_FOLDER

One pass over the text writes the residual stream, the outputs of attention and of MLPs at three depths, the difference
of two neighbouring layers, and the means over sentences. What an option is missing for is left out, and what is there
already is not written again. The text is cut into documents of eight contexts.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from rich.console import Console
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from experiments.map.kinds import PAIRS, kinds_in, write_kind
from experiments.recording import arguments
from sae_lens_abstopk.pairs.pair_vectors import TextVectors, differences_of_texts
from sae_lens_abstopk.pairs.reading import read_pairs
from sae_lens_abstopk.pairs.split import components

CONTEXT, OF_A_DOCUMENT, BATCH = 128, 8, 16
DEPTHS = (0.27, 0.5, 0.75)
"""Layers that are read, as shares of all."""
FEWEST_TOKENS = 5
"""Sentences with fewer tokens are left out."""
MAX_NORM_MULTIPLE = 10
TWO_MODELS, SENTENCES, EMBEDDINGS = "differences of two models", "sentence means", "sentence embeddings"
_SENTENCE_END = re.compile(r"[.!?]['\"”’)]?\s")


def layers_of(model: Any) -> list[int]:
    """Return the numbers of the layers that are read."""
    return [round(share * model.config.num_hidden_layers) for share in DEPTHS]


def contexts(tokenizer: Any, files: list[Path], n: int) -> Iterator[tuple[list[int], list[int], int]]:
    """Yield token ids, the number of the sentence of each, and the document, of ``n`` contexts of all files in turn."""
    # an even share of each file, from its start
    for number, file in enumerate(files):
        text = file.read_text(encoding="utf-8")[: 12 * CONTEXT * (n // len(files) + OF_A_DOCUMENT)]
        ends = np.array([found.end() for found in _SENTENCE_END.finditer(text)])
        encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        sentence = np.searchsorted(ends, [start for start, _ in encoded["offset_mapping"]], side="right")
        for i in range(n // len(files)):
            ids = encoded["input_ids"][i * CONTEXT : (i + 1) * CONTEXT]
            if len(ids) < CONTEXT:
                break
            yield ids, sentence[i * CONTEXT : (i + 1) * CONTEXT].tolist(), number * 10**6 + i // OF_A_DOCUMENT


class Collected:
    """Rows by kind, in float16, and the document of each."""

    def __init__(self) -> None:
        self.rows: dict[str, list[Tensor]] = defaultdict(list)
        self.documents: dict[str, list[Tensor]] = defaultdict(list)

    def add(self, kind: str, rows: Float[Tensor, "n d"], documents: Int[Tensor, " n"]) -> None:
        self.rows[kind].append(rows.half())
        self.documents[kind].append(documents)

    def write(self, folder: Path, source: str) -> None:
        for kind, rows in self.rows.items():
            documents = torch.cat(self.documents[kind])
            # every tenth document is reported, so documents are numbered one after another
            write_kind(folder, kind, torch.cat(rows), documents.unique(return_inverse=True)[1], source)


@torch.no_grad()
def collect_tokens(model: Any, batches: Iterator[Any], *, tuned: Any | None) -> Collected:
    """
    Run the model over all contexts; position 0 and tokens of massive norm are left out.

    ``tuned`` is ``model`` inside a PEFT model, if there is one.
    """
    found, seen = Collected(), dict[str, Tensor]()
    layers = layers_of(model)
    middle = layers[1]

    def keep(name: str) -> Callable[..., None]:
        def hook(module: Any, inputs: Any, output: Any) -> None:  # noqa: ARG001
            seen[name] = (output[0] if isinstance(output, tuple) else output).float()

        return hook

    decoder = model.get_decoder()
    blocks = decoder.layers = decoder.layers[: layers[-1] + 1]  # the layers above are not read
    for layer in layers:
        blocks[layer].register_forward_hook(keep(f"residual stream, layer {layer}"))
        blocks[layer].self_attn.register_forward_hook(keep(f"attention output, layer {layer}"))
        blocks[layer].mlp.register_forward_hook(keep(f"MLP output, layer {layer}"))
    blocks[middle + 1].register_forward_hook(keep("next"))
    stream = f"residual stream, layer {middle}"
    for ids, sentence, document in batches:
        with torch.autocast("cpu", torch.bfloat16), tuned.disable_adapter() if tuned else nullcontext():
            decoder(input_ids=ids)
        norm = seen[stream].norm(dim=-1)
        read = norm < MAX_NORM_MULTIPLE * norm.median()
        read[:, 0] = False
        for_each = document[:, None].expand_as(ids)[read]
        seen[f"difference of layers {middle} and {middle + 1}"] = seen.pop("next") - seen[stream]
        for kind, x in seen.items():
            found.add(kind, x[read], for_each)
        found.add(SENTENCES, *sentence_means(seen[stream], read, sentence, document))
        if tuned:
            base = seen[stream]
            with torch.autocast("cpu", torch.bfloat16):
                decoder(input_ids=ids)
            found.add(TWO_MODELS, (seen[stream] - base)[read], for_each)
        seen.clear()
    return found


def sentence_means(
    x: Float[Tensor, "b t d"], read: Tensor, sentence: Int[Tensor, "b t"], document: Int[Tensor, " b"]
) -> tuple[Float[Tensor, "n d"], Int[Tensor, " n"]]:
    """Return the means over whole sentences: not the first and the last of a context, which are cut."""
    means, documents = [], []
    for of_tokens, kept, of_context, number in zip(x, read, sentence, document, strict=True):
        for each in of_context.unique()[1:-1]:
            tokens = of_tokens[kept & (of_context == each)]
            if len(tokens) >= FEWEST_TOKENS:
                means.append(tokens.mean(0))
                documents.append(number)
    return torch.stack(means) if means else x[0, :0], torch.tensor(documents, dtype=document.dtype)


def collect_embeddings(folder: Path, embedder: str, files: list[Path], n: int) -> None:
    """Write embeddings of ``n`` sentences."""
    from sentence_transformers import SentenceTransformer

    sentences: list[str] = []
    documents: list[int] = []
    for number, file in enumerate(files):
        found = [each.strip() for each in _SENTENCE_END.split(file.read_text(encoding="utf-8"))]
        found = [each for each in found if len(each) > 30][: n // len(files)]
        sentences += found
        documents += [number * 10**6 + i // 50 for i in range(len(found))]
    with torch.autocast("cpu", torch.bfloat16):
        x = SentenceTransformer(embedder, device="cpu").encode(
            sentences, convert_to_tensor=True, show_progress_bar=True
        )
    document = torch.tensor(documents).unique(return_inverse=True)[1]
    write_kind(folder, EMBEDDINGS, x.float(), document, Path(embedder).name)


def collect_pairs(folder: Path, data: str, model: str, layer: int, max_tokens: int) -> None:
    """Write differences of pairs of texts; a document is a group of connected pairs."""
    pairs = read_pairs(data)
    group = components(pairs)
    vectors = TextVectors.of(model, layer=layer, max_tokens=max_tokens)
    found = differences_of_texts(pairs, vectors, np.zeros(len(pairs), dtype=bool), console=Console())
    # a large group is trained on
    sizes = np.bincount(group)
    order = np.argsort(np.argsort(-sizes, kind="stable"))
    write_kind(folder, PAIRS, torch.cat(list(found.blocks())), torch.from_numpy(order[group]), Path(data).name)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--text", type=Path, nargs="+", required=True)
    parser.add_argument("--contexts", type=int, default=900)
    parser.add_argument("--embedder")
    parser.add_argument("--sentences", type=int, default=9000)
    parser.add_argument("--pairs")
    parser.add_argument("--max-tokens", type=int, default=1024, help="of a text of a pair")
    parser.add_argument("--adapter", help="a PEFT folder of the same model")
    args = parser.parse_args()
    done, tokenizer = kinds_in(args.folder), AutoTokenizer.from_pretrained(args.model)
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32).eval()
    middle = layers_of(model)[1]
    if args.embedder and EMBEDDINGS not in done:
        collect_embeddings(args.folder, args.embedder, args.text, args.sentences)
    if args.pairs and PAIRS not in done:
        collect_pairs(args.folder, args.pairs, args.model, middle, args.max_tokens)
    if SENTENCES not in done:
        tuned = None
        if args.adapter:
            from peft import PeftModel

            tuned = PeftModel.from_pretrained(model, args.adapter)  # changes the layers of model in place
        rows = [torch.tensor(each) for each in zip(*contexts(tokenizer, args.text, args.contexts), strict=True)]
        batches = zip(*(each.split(BATCH) for each in rows), strict=True)
        source = f"{Path(args.model).name}, {', '.join(path.name for path in args.text)}"
        collect_tokens(model, batches, tuned=tuned).write(args.folder, source)


if __name__ == "__main__":
    main()
