"""A text: its documents, and the rules that turn them into contexts of tokens."""

from dataclasses import dataclass
from typing import Literal

from sae_lens_abstopk.system.errors import ConfigError, require_given, require_range
from sae_lens_abstopk.system.typed_values import require_default

TextPart = Literal["train", "first_half", "second_half", "held_out", "all"]
"""The halves are of ``train``, and share no document."""
HALVES: tuple[TextPart, TextPart] = ("first_half", "second_half")


@dataclass(frozen=True, kw_only=True)
class TextSpec:
    """The documents of a data set and the tokens to read. Fields are keys of a training config."""

    dataset_path: str
    """Hub id, or a local file or folder."""
    dataset_name: str | None = None
    """Configuration of a Hub data set."""
    split: str = "train"
    column_name: str = "text"
    streaming: bool = True
    use_chat_formatting: bool = False
    """Whether documents are conversations, formatted by the model's chat template."""
    exclude_chat_template: bool = False
    """Leave out the tokens that the template adds to the turns; for differences of two models."""
    is_dataset_tokenized: bool = False
    """Whether documents are lists of token ids."""
    held_out_every: int | None = 20
    shuffle: bool = False
    seed: int = 0
    """Seed of the order of shuffled documents."""
    context_size: int = 128
    prepend_bos: bool = True
    sequence_separator_token: int | Literal["bos", "eos", "sep"] | None = "bos"
    disable_concat_sequences: bool = False
    seqpos_slice: tuple[int | None, ...] = (None,)
    """Kept positions of a context."""
    exclude_special_tokens: bool | list[int] = False
    max_norm_multiple: float | None = None
    """Tokens whose activation norm exceeds this multiple of the median are left out of training."""
    store_batch_size_prompts: int = 32
    """Contexts in one LM batch."""

    def __post_init__(self) -> None:
        require_given("dataset_path", self.dataset_path, "give a Hub data set, or a local file or folder of text")
        for key, bound in {"context_size": 2, "store_batch_size_prompts": 1, "seed": 0}.items():
            require_range(key, getattr(self, key), at_least=bound)
        require_range("held_out_every", self.held_out_every, at_least=2, remedy=", or null to hold nothing out")
        require_range("max_norm_multiple", self.max_norm_multiple, above=1, remedy=", or null to keep all tokens")
        if not self.use_chat_formatting:
            require_default(self, "exclude_chat_template", "it is read with use_chat_formatting: true")
        if not 1 <= len(self.seqpos_slice) <= 3:
            raise ConfigError(f"seqpos_slice={list(self.seqpos_slice)} must hold a stop, or start, stop and step.")

    @property
    def kept_positions(self) -> int:
        """Number of kept positions of a context."""
        return len(range(self.context_size)[slice(*self.seqpos_slice)])
