"""Cells of the map on made-up vectors."""

import pytest
import torch

from experiments.map import run
from experiments.map.collect import sentence_means
from experiments.map.kinds import CHOOSING, REPORTED, KindVectors
from experiments.map.run import Cell, cells, run_cell
from sae_lens_abstopk.vectors.vector_spec import VectorSpec
from tests.experiments.map.conftest import K, N

pytestmark = pytest.mark.slow


def test_documents_are_in_one_part_each(vectors: KindVectors) -> None:
    spec = VectorSpec(dataset_path="made up")
    rows = [vectors.part(spec, "train"), vectors.numbers(CHOOSING), vectors.numbers(REPORTED)]
    assert [len(each) for each in rows] == [0.8 * N, 0.1 * N, 0.1 * N]
    documents = [set(vectors.document[each].tolist()) for each in rows]
    assert len(set.union(*documents)) == sum(map(len, documents)) == 60
    assert torch.equal(vectors.part(spec, "held_out"), rows[2])


@pytest.mark.parametrize("selection", ["batch", "vector"])
def test_a_cell_has_every_share_and_seed_at_one_l0(
    vectors: KindVectors, selection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "ROWS", 40 * run.BATCH)
    monkeypatch.setattr(run, "RATES", (1e-4, 1e-2))
    line = run_cell(Cell("made up", selection, 1.0, K), vectors, seeds=2)
    shares = (1.0, 0.125, 0.0) if selection == "batch" else (1.0, 0.0)
    found = {(each["share"], each["seed"]): each for each in line["saes"]}
    assert set(found) == {(share, seed) for share in shares for seed in range(2)}
    assert all(each["l0"] == pytest.approx(K, abs=0.4) for each in found.values())
    # the axes have signs
    assert found[1.0, 0]["fvu"] < found[0.0, 0]["fvu"] < 1
    assert {each["rate"] for each in line["saes"]} == {1e-2}
    assert set(line["stability"]) == set(map(str, shares))


def test_one_sided_saes_alone_are_trained_at_twice_a_width() -> None:
    found = cells(["kind"], selections=["batch"], widths=[0.25, 1], ks=[8])
    assert {cell.f_over_d: list(cell.shares) for cell in found} == {
        0.25: [1.0, 0.125, 0.0],
        0.5: [0.0],
        1: [1.0, 0.125, 0.0],
        2: [1.0, 0.125, 0.0],
    }


def test_means_are_of_whole_sentences() -> None:
    x = torch.arange(40.0).view(1, 20, 2)
    sentence = torch.tensor([[0] * 3 + [1] * 6 + [2] * 2 + [3] * 6 + [4] * 3])
    read = torch.ones(1, 20, dtype=torch.bool)
    read[0, 3] = False
    means, documents = sentence_means(x, read, sentence, torch.tensor([7]))
    # the second is too short, the first and the last are cut
    torch.testing.assert_close(means, torch.stack([x[0, 4:9].mean(0), x[0, 11:17].mean(0)]))
    assert documents.tolist() == [7, 7]
