"""What the site is made from: every public name and every key of a config has its place, pictures are small."""

import importlib.util
import inspect
import re
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import yaml

import sae_lens_abstopk
from sae_lens_abstopk.training.config.keys import key_docs

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("site_hooks", ROOT / "docs" / "site_hooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_public_name_is_on_the_api_page_and_exists() -> None:
    page = (ROOT / "docs" / "api.md").read_text()
    listed = re.findall(r"^::: ([\w.]+)$", page, re.MULTILINE)
    with_path = re.findall(r"^::: ([\w.]+)\n +options: \{show_root_full_path: true", page, re.MULTILINE)
    assert set(sae_lens_abstopk.__all__) - {"__version__"} <= {path.rpartition(".")[2] for path in listed}
    for path in listed:
        module, _, name = path.rpartition(".")
        found = getattr(importlib.import_module(module), name)
        assert inspect.getdoc(found), path
        public = name in sae_lens_abstopk.__all__
        assert public != (path in with_path), f"{path}: the page says that names without a path are public"
        assert not public or getattr(sae_lens_abstopk, name) is found


def test_every_name_that_a_page_imports_is_on_the_api_page() -> None:
    listed = set(re.findall(r"^::: ([\w.]+)$", (ROOT / "docs" / "api.md").read_text(), re.MULTILINE))
    for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "docs").rglob("*.ipynb")):
        for module, names in re.findall(r"from (sae_lens_abstopk[\w.]*) import ([\w, ]+)", page.read_text()):
            for name in names.replace(" ", "").split(","):
                public = module == "sae_lens_abstopk" and name in sae_lens_abstopk.__all__
                assert public or f"{module}.{name}" in listed, f"{page.name}: {module}.{name}"


def test_every_key_of_a_config_is_on_its_page(hooks: ModuleType) -> None:
    page = hooks.configuration_tables()
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert [line.split("`")[1] for line in rows] == sorted(
        key_docs(), key=lambda name: (list(hooks.SECTIONS).index(name.rpartition(".")[0]), name)
    )
    assert all(len(re.split(r"(?<!\\)\|", line)) == 6 for line in rows), "a bar in a cell would break the table"


def test_every_command_is_on_its_page_with_its_options(hooks: ModuleType) -> None:
    page, told = (ROOT / "docs" / "commands.md").read_text(), hooks.command_help()
    first_cells = re.findall(r"^\| (`.*?`) \|", page, re.MULTILINE)
    named = set(re.findall(r"`(\w+)`", " ".join(first_cells)))
    assert named == set(re.findall(r"^### `abstopk (\w+)`$", told, re.MULTILINE))
    assert "* `--resume" in told


def test_formulas_become_mathml_and_need_no_script(hooks: ModuleType) -> None:
    inline = hooks.on_page_content(r'<p><span class="arithmatex">\(a &lt; b\)</span></p>')
    assert inline.startswith("<p><math")
    assert "arithmatex" not in inline
    block = hooks.on_page_content('<div class="arithmatex">\\[\n\\tfrac12 x\n\\]</div>')
    assert 'display="block"' in block


def test_every_page_is_in_the_menu_and_its_links_work_in_a_clone() -> None:
    menu = (ROOT / "mkdocs.yml").read_text().partition("nav:")[2].partition("plugins:")[0]
    for page in (ROOT / "docs").glob("*.md"):
        assert f": {page.name}\n" in menu
        for target in re.findall(r"\]\(([^)#:\s]+)(?:#[\w-]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_links_to_what_is_taken_from_elsewhere_lead_to_its_page(hooks: ModuleType) -> None:
    page = SimpleNamespace(file=SimpleNamespace(src_uri="evaluate.md"))
    links = "[a](../evals/README.md#b), [c](../experiments/LOG.md)"
    assert hooks.on_page_markdown(links, page) == "[a](tasks.md#b), [c](log.md)"
    page.file.src_uri = "configuration.md"
    assert "| `sae.k` |" in hooks.on_page_markdown("# Configuration\n", page)


def test_pictures_are_small_and_all_shown() -> None:
    shown = set(re.findall(r"\]\(pictures/([\w.-]+)\)", "".join(p.read_text() for p in (ROOT / "docs").glob("*.md"))))
    pictures = {path.name: path.stat().st_size for path in (ROOT / "docs" / "pictures").iterdir()}
    assert shown == set(pictures)
    assert max(pictures.values()) < 150_000


def test_nothing_is_fetched_from_elsewhere() -> None:
    config = yaml.load((ROOT / "mkdocs.yml").read_text(), Loader=yaml.BaseLoader)
    assert config["theme"]["font"] == "false"
    assert not re.search(r"https?://", (ROOT / "mkdocs.yml").read_text() + (ROOT / "docs" / "site.css").read_text())
