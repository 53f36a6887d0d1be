"""A mistake in a command on pairs is answered in one sentence, before a text is embedded, and writes nothing."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from sae_lens_abstopk.model.answer_vectors import AnswerReader
from tests.cli.test_cli import invoke
from tests.pairs.pair_files import write_rows
from tests.pairs.test_axes import planted, write_pairs
from tests.sentence_model import save_sentence_model

N = 60
SIZES = ("--d-sae", "6", "--k", "2", "--seeds", "1", "--no-baselines")
LABEL = "--labeler http://127.0.0.1:9 --labeler-model m --yes"

# the arguments after `abstopk pairs`, and key words of the answer in order
MISTAKES: dict[str, str] = {
    # the data
    "fit": "give pairs of texts, or their vectors",
    "missing.jsonl": "missing.jsonl.*no such file",
    "empty.jsonl": "empty.jsonl' is empty",
    "no/such-set --model lm": "no/such-set",
    "few.jsonl,splitt=dev --model lm": "splitt",
    "one.jsonl --model lm": "0 of 1 pairs would be held out",
    "same_prompt.jsonl --model lm": "0 of 60 pairs would be held out.* 1 groups",
    # columns
    "few.jsonl --columns a=prompt": "gives a; give a=COLUMN,b=COLUMN",
    "few.jsonl --columns group=who": "group='who'",
    # the model
    "few.jsonl --model no/such-model": "no/such-model",
    "few.jsonl --model full": "full",
    "few.jsonl --model lm --layer 6": "layer=6 .*below 6",
    "few.jsonl --model lm --hook model.layers.99": "model.layers.99",
    "few.jsonl --model lm --hook model.layers.1 --layer 1": "give layer or hook_name, not both",
    "few.jsonl --model sentences --layer 3": "leave out the layer",
    "few.jsonl --model lm --device tpu": "tpu",
    # sizes
    "few.jsonl --model lm --d-sae 999": "d_sae=999 must be at most 256",
    "few.jsonl --model lm --k 99": "k=99.0 must be at least 1 and at most 32",
    "few.jsonl --model lm --held-out 0.01": "0 of 60 pairs would be held out",
    "few.jsonl --model lm --out full": "full is not an empty folder",
    "few.jsonl --model lm --out file": "file is a file",
    "few.jsonl --model lm --out file/x": "file is a file; give another with --out",
    # arrays
    "--arrays a.npy": "must name two files",
    "--arrays a.npy,b.npy --model lm": "leave out --model",
    "--arrays a.npy,c.npy": r"\[60, 24\].*\[60, 5\].*one shape",
    "--arrays a.npy,none.npy": "none.npy.*No such file",
    "--arrays nan.npy,b.npy": "NaN or infinite",
    "--arrays a.npy,a.npy": "all 60 rows are equal",
    "--arrays short.npy,short.npy": "0 of 3 pairs would be held out",
    "--arrays text.npy,b.npy": "text.npy.* has values of type <U1",
    "--arrays a.npy,b.npy --columns a=x,b=y": "--columns would be ignored without DATA",
    "few.jsonl --arrays short.npy,short.npy": "--arrays has 3 rows, and few.jsonl 60; give one for each",
    "one.jsonl --arrays a.npy,b.npy": "--arrays has 60 rows, and one.jsonl 1; give one for each",
    "--arrays a.npy,b.npy --reading last --max-tokens 9": "--reading and --max-tokens would be ignored without a model",
    "--arrays a.npy,b.npy --d-sae 999": "d_sae=999 must be at most 192",
    # a fit
    "flip missing --axis 0 --out n.jsonl": "missing/pairs.json is missing",
    "flip bad_json --axis 0 --out n.jsonl": "bad_json.*fit the pairs again",
    "flip bad_codes --axis 0 --out n.jsonl": "bad_codes.*fit the pairs again",
    "flip bare --axis 0 --out n.jsonl": "the file of the pairs of bare is missing",
    "flip gone --axis 0 --out n.jsonl": "gone.jsonl",
    "flip changed --axis 0 --out n.jsonl": "changed.jsonl has changed since changed was written",
    "drop out --axis 6 --out n.jsonl": "axis=6 must be at least 0 and below 6",
    "drop out --axis 0 --above 999 --out n.jsonl": "no pair is on axis 0 .* lower --above",
    "drop out --axis 0 --out n.txt": "ending='.txt' must be one of",
    "drop out --axis 0 --out few.jsonl": "few.jsonl exists",
    f"label out {LABEL}": "127.0.0.1:9 gave no answer",
    f"label bare {LABEL}": "the file of the pairs of bare is missing",
    "concepts --model no/such-model": "no/such-model",
    "concepts --model lm --d-sae 999": "d_sae=999 must be at most 256",
}


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory, tiny_llama: Path) -> Path:
    """A folder with data, models and fits, some of them damaged."""
    root = tmp_path_factory.mktemp("bad")
    shutil.copytree(tiny_llama, root / "lm")
    shutil.move(save_sentence_model(root / "made"), root / "sentences")
    a, b, *_ = planted(N)
    bad = a.copy()
    bad[7, 0] = np.nan
    for name, array in (("a", a), ("b", b), ("c", b[:, :5]), ("nan", bad), ("short", a[:3])):
        np.save(root / f"{name}.npy", array.astype(np.float32))
    np.save(root / "text.npy", np.array([["x"]] * N))
    many = [{"a": f"x {i}", "b": f"y {i}"} for i in range(N)]
    write_rows(root / "one.jsonl", [{"a": "x", "b": "y"}])
    write_rows(root / "same_prompt.jsonl", [{"prompt": "p"} | each for each in many])
    (root / "empty.jsonl").touch()
    (root / "full").mkdir()
    (root / "full" / "x").touch()
    (root / "file").touch()
    arrays = f"{root / 'a.npy'},{root / 'b.npy'}"
    with pytest.MonkeyPatch.context() as short:
        short.setattr("sae_lens_abstopk.pairs.fitting.MOST_STEPS", 120)
        for name, fit in (("few", "out"), ("changed", "changed"), ("gone", "gone")):
            write_pairs(root / f"{name}.jsonl", N)
            done = invoke("pairs", str(root / f"{name}.jsonl"), "--arrays", arrays, *SIZES, "--out", str(root / fit))
            assert done.exit_code == 0, done.output
        assert invoke("pairs", "--arrays", arrays, *SIZES, "--out", str(root / "bare")).exit_code == 0
    with (root / "changed.jsonl").open("a") as file:
        file.write(json.dumps({"prompt": "p", "response_a": "x", "response_b": "y", "label": 1}) + "\n")
    (root / "gone.jsonl").unlink()
    for name in ("bad_json", "bad_codes"):
        shutil.copytree(root / "out", root / name)
    (root / "bad_json" / "pairs.json").write_text("{")
    (root / "bad_codes" / "codes.parquet").write_bytes(b"x")
    return root


@pytest.mark.parametrize("arguments", MISTAKES)
def test_a_mistake_gets_one_sentence(arguments: str, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(work)
    monkeypatch.setattr(AnswerReader, "__call__", lambda *_: pytest.fail("a text was embedded"))
    before = sorted(work.rglob("*"))
    done = invoke("pairs", *arguments.split())
    assert done.exit_code in (1, 2), done.output
    assert isinstance(done.exception, SystemExit), repr(done.exception)
    (said,) = (line for line in done.output.splitlines() if line.startswith("error: "))
    assert re.search(MISTAKES[arguments], said), said
    assert sorted(work.rglob("*")) == before
