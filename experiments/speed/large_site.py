"""Sites of random codes, and how soon they can be read in Chromium at 1440 x 900 (medians of five)."""

import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from sae_lens_abstopk import SignedJumpReLUSAE, SignedJumpReLUSAEConfig
from sae_lens_abstopk.explorer.catalogue import Catalogue
from sae_lens_abstopk.explorer.collection import CollectionSettings, Collector
from sae_lens_abstopk.explorer.latents import Provenance
from sae_lens_abstopk.explorer.site import write_site
from sae_lens_abstopk.text.token_text import TokenText

L0 = 57
SEARCH = (
    "(() => { const s = document.getElementById('search'); s.value = '77'; const t = performance.now();"
    "s.dispatchEvent(new Event('input')); return performance.now() - t; })()"
)


def random_sae(d_in: int, d_sae: int, x: torch.Tensor) -> SignedJumpReLUSAE:
    """Make an SAE with random weights and 57 codes per token of ``x`` [n, d_in]."""
    sae = SignedJumpReLUSAE(SignedJumpReLUSAEConfig(d_in=d_in, d_sae=d_sae))
    rows = torch.nn.functional.normalize(torch.randn(d_sae, d_in, generator=torch.Generator().manual_seed(0)))
    with torch.no_grad():
        sae.W_dec.copy_(rows)
        sae.W_enc.copy_(rows.T)
        sae.b_dec.copy_(x.mean(0))
        magnitudes = ((x - sae.b_dec) @ sae.W_enc).abs().flatten()
        sae.threshold.fill_(magnitudes.topk(len(x) * L0).values[-1].item())
    return sae


class Numbers:
    """A tokenizer whose tokens are numbers."""

    def decode(self, ids: list[int], **_: Any) -> str:
        return "".join(f" {i}" for i in ids)

    def convert_ids_to_tokens(self, token: int) -> str:
        return str(token)


def random_site(d_sae: int, folder: Path) -> dict[str, float]:
    """Write a site of random codes; return seconds and size."""
    generator = torch.Generator().manual_seed(0)
    collector = Collector(d_sae, CollectionSettings())
    for _ in range(40):
        codes = torch.randn(508, d_sae, generator=generator)
        codes *= torch.rand(508, d_sae, generator=generator) < L0 / d_sae
        where = torch.stack([torch.arange(4).repeat_interleave(127), torch.arange(1, 128).repeat(4)], dim=1)
        collector.update(codes, where, torch.randint(0, 49_152, (4, 128), generator=generator))
    sae = random_sae(64, d_sae, torch.randn(200, 64, generator=generator))
    catalogue = Catalogue("random", sae, collector, TokenText(Numbers()), source="random")
    started = time.perf_counter()
    about = Provenance("random", "random", "hook", "random", held_out=True, tokens_read=0, context_size=128)
    write_site([catalogue], about, folder)
    seconds = time.perf_counter() - started
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return {"seconds_to_write": seconds, "mib": size / 2**20}


def reading(d_sae: int) -> dict[str, Any]:
    """Time the first paint, the rows of the table, a search and the opening of a latent, in milliseconds."""
    from playwright.sync_api import sync_playwright

    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    times: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as playwright:
        folder = Path(temporary) / "site"
        written = random_site(d_sae, folder)
        for _ in range(5):
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1440, "height": 900})
            page.goto((folder / "index.html").as_uri())
            page.wait_for_selector("tbody tr")
            page.wait_for_function("performance.getEntriesByName('first-contentful-paint').length > 0")
            paint = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
            found = {
                "first_paint_ms": page.evaluate(paint),
                "rows_ms": page.evaluate("performance.getEntriesByName('rows')[0].startTime"),
                "search_ms": page.evaluate(SEARCH),
            }
            started = time.perf_counter()
            page.evaluate(f"location.hash = '#/latent/0/{d_sae // 2}'")
            page.wait_for_selector("article h1")
            found["latent_ms"] = 1000 * (time.perf_counter() - started)
            browser.close()
            for name, value in found.items():
                times.setdefault(name, []).append(value)
    return {"d_sae": d_sae, **written, **{name: statistics.median(values) for name, values in times.items()}}
