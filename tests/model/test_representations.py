"""Streamed rows against texts run one by one, the token rules, flat memory, and what is refused."""

import gc
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sae_lens import TopKSAE, TopKSAEConfig
from sae_lens.load_model import HookedProxyLM, load_model
from sae_lens.saes.sae import SAEMetadata
from transformers import AutoConfig, AutoModelForCausalLM

from sae_lens_abstopk import ConfigError, SignedJumpReLUSAE, SignedJumpReLUSAEConfig
from sae_lens_abstopk.model.check_hook import most_positions
from sae_lens_abstopk.model.model_passes import ModelPasses
from sae_lens_abstopk.model.representations import represent
from sae_lens_abstopk.model.text_batches import ReadingRules
from sae_lens_abstopk.model.token_filter import TokenFilter
from tests.conftest import VOCABULARY
from tests.evaluation.steerable import HOOKS, model_of
from tests.saes.test_signed_saes import with_random_weights

HOOK = "model.layers.2"
TEXTS = [
    "The old lighthouse keeper had not spoken to anyone for three weeks.",
    "He promised.",
    "We loved the film, but they hated every minute of it and left before the end.",
    "A glacier forms where snow falls",
    "she walked to the river",
]
RULES = ReadingRules(prepend_bos=False, token_filter=TokenFilter(seqpos_slice=(1, None)))


@pytest.fixture(scope="module")
def passes(tiny_llama: Path) -> ModelPasses:
    return ModelPasses(load_model("AutoModelForCausalLM", str(tiny_llama), device="cpu", hook_names=[HOOK]), HOOK)


def saes(**metadata: Any) -> dict[str, Any]:
    record = SAEMetadata(**{"hook_name": HOOK, "prepend_bos": False, "seqpos_slice": (1, None)} | metadata)
    signed = SignedJumpReLUSAE(SignedJumpReLUSAEConfig(d_in=32, d_sae=64, metadata=record))
    with_random_weights(signed).threshold.data.fill_(0.3)
    topk = with_random_weights(TopKSAE(TopKSAEConfig(d_in=32, d_sae=48, k=8, metadata=record)))
    return {"signed": signed, "a/stock topk": topk}


def one_by_one(passes: ModelPasses, tokenizer: Any, text: str, bos: bool) -> torch.Tensor:
    """Activations of a text alone, without the BOS."""
    ids = [tokenizer.bos_token_id] * bos + tokenizer(text, add_special_tokens=False)["input_ids"]
    return passes.activations(torch.tensor([ids]))[0, int(bos) :]


@torch.no_grad()
@pytest.mark.parametrize("bos", [False, True])
@pytest.mark.parametrize("kind", ["tokenizer", "bos_tokenizer"])
def test_rows_are_those_of_texts_run_one_by_one(
    passes: ModelPasses, kind: str, bos: bool, request: pytest.FixtureRequest
) -> None:
    tokenizer = request.getfixturevalue(kind)
    made = saes(prepend_bos=bos, seqpos_slice=(1, None))
    markers = [(8, 18), (0, 2), (9, 17), (2, 9), (11, 13)]
    with represent(passes, tokenizer, made, TEXTS, reads=("last", "mean", "marked"), markers=markers) as found:
        assert found.n == 5
        assert found.d_sae == {"signed": 64, "a/stock topk": 48}
        for row, (text, (first, end)) in enumerate(zip(TEXTS, markers, strict=True)):
            x = one_by_one(passes, tokenizer, text, bos)
            kept = x if bos else x[1:]  # the BOS takes position 0
            offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
            place = max(i for i, (a, b) in enumerate(offsets) if a < end and b > first)
            for read, rows in {"last": x[-1:], "mean": kept, "marked": x[place : place + 1]}.items():
                expect(found.x(read)[row], rows.mean(0))
                for name, sae in made.items():
                    expect(found.codes(name, read)[row], sae.encode(rows).mean(0))


def expect(found: np.ndarray, expected: torch.Tensor) -> None:
    torch.testing.assert_close(torch.from_numpy(np.array(found)), expected, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("preset", HOOKS)
def test_every_class_of_model_is_read_the_same_in_any_batch(
    preset: str, tiny_models: dict[str, Path], tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = HOOKS[preset]
    model = load_model("AutoModelForCausalLM", str(tiny_models[preset]), device="cpu", hook_names=[hook]).eval()
    passes = ModelPasses(model, hook)
    for size in (1, 10_000):
        monkeypatch.setattr("sae_lens_abstopk.model.text_batches.BATCH_TOKENS", size)
        with represent(passes, tokenizer, {}, TEXTS, rules=RULES) as found:
            for row, text in enumerate(TEXTS):
                x = one_by_one(passes, tokenizer, text, bos=False)
                expect(found.x("last")[row], x[-1])
                expect(found.x("mean")[row], x[1:].mean(0))


def test_what_the_filter_leaves_out_is_not_read_and_is_counted(passes: ModelPasses, tokenizer: Any) -> None:
    full_stop = tokenizer(".", add_special_tokens=False)["input_ids"][0]
    rules = replace(RULES, token_filter=TokenFilter(seqpos_slice=(1, None), special_tokens=(full_stop,)))
    texts = ["We loved the film.", "We loved the film", "."]
    with represent(
        passes, tokenizer, {}, texts, reads=("last", "mean", "marked"), markers=[(17, 18), (0, 2), (0, 1)], rules=rules
    ) as found:
        first, alone = one_by_one(passes, tokenizer, texts[0], False), one_by_one(passes, tokenizer, ".", False)
        expect(found.x("last")[0], first[-2])
        expect(found.x("mean")[0], first[1:-1].mean(0))
        expect(found.x("marked")[0], first[-1])
        expect(found.x("mean")[2], alone[0])
        assert found.fallbacks._asdict() == {"unfiltered": 1, "marked_left_out": 2, "truncated": 0}
        assert found.left_out == (0, 2)


def test_tokens_of_massive_norm_are_left_out_however_large(passes: ModelPasses, tokenizer: Any) -> None:
    x = one_by_one(passes, tokenizer, TEXTS[0], False)
    norms = x.norm(dim=-1)
    limit = norms.sort().values[-3].item()
    rules = ReadingRules(False, TokenFilter(max_norm=limit * 1.0001))
    with represent(passes, tokenizer, {}, TEXTS[:1], reads=("mean",), rules=rules) as found:
        expect(found.x("mean")[0], x[norms <= limit * 1.0001].mean(0))


def test_a_slice_from_the_end_counts_from_the_end_of_each_text(passes: ModelPasses, tokenizer: Any) -> None:
    rules = ReadingRules(False, TokenFilter(seqpos_slice=(1, -2)))
    with represent(passes, tokenizer, {}, TEXTS, rules=rules) as found:
        for row, text in enumerate(TEXTS):
            expect(found.x("mean")[row], one_by_one(passes, tokenizer, text, False)[1:-2].mean(0))


def test_long_texts_are_cut_and_counted(passes: ModelPasses, tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sae_lens_abstopk.model.text_batches.MAX_LENGTH", 6)
    with represent(passes, tokenizer, {}, TEXTS, rules=RULES) as found:
        expect(found.x("last")[0], one_by_one(passes, tokenizer, TEXTS[0], False)[5])
        lengths = [len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in TEXTS]
        assert found.fallbacks.truncated == sum(length > 6 for length in lengths) > 0


@pytest.mark.parametrize("kind", ["gpt2", "hooked"])
def test_texts_are_cut_to_the_positions_that_a_model_knows(
    kind: str, tiny_models: dict[str, Path], tokenizer: Any
) -> None:
    model, hook = model_of("hooked", tiny_models), "blocks.3.hook_resid_post"
    if kind == "gpt2":
        hook = HOOKS["gpt2"]
        sizes: dict[str, Any] = {"n_positions": 64, "n_embd": 32, "n_layer": 5, "n_head": 2, "vocab_size": VOCABULARY}
        gpt2 = AutoModelForCausalLM.from_config(AutoConfig.for_model("gpt2", **sizes))
        model = HookedProxyLM(gpt2, tokenizer, hook_names=[hook])
    assert most_positions(model) == 64
    with represent(ModelPasses(model, hook), tokenizer, {}, ["word " * 200], rules=RULES) as found:
        assert found.fallbacks.truncated == 1


def test_a_text_whose_marked_word_is_cut_off_is_left_out(
    passes: ModelPasses, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sae_lens_abstopk.model.text_batches.MAX_LENGTH", 6)
    end = len(TEXTS[0])
    options: dict[str, Any] = {"reads": ("marked",), "markers": [(0, 2), (end - 1, end)], "rules": RULES}
    with represent(passes, tokenizer, {"x": Repeated()}, [TEXTS[0]] * 2, **options) as found:
        assert found.left_out == (1,)
        assert found.fallbacks.marked_left_out == 1
        assert np.isfinite(found.codes("x", "marked")).all()
        assert found.codes("x", "marked").shape == (2, 512)


class Repeated:
    """Codes [n, 512], from what is no SAELens SAE."""

    def encode(self, x: torch.Tensor, /) -> torch.Tensor:
        return x.repeat(1, 16)

    def decode(self, feature_acts: torch.Tensor, /) -> torch.Tensor:
        return feature_acts


def live_tensor_bytes() -> int:
    """Bytes behind all tensors that are alive, each storage once."""
    found = [thing.untyped_storage() for thing in gc.get_objects() if type(thing) is torch.Tensor]
    return sum({storage.data_ptr(): storage.nbytes() for storage in found}.values())


def test_memory_does_not_grow_with_the_number_of_texts(
    passes: ModelPasses, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sae_lens_abstopk.model.text_batches.WINDOW", 50)
    monkeypatch.setattr("sae_lens_abstopk.model.text_batches.BATCH_TOKENS", 128)

    def at_the_end(n: int) -> tuple[int, int]:
        """Peak of traced allocations (Python and NumPy), and bytes of tensors after the last batch."""
        texts, found = TEXTS * (n // len(TEXTS)), []

        def measure(done: int, total: int) -> None:
            if done == total:
                found.extend([tracemalloc.get_traced_memory()[1], live_tensor_bytes()])

        tracemalloc.start()
        try:
            represent(passes, tokenizer, {"sae": Repeated()}, texts, rules=RULES, on_progress=measure).close()
        finally:
            tracemalloc.stop()
        return found[0], found[1]

    at_the_end(100)  # what is made once and kept
    few, many = at_the_end(100), at_the_end(400)
    written = 300 * 2 * (32 + 512) * 4
    assert many[0] - few[0] < written / 10
    assert many[1] - few[1] < written / 10


def test_a_failure_half_way_leaves_no_temporary_files(
    passes: ModelPasses, tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    broken = saes()
    broken["signed"].b_enc.data[3] = torch.nan
    broken["signed"].threshold.data[3] = -1
    with pytest.raises(ConfigError, match="'signed' gives codes that are NaN or infinite"):
        represent(passes, tokenizer, broken, TEXTS)
    assert list(tmp_path.iterdir()) == []


def test_saes_that_cannot_share_a_pass_and_empty_texts_are_refused(passes: ModelPasses, tokenizer: Any) -> None:
    mixed = {"one": saes()["signed"], "other": saes(prepend_bos=True)["signed"]}
    with pytest.raises(ConfigError, match="trained on the same selection of tokens"):
        represent(passes, tokenizer, mixed, TEXTS)
    with pytest.raises(ConfigError, match=r"the text '' has no token"):
        represent(passes, tokenizer, {}, ["fine", ""], rules=RULES)


def test_too_small_a_disk_is_told_before_any_text_is_run(
    passes: ModelPasses, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 100}))
    with pytest.raises(ConfigError, match=r"representations needs .* 100 bytes free; .* larger disk by TMPDIR=FOLDER"):
        represent(passes, tokenizer, {}, TEXTS, rules=RULES)


def test_one_text_is_a_text_and_an_autocast_of_the_caller_changes_no_row(passes: ModelPasses, tokenizer: Any) -> None:
    made = saes(prepend_bos=False)
    with represent(passes, tokenizer, made, TEXTS[0]) as found:
        assert found.n == 1
        plain = np.array(found.codes("signed", "last"))
    with torch.autocast("cpu", dtype=torch.bfloat16), represent(passes, tokenizer, made, TEXTS[0]) as found:
        np.testing.assert_array_equal(found.codes("signed", "last"), plain)
