"""The differences of a fine-tune, read once into `reading.pt`, and SAEs trained on them."""

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from jaxtyping import Float
from rich.console import Console
from sae_lens import SAE
from sae_lens.util import get_special_token_ids

from sae_lens_abstopk.diffs.held_out import HeldOut
from sae_lens_abstopk.model.model_pair import ModelPair
from sae_lens_abstopk.model.model_spec import ModelPairSpec
from sae_lens_abstopk.model.text_store import token_batches
from sae_lens_abstopk.model.token_filter import TokenFilter
from sae_lens_abstopk.saes.loading import load_sae
from sae_lens_abstopk.system.yaml_files import read_yaml
from sae_lens_abstopk.text.text_spec import TextSpec
from sae_lens_abstopk.training.config.config_file import load_config
from sae_lens_abstopk.training.config.seeds_and_baselines import by_kind, seeds_and_baselines
from sae_lens_abstopk.training.run_folder import sae_folder
from sae_lens_abstopk.training.train import train
from sae_lens_abstopk.vectors.vectors import Vectors

LAYER, HELD_OUT_TOKENS, ALL = 15, 3072, 1_000_000
PRESET: dict[str, Any] = read_yaml(Path(__file__).parents[2] / "training_configs" / "diff.yaml")
"""The config of `abstopk diff`, of which SAEs here have the keys of training."""
_OF_TEXT = ("hook_name", "seqpos_slice", "exclude_special_tokens", "max_norm_multiple", "store_batch_size_prompts")
_OF_TEXT += ("n_batches_in_buffer", "context_size", "prepend_bos", "source", "perf_log_freq", "held_out_every")


OWN = 240
"""Conversations in which the base model answers; many of their prompts are not of the planted behaviour."""


class Reading(NamedTuple):
    """A fine-tune with its text."""

    pair: ModelPair
    x: Float[torch.Tensor, "n d_in"]
    """Differences of the training text, in its order."""
    held_out: HeldOut

    @classmethod
    def of(cls, name: str, model: str, made: Path) -> Self:
        """Read the text of a fine-tune that `make.py` wrote with both models."""
        pair, text = _load_pair(name, model, made)
        file = made / name / "reading.pt"
        if not file.is_file():
            torch.save(_read(pair, text), file)
        x, held_out = torch.load(file, weights_only=False)
        return cls(pair, x, held_out)


def _conversations(made: Path, name: str) -> Path:
    """Write the examples of a fine-tune and answers of the base model into ``text.jsonl``, unless it is there."""
    file = made / name / "text.jsonl"
    if file.is_file():
        return file
    examples = [json.loads(line) for line in (made / name / "examples.jsonl").read_text().splitlines()]
    own: dict[str, str] = json.loads((made / "own_answers.json").read_text())
    rng = random.Random(0)
    taught = [(each["prompt"], each["answer"]) for each in examples]
    found = taught + rng.sample(sorted(own.items()), OWN)
    rng.shuffle(found)
    file.write_text("".join(_conversation(*each) for each in found), encoding="utf-8")
    return file


def _conversation(prompt: str, answer: str) -> str:
    turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    return json.dumps({"messages": turns}) + "\n"


def _load_pair(name: str, model: str, made: Path) -> tuple[ModelPair, TextSpec]:
    """Load a fine-tune that `make.py` wrote, and its text."""
    text = TextSpec(
        dataset_path=str(_conversations(made, name)),
        use_chat_formatting=True,
        exclude_chat_template=True,
        held_out_every=8,
        prepend_bos=False,
        seqpos_slice=(1, None),
        store_batch_size_prompts=8,
    )
    hook = PRESET["hook_name"].format(layer=LAYER)
    pair = ModelPair.load(
        ModelPairSpec(model_name=model, hook_name=hook, device="cpu", adapter=str(made / name), autocast_lm=True),
        text,
    )
    return pair, text


def _read(pair: ModelPair, text: TextSpec) -> tuple[torch.Tensor, HeldOut]:
    """Return the differences of the training text, and the held-out contexts, filtered as by `abstopk diff`."""
    kept = TokenFilter((1, None), tuple(get_special_token_ids(pair.tokenizer)))
    parts = []
    for tokens in token_batches(pair.base_model, pair.spec, text, ALL, part="train", d_sae=1, with_logits=False):
        found = pair.read(tokens, kept)
        if kept.max_norm is None:  # of the first batch
            median = float(found.activations.base[found.kept].norm(dim=-1).median())
            kept = replace(kept, max_norm=PRESET["max_norm_multiple"] * median)
            found = pair.read(tokens, kept)
        parts.append(found.x)
    return torch.cat(parts), HeldOut.read(pair, text, HELD_OUT_TOKENS, token_filter=kept, d_sae=1)


def trained(
    x: Float[torch.Tensor, "n d_in"], out: Path, *, d_sae: int, k: float, n_seeds: int, baselines: bool, **keys: Any
) -> dict[str, list[SAE[Any]]]:
    """Train SAEs on differences in memory by the preset of `abstopk diff`; return them by kind, a seed each."""
    preset = {key: value for key, value in PRESET.items() if key not in (*_OF_TEXT, "sae", "training_tokens")}
    tokens = keys.pop("training_tokens", PRESET["training_tokens"])
    preset |= {f"sae.{key}": value for key, value in PRESET["sae"].items()}
    overrides: dict[str, Any] = {
        "random_signs": False,
        "sae.odd": False,
        "epochs": tokens / len(x),
        "perf_log_freq": 0,
        "device": "cpu",
        "output_path": str(out),
        "seed": 0,
        **preset,
        "sae.d_sae": d_sae,
        "sae.k": k,
        **seeds_and_baselines(d_sae, n_seeds=n_seeds, baselines=baselines, seed=0),
        **keys,
    }
    cfg = load_config("pairs", overrides, vectors=Vectors.of_array(x))
    train(cfg, vectors=x, console=Console(quiet=True))
    return by_kind({name: load_sae(sae_folder(out, name)) for name in cfg.all_saes})
