"""Show a release on the terminal: its files and sizes, and the numbers of one SAE."""

from collections.abc import Mapping

from rich.filesize import decimal
from rich.table import Table
from rich.tree import Tree

from sae_lens_abstopk.hub.manifest import PublishedFile
from sae_lens_abstopk.hub.model_card import number_text
from sae_lens_abstopk.hub.pull import Pulled
from sae_lens_abstopk.hub.results import RESULT_NAMES
from sae_lens_abstopk.saes.signed import SIGNED_ARCHITECTURES


def files_tree(repo_id: str, files: Mapping[str, PublishedFile]) -> Tree:
    """Make a tree of the files of a release, with their sizes."""
    total = sum(file.size for file in files.values())
    tree = Tree(f"{repo_id}  {decimal(total)}")
    folders: dict[str, Tree] = {"": tree}
    for path, file in sorted(files.items()):
        *parents, name = path.split("/")
        for depth, parent in enumerate(parents, 1):
            place = "/".join(parents[:depth])
            if place not in folders:
                folders[place] = folders["/".join(parents[: depth - 1])].add(f"{parent}/")
        folders["/".join(parents)].add(f"{name}  {decimal(file.size)}")
    return tree


def pulled_table(pulled: Pulled) -> Table:
    """Make a table of a pulled SAE's manifest entry."""
    record = pulled.record
    table = Table(box=None, show_header=False, pad_edge=False)
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
        table.add_row("measured on", f"{results.tokens:,} tokens of {results.text}, {held_out}")
        for concept in results.concepts:
            auroc = number_text(concept.numbers.get("auroc"), ".2f")
            table.add_row(concept.concept, f"latent {concept.latent}, AUROC {auroc}")
    return table
