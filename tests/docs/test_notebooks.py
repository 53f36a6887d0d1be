"""The notebooks run from start to end, on a small SAE in place of theirs; what they show was made by running them."""

import json
import os
import re
import shlex
import shutil
import tomllib
import warnings
from collections.abc import Sequence
from multiprocessing import get_context
from pathlib import Path

import nbformat
import pytest
import yaml
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from rich.console import Console
from transformers import AutoTokenizer

from sae_lens_abstopk import load_config, train
from tests.conftest import at_layer_3, small_run
from tests.docs.test_pages import RELEASED, TEXT
from tests.evaluation.task_files import CONCEPT
from tests.sentence_model import save_sentence_model

FOLDER = Path(__file__).parents[2] / "docs" / "notebooks"
NAMES = sorted(path.stem for path in FOLDER.glob("*.ipynb"))
FEWER = {"tokens=6_400": "tokens=256", "tokens=12_800": "tokens=256", "n_tokens=20_000": "n_tokens=256"}
FEWER |= {"strengths=(1, 2, 4)": "strengths=(1,)", "max_new_tokens=12": "max_new_tokens=2"}
SHORT_FITS = "from sae_lens_abstopk.pairs import fitting\n\nfitting.MOST_STEPS = 60\n"


def shown(name: str, changes: dict[str, str], folder: Path) -> str:
    """Run a notebook in ``folder`` with some of its text replaced, all of which it must have; return what it shows."""
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    sources = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    assert all(any(old in source for source in sources) for old in changes)
    for old, new in (changes | FEWER).items():
        sources = [source.replace(old, new) for source in sources]
    sources = list(map(at_layer_3, sources))
    # a fork of this process has imported everything already, which takes a kernel ten seconds
    process = get_context("fork").Process(target=run_cells, args=(sources, folder))
    process.start()
    process.join()
    assert process.exitcode == 0
    return (folder / "shown").read_text(encoding="utf-8")


def run_cells(sources: Sequence[str], folder: Path) -> None:
    """Run cells as Jupyter does, and write what they put out into a file ``shown``."""
    os.chdir(folder)
    warnings.simplefilter("default")  # not errors, as in these tests
    shell, put_out = InteractiveShell.instance(), []
    with capture_output() as captured:
        for source in sources:
            done = shell.run_cell(source)
            done.raise_error()
            put_out.append(shell.display_formatter.format(done.result)[0])
    put_out += [output.data for output in captured.outputs]
    (folder / "shown").write_text(captured.stdout + json.dumps(put_out), encoding="utf-8")


@pytest.mark.slow
def test_the_notebook_on_one_latent_runs(tiny_llama: Path, texts: Path, tmp_path: Path) -> None:
    extra = [*small_run(tiny_llama, texts), "sae.k=8", f"output_path={tmp_path / 'run'}"]
    train(load_config("quickstart", extra), console=Console(quiet=True))
    (tmp_path / "temperature.yaml").write_text(CONCEPT)
    changes = {
        RELEASED: str(tmp_path / "run"),
        TEXT: str(texts),
        "quickstart_model(print)": repr(str(tiny_llama)),
        '"tense"': '"temperature.yaml"',
        "texts_per_pole=150": "texts_per_pole=30",
    }
    found = shown("find-and-steer", changes, tmp_path)
    assert "image/svg+xml" in found
    assert "untrained SAE" in found
    assert "text/html" in found


@pytest.mark.slow
def test_the_notebook_on_comparing_runs(tiny_llama: Path, texts: Path, tmp_path: Path) -> None:
    overrides = "".join(f"{override!r}, " for override in small_run(tiny_llama, texts) if "model_name" not in override)
    changes = {
        "HuggingFaceTB/SmolLM2-135M-Instruct": str(tiny_llama),
        '"training_tokens=51_200",': overrides,
        "k: [57]": "k: [8]",
        "texts_per_pole=100": "texts_per_pole=40",
    }
    found = shown("compare", changes, tmp_path)
    assert found.count('"image/svg+xml": "') == 4
    assert (tmp_path / "runs" / "compare" / "k8_seed1" / "batchtopk_2F" / "sae_weights.safetensors").is_file()


@pytest.mark.slow
def test_the_notebook_on_pairs_runs(tiny_llama: Path, tmp_path: Path) -> None:
    found = shown("pairs", {"quickstart_model(print)": repr(str(tiny_llama)), "seeds=3": "seeds=1"}, tmp_path)
    assert "image/svg+xml" in found
    assert "AUC of preferences from the codes" in found
    assert (tmp_path / "results" / "pairs-notebook" / "axes" / "sae").is_dir()


@pytest.mark.slow
def test_the_notebook_on_two_models_runs(tiny_llama: Path, tiny_adapter: Path, tmp_path: Path) -> None:
    chat = shutil.copytree(tiny_llama, tmp_path / "chat")
    AutoTokenizer.from_pretrained(tiny_adapter).save_pretrained(chat)
    changes = {
        "quickstart_model(print)": repr(str(chat)),
        "enumerate(examples * 2)": "enumerate(examples[:8])",
        "new_tokens=40": "new_tokens=8",
        "training_tokens=15_360": "training_tokens=2_048, context_size=32",
        "d_sae=72": "d_sae=8",
        "k=4": "k=2",
        "n_tokens=1_500": "n_tokens=300",
        "n_latents=6": "n_latents=2",
    }
    found = shown("diff", changes, tmp_path)
    assert "KL share" in found
    assert "Why is the sky blue?" in found
    assert (tmp_path / "results" / "diff-notebook" / "diff" / "index.html").is_file()


@pytest.mark.slow
def test_the_notebook_on_vectors_runs(tmp_path: Path) -> None:
    changes = {
        "sentence-transformers/all-MiniLM-L6-v2": str(save_sentence_model(tmp_path / "embedder")),
        'task_names() if "/" not in name': '("politeness", "tense")',
        "d_sae=24, k=5": "d_sae=8, k=2, seeds=1",
        "quiet = Console(quiet=True)": f"quiet = Console(quiet=True)\n{SHORT_FITS}",
        'overrides = [f"data={file}"': 'overrides = ["sae.k=4", "epochs=2", f"data={file}"',
    }
    found = shown("vectors", changes, tmp_path)
    assert "image/svg+xml" in found
    assert re.search(r"one_sided_2F +32 latents, L0 4, FVU", found)
    (difference,) = re.findall(r"what the file and the memory decode to: ([\d.e+-]+)", found)
    assert float(difference) < 1e-5


@pytest.mark.slow
def test_the_notebook_for_colab_runs_but_for_its_installation(tiny_llama: Path, tmp_path: Path) -> None:
    notebook = nbformat.read(FOLDER / "colab.ipynb", as_version=4)
    (install,) = (cell.source for cell in notebook.cells if "install" in cell.metadata.get("tags", ()))
    (name,), (extra,) = re.findall(r'"([a-z-]+)"', install), re.findall(r'"\{wheel\}\[(\w+)\]"', install)
    (command,) = (cell.source for cell in notebook.cells if cell.source.startswith("!"))
    words = [*shlex.split(command.partition("2>")[0])[1:], "--model", str(tiny_llama), "--layer", "2"]
    project = tomllib.loads((FOLDER.parents[1] / "pyproject.toml").read_text())["project"]
    assert name == project["name"]
    assert extra in project["optional-dependencies"]
    changes = {
        install: "from pathlib import Path",
        command: f"{SHORT_FITS}from sae_lens_abstopk.cli import app\n\napp({words}, standalone_mode=False)",
        "quickstart_model(print)": repr(str(tiny_llama)),
    }
    assert "AUROC" in shown("colab", changes, tmp_path)
    assert (tmp_path / "quickstart" / "index.html").is_file()


@pytest.mark.parametrize("name", NAMES)
def test_the_stored_notebook_was_run_in_order_without_an_error(name: str) -> None:
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert all(output.output_type != "error" for cell in code for output in cell.outputs)
    assert not re.search(r"/(tmp|home|root|Users)/", (FOLDER / f"{name}.ipynb").read_text()), "a path of one machine"
    assert (FOLDER / f"{name}.ipynb").stat().st_size < 400_000


def test_every_notebook_is_on_the_site() -> None:
    nav = yaml.load((FOLDER.parents[1] / "mkdocs.yml").read_text(), Loader=yaml.BaseLoader)["nav"]
    assert set(re.findall(r"notebooks/([\w-]+)\.ipynb", str(nav))) == set(NAMES)
