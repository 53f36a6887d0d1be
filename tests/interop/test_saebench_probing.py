"""Sparse probing and targeted probe perturbation of a mirrored SAE, against the same things done on signed codes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from sae_lens import SAE
from sklearn.linear_model import LogisticRegression

from sae_lens_abstopk.equivalents.mirror import mirror
from sae_lens_abstopk.evaluation.tasks.load_task import load_task
from sae_lens_abstopk.interop.saebench import SaeBenchResult, run_saebench
from sae_lens_abstopk.interop.saebench_evals import saebench_patches
from sae_lens_abstopk.interop.saebench_input import ClassSet, class_set
from sae_lens_abstopk.model.model_passes import ModelPasses
from sae_lens_abstopk.model.text_batches import ReadingRules, text_batches
from sae_lens_abstopk.model.token_filter import TokenFilter
from tests.interop.conftest import BLOCKS, LAYER, F

pytestmark = pytest.mark.interop
TASKS = ("gender", "size")


@pytest.fixture(scope="module")
def results(signed_folder: Path, texts: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, SaeBenchResult]:
    out = tmp_path_factory.mktemp("probing")
    found = run_saebench(signed_folder, out=out, evals=["sparse_probing", "tpp"], text=str(texts), tasks=TASKS)
    return {result.evaluation: result for result in found}


@torch.no_grad()
def mean_codes(passes: ModelPasses, sae: SAE[Any], texts: list[str]) -> torch.Tensor:
    """Mean signed codes of texts, read as this package reads them: a BOS in front that is context only."""
    tokenizer: Any = passes.model.tokenizer
    rules = ReadingRules(True, TokenFilter())
    found = torch.zeros(len(texts), 2 * F)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sae_lens_abstopk.model.text_batches.MAX_LENGTH", 128)
        for batch in text_batches(passes, tokenizer, texts, rules=rules):
            for row, x, kept in zip(batch.rows, batch.activations, batch.kept, strict=True):
                codes = sae.encode(x[kept])
                found[row] = torch.cat([codes.relu(), (-codes).relu()], dim=-1).mean(0)
    return found


def activations(passes: ModelPasses, texts: ClassSet) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Activations [texts, 128, d_in] of train and test as SAEBench collects them, 0 at what it masks."""
    from sae_bench.evals.sparse_probing.eval_config import SparseProbingEvalConfig
    from sae_bench.evals.sparse_probing.main import get_dataset_activations

    with saebench_patches(passes.model, [texts]):
        return get_dataset_activations(texts.name, SparseProbingEvalConfig(), passes.model, 32, LAYER, BLOCKS, "cpu")


def test_the_best_pole_by_saebench_has_the_accuracy_that_signed_codes_give(
    results: dict[str, SaeBenchResult], passes: ModelPasses, signed: SAE[Any]
) -> None:
    signed.fold_W_dec_norm()
    expected = []
    for task in TASKS:
        texts = class_set(load_task(task))
        train, test = ({name: poles(signed, x) for name, x in by.items()} for by in activations(passes, texts))
        for name, rows in texts.train.items():
            # a code close to the threshold may be on in one of two batches and off in the other
            assert (train[name] - mean_codes(passes, signed, rows)).abs().mean() < 1e-4
        (a, b), (c, d) = train.values(), test.values()
        best = (a.mean(0) - b.mean(0)).abs().argmax()
        labels, held_out = [1] * len(a) + [0] * len(b), [1] * len(c) + [0] * len(d)
        probe = LogisticRegression(max_iter=1000).fit(torch.cat([a, b])[:, [best]].numpy(), labels)
        expected.append(probe.score(torch.cat([c, d])[:, [best]].numpy(), held_out))
    found = results["sparse_probing"].metrics["sae"]["sae_top_1_test_accuracy"]
    assert found == pytest.approx(sum(expected) / len(expected), abs=1e-6)


@torch.no_grad()
def poles(sae: SAE[Any], x: torch.Tensor) -> torch.Tensor:
    """Mean over the tokens that are not masked of [relu(z), relu(-z)], from signed codes."""
    real = (x.sum(-1) != 0).float()[..., None]
    codes = sae.encode(x) * real
    return torch.cat([codes.relu(), (-codes).relu()], dim=-1).sum(1) / real.sum(1)


def test_every_result_is_in_the_format_of_saebench(results: dict[str, SaeBenchResult]) -> None:
    from sae_bench.evals.scr_and_tpp.eval_output import TppEvalOutput
    from sae_bench.evals.sparse_probing.eval_output import SparseProbingEvalOutput
    from sae_bench.sae_bench_utils.testing_utils import validate_eval_output_format_file

    validate_eval_output_format_file(str(results["sparse_probing"].file), SparseProbingEvalOutput)
    validate_eval_output_format_file(str(results["tpp"].file), TppEvalOutput)
    assert results["tpp"].metrics["tpp_metrics"].keys() >= {"tpp_threshold_2_total_metric"}


@pytest.fixture(scope="module")
def by_class(passes: ModelPasses) -> dict[str, torch.Tensor]:
    """Activations [texts, tokens, d_in] of two classes; no token is masked."""
    tokens = torch.randint(2, 300, (2, 12, 10), generator=torch.Generator().manual_seed(0))
    return {"a": passes.activations(tokens[0]), "b": passes.activations(tokens[1] // 3 + 2)}


class OneDirection:
    """A probe whose weight is given, as SAEBench's have it."""

    def __init__(self, weight: torch.Tensor) -> None:
        self.net = torch.nn.Linear(len(weight), 1)
        self.net.weight.data = weight[None]


def effects(
    sae: SAE[Any], weight: torch.Tensor, by_class: dict[str, torch.Tensor], *, scr: bool = False
) -> torch.Tensor:
    from sae_bench.evals.scr_and_tpp.main import get_effects_per_class_precomputed_acts

    torch.manual_seed(0)
    probe: Any = OneDirection(weight)
    if scr:
        by_class = {"male / female": by_class["a"], "female_data_only": by_class["b"]}
    return get_effects_per_class_precomputed_acts(sae, probe, next(iter(by_class)), by_class, scr, 8)


def test_tpp_finds_the_effect_of_each_pole_and_without_the_mirror_that_of_positive_ones_alone(
    by_class: dict[str, torch.Tensor], signed: SAE[Any], passes: ModelPasses
) -> None:
    weight = torch.randn(32, generator=torch.Generator().manual_seed(1))
    codes = {name: signed.encode(x) for name, x in by_class.items()}
    toward = [{name: (sign * z).relu().mean((0, 1)) for name, z in codes.items()} for sign in (1, -1)]
    means = torch.stack([side["a"] - side["b"] for side in toward]).clamp(min=0)
    expected = torch.cat([means[0] * (signed.W_dec @ weight), -means[1] * (signed.W_dec @ weight)])
    with saebench_patches(passes.model):
        mirrored, as_is = effects(mirror(signed), weight, by_class), effects(signed, weight, by_class)
    torch.testing.assert_close(mirrored, expected, rtol=1e-4, atol=1e-5)
    by_negative_pole = (means[1] > 0) & (codes["a"].mean((0, 1)) < codes["b"].mean((0, 1)))
    assert by_negative_pole.any()
    assert not as_is[by_negative_pole].any(), "what a negative pole stands for has no effect"
    assert mirrored[F:][by_negative_pole].any()


def test_scr_finds_a_latent_by_whichever_pole(
    by_class: dict[str, torch.Tensor], signed: SAE[Any], passes: ModelPasses
) -> None:
    weight = torch.randn(32, generator=torch.Generator().manual_seed(1))
    with saebench_patches(passes.model):
        as_is = effects(signed, weight, by_class, scr=True)
    difference = signed.encode(by_class["a"]).mean((0, 1)) - signed.encode(by_class["b"]).mean((0, 1))
    torch.testing.assert_close(as_is, (difference * (signed.W_dec @ weight)).abs(), rtol=1e-4, atol=1e-5)


def test_ablating_a_mirrored_latent_takes_its_pole_away_and_leaves_the_other(
    by_class: dict[str, torch.Tensor], signed: SAE[Any]
) -> None:
    from sae_bench.evals.scr_and_tpp.main import ablated_precomputed_activations

    x, codes = by_class["a"], signed.encode(by_class["a"])
    latent = int((codes < 0).sum((0, 1)).argmax())
    mask = torch.zeros(2 * F, dtype=torch.bool)
    mask[F + latent] = True
    found = ablated_precomputed_activations(x, mirror(signed), mask, 8)
    expected = x - codes[..., [latent]].clamp(max=0) * signed.W_dec[latent]
    torch.testing.assert_close(found, expected.mean(1), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(found, x.mean(1))
