"""The pages of the site: their commands and Python blocks run in order, on a small run in place of `abstopk tokens`."""

import re
import shlex
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from sae_lens_abstopk import evaluate, load_config, train
from tests.cli.test_cli import invoke
from tests.conftest import at_layer_3, small_run
from tests.evaluation.task_files import CONCEPT

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
RELEASED = "evals/releases/smollm2-135m-instruct/layer15_k57_abstopk"
TEXT = "training_configs/text/smollm2_samples.jsonl.gz"
SUITE = """
{reconstruction: {tokens: 128}, tasks: [temperature.yaml], texts_per_pole: 30, untrained: false,
 steering: {tasks: [temperature.yaml], strengths: [1], samples: 1, max_new_tokens: 2, random_directions: 1,
            candidates: 2}}
"""
FEWER_TOKENS = ("explore", "inspect")
EXECUTED = (
    *("index", "tokens", "train", "saelens", "many-runs", "evaluate", "steer", "explore", "publish", "how-it-works"),
    *("protocols", "protocols-steering", "long-runs"),
)
"""Pages whose blocks run here."""
ELSEWHERE = ("in-your-tool", "saebench", "extend", "embeddings", "pairs", "diff")
"""Pages whose blocks run in ``test_in_your_tool.py``, ``tests/interop`` and ``test_PAGE.py``."""
NOT_RUN = ("distributed",)
"""Pages whose commands need several GPUs; ``tests/training`` starts two ranks on a CPU in the same way."""


def blocks(page: str) -> list[tuple[str, str]]:
    """Language and text of the blocks of a page that run."""
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    return re.findall(r"```(bash|python|yaml)\n(.*?)```", text, re.DOTALL)


@pytest.fixture(scope="module")
def workshop(tiny_llama: Path, texts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runs and results that the pages speak of."""
    folder = tmp_path_factory.mktemp("workshop")
    extra = [*small_run(tiny_llama, texts), "sae.k=8", f"output_path={folder / 'runs' / 'tokens'}"]
    saes = train(load_config("quickstart", extra), console=Console(quiet=True)).folders
    shutil.copytree(saes["sae"], folder / "runs" / "quickstart" / "sae")
    (folder / "temperature.yaml").write_text(CONCEPT)
    (folder / "small.yaml").write_text(SUITE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        evaluate({"signed": saes["sae"], "batchtopk": saes["batchtopk"]}, suite="small.yaml", out="results")
    return folder


@pytest.fixture
def run_page(
    workshop: Path, tiny_models: dict[str, Path], texts: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Any]:
    """Runs the blocks of a page in the workshop."""
    monkeypatch.chdir(workshop)

    def run(page: str, changes: dict[str, str] | None = None) -> None:
        scope: dict[str, Any] = {}
        swaps = {MODEL: str(tiny_models["llama-3.1-8b"]), "monology/pile-uncopyrighted": str(texts)}
        swaps |= changes or {}
        for language, code in blocks(page):
            for old, new in swaps.items():
                code = code.replace(old, new)
            code = at_layer_3(code)
            if language == "python":
                exec(compile(code, page, "exec"), scope)
            elif language == "yaml":
                Path("mine.yaml").write_text(code)
            else:
                for line in code.replace("\\\n", " ").splitlines():
                    run_command(shlex.split(line, comments=True), tiny_models, texts)

    return run


def run_command(words: list[str], models: dict[str, Path], texts: Path) -> None:
    if words[:2] == ["pip", "install"]:
        extras = re.findall(r"\[([\w-]+)\]", " ".join(words))
        assert set(extras) <= set(
            tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        )
    elif words[0] == "make":
        assert f"\n{words[1]}: " in (ROOT / "Makefile").read_text()
    elif words[0] == "lm_eval":  # runs in tests/evaluation/steering/test_lm_eval_steering.py
        assert Path(words[words.index("--model_args") + 1].rpartition("steer_path=")[2]).is_file()
        assert (ROOT / words[words.index("--include_path") + 1]).is_dir()
    else:
        assert words[0] == "abstopk", words
        command = [word if word != "probing" else "small.yaml" for word in words[1:]]
        if command[0] in ("train", "compare"):
            model = models["pythia-70m" if "pythia-70m" in command[1] else "llama-3.1-8b"]
            command[2:2] = [*small_run(model, texts), *(["sae.k=8"] if command[0] == "train" else [])]
        command += small_run(models["llama-3.1-8b"], texts) if command[0] == "tokens" else []
        command += ["--tokens", "128"] if command[0] in FEWER_TOKENS else []
        command += ["--latents", "2"] if "--steer" in command and "--latents" not in command else []
        done = invoke(*command)
        assert done.exit_code == 0, (command, done.output)


def prose(page: Path) -> int:
    """Number of words outside of code and generated tables."""
    text = re.sub(r"<!-- (\w+) -->.*?<!-- end of \1 -->", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    return len(re.findall(r"\S*\w\S*", text))


def test_pages_end() -> None:
    pages = {page: prose(page) for page in (*DOCS.glob("*.md"), ROOT / "evals" / "README.md")}
    for page, n_words in pages.items():
        assert n_words <= (2000 if page.stem == "map" else 1200), page.name


def test_every_page_with_code_is_run_somewhere() -> None:
    with_code = {
        page.stem
        for page in DOCS.glob("*.md")
        if re.search(r"^ *```+ *(bash|sh|shell|console|py)", page.read_text(), re.M)
    }
    assert with_code == {*EXECUTED, *ELSEWHERE, *NOT_RUN}
    for page in EXECUTED:
        fences = re.findall(r"^```(\w*)", (DOCS / f"{page}.md").read_text(), re.MULTILINE)
        assert len([language for language in fences if language]) == len(blocks(page)), page


SMALLER: dict[str, dict[str, str]] = {
    "evaluate": {'suite="probing"': 'suite="small.yaml"'},
    "steer": {RELEASED: "runs/tokens", "latent=3266": "latent=21", "--latent 3266": "--latent 21"},
    "explore": {RELEASED: "runs/tokens", "n_tokens=20_000": "n_tokens=128"},
    "publish": {"n_tokens=20_000": "n_tokens=256"},
    "protocols-steering": {
        "latent=812": "latent=8",
        "samples=3": "strengths=(1.0,), samples=1, max_new_tokens=2",
        "16_384": "512",
        'load_task("gender")': 'load_task("temperature.yaml")',  # words that the small tokenizer tells apart
    },
}
LEAVES = {
    "evaluate": ["coverage.png"],
    "explore": ["site-of-my-own/index.html", "site-with-concepts/data/concepts.js"],
    "publish": [
        "smollm2-abstopk-release/README.md",
        "smollm2-abstopk-from-python/layer15/pole_activity.safetensors",
    ],
}
"""Files that a page's blocks write."""


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in EXECUTED if page not in ("train", "saelens", "long-runs")])
def test_a_page_runs(page: str, run_page: Callable[..., Any], texts: Path) -> None:
    run_page(page, changes={**SMALLER.get(page, {}), TEXT: str(texts)})
    for path in LEAVES.get(page, []):
        assert Path(path).is_file()


@pytest.mark.slow
def test_the_page_on_long_runs_runs(
    run_page: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a run folder of the pages on training is there under the same name
    run_page("long-runs")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")  # of SAELens's runner
def test_the_pages_on_training_run(run_page: Callable[..., Any], tiny_llama: Path, texts: Path) -> None:
    overrides = [*small_run(tiny_llama, texts), "sae.k=8", "output_path=runs/from-python"]
    smaller = {
        '["output_path=runs/from-python"]': repr(overrides),
        "d_in=576, d_sae=4608, k=57": "d_in=32, d_sae=64, k=4",
        "training_tokens=20_000_000": "training_tokens=128, train_batch_size_tokens=64, store_batch_size_prompts=4",
        f'dataset_path="{texts}"': f'dataset_path="{texts.parent}"',  # SAELens reads no single file
        'output_path="runs/ours"': 'output_path="runs/ours", perf_tokens=128',
        "held-out.jsonl --suite quick": f"{texts} --suite small.yaml",
    }
    run_page("train", changes=smaller)
    run_page("saelens", changes=smaller)
    for run in ("mine/batchtopk", "saelens", "ours"):
        assert Path("runs", run, "sae_weights.safetensors").is_file()
