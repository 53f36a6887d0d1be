"""
The explorer as a folder of static files that opens from disk.

Browsers let a page on disk load scripts but not JSON, so every data file is a script that hands one JSON value to the
page: ``data/S/overview.js`` for SAE number S, ``data/S/shard-N.js`` for every ``SHARD`` latents, and
``data/concepts.js`` for results of an evaluation. The page puts the model's text only into text nodes.
"""

import shutil
import warnings
from collections.abc import Callable, Sequence
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from sae_lens_abstopk.explorer.catalogue import Catalogue
from sae_lens_abstopk.explorer.data_files import overview, shard, write_data
from sae_lens_abstopk.explorer.latents import Provenance
from sae_lens_abstopk.explorer.snippet import snippet
from sae_lens_abstopk.explorer.steered import STRENGTHS
from sae_lens_abstopk.explorer.templates import environment
from sae_lens_abstopk.system.errors import ConfigError
from sae_lens_abstopk.system.folder_lock import HOLDER, LOCK

SHARD = 128
# earlier versions pickled the pass into the output folder
OLD_PASS = (".collection.pt", ".collection.tmp")
# the labeler's answers
ANSWERS = ".labels.jsonl"
# the page.js of every version begins with this
MARKER = b"// The frame of the explorer:"
SCRIPTS = ("page.js", "draw.js", "overview.js", "latent.js", "concept.js")


def write_site(
    saes: Sequence[Catalogue],
    about: Provenance,
    folder: Path,
    *,
    concepts: Sequence[dict[str, Any]] = (),
    on_progress: Callable[[int, int], None] | None = None,
) -> Path:
    """
    Write the site of one or two SAEs into ``folder`` and return its first page.

    ``on_progress`` is called with (latents written, latents in all).

    Raises:
        ConfigError: ``folder`` holds files that are not an explorer's.
    """
    check_site_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with as_file(files("sae_lens_abstopk.explorer") / "assets") as assets:
        for script in SCRIPTS:  # first, because they mark the folder as an explorer's if writing is interrupted
            shutil.copyfile(assets / script, folder / script)
        style = (assets / "explorer.css").read_text(encoding="utf-8")
    written = folder / "data.new"  # an earlier site stays intact until this one is complete
    shutil.rmtree(written, ignore_errors=True)
    done, total = 0, sum(len(sae) for sae in saes)
    for number, sae in enumerate(saes):
        data = written / str(number)
        data.mkdir(parents=True)
        write_data(data / "overview.js", f"{number}/overview", overview(sae))
        for start in range(0, len(sae), SHARD):
            latents = [sae[index] for index in range(start, min(start + SHARD, len(sae)))]
            write_data(data / f"shard-{start // SHARD}.js", f"{number}/shard-{start // SHARD}", shard(latents))
            done += len(latents)
            if on_progress is not None:
                on_progress(done, total)
    if concepts:
        write_data(written / "concepts.js", "concepts", concepts)
    meta = {
        "shard": SHARD,
        "strengths": STRENGTHS,
        "judge": about.judge,
        "concepts": [concept["name"] for concept in concepts],
        "saes": [{"name": sae.name, "snippet": snippet(sae.source, about)} for sae in saes],
    }
    page = environment().get_template("index.html.j2").render(about=about, saes=saes, meta=meta, style=style)
    shutil.rmtree(folder / "data", ignore_errors=True)
    written.rename(folder / "data")
    index = folder / "index.html"
    index.write_text(page, encoding="utf-8")
    remove_old_pass(folder)
    return index


def check_site_folder(folder: Path) -> None:
    """Raise if ``folder`` has files that are not an explorer's."""
    if folder.is_file():
        raise ConfigError(f"{folder} is a file; give a folder for the site.")
    before_a_site = (*OLD_PASS, ANSWERS, LOCK, HOLDER)
    others = folder.is_dir() and any(path.name not in before_a_site for path in folder.iterdir())
    script = folder / "page.js"
    if others and not (script.is_file() and script.read_bytes().startswith(MARKER)):
        raise ConfigError(
            f"{folder} is not empty and is not an explorer's site; give a new folder, or a site to overwrite."
        )


def remove_old_pass(folder: Path) -> None:
    """Delete the pass that an earlier version saved in ``folder``, with a warning."""
    for path in (folder / name for name in OLD_PASS):
        if path.is_file():
            path.unlink()
            warnings.warn(f"{path} was removed: passes over a text are now kept in the cache folder", stacklevel=3)
