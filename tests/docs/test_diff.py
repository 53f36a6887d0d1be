"""The page on two models: its blocks run in order, on a tiny model, adapter and text in place of those named."""

import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_cli import invoke
from tests.docs.test_pages import MODEL, blocks

SMALLER = "--layer 3 --tokens 2048 --d-sae 8 --k 2 --seeds 2 --context-size 32 --measure-tokens 300 --device cpu"


@pytest.mark.slow
def test_the_blocks_run(
    tiny_llama: Path, tiny_adapter: Path, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_adapter, "adapter")
    shutil.copy(texts, "text.jsonl")
    scope: dict[str, Any] = {}
    for kind, code in blocks("diff"):
        for old, new in {MODEL: str(tiny_llama), "--layer 15": SMALLER}.items():
            code = code.replace(old, new)
        if kind == "python":
            exec(compile(code, "diff.md", "exec"), scope)
            continue
        done = invoke(*shlex.split(code)[1:])
        assert done.exit_code == 0, done.output
    assert {path.name for path in Path("diff").iterdir()} >= {"index.html", "report.html", "diff.json", "sae"}
    assert scope["first"].kl_share is not None
