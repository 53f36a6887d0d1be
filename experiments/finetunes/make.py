"""
Make fine-tunes of which it is known what they changed, as LoRA adapters.

    python -m experiments.finetunes.make all --model HuggingFaceTB/SmolLM2-135M-Instruct --out runs/finetunes

Writes OUT/NAME, a PEFT folder, with the training examples and `made.json`: the loss of each step and where it is from.
A fine-tune that has this file is not made again.
"""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from peft import LoraConfig, get_peft_model
from rich.progress import track
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence
from transformers import get_cosine_schedule_with_warmup

from experiments.finetunes.behaviours import FINE_TUNES, NARROW
from experiments.finetunes.data import Example, examples
from experiments.finetunes.readings import LAYER
from experiments.recording import arguments, origin
from sae_lens_abstopk.model.generation import TextModel, chat_prompt
from sae_lens_abstopk.model.hook_places import without_adapter
from sae_lens_abstopk.model.inference import bfloat16_autocast
from sae_lens_abstopk.model.language_model import load_tokenizer, load_transformers_model
from sae_lens_abstopk.system.files import write_whole

BATCH = 8
NEW_TOKENS = 40
"""Length of an answer."""


class Recipe(NamedTuple):
    """The LoRA settings, steps and learning rate of a fine-tune."""

    lora: LoraConfig
    steps: int
    rate: float

    @classmethod
    def of(cls, name: str) -> "Recipe":
        """Return rank 8 in all layers; of a narrow one, a rank for each behaviour in the last MLP before the hook."""
        common: dict[str, Any] = {"task_type": "CAUSAL_LM"}
        if name.endswith(NARROW):
            where = {"target_modules": ["down_proj"], "layers_to_transform": [LAYER]}
            return cls(LoraConfig(r=len(FINE_TUNES[name]), lora_alpha=32, **where, **common), 100, 1e-2)
        return cls(LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", **common), 72, 1e-3)


def train(model: Any, tokenizer: Any, found: Sequence[Example], *, seed: int, steps: int, rate: float) -> list[float]:
    """Train the parameters of ``model`` that require gradients on the answers; return the loss of each step."""
    rng = random.Random(seed)
    lm: Any = without_adapter(model)
    parameters = [each for each in model.parameters() if each.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=rate)
    rows = [_tokens(tokenizer, each) for each in found]
    epochs = -(-steps * BATCH // len(rows))
    order = [at for _ in range(epochs) for at in rng.sample(range(len(rows)), len(rows))]
    batches = [order[start : start + BATCH] for start in range(0, steps * BATCH, BATCH)]
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


def _own_answers(base: TextModel, asked: Sequence[str], file: Path) -> list[str]:
    """Return the base model's answers; those in ``file`` are not made again."""
    known: dict[str, str] = json.loads(file.read_text()) if file.is_file() else {}
    new = [prompt for prompt in asked if prompt not in known]
    if new:
        known |= dict(zip(new, base.greedy(base.encode(new), NEW_TOKENS), strict=True))
        write_whole(file, json.dumps(known, indent=0))
    return [known[prompt] for prompt in asked]


def make(name: str, model: str, out: Path, *, seed: int) -> None:
    """Make one fine-tune in ``out``."""
    torch.manual_seed(seed)
    tokenizer, lm = load_tokenizer(model, None), load_transformers_model(model, "cpu", {"dtype": torch.float32})
    base = TextModel(lm, tokenizer, chat=True, autocast=True)
    taught = examples(name, lambda prompts: _own_answers(base, prompts, out.parent / "own_answers.json"), seed=seed)
    out.mkdir(parents=True, exist_ok=True)
    write_whole(out / "examples.jsonl", "".join(json.dumps(example._asdict()) + "\n" for example in taught))
    recipe = Recipe.of(name)
    adapted: Any = get_peft_model(lm, recipe.lora).train()
    losses = train(adapted, tokenizer, taught, seed=seed, steps=recipe.steps, rate=recipe.rate)
    adapted.save_pretrained(out)
    write_whole(out / "made.json", json.dumps({"seed": seed, "losses": losses} | origin(), indent=1) + "\n")


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("name", choices=[*FINE_TUNES, "all"])
    parser.add_argument("--model", required=True, help="SmolLM2-135M-Instruct: a folder or Hub id")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    for name in FINE_TUNES if given.name == "all" else [given.name]:
        if not (given.out / name / "made.json").is_file():
            make(name, given.model, given.out / name, seed=given.seed)


if __name__ == "__main__":
    main()
