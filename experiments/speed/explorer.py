"""The explorer: what collecting costs beside the language model's own pass, and how soon a large site can be read.

    python experiments/speed/explorer.py --tokens 102400 --out experiments/speed/results/explorer.json
    python experiments/speed/explorer.py --long FOLDER --text TEXT --tokens 256000 --out experiments/speed/results/explorer.json   # a piece a call

Collecting: SmolLM2-135M-Instruct at layer 15 in bfloat16, a signed JumpReLU SAE with random weights whose threshold lets
57 codes per token through on the first batch, over the packaged text. Each size runs in a process of its own, after a
warm-up the bare pass, the collecting one and the bare one again over the same batches; the ratio is to the mean of the
two. A long text is collected in pieces, a process each, every one taken up from the checkpoint of the one before, as a pass
that was cut short is; half of a piece's bare pass runs before the collecting one and half after it. Reading: sites of
random codes, opened from disk in Chromium at 1440 x 900, medians of five; beside them the time that plotly takes for the
same scatter. Run it on an idle machine.
"""

import argparse
import hashlib
import importlib.util
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from recording import command, environment, write_record
from sae_lens_abstopk.evaluation.subjects.measured_tokens import token_batches

from sae_lens_abstopk import SignedJumpReLUSAE, SignedJumpReLUSAEConfig
from sae_lens_abstopk.explorer.catalogue import Catalogue
from sae_lens_abstopk.explorer.collection import collect
from sae_lens_abstopk.explorer.collector import CollectionSettings, Collector
from sae_lens_abstopk.explorer.latents import Provenance
from sae_lens_abstopk.explorer.site import write_site
from sae_lens_abstopk.model.autocast import casts_shared
from sae_lens_abstopk.model.language_model import load_language_model
from sae_lens_abstopk.model.model_passes import ModelPasses
from sae_lens_abstopk.model.quickstart_model import quickstart_model
from sae_lens_abstopk.model.token_filter import TokenFilter
from sae_lens_abstopk.system.files import file_sha256
from sae_lens_abstopk.text.token_text import TokenText
from sae_lens_abstopk.training.config.config_file import load_config

L0 = 57
LONG_D_SAE = 9216


def random_sae(d_in: int, d_sae: int, x: torch.Tensor) -> SignedJumpReLUSAE:
    """An SAE that lets 57 codes per token of ``x`` through."""
    sae = SignedJumpReLUSAE(SignedJumpReLUSAEConfig(d_in=d_in, d_sae=d_sae))
    rows = torch.nn.functional.normalize(torch.randn(d_sae, d_in, generator=torch.Generator().manual_seed(0)))
    with torch.no_grad():
        sae.W_dec.copy_(rows)
        sae.W_enc.copy_(rows.T)
        sae.b_dec.copy_(x.mean(0))
        magnitudes = ((x - sae.b_dec) @ sae.W_enc).abs().flatten()
        sae.threshold.fill_(magnitudes.topk(len(x) * L0).values[-1].item())
    return sae


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


FILTER = TokenFilter(seqpos_slice=(1, None))


def subject(
    model: Path, d_sae: int, tokens: int, *overrides: str
) -> tuple[ModelPasses, SignedJumpReLUSAE, list[torch.Tensor]]:
    """The model around the hook, the SAE, and a text in batches."""
    cfg = load_config("quickstart", [f"model_name={model}", *overrides])
    language_model = load_language_model(cfg)
    passes = ModelPasses(language_model, cfg.hook_name, autocast=cfg.autocast_lm)
    batches = token_batches(language_model, cfg, tokens, part="all", d_sae=d_sae, with_logits=False)
    x = passes.activations(batches[0])[:, 1:].flatten(0, 1).float()
    return passes, random_sae(x.shape[1], d_sae, x), batches


def bare(passes: ModelPasses, batches: list[torch.Tensor]) -> float:
    """Seconds of the language model's own pass, its weights cast once as in the collecting one."""
    started = time.perf_counter()
    with casts_shared():
        for batch in batches:
            passes.activations(batch)
    return time.perf_counter() - started


def piece(model: Path, folder: Path, text: str, number: int, tokens: int) -> dict[str, Any]:
    """The ``number``-th piece of a long text: seconds of its bare and of its collecting pass, and what is then kept."""
    end = (number + 1) * tokens
    passes, sae, batches = subject(model, LONG_D_SAE, end, f"dataset_path={text}")
    mine = batches[-(tokens // batches[0].numel()) :]

    bare(passes, mine[:20])
    first, before = bare(passes, mine[::2]), peak_mib()
    checkpoint = folder / "passes"
    started = time.perf_counter()
    found = collect(
        passes, {"sae": sae}, batches, token_filter=FILTER, settings=CollectionSettings(), checkpoint=checkpoint
    )["sae"]
    seconds, added = time.perf_counter() - started, peak_mib() - before
    return {
        "tokens_so_far": sum(batch.numel() for batch in batches),
        "tokens_collected": found.n_tokens,
        "l0": int(found.pole_counts.sum()) / found.n_tokens,
        "bare_seconds": first + bare(passes, mine[1::2]),
        "collecting_seconds": seconds,
        "added_peak_mib": added,
        "kept_mib": max(path.stat().st_size for path in checkpoint.iterdir()) / 2**20,
    }


def told_text(path: Path) -> dict[str, str]:
    """Name and SHA-256 of a text: of a file, or of the hashes of a folder's files in the order of their names."""
    if path.is_file():
        digest = file_sha256(path)
    else:
        hashes = (file_sha256(file) for file in sorted(path.rglob("*")) if file.is_file())
        digest = hashlib.sha256("".join(hashes).encode()).hexdigest()
    return {"text": path.name, "text_sha256": digest}


def long_collecting(model: Path, folder: Path, text: str, tokens: int) -> dict[str, Any]:
    """Measure the next piece of ``tokens`` tokens; all pieces so far together."""
    machine = environment()
    folder.mkdir(parents=True, exist_ok=True)
    number = len(list(folder.glob("piece-*.json")))
    measured = piece(model, folder, text, number, tokens)
    (folder / f"piece-{number}.json").write_text(json.dumps(measured), encoding="utf-8")
    pieces = [json.loads((folder / f"piece-{n}.json").read_text(encoding="utf-8")) for n in range(number + 1)]
    total = {key: sum(each[key] for each in pieces) for key in ("bare_seconds", "collecting_seconds")}
    return {
        "d_sae": LONG_D_SAE,
        "tokens": pieces[-1]["tokens_so_far"],
        **told_text(Path(text)),
        **total,
        "times_bare": total["collecting_seconds"] / total["bare_seconds"],
        "environment": machine,
        "command": f"{command()}, {len(pieces)} times",
        "pieces": pieces,
    }


def collecting(model: Path, d_sae: int, tokens: int) -> dict[str, Any]:
    """Seconds of the bare and of the collecting pass, and by how much collecting raises the process's peak memory."""
    passes, sae, batches = subject(model, d_sae, tokens)

    bare(passes, batches[:20])
    first, before = bare(passes, batches), peak_mib()
    started = time.perf_counter()
    found = collect(passes, {"sae": sae}, batches, token_filter=FILTER, settings=CollectionSettings())["sae"]
    seconds, added = time.perf_counter() - started, peak_mib() - before
    around = (first, bare(passes, batches))
    return {
        "d_sae": d_sae,
        "tokens": sum(batch.numel() for batch in batches),
        "l0": int(found.pole_counts.sum()) / found.n_tokens,
        "bare_seconds": around,
        "collecting_seconds": seconds,
        "times_bare": seconds / statistics.mean(around),
        "added_peak_mib": added,
    }


class Numbers:
    """A tokenizer whose tokens are numbers."""

    def decode(self, ids: list[int], **_: Any) -> str:
        return "".join(f" {i}" for i in ids)

    def convert_ids_to_tokens(self, token: int) -> str:
        return str(token)


def random_site(d_sae: int, folder: Path) -> dict[str, float]:
    """Write a site of random codes; seconds and size."""
    generator = torch.Generator().manual_seed(0)
    collector = Collector(d_sae, CollectionSettings())
    for _ in range(40):
        codes = torch.randn(508, d_sae, generator=generator)
        codes *= torch.rand(508, d_sae, generator=generator) < L0 / d_sae
        where = torch.stack([torch.arange(4).repeat_interleave(127), torch.arange(1, 128).repeat(4)], dim=1)
        collector.update(codes, where, torch.randint(0, 49_152, (4, 128), generator=generator))
    sae = random_sae(64, d_sae, torch.randn(200, 64, generator=generator))
    catalogue = Catalogue("random", sae, collector, TokenText(Numbers()), source="random", neighbours=6)
    started = time.perf_counter()
    about = Provenance("random", "random", "hook", "random", held_out=True, tokens_read=0, context_size=128)
    write_site([catalogue], about, folder)
    seconds = time.perf_counter() - started
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return {"seconds_to_write": seconds, "mib": size / 2**20}


PLOTLY = """<!doctype html><script src="plotly.min.js"></script><div id=p style="width:380px;height:320px"></div><script>
const n = %d, x = Array.from({length: n}, (_, i) => Math.sin(i)), y = Array.from({length: n}, (_, i) => Math.cos(3 * i));
Plotly.newPlot("p", [{x, y, type: "scattergl", mode: "markers"}]).then(() => { window.drawn = performance.now(); });</script>"""


def reading(d_sae: int) -> dict[str, Any]:
    """Milliseconds to the first paint, to the rows of the table, of a search, and of opening a latent."""
    from playwright.sync_api import sync_playwright

    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    times: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as playwright:
        folder = Path(temporary) / "site"
        written = random_site(d_sae, folder)
        spec = importlib.util.find_spec("plotly")
        if spec is not None and spec.origin is not None:
            shutil.copyfile(Path(spec.origin).parent / "package_data" / "plotly.min.js", folder / "plotly.min.js")
            (folder / "plotly.html").write_text(PLOTLY % d_sae)
        for _ in range(5):
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1440, "height": 900})
            page.goto((folder / "index.html").as_uri())
            page.wait_for_selector("tbody tr")
            page.wait_for_function("performance.getEntriesByName('first-contentful-paint').length > 0")
            paint = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
            measured = {
                "first_paint_ms": page.evaluate(paint),
                "rows_ms": page.evaluate("performance.getEntriesByName('rows')[0].startTime"),
                "search_ms": page.evaluate(
                    "(() => { const s = document.getElementById('search'); s.value = '77'; const t = performance.now();"
                    "s.dispatchEvent(new Event('input')); return performance.now() - t; })()"
                ),
            }
            started = time.perf_counter()
            page.evaluate(f"location.hash = '#/latent/0/{d_sae // 2}'")
            page.wait_for_selector("article h1")
            measured["latent_ms"] = 1000 * (time.perf_counter() - started)
            if (folder / "plotly.html").is_file():
                page.goto((folder / "plotly.html").as_uri())
                page.wait_for_function("window.drawn")
                measured["plotly_ms"] = page.evaluate("window.drawn")
            browser.close()
            for name, value in measured.items():
                times.setdefault(name, []).append(value)
    return {"d_sae": d_sae, **written, **{name: statistics.median(values) for name, values in times.items()}}


def add_to_record(part: dict[str, Any], out: Path | None) -> None:
    """Write ``part``, and keep what else ``out`` has."""
    before = json.loads(out.read_text(encoding="utf-8")) if out and out.is_file() else {}
    write_record(before | part, out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--tokens", type=int, default=204_800)
    parser.add_argument("--sizes", type=int, nargs="+", default=[4608, 9216])
    parser.add_argument("--one", type=int, help="measure collecting for this d_sae alone and print it")
    parser.add_argument(
        "--long", type=Path, metavar="FOLDER", help="measure the next piece of a long text; what is kept is here"
    )
    parser.add_argument("--text", help="the long text, a million tokens or more")
    arguments = parser.parse_args()
    if arguments.long:
        found = long_collecting(quickstart_model(lambda _: None), arguments.long, arguments.text, arguments.tokens)
        add_to_record({"long_collecting": found}, arguments.out)
        print(json.dumps(found, indent=1))
        return
    if arguments.one:
        print(json.dumps(collecting(quickstart_model(lambda _: None), arguments.one, arguments.tokens)))
        return
    machine, sizes = environment(), []
    model = quickstart_model(lambda _: None)
    text = told_text(Path(load_config("quickstart", [f"model_name={model}"]).dataset_path))
    for d_sae in arguments.sizes:
        one = [sys.executable, __file__, "--one", str(d_sae), "--tokens", str(arguments.tokens)]
        done = subprocess.run(one, check=True, stdout=subprocess.PIPE, text=True)
        sizes.append(json.loads(done.stdout.splitlines()[-1]))
    document = {
        "command": command(),
        "environment": machine,
        **text,
        "collecting": sizes,
        "reading": [reading(d_sae) for d_sae in (9216, 16_384)],
    }
    add_to_record(document, arguments.out)
    print(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
