"""Download a published SAE, check every file against the manifest of its release, and show it on the terminal."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import RemoteEntryNotFoundError
from rich.filesize import decimal
from rich.table import Table
from rich.tree import Tree
from sae_lens import SAE

from sae_lens_abstopk.hub.manifest import MANIFEST_FILENAME, Manifest, PublishedFile, PublishedSAE, published_file
from sae_lens_abstopk.hub.model_card import number_text
from sae_lens_abstopk.hub.repository import hub_errors, require_repo_id
from sae_lens_abstopk.hub.results import RESULT_NAMES
from sae_lens_abstopk.saes.loading import load_as_saved
from sae_lens_abstopk.saes.signed import SIGNED_ARCHITECTURES
from sae_lens_abstopk.system.errors import ConfigError, HubError, require_choice


@dataclass(frozen=True)
class Pulled:
    """An SAE from the Hub."""

    sae: SAE[Any]
    folder: Path
    """Folder of the SAE in the Hub's cache."""
    commit: str
    """Commit id of its files."""
    record: PublishedSAE
    """Manifest entry of the SAE."""
    manifest: Manifest


def pull(repo_id: str, sae_id: str, *, revision: str = "main") -> Pulled:
    """
    Download the SAE ``sae_id`` of ``repo_id`` into the Hub's cache, check it and load it.

    A file whose hash differs from the manifest's is downloaded once more. ``HF_HUB_OFFLINE`` reads only the cache.

    Raises:
        ConfigError: the repository has no manifest of this package, or lacks the SAE.
        HubError: a file cannot be downloaded, arrived damaged twice, or is missing in the cache when offline.
    """
    require_repo_id(repo_id)

    def download(path: str, at: str, *, again: bool = False) -> Path:
        with hub_errors(f"downloading {path} of {repo_id} ({at})"):
            return Path(hf_hub_download(repo_id, path, revision=at, force_download=again))

    try:
        manifest_path = download(MANIFEST_FILENAME, revision)
    except HubError as error:
        if not isinstance(error.__cause__, RemoteEntryNotFoundError):
            raise
        raise ConfigError(
            f"{repo_id} has no {MANIFEST_FILENAME} to check it against; load it with "
            f'SAE.from_pretrained("{repo_id}", "{sae_id}").'
        ) from None
    commit = manifest_path.parent.name  # one commit for all files, even while somebody publishes
    where = f"{MANIFEST_FILENAME} of {repo_id}"
    try:
        manifest = Manifest.from_json(manifest_path.read_bytes(), where)
    except ConfigError:
        manifest = Manifest.from_json(download(MANIFEST_FILENAME, commit, again=True).read_bytes(), where)
    require_choice(f"the SAE of {repo_id}", sae_id, manifest.saes)
    record = manifest.saes[sae_id]
    for path, expected in record.files.items():
        if published_file(download(path, commit)) == expected:
            continue
        arrived = published_file(download(path, commit, again=True))
        if arrived != expected:
            raise HubError(
                f"{path} of {repo_id} arrived damaged twice ({arrived.size} bytes of {expected.size}, SHA-256 "
                f"{arrived.sha256[:12]}, not {expected.sha256[:12]}); it is not loaded. Report it to the publisher."
            )
    folder = manifest_path.parent / sae_id
    return Pulled(load_as_saved(folder), folder, commit, record, manifest)


def files_tree(repo_id: str, files: Mapping[str, PublishedFile]) -> Tree:
    """Make a tree of the files of a release, with their sizes."""
    total = sum(file.size for file in files.values())
    tree = Tree(f"{repo_id}  {decimal(total)}")

    @cache
    def branch(folder: str) -> Tree:
        above, _, name = folder.rpartition("/")
        return branch(above).add(f"{name}/") if folder else tree

    for path, file in sorted(files.items()):
        folder, _, name = path.rpartition("/")
        branch(folder).add(f"{name}  {decimal(file.size)}")
    return tree


def pulled_table(pulled: Pulled) -> Table:
    """Make a table of a pulled SAE's manifest entry."""
    record = pulled.record
    table = Table("fact", "value", box=None, show_header=False, pad_edge=False)
    table.add_row("architecture", record.architecture + (f", mirror of {record.mirror_of}" if record.mirror_of else ""))
    table.add_row("latents", f"{record.d_sae:,} on {record.d_in} dimensions, {record.dtype}")
    if record.architecture in SIGNED_ARCHITECTURES:
        table.add_row("signs", "canonical gauge" if record.gauge == "canonical" else "as trained")
    for key in ("model_name", "hook_name", "training_tokens"):
        if key in record.training:
            value = record.training[key]
            table.add_row(key.replace("_", " "), f"{value:,}" if isinstance(value, int) else str(value))
    if record.results is not None:
        results = record.results
        for key, (heading, form) in RESULT_NAMES.items():
            if key in results.numbers:
                table.add_row(heading, number_text(results.numbers[key], form))
        held_out = "held out" if results.held_out else "not held out"
        table.add_row("measured on", f"{results.tokens:,} {record.codes} of {results.text}, {held_out}")
        for concept in results.concepts:
            auroc = number_text(concept.numbers.get("auroc"), ".2f")
            table.add_row(concept.concept, f"latent {concept.latent}, AUROC {auroc}")
    return table
