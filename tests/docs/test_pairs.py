"""The page on pairs of texts: its blocks run in order, on a tiny model and few pairs in place of those named."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_cli import invoke
from tests.docs.test_pages import MODEL, ROOT, blocks

SMALLER = {"--layer 15": "--layer 3 --d-sae 8 --k 2 --seeds 2", "layer=15": "layer=3, d_sae=8, k=2, seeds=1"}
SMALLER |= {"--axis 3": "--axis 2", " --above 2": "", "evals/releases": f"{ROOT}/evals/releases"}


@pytest.mark.slow
def test_the_blocks_run(tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sae_lens_abstopk.pairs.fitting.MOST_STEPS", 120)
    monkeypatch.setenv("ABSTOPK_CACHE", str(tmp_path / "cache"))
    rows = [
        {"prompt": f"Name {n} fruits.", "chosen": f"Here are {n} of them " * (1 + n % 3), "rejected": f"No {n}."}
        for n in range(400)
    ]
    Path("preferences.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    scope: dict[str, Any] = {}
    for kind, code in blocks("pairs"):
        for old, new in {MODEL: str(tiny_llama), **SMALLER}.items():
            code = code.replace(old, new)
        if kind == "python":
            exec(compile(code, "pairs.md", "exec"), scope)
            continue
        for words in map(shlex.split, code.splitlines()):
            done = invoke(*words[1:])
            assert done.exit_code == 0, (words, done.output)
    assert scope["codes"].shape == (1, 8)
    assert {path.name for path in Path("axes").iterdir()} >= {
        "index.html",
        "pairs.json",
        "axes.csv",
        "effects.svg",
        "sae",
    }
    n_dropped = len(rows) - len(Path("without.jsonl").read_text().splitlines())
    assert n_dropped > 0
    turned = [json.loads(line) for line in Path("flipped.jsonl").read_text().splitlines()]
    assert any(one["chosen"] != other["chosen"] for one, other in zip(rows, turned, strict=True))
