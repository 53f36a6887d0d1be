"""A tiny random sentence-transformers model of word-level tokens."""

from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

WIDTH = 16
WORDS = ["a", "the", "cat", "dog", "bird", "fish", "sat", "ran", "flew", "swam"]
WORDS += ["on", "under", "over", "mat", "tree", "house", "river", "fast"]
TEXTS = [f"{a} {b} {c}" for a in WORDS[:6] for b in WORDS[6:10] for c in WORDS[10:16]]


def sentence_model(folder: Path) -> SentenceTransformer:
    """Write a random BERT with mean pooling into ``folder`` and open it."""
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(folder)
    sizes: dict[str, Any] = {
        "hidden_size": WIDTH,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    torch.manual_seed(0)
    BertModel(BertConfig(vocab_size=len(vocabulary), initializer_range=0.5, **sizes)).save_pretrained(folder)
    return SentenceTransformer(str(folder), device="cpu")
