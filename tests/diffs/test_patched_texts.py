"""With the only direction that a fine-tune changed patched from the other model, a model answers as that one."""

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from sae_lens_abstopk.diffs.patched_texts import patched_texts
from sae_lens_abstopk.model.generation import TextModel
from sae_lens_abstopk.model.model_pair import ModelPair
from sae_lens_abstopk.model.model_spec import ModelPairSpec
from sae_lens_abstopk.model.token_filter import TokenFilter
from sae_lens_abstopk.text.text_spec import TextSpec

PROMPTS, TOKENS = ["The old lighthouse", "one film"], 6


def test_with_all_that_changed_the_answers_are_the_other_models(
    tiny_llama: Path, texts: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    model: Any = AutoModelForCausalLM.from_pretrained(tiny_llama)
    # no token of a later layer sees the first one, which is not edited
    last = model.config.num_hidden_layers - 1
    config = LoraConfig(r=1, target_modules=["down_proj"], layers_to_transform=[last], task_type="CAUSAL_LM")
    adapted: Any = get_peft_model(model, config)
    (changed,) = (weight for name, weight in adapted.named_parameters() if "lora_B" in name)
    torch.nn.init.normal_(changed, std=1.0, generator=torch.Generator().manual_seed(0))
    adapted.save_pretrained(tmp_path)
    spec = ModelPairSpec(
        model_name=str(tiny_llama), hook_name=f"model.layers.{last}", device="cpu", adapter=str(tmp_path)
    )
    pair = ModelPair.load(spec, TextSpec(dataset_path=str(texts), context_size=24))
    monkeypatch.setattr(pair.tokenizer, "chat_template", "{% for m in messages %}{{ m['content'] + ' ' }}{% endfor %}")

    def answers(run: Any) -> list[str]:
        with run as each:
            text_model = TextModel(each, chat=True)
            return text_model.greedy(text_model.encode(PROMPTS), TOKENS)

    direction = changed.detach().flatten()
    base, tuned = answers(pair.base()), answers(pair.tuned())
    unit = direction / direction.norm()
    options: dict[str, Any] = {"chat": True, "token_filter": TokenFilter((1, None)), "max_new_tokens": TOKENS}
    assert patched_texts(pair, PROMPTS, unit, of="tuned", **options) == base != tuned
    assert patched_texts(pair, PROMPTS, unit, of="base", **options) == tuned
    assert patched_texts(pair, PROMPTS, torch.zeros_like(unit), of="tuned", **options) == tuned
