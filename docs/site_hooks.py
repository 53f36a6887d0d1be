"""Hooks of the documentation site: pages kept elsewhere in the repository, generated tables, formulas as MathML."""

import html
import re
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
RELEASES = "evals/releases"
RELEASE = f"{RELEASES}/smollm2-135m-instruct"
OF_PAIRS, OF_VECTORS = f"{RELEASES}/smollm2-135m-concepts", f"{RELEASES}/minilm-glosses"
TAKEN = {
    "benchmarks.md": "experiments/speed/README.md",
    "results/curves.svg": "experiments/speed/results/curves.svg",
    "log.md": "experiments/LOG.md",
    "tasks.md": "evals/README.md",
    "releases.md": f"{RELEASE}/README.md",
    "layer15_k57/two_sidedness.svg": f"{RELEASE}/layer15_k57/two_sidedness.svg",
    "layer15_k57_abstopk/two_sidedness.svg": f"{RELEASE}/layer15_k57_abstopk/two_sidedness.svg",
    "releases-pairs.md": f"{OF_PAIRS}/README.md",
    "layer15/cfg.json": f"{OF_PAIRS}/layer15/cfg.json",
    "releases-vectors.md": f"{OF_VECTORS}/README.md",
    "embeddings/cfg.json": f"{OF_VECTORS}/embeddings/cfg.json",
    "embeddings/two_sidedness.svg": f"{OF_VECTORS}/embeddings/two_sidedness.svg",
    "results.schema.json": "evals/results.schema.json",
}
"""Path on the site to path in the repository. Pages link to the latter, so that links work in a clone too."""
SECTIONS = {"": "The run", "sae": "The SAE", "logger": "Logging"}


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are kept elsewhere."""
    for name, source in TAKEN.items():
        files.append(File.generated(config, name, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Point links at pages of the site, and generate the tables of configuration keys and commands."""
    for name, source in TAKEN.items():
        markdown = markdown.replace(f"](../{source}", f"]({name}")
    markdown = re.sub(r"\]\((?:\.\./)+docs/", "](", markdown)
    made = {"configuration.md": configuration_tables, "commands.md": command_help}.get(page.file.src_uri)
    return markdown + made() if made else markdown


def on_page_content(content: str, **_: Any) -> str:
    """Turn formulas into MathML, which needs no script, and Sphinx roles into plain code."""
    content = re.sub(r'<(div|span) class="arithmatex">\\[\[(](.*?)\\[\])]</\1>', _math, content, flags=re.DOTALL)
    content = re.sub(r":(?:func|class|meth|mod|data|attr):<code>~?\.*(.*?)</code>", r"<code>\1</code>", content)
    return content.replace("::</p>", ":</p>")


def configuration_tables() -> str:
    """Every key of a config, as `abstopk configs --keys` lists them."""
    from sae_lens_abstopk.training.config.keys import key_docs

    lines: list[str] = []
    docs = list(key_docs().values())
    for section, title in SECTIONS.items():
        lines += ["", f"## {title}", "", "| key | type | default | meaning |", "|---|---|---|---|"]
        for doc in docs:
            if doc.name.rpartition(".")[0] == section:
                cells = (f"`{doc.name}`", _code(doc.type), _code(doc.default), _cell(doc.meaning))
                lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def command_help() -> str:
    """The `--help` text of every command."""
    from typer.cli import get_docs_for_click
    from typer.main import get_command

    from sae_lens_abstopk.cli import app

    command = get_command(app)
    return "\n" + get_docs_for_click(obj=command, ctx=command.context_class(command), name="abstopk", indent=1)


def _code(text: str) -> str:
    return f"<code>{html.escape(text, quote=False).replace('|', '&#124;')}</code>"


def _cell(text: str) -> str:
    return html.escape(text, quote=False).replace("|", r"\|").replace("{", "&#123;")


def _math(found: re.Match[str]) -> str:
    return convert(html.unescape(found[2]), display="block" if found[1] == "div" else "inline")
