"""A model in which a concept is planted: a direction that is the difference of two tokens' rows in the unembedding."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any, NamedTuple

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from sae_lens_abstopk import ConfigError, SignedJumpReLUSAE
from sae_lens_abstopk.evaluation.steering.dose_response import (
    DoseResponse,
    LatentChoice,
    choose_latent,
    dose_response,
    split_prompts,
)
from sae_lens_abstopk.evaluation.steering.doses import NEUTRAL_TEXTS, DoseMeter, DoseOptions, first_tokens
from sae_lens_abstopk.evaluation.steering.interventions import Intervention, equal_norm_interventions
from sae_lens_abstopk.evaluation.steering.latent_scale import latent_scale
from sae_lens_abstopk.evaluation.tasks.task import Scorer, TaskSteering
from sae_lens_abstopk.model.generation import TextModel, TokenBatch
from sae_lens_abstopk.model.token_filter import TokenFilter
from tests.conftest import VOCABULARY
from tests.evaluation.steerable import random_tokens, signed_sae, topk_sae

PLANTED, HOOK = 5, "model.layers.2"
PROMPTS = (
    "The old lighthouse keeper",
    "Every night",
    "They left before the end of",
    "A glacier forms where",
    "We loved the film, but",
    "Snow falls and",
    "The river",
    "Nobody had",
)


class Planted(NamedTuple):
    model: LlamaForCausalLM
    sae: SignedJumpReLUSAE
    part: TaskSteering
    direction: torch.Tensor


@pytest.fixture(scope="module")
def planted(tokenizer: PreTrainedTokenizerFast) -> Planted:
    """Latent 5 of the SAE reads and writes the difference between the tokens of " the" and of " he"."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
    sizes |= {"vocab_size": VOCABULARY, "intermediate_size": 48}
    model: Any = LlamaForCausalLM(LlamaConfig(**sizes, pad_token_id=1, bos_token_id=0, eos_token_id=1)).eval()
    model.tokenizer = tokenizer
    tokens = ((" he",), (" the",))
    (he,), (the,) = first_tokens(tokenizer, tokens)
    model.lm_head.weight.data *= 30
    rows = model.lm_head.weight.detach()
    direction = (rows[the] - rows[he]) / (rows[the] - rows[he]).norm()
    sae = signed_sae(HOOK, seqpos_slice=(1, None))
    sae.W_enc.data[:, PLANTED], sae.W_dec.data[PLANTED] = direction, direction
    sae.b_enc.data[PLANTED] = 0
    sae.b_dec.data.zero_()
    scorer = Scorer(kind="words", patterns=(("he",), ("the",)))
    return Planted(model, sae, TaskSteering(prompts=PROMPTS, tokens=tokens, scorer=scorer, chat=False), direction)


@pytest.fixture(scope="module")
def measured(planted: Planted) -> DoseResponse:
    scales = latent_scale(
        planted.model, planted.sae, [random_tokens(8, 16)], latents=[PLANTED], token_filter=TokenFilter((1, None))
    )
    interventions = equal_norm_interventions(
        planted.sae, latent=PLANTED, scale=scales, difference_in_means=3 * planted.direction, n_random=2
    )
    options = DoseOptions(max_new_tokens=6, budget=10)
    return dose_response(planted.model, planted.sae, planted.part, interventions, options=options)


def mean_log_odds(measured: DoseResponse, intervention: str) -> list[float]:
    """Mean change of the log-odds on test at each strength, ascending."""
    return [dose.log_odds - measured.baseline.means.log_odds for dose in measured.records[intervention].doses]


def test_the_planted_direction_moves_the_log_odds_monotonically_both_ways(measured: DoseResponse) -> None:
    latent, direction, clamp = (mean_log_odds(measured, name) for name in ("latent", "difference_in_means", "clamp"))
    assert len(latent) == 9
    assert (latent, clamp) == (sorted(latent), sorted(clamp))
    assert latent[0] < -1 < 1 < latent[-1]
    assert latent == pytest.approx(direction, rel=1e-4), "the same direction as a latent and as a vector"
    assert latent[4] == 0 != clamp[4], "to clamp to 0 is to ablate"
    for effect, *random in zip(latent, *(mean_log_odds(measured, f"random_{i}") for i in range(2)), strict=True):
        assert sum(map(abs, random)) / 2 <= 0.4 * abs(effect), "of equal norm"


def test_a_symmetric_latent_is_found_symmetric_and_text_and_cost_follow_the_dose(measured: DoseResponse) -> None:
    effects = mean_log_odds(measured, "latent")
    assert effects[5:] == pytest.approx([-minus for minus in reversed(effects[:4])], rel=0.11)
    record, unsteered = measured.records["latent"], measured.baseline.means
    assert record.symmetry.value > 0.7  # at 4, as neither direction costs the budget
    assert record.towards_a.log_odds.low > 0
    assert record.towards_b.log_odds.low > 0
    low, *_, high = record.doses
    assert (low.score or 0) < 0 < (high.score or 0)
    texts = measured.doses["latent"][-1].texts
    assert [len(samples) for samples in texts] == [3] * 4
    assert high.text == texts[0][0]
    for dose in (low, high):
        assert dose.generated_nll > unsteered.generated_nll
        assert dose.neutral_nll != unsteered.neutral_nll


def briefly(planted: Planted, scale: float, *, given: dict[str, Any] | None = None, **options: Any) -> DoseResponse:
    """The planted latent added and clamped, with little generated text."""
    both = [Intervention("latent", "add", scale, PLANTED), Intervention("clamp", "clamp", scale, PLANTED)]
    options = {"options": DoseOptions(max_new_tokens=2, samples=1, **options)}
    return dose_response(planted.model, planted.sae, planted.part, both, **options, **given or {})


def test_doses_are_measured_once_each(planted: Planted) -> None:
    progress: list[tuple[int, ...]] = []
    briefly(planted, 0.05, strengths=[1, 2], given={"on_progress": lambda *done: progress.append(done)})
    # the baseline; of each intervention four doses and two matched ones; of the clamp, 0 as well
    assert progress == [(i, 14) for i in range(1, 15)]


def test_at_matched_strength_the_neutral_cost_is_the_budget_whatever_the_prompts(planted: Planted) -> None:
    strengths = []
    for prompts in (PROMPTS, PROMPTS[:4]):
        other = planted._replace(part=replace(planted.part, prompts=prompts))
        found = briefly(other, 1.0, strengths=[20], budget=0.02)
        effects = [effect for one in found.records.values() for effect in (one.towards_a, one.towards_b)]
        strengths.append([effect.strength for effect in effects])
        reached = [effect for effect in effects if effect.reached and effect.strength]
        assert reached
        assert all(effect.neutral_cost.value == pytest.approx(0.02, rel=0.02) for effect in reached)
    assert strengths[0] == strengths[1]


@pytest.mark.parametrize("bos", [True, False])
def test_the_latent_is_chosen_on_val_and_all_else_measured_on_test_with_the_bos_of_the_sae(
    bos: bool, planted: Planted, bos_tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, counts, encode = list[str](), set[int](), TextModel.encode

    def watched(self: TextModel, texts: Sequence[str], **of: Any) -> TokenBatch:
        batch = encode(self, texts, **of)
        read.extend(texts)
        counts.update(row.count(bos_tokenizer.bos_token_id) for row in batch.ids.tolist())
        return batch

    monkeypatch.setattr(TextModel, "encode", watched)
    monkeypatch.setattr(planted.sae.cfg.metadata, "prepend_bos", bos)
    choose_latent(planted.model, planted.sae, planted.part, [PLANTED], lambda _: 1.0, tokenizer=bos_tokenizer)
    assert read == list(split_prompts(PROMPTS).val)
    read.clear()
    briefly(planted, 1.0, strengths=[1], given={"tokenizer": bos_tokenizer})
    assert read == [*split_prompts(PROMPTS).test, *NEUTRAL_TEXTS]
    assert sorted({*split_prompts(PROMPTS).val, *split_prompts(PROMPTS).test}) == sorted(PROMPTS)
    assert counts == {int(bos)}


@pytest.mark.parametrize("normalisation", ["none", "layer_norm", "constant_norm_rescale"])
def test_latent_and_directions_add_the_same_norm_to_every_token(normalisation: str) -> None:
    sae = topk_sae(normalize_activations=normalisation)
    x = 3 * torch.randn(5, 32, generator=torch.Generator().manual_seed(0))
    compared = equal_norm_interventions(sae, latent=3, scale=2.0, difference_in_means=torch.arange(32.0), n_random=1)
    norms = {each.name: (each.edit(sae, 1.5)(x) - x).norm(dim=1) for each in compared if each.operator == "add"}
    assert norms.keys() == {"latent", "difference_in_means", "random_0"}
    for norm in norms.values():
        torch.testing.assert_close(norm, norms["latent"], rtol=1e-4, atol=1e-4)
    assert (len(norms["latent"].round(decimals=3).unique()) > 1) == (normalisation != "none")


def test_the_latent_that_steers_is_chosen_among_candidates_at_which_the_model_does_not_overflow(
    planted: Planted, monkeypatch: pytest.MonkeyPatch
) -> None:
    def choose(*candidates: int) -> LatentChoice:
        return choose_latent(planted.model, planted.sae, planted.part, candidates, lambda _: 2.0)

    found = choose(3, PLANTED, 9, 11)
    assert (found.latent, found.orientation, found.scale) == (PLANTED, 1, 2.0)
    assert max(abs(e) for e in found.effects) == found.effects[1]
    monkeypatch.setattr(planted.sae.W_dec, "data", planted.sae.W_dec.data.clone())
    planted.sae.W_dec.data[PLANTED] *= -1
    flipped = choose(3, PLANTED)
    assert (flipped.latent, flipped.orientation) == (PLANTED, -1)
    measured = DoseMeter.log_odds

    def log_odds(self: DoseMeter, intervention: Intervention, strength: float) -> tuple[float, ...]:
        return (float("nan"),) if intervention.latent == 3 else measured(self, intervention, strength)

    monkeypatch.setattr(DoseMeter, "log_odds", log_odds)
    assert choose(3, PLANTED).latent == PLANTED
    with pytest.raises(ConfigError, match=r"not finite .*bfloat16"):
        choose(3)


@pytest.mark.parametrize(
    ("hook", "tokens", "sentence"),
    [
        ("model.layers.9", ((" he",), (" the",)), "model.layers.0 to model.layers.2"),
        (HOOK, ((" he",), (" he is",)), "steering.tokens.* both poles"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_runs(
    hook: str, tokens: Any, sentence: str, planted: Planted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planted.model.model, "forward", lambda *_, **__: pytest.fail("the model was run"))
    monkeypatch.setattr(planted.sae.cfg.metadata, "hook_name", hook)
    with pytest.raises(ConfigError, match=sentence):
        dose_response(planted.model, planted.sae, replace(planted.part, tokens=tokens), [])


def test_the_token_of_a_word_is_the_one_that_follows_a_prompt(
    tokenizer: PreTrainedTokenizerFast, bos_tokenizer: PreTrainedTokenizerFast
) -> None:
    words = ((" he", "he", "\n\nhe"), (" the", "the", "  the"))
    alone = tokenizer([*words[0], *words[1]], add_special_tokens=False)["input_ids"]
    assert first_tokens(tokenizer, words) == tuple(sorted({row[0] for row in rows}) for rows in (alone[:3], alone[3:]))
    joining = deepcopy(bos_tokenizer)
    joining.add_tokens(["\n\n"])
    he, newline = tokenizer("he\n")["input_ids"]
    assert first_tokens(joining, (("he",), ("\n",))) == ([he], [newline])
    # as of Llama 2, which begins every text with a space
    pieces = ["<unk>", "▁", "\n", "▁true", "▁false"]
    with_space = Tokenizer(models.Unigram([(piece, -1.0) for piece in pieces], unk_id=0))
    with_space.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    llama = PreTrainedTokenizerFast(tokenizer_object=with_space)
    assert llama(" true")["input_ids"] == [1, 3]
    assert first_tokens(llama, ((" true",), (" false",))) == ([3], [4])


def test_the_token_of_an_answer_is_the_one_that_follows_the_chat_prompt() -> None:
    """Llama 2 and Mistral answer with a space in front, whatever the list of words has."""
    pieces = ["<unk>", "[I]", "[/I]", "▁Sure", "▁No", "Sure", "No", "▁", "\n"]
    model = Tokenizer(models.Unigram([(piece, -1.0) for piece in pieces], unk_id=0))
    model.normalizer = normalizers.Replace(" ", "▁")
    tokenizer, words = PreTrainedTokenizerFast(tokenizer_object=model), (("Sure",), ("No",))
    turn = "{% if m['role'] == 'user' %}[I]{{ m['content'] }}[/I]{% else %} {{ m['content'] }}{% endif %}"
    tokenizer.chat_template = f"{{% for m in messages %}}{turn}{{% endfor %}}"
    assert first_tokens(tokenizer, words) == ([5], [6])
    assert first_tokens(tokenizer, words, chat=True) == ([3], [4])
    tokenizer.chat_template += "{% if add_generation_prompt %}[I]{% endif %}"
    assert first_tokens(tokenizer, words, chat=True) == ([5], [6]), "a turn that was given is written otherwise"
