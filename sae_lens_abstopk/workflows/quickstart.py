"""The quickstart: axes of the shipped concepts in a small model, and what to run next."""

import shlex
import time
from pathlib import Path

from rich.console import Console

from sae_lens_abstopk.model.quickstart_model import quickstart_model
from sae_lens_abstopk.pairs.concepts import ConceptResults, fit_concepts
from sae_lens_abstopk.pairs.pair_vectors import TextVectors
from sae_lens_abstopk.system.files import free_folder, require_empty
from sae_lens_abstopk.training.distributed import require_one_process

NEXT = {
    "your pairs": "abstopk pairs pairs.jsonl",
    "two models": "abstopk diff --base A --tuned B --layer 15 --data TEXT --out DIR",
    "your vectors": "abstopk train vectors data=vectors.npy --compare-one-sided",
    "your tokens": "abstopk tokens",
}
"""Commands to run next, by what they take."""


def quickstart(
    *,
    model: str | None = None,
    layer: int | None = None,
    out: Path | None = None,
    console: Console,
    progress: Console,
) -> ConceptResults:
    """
    Find the axes of the shipped concepts, and write and print what :func:`~.concepts.fit_concepts` found.

    By default SmolLM2-135M-Instruct is fetched, its middle ``layer`` is read, and ``out`` is the first free folder of
    ``runs/quickstart``, ``runs/quickstart-2``, ... ``console`` shows the table and what to run next.
    """
    require_one_process("abstopk quickstart")
    started = time.perf_counter()
    out = out or free_folder(Path("runs/quickstart"))
    require_empty(out)
    model = model or str(quickstart_model(lambda sentence: progress.print(sentence, style="dim")))
    vectors = TextVectors.of(model, layer=layer)
    where = ", ".join(filter(None, (Path(model).name, vectors.hook_name)))
    progress.print(f"axes of the shipped pairs in {where}", style="dim")
    results = fit_concepts(vectors, out=out, console=progress)
    console.print(results.table())
    seconds = time.perf_counter() - started
    console.print(f"\nBoth poles of every axis, with their texts ({seconds:.0f} s): open this page in a browser.")
    console.print((out / "index.html").as_posix(), style="bold", soft_wrap=True)
    console.print("\nNext:")
    steering = {"steering": f"abstopk serve {shlex.quote(out.as_posix())}"} if vectors.hook_name else {}
    for what, command in (steering | NEXT).items():
        console.print(f"  {what:<14}{command}", soft_wrap=True)
    return results
