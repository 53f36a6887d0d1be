"""The explorer: time and memory of collecting, and how soon a large site can be read.

    python -m experiments.speed.explorer --tokens 102400 --out build/bench-explorer/explorer.json
    python -m experiments.speed.explorer --long FOLDER --text TEXT --tokens 256000 --out RECORD  # one piece per call

Collecting: SmolLM2-135M-Instruct at layer 15 in bfloat16, and a signed JumpReLU SAE with random weights whose threshold
lets 57 codes per token through on the first batch, over the packaged text. Each size has a process of its own: after a
warm-up the bare pass, the collecting one, and the bare one again over the same batches.

A long text is collected in pieces, each in a process that resumes from the checkpoint of the one before; half of the
bare pass over a piece runs before collecting and half after it.

Reading: sites of random codes (`large_site.py`), opened from disk in Chromium. Run it on an idle machine.
"""

import argparse
import hashlib
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from experiments.recording import ROOT, command, environment, write_record
from experiments.speed.large_site import random_sae, reading
from sae_lens_abstopk import SignedJumpReLUSAE
from sae_lens_abstopk.explorer.collection import CollectionSettings, collect
from sae_lens_abstopk.model.inference import casts_shared
from sae_lens_abstopk.model.language_model import load_language_model
from sae_lens_abstopk.model.model_passes import ModelPasses
from sae_lens_abstopk.model.quickstart_model import quickstart_model
from sae_lens_abstopk.model.text_store import token_batches
from sae_lens_abstopk.model.token_filter import TokenFilter
from sae_lens_abstopk.system.files import file_sha256
from sae_lens_abstopk.training.config.config_file import load_config

LONG_D_SAE = 9216
FILTER = TokenFilter(seqpos_slice=(1, None))


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def subject(
    model: Path, d_sae: int, tokens: int, *overrides: str
) -> tuple[ModelPasses, SignedJumpReLUSAE, list[torch.Tensor]]:
    """Return the model around the hook, the SAE, and a text in batches."""
    cfg = load_config("quickstart", [f"model_name={model}", *overrides])
    language_model = load_language_model(cfg.model_spec, cfg.text_spec)
    passes = ModelPasses(language_model, cfg.hook_name, autocast=cfg.autocast_lm)
    batches = token_batches(
        language_model, cfg.model_spec, cfg.text_spec, tokens, part="all", d_sae=d_sae, with_logits=False
    )
    x = passes.activations(batches[0])[:, 1:].flatten(0, 1).float()
    return passes, random_sae(x.shape[1], d_sae, x), batches


def bare(passes: ModelPasses, batches: list[torch.Tensor]) -> float:
    """Time the language model's own pass in seconds, with weights cast once as in collecting."""
    started = time.perf_counter()
    with casts_shared():
        for batch in batches:
            passes.activations(batch)
    return time.perf_counter() - started


def measured(
    passes: ModelPasses,
    sae: SignedJumpReLUSAE,
    batches: list[torch.Tensor],
    around: tuple[list[torch.Tensor], list[torch.Tensor]],
    checkpoint: Path | None = None,
) -> dict[str, Any]:
    """Measure collecting ``batches``; the bare pass runs over ``around[0]`` before and ``around[1]`` after it."""
    bare(passes, around[0][:20])
    first, before = bare(passes, around[0]), peak_mib()
    started = time.perf_counter()
    options: dict[str, Any] = {"token_filter": FILTER, "settings": CollectionSettings(), "checkpoint": checkpoint}
    found = collect(passes, {"sae": sae}, batches, **options)["sae"]
    seconds, added = time.perf_counter() - started, peak_mib() - before
    return {
        "tokens_collected": found.n_tokens,
        "l0": int(found.pole_counts.sum()) / found.n_tokens,
        "bare_seconds": (first, bare(passes, around[1])),
        "collecting_seconds": seconds,
        "added_peak_mib": added,
    }


def collecting(model: Path, d_sae: int, tokens: int) -> dict[str, Any]:
    """Measure seconds and added memory of collecting at one size."""
    passes, sae, batches = subject(model, d_sae, tokens)
    found = measured(passes, sae, batches, (batches, batches))
    times = found["collecting_seconds"] / statistics.mean(found["bare_seconds"])
    return {"d_sae": d_sae, "tokens": sum(batch.numel() for batch in batches), **found, "times_bare": times}


def piece(model: Path, folder: Path, text: str, number: int, tokens: int) -> dict[str, Any]:
    """Measure seconds, added memory and stored size of the ``number``-th piece of a long text."""
    passes, sae, batches = subject(model, LONG_D_SAE, (number + 1) * tokens, f"dataset_path={text}")
    mine, checkpoint = batches[-(tokens // batches[0].numel()) :], folder / "passes"
    found = measured(passes, sae, batches, (mine[::2], mine[1::2]), checkpoint)
    found |= {
        "bare_seconds": sum(found["bare_seconds"]),
        "kept_mib": max(path.stat().st_size for path in checkpoint.iterdir()) / 2**20,
    }
    return {"tokens_so_far": sum(batch.numel() for batch in batches), **found}


def long_collecting(model: Path, folder: Path, text: str, tokens: int) -> dict[str, Any]:
    """Measure the next piece of ``tokens`` tokens; return the record of all pieces so far."""
    machine = environment()
    folder.mkdir(parents=True, exist_ok=True)
    number = len(list(folder.glob("piece-*.json")))
    found = piece(model, folder, text, number, tokens)
    (folder / f"piece-{number}.json").write_text(json.dumps(found), encoding="utf-8")
    pieces = [json.loads((folder / f"piece-{n}.json").read_text(encoding="utf-8")) for n in range(number + 1)]
    total = {key: sum(each[key] for each in pieces) for key in ("bare_seconds", "collecting_seconds")}
    return {
        "d_sae": LONG_D_SAE,
        "tokens": pieces[-1]["tokens_so_far"],
        **name_and_hash(Path(text)),
        **total,
        "times_bare": total["collecting_seconds"] / total["bare_seconds"],
        "environment": machine,
        "command": f"{command()}, {len(pieces)} times",
        "pieces": pieces,
    }


def name_and_hash(path: Path) -> dict[str, str]:
    """Return the name and SHA-256 of a text: a file, or the hashes of a folder's files in order of names."""
    if path.is_file():
        digest = file_sha256(path)
    else:
        hashes = (file_sha256(file) for file in sorted(path.rglob("*")) if file.is_file())
        digest = hashlib.sha256("".join(hashes).encode()).hexdigest()
    return {"text": path.name, "text_sha256": digest}


def in_fresh_process(d_sae: int, tokens: int) -> dict[str, Any]:
    """Run :func:`collecting` in its own process."""
    one = [sys.executable, "-m", "experiments.speed.explorer", "--one", str(d_sae), "--tokens", str(tokens)]
    done = subprocess.run(one, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    return json.loads(done.stdout.splitlines()[-1])


def add_to_record(part: dict[str, Any], out: Path | None) -> None:
    """Write ``part`` into the record ``out``; keep the other parts."""
    before = json.loads(out.read_text(encoding="utf-8")) if out and out.is_file() else {}
    write_record(before | part, out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--tokens", type=int, default=204_800)
    parser.add_argument("--sizes", type=int, nargs="+", default=[4608, 9216])
    parser.add_argument("--one", type=int, help="internal: print the cost of collecting for this d_sae")
    parser.add_argument("--long", type=Path, metavar="FOLDER", help="measure the next piece of a long text, kept here")
    parser.add_argument("--text", help="the long text, a million tokens or more")
    args = parser.parse_args()
    model = quickstart_model(lambda _: None)
    if args.long:
        add_to_record({"long_collecting": long_collecting(model, args.long, args.text, args.tokens)}, args.out)
    elif args.one:
        print(json.dumps(collecting(model, args.one, args.tokens)))
    else:
        document = {
            "command": command(),
            "environment": environment(),
            **name_and_hash(Path(load_config("quickstart", [f"model_name={model}"]).dataset_path)),
            "collecting": [in_fresh_process(d_sae, args.tokens) for d_sae in args.sizes],
            "reading": [reading(d_sae) for d_sae in (9216, 16_384)],
        }
        add_to_record(document, args.out)


if __name__ == "__main__":
    main()
