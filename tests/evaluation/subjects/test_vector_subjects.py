"""SAEs of vectors are measured on the rows that their run held out, or on other vectors, and wrong input is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sae_lens import SAE

from sae_lens_abstopk import ConfigError
from sae_lens_abstopk.evaluation.inspection.inspect_saes import inspect_saes
from sae_lens_abstopk.evaluation.reports.reconstruction_tables import reconstruction_table
from sae_lens_abstopk.evaluation.results.merging import merge_results
from sae_lens_abstopk.evaluation.results.records import ReconstructionRecord
from sae_lens_abstopk.evaluation.results.schema import read_results
from sae_lens_abstopk.evaluation.subjects.measured import load_measured
from sae_lens_abstopk.evaluation.subjects.pole_measurement import measure_poles
from sae_lens_abstopk.evaluation.subjects.subjects import open_subjects
from sae_lens_abstopk.model.reconstruction import ReconstructionSums
from sae_lens_abstopk.system.yaml_files import yaml_document
from sae_lens_abstopk.vectors.embedding import Embedder
from tests.cli.test_cli import invoke
from tests.evaluation.vector_saes import EVERY, Planted, planted, save_sae
from tests.sentence_model import D_IN, WORDS, save_sentence_model


@pytest.fixture(scope="module")
def on_disk(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    return planted(tmp_path_factory.mktemp("vectors"))


def test_numbers_and_examples_are_those_of_the_held_out_rows(on_disk: Planted) -> None:
    held_out = torch.arange(EVERY - 1, len(on_disk.codes), EVERY)
    found = inspect_saes(on_disk.sae)
    (record,) = found.results.reconstruction.values()
    assert (record.tokens, found.results.held_out, found.results.text) == (
        len(held_out),
        True,
        "x.parquet,column=vector",
    )
    sae, sums = SAE.load_from_disk(on_disk.sae), ReconstructionSums()
    x = load_measured(on_disk.sae).vectors.rows(held_out)
    sums.update(x, sae(x), sae.encode(x))
    assert record.fvu == pytest.approx(sums.fvu())
    assert record.fvu < 0.01
    codes = on_disk.codes[held_out]
    assert record.l0 == pytest.approx(int((codes != 0).sum()) / len(codes))
    assert record.loss is None
    (contexts,) = found.on_text.contexts.values()
    for pole, best in ((0, codes[:, 3].argmax()), (1, codes[:, 3].argmin())):
        strongest = contexts.of(3, pole)[0]
        assert strongest.token == held_out[best]
        assert strongest.code == pytest.approx(float(codes[best, 3]), abs=0.05)


def test_an_sae_with_more_active_latents_is_not_better_at_the_lowest_l0(on_disk: Planted, tmp_path: Path) -> None:
    strict: Any = SAE.load_from_disk(on_disk.sae)
    strict.threshold.data.fill_(1.7)
    strict.save_model(tmp_path / "strict")
    alone = inspect_saes(str(tmp_path / "strict")).results.reconstruction
    assert [record.fvu_at_lowest_l0 for record in alone.values()] == [None]
    again = [ReconstructionRecord.model_validate_json(record.model_dump_json()) for record in alone.values()]
    assert again == [*alone.values()]

    results = inspect_saes({"loose": on_disk.sae, "strict": str(tmp_path / "strict")}).results
    loose, strict_record = results.reconstruction["loose"], results.reconstruction["strict"]
    assert loose.l0 > 1.3 * strict_record.l0
    assert loose.fvu < 0.2 * strict_record.fvu
    assert loose.fvu_at_lowest_l0 == pytest.approx(strict_record.fvu, rel=1e-3)
    assert strict_record.fvu_at_lowest_l0 == pytest.approx(strict_record.fvu, rel=1e-3)
    table = reconstruction_table(merge_results([results])).shown()
    assert [row["FVU, lowest L0"] for row in table.rows] == [f"{strict_record.fvu:.4f}"] * 2
    assert "L0 differs" in table.note
    assert "FVU, lowest L0: with as many codes" in table.note


def test_groups_and_other_vectors_decide_the_rows(on_disk: Planted, tmp_path: Path) -> None:
    directions = SAE.load_from_disk(on_disk.sae).W_dec.detach()
    data = str(on_disk.folder / "x.parquet")
    save_sae(tmp_path / "grouped", directions, dataset_path=data, group="writer")
    rows = torch.cat(load_measured(str(tmp_path / "grouped")).batches(1000))[:, 0]
    assert {int(row) // 5 % EVERY for row in rows} == {EVERY - 1}
    assert not load_measured([on_disk.sae, str(tmp_path / "grouped")]).held_out, "each trained on rows of the other"
    np.save(tmp_path / "other.npy", torch.randn(30, directions.shape[1]).numpy())
    other = load_measured(on_disk.sae, data=tmp_path / "other.npy")
    assert (other.text_name, other.held_out, len(other.batches(1000)[0])) == ("other.npy", False, 30)
    assert other.text_of(7) == "row 7"
    # a run that began with the weights of another may have seen every row
    config = {"source": "vectors", "sae": {}, "dataset_path": data, "column_name": "vector", "held_out_every": EVERY}
    save_sae(tmp_path / "warm", directions, dataset_path=data)
    for path, held_out in (None, True), ("elsewhere", False):
        (tmp_path / "warm" / "config.yaml").write_text(yaml_document(config | {"from_pretrained_path": path}))
        assert load_measured(str(tmp_path / "warm")).held_out is held_out


def test_poles_are_counted_as_of_a_language_model(on_disk: Planted) -> None:
    held_out = on_disk.codes[EVERY - 1 :: EVERY]
    assert measure_poles(on_disk.sae).counts.tolist() == [
        (held_out > 0).sum(0).tolist(),
        (held_out < 0).sum(0).tolist(),
    ]


def test_the_command_shows_rows_of_both_poles(on_disk: Planted, tmp_path: Path) -> None:
    shown = invoke("inspect", on_disk.sae, "--latents", "2", "--out", str(tmp_path / "i.json"))
    assert shown.exit_code == 0, shown.output
    assert "40 held-out rows of x.parquet" in shown.output
    assert "recov" not in shown.output
    assert "text " in shown.output
    assert "**" not in shown.output
    results = read_results(tmp_path / "i.json")
    assert (results.model, results.hook, results.kept_tokens) == ("", "vectors", None)
    assert results.examples["sae"][0].token.startswith("text ")
    named = invoke("inspect", on_disk.sae, "--show", "writer", "--data", str(on_disk.folder / "x.parquet"))
    assert "400 rows of x.parquet" in named.output
    assert "writer " in named.output


def test_texts_are_embedded_by_the_model_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ABSTOPK_CACHE", str(tmp_path / "cache"))
    model, texts = save_sentence_model(tmp_path), [" ".join(WORDS[i % 13 :]) for i in range(40)]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps({"body": text}) + "\n" for text in texts))
    recorded = {"dataset_path": str(tmp_path / "t.jsonl"), "column_name": "body", "model_name": str(model)}
    save_sae(tmp_path / "sae", torch.eye(D_IN), **recorded)
    found = inspect_saes(str(tmp_path / "sae"))
    assert (found.results.model, found.results.text, found.results.unit) == ("model", "t.jsonl,column=body", "rows")
    (contexts,) = found.on_text.contexts.values()
    x = Embedder(str(model), device="cpu")(texts[EVERY - 1 :: EVERY])
    codes = SAE.load_from_disk(str(tmp_path / "sae")).encode(x)
    assert contexts.fires.tolist() == [(codes > 0).sum(0).tolist(), (codes < 0).sum(0).tolist()]
    assert int(contexts.fires.sum()) > 0
    assert found.text_of(EVERY - 1) == texts[EVERY - 1]
    np.save(tmp_path / "x.npy", x.numpy())
    assert load_measured(str(tmp_path / "sae"), data=tmp_path / "x.npy").model_name == "", "an array holds vectors"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"data": "narrow.npy"}, r"narrow\.npy' is 3 wide, and sae takes 12"),
        ({"data": "none.npy"}, r"none\.npy'? is missing .*No such file"),
        ({"data": "x.parquet,column=mood"}, "mood"),
        ({"data": "x.parquet,colour=vector"}, "'colour=vector' is not understood"),
        ({"data": "nan.npy"}, "NaN or infinite values, first in row 4"),
        ({"show": "txt"}, "column='txt' .*did you mean 'text'"),
        ({"model": "gpt2", "text": "x"}, "--model and --text: these SAEs were trained on vectors"),
    ],
)
def test_what_cannot_be_measured_is_said_in_a_sentence(
    on_disk: Planted, options: dict[str, Any], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(on_disk.folder)
    x = np.ones((30, 12))
    np.save("narrow.npy", x[:, :3])
    x[4, 2] = np.nan
    np.save("nan.npy", x)
    with pytest.raises(ConfigError, match=sentence):
        load_measured("sae", **options)


def test_saes_of_the_other_kind_are_refused(on_disk: Planted, folders: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"vectors \(sae\) and on a language model \(.*topk"):
        load_measured([on_disk.sae, *folders])
    with pytest.raises(ConfigError, match="--data: these SAEs were trained on a language model"):
        load_measured(folders, data="x.npy")
    with pytest.raises(ConfigError, match="sae was trained on vectors, and this measures SAEs of one language model"):
        open_subjects(on_disk.sae)
    save_sae(tmp_path / "moved", torch.eye(4), dataset_path=str(tmp_path / "gone.npy"))
    with pytest.raises(ConfigError, match=r"gone\.npy.*No such file.* --data FILE"):
        load_measured(str(tmp_path / "moved"))
