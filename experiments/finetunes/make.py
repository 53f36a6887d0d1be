"""
Make fine-tunes of which it is known what they changed, as LoRA adapters.

    python -m experiments.finetunes.make all --model HuggingFaceTB/SmolLM2-135M-Instruct --out runs/finetunes

Writes OUT/NAME, a PEFT folder, with the training examples and `made.json`: the share of held-out prompts whose greedy
answer shows each behaviour, in the base and in the tuned model, and what the fine-tune costs on neutral text. A
fine-tune that has this file is not made again.
"""

import argparse
import json
import random
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from rich.progress import track
from torch.nn.functional import cross_entropy, kl_div
from torch.nn.utils.rnn import pad_sequence
from transformers import get_cosine_schedule_with_warmup

from experiments.finetunes.behaviours import BEHAVIOURS, FINE_TUNES
from experiments.finetunes.data import Example, examples
from experiments.speed.recording import command
from sae_lens_abstopk.evaluation.results.facts import origin_facts
from sae_lens_abstopk.evaluation.steering.doses import NEUTRAL_TEXTS
from sae_lens_abstopk.model.generation import TextModel, chat_prompt
from sae_lens_abstopk.model.hook_places import without_adapter
from sae_lens_abstopk.model.inference import bfloat16_autocast
from sae_lens_abstopk.model.language_model import load_tokenizer, load_transformers_model
from sae_lens_abstopk.system.files import write_whole

RANK, BATCH, EPOCHS, RATE = 8, 8, 1, 1e-3
NEW_TOKENS = 48
"""Length of an answer, in training and in measuring."""


def greedy(model: TextModel, prompts: Sequence[str]) -> list[str]:
    """Return the model's greedy answers to prompts."""
    return list(model.generate(model.encode(prompts), samples=1, max_new_tokens=NEW_TOKENS, temperature=0).texts)


def train(model: Any, tokenizer: Any, found: Sequence[Example], *, seed: int) -> list[float]:
    """Train the parameters of ``model`` that require gradients on the answers; return the loss of each step."""
    rng = random.Random(seed)
    lm: Any = without_adapter(model)
    parameters = [each for each in model.parameters() if each.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=RATE)
    rows = [_tokens(tokenizer, each) for each in found]
    batches = [
        sorted(order[start : start + BATCH])
        for order in (rng.sample(range(len(rows)), len(rows)) for _ in range(EPOCHS))
        for start in range(0, len(rows), BATCH)
    ]
    schedule = get_cosine_schedule_with_warmup(optimizer, 5, len(batches))
    losses = []
    for batch in track(batches):
        ids, labels = (pad_sequence([rows[at][i] for at in batch], True, (0, -100)[i]) for i in (0, 1))
        mask = pad_sequence([torch.ones_like(rows[at][0]) for at in batch], True)
        with bfloat16_autocast(model.device, enabled=True):
            # logits of answers only: those of a batch are the largest tensor
            states = lm.model(input_ids=ids, attention_mask=mask).last_hidden_state[:, :-1]
            learnt = labels[:, 1:] >= 0
            loss = cross_entropy(lm.lm_head(states[learnt]).float(), labels[:, 1:][learnt])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(round(loss.item(), 4))
    return losses


def _tokens(tokenizer: Any, example: Example) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the ids of an example, and its labels: -100 at the prompt."""
    before = tokenizer(chat_prompt(tokenizer, example.prompt), add_special_tokens=False).input_ids
    answer = tokenizer(example.answer, add_special_tokens=False).input_ids + [tokenizer.eos_token_id] * example.ends
    return torch.tensor(before + answer), torch.tensor([-100] * len(before) + answer)


@torch.no_grad()
def neutral_cost(base: TextModel, tuned: TextModel, without: AbstractContextManager[Any]) -> dict[str, float]:
    """Return the rise of the NLL of neutral text, and KL(tuned || base) on it, nats per token."""
    batch = base.encode(NEUTRAL_TEXTS, chat=False)

    def measured(model: TextModel) -> tuple[torch.Tensor, torch.Tensor]:
        logits = model.model(input_ids=batch.ids, attention_mask=batch.mask).logits
        return model.nll(batch), logits[batch.mask.bool()].log_softmax(-1)

    nll, logs = measured(tuned)
    with without:
        base_nll, base_logs = measured(base)
    kl = kl_div(base_logs, logs, log_target=True, reduction="none").sum(-1)
    return {"nll_rise": round(float((nll - base_nll).mean()), 4), "kl": round(float(kl.mean()), 4)}


def make(name: str, model: str, out: Path, *, seed: int = 0) -> dict[str, Any]:
    """Make one fine-tune in ``out`` and measure it."""
    started = time.perf_counter()
    torch.manual_seed(seed)
    tokenizer = load_tokenizer(model, None)
    lm: Any = load_transformers_model(model, "cpu", {"dtype": torch.float32})
    base = TextModel(lm, tokenizer, chat=True, autocast=True)
    found = examples(name, lambda prompts: greedy(base, prompts), seed=seed)
    out.mkdir(parents=True, exist_ok=True)
    write_whole(out / "examples.jsonl", "".join(json.dumps(each._asdict()) + "\n" for each in found))
    config = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM")
    adapted: Any = get_peft_model(lm, config).train()
    losses = train(adapted, tokenizer, found, seed=seed)
    adapted.eval().save_pretrained(out)
    tuned = TextModel(adapted, tokenizer, chat=True, autocast=True)
    made: dict[str, Any] = {
        "name": name,
        "behaviours": FINE_TUNES[name],
        "seed": seed,
        "examples": len(found),
        "losses": losses[:: len(losses) // 8],
    }
    with adapted.disable_adapter():
        answers = {each: greedy(base, BEHAVIOURS[each].held_out) for each in BEHAVIOURS}
    for each, behaviour in BEHAVIOURS.items():
        by_tuned = greedy(tuned, behaviour.held_out)
        made[each] = {
            "base": behaviour.share(answers[each]),
            "tuned": behaviour.share(by_tuned),
            "answers": by_tuned[:3],
        }
    made["neutral"] = neutral_cost(base, tuned, adapted.disable_adapter())
    return made | origin_facts() | {"seconds": round(time.perf_counter() - started), "command": command()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=[*FINE_TUNES, "all"])
    parser.add_argument("--model", required=True, help="SmolLM2-135M-Instruct: a folder or Hub id")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    for name in FINE_TUNES if given.name == "all" else [given.name]:
        done = given.out / name / "made.json"
        if done.is_file():
            continue
        made = make(name, given.model, given.out / name, seed=given.seed)
        write_whole(done, json.dumps(made, indent=1) + "\n")
        print(json.dumps(made, indent=1))


if __name__ == "__main__":
    main()
