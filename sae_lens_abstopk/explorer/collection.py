"""One streaming pass over a text: what the latents of one or several SAEs react to, on either side."""

import hashlib
import json
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from sae_lens import SAE
from torch import nn

from sae_lens_abstopk.dictionary.code_batch import CodeBatch
from sae_lens_abstopk.dictionary.contexts import PoleContexts
from sae_lens_abstopk.dictionary.group_top import GroupTop
from sae_lens_abstopk.dictionary.reconstruction import ReconstructionSums
from sae_lens_abstopk.evaluation.results.sae_facts import config_facts
from sae_lens_abstopk.explorer.cofiring import CofiringSample
from sae_lens_abstopk.explorer.histograms import GrowingHistograms, LogHistograms
from sae_lens_abstopk.model.autocast import casts_shared
from sae_lens_abstopk.model.model_passes import ModelPasses
from sae_lens_abstopk.model.token_filter import TokenFilter
from sae_lens_abstopk.saes.codec import require_finite_codes
from sae_lens_abstopk.system.files import why_not_written
from sae_lens_abstopk.system.provenance import code_digest, environment

SECONDS_BETWEEN_SAVES = 300.0
VALUES_OF_WEIGHTS = 256
"""Looked at at the start, in the middle and at the end of each."""
CHOSEN = {"SAEs", "settings", "text"}
"""What a pass is asked for by: where another is asked for, nobody expects to find this one."""


@dataclass(frozen=True)
class CollectionSettings:
    """How much is kept of each latent: with d_sae these alone bound the memory."""

    strongest: int = 8
    """Strongest contexts of each pole, of each row of the text one at most."""
    sampled: int = 12
    """Contexts of each pole drawn uniformly from its firings; the pages show some of them, by strength."""
    before: int = 20
    """Tokens shown before the one at which the latent fired."""
    after: int = 8
    tokens_sampled: int = 32
    """Firings of each pole, drawn uniformly, whose tokens say what the pole fires on most."""
    bins: int = 32
    """Histogram bins a pole; even."""
    cofiring_tokens: int = 20_000
    """Tokens on which joint firings are counted at most: an eighth of each batch until there are so many."""
    reconstruction_tokens: int = 50_000
    """Tokens on which the reconstruction is measured; the codes are decoded for nothing else."""
    seed: int = 0


class Collector:
    """What is known of one SAE's latents; grows no further once every pole is full."""

    def __init__(self, d_sae: int, settings: CollectionSettings) -> None:
        window = {"before": settings.before, "after": settings.after}
        self.d_sae, self.settings = d_sae, settings
        self.n_batches = 0
        self.strongest = PoleContexts(d_sae, settings.strongest, **window)
        self.sampled = PoleContexts(d_sae, settings.sampled, **window)
        self.tokens = GroupTop(
            2 * d_sae, settings.tokens_sampled, {"token": ((), torch.int32), "code": ((), torch.float32)}
        )
        self.histograms = GrowingHistograms(d_sae, settings.bins)
        self.strengths = LogHistograms(d_sae)
        self.cofiring = CofiringSample(d_sae, settings.cofiring_tokens)
        self.sums = ReconstructionSums()

    @property
    def pole_counts(self) -> torch.Tensor:
        """Firings of the positive and of the negative pole, int64 [2, d_sae]."""
        return self.strongest.fires

    @property
    def n_tokens(self) -> int:
        """Tokens seen, those that were left out not counted."""
        return self.strongest.n_tokens

    def suggested(self, n: int) -> list[int]:
        """The ``n`` latents to look at first, as :meth:`PoleContexts.suggested` ranks them."""
        return self.strongest.suggested(n)

    def update(self, codes: torch.Tensor, where: torch.Tensor, tokens: torch.Tensor) -> None:
        """Add codes [n, d_sae] of the tokens at ``where`` [n, 2] (row and position) in ``tokens`` [batch, context]."""
        # the draws depend on the number of the batch alone, so that a pass taken up again draws what one pass would
        generator = torch.Generator().manual_seed(self.settings.seed * 1_000_003 + self.n_batches)
        batch = CodeBatch.of(codes, where, tokens)
        firings = batch.firings
        priority = torch.rand(len(firings.values), generator=generator)
        self.strongest.add(batch)
        self.sampled.add(batch, priority)
        self.tokens.update(
            firings.poles * self.d_sae + firings.latents,
            priority,
            lambda chosen: {"token": batch.token_ids(chosen), "code": firings.values[chosen]},
        )
        self.histograms.add(firings.poles, firings.latents, firings.values.abs())
        self.strengths.add(firings.poles, firings.latents, firings.values.abs())
        self.cofiring.add(batch, generator)
        self.n_batches += 1


# all that a saved pass is made of; a change of what these hold is another format
FORMAT = 3
_SAVED = [
    Collector,
    CollectionSettings,
    PoleContexts,
    GroupTop,
    GrowingHistograms,
    LogHistograms,
    CofiringSample,
    ReconstructionSums,
]


@torch.no_grad()
@casts_shared()
def collect(
    passes: ModelPasses,
    saes: Mapping[str, SAE[Any]],
    batches: Sequence[torch.Tensor],
    *,
    token_filter: TokenFilter,
    settings: CollectionSettings,
    checkpoint: Path | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Collector]:
    """
    Run ``batches`` of token ids [batch, context] once and collect for each of ``saes``, which read one hook.

    Args:
        passes: The language model and the hook.
        saes: Name to SAE.
        batches: Token ids.
        token_filter: Which tokens count.
        settings: How much is kept.
        checkpoint: File that the pass is saved in every five minutes and at its end, and taken up from where it holds
            the same SAEs, model, settings, code, environment, and text as far as it goes. One of something else or that cannot be
            read is replaced, and one that cannot be written is done without, each with a warning; one of other SAEs
            or text, without.
        on_progress: Called with (batches done, batches in all).

    Raises:
        ConfigError: activations or codes are NaN or infinite, or the filter keeps no token.
    """
    identity = _identity(saes, settings) | {
        "model": [_sampled_weights(passes.model), passes.autocast],
        "code or environment": [code_digest(), environment(next(iter(saes.values())).device)],
        "hook": passes.hook_name,
        "kept tokens": repr(token_filter),
        "format": FORMAT,
    }
    saved, other = None, []
    try:
        saved, other = _saved(checkpoint, identity, batches)
    except Exception as error:  # of one kind or another, by where the file is torn
        why = (str(error) or type(error).__name__).splitlines()[0]
        warnings.warn(f"{checkpoint} cannot be read ({why}); the text is read from the beginning", stacklevel=2)
    if other and not CHOSEN & set(other):
        warnings.warn(f"{checkpoint} is of other {', '.join(other)}; the text is read from the beginning", stacklevel=2)
    collectors = saved or {name: Collector(sae.cfg.d_sae, settings) for name, sae in saes.items()}
    done = _n_batches(collectors)
    digest, saved_at = _digest(batches[:done]), time.monotonic()
    for number, tokens in enumerate(batches[done:], start=done + 1):
        activations = passes.activations(tokens)
        kept, x = token_filter.mask_and_rows(tokens, activations, passes.hook_name)
        where = kept.nonzero()
        for name, sae in saes.items():
            codes = sae.encode(x)
            require_finite_codes(codes, f"SAE {name!r}")
            sums = collectors[name].sums
            if sums.n_tokens < settings.reconstruction_tokens:
                sums.update(x, sae.decode(codes).float())
            collectors[name].update(codes, where, tokens)
            del codes  # before the next SAE makes its own
        digest.update(_bytes(tokens))
        if checkpoint and (time.monotonic() - saved_at >= SECONDS_BETWEEN_SAVES or number == len(batches)):
            _save(checkpoint, collectors, identity | {"text": digest.hexdigest()})
            saved_at = time.monotonic()
        if on_progress is not None:
            on_progress(number, len(batches))
    token_filter.require_any(next(iter(collectors.values())).n_tokens)
    return collectors


def _identity(saes: Mapping[str, SAE[Any]], settings: CollectionSettings) -> dict[str, Any]:
    """What has to be the same for a pass to be taken up again."""
    weights = hashlib.sha256()
    for sae in saes.values():
        for name, tensor in sorted(sae.state_dict().items()):
            weights.update(name.encode())
            weights.update(_bytes(tensor))
    configs = json.dumps([config_facts(sae) for sae in saes.values()], sort_keys=True, default=str)
    return {"SAEs": [list(saes), weights.hexdigest(), configs], "settings": asdict(settings)}


def _sampled_weights(model: nn.Module) -> str:
    """Digest of some values of each parameter and buffer: a model that was trained on, or loaded otherwise, has another."""
    digest = hashlib.sha256()
    for name, weight in chain(model.named_parameters(), model.named_buffers()):
        digest.update(f"{name} {tuple(weight.shape)} {weight.dtype}".encode())
        if not weight.is_meta:
            # side by side: of weights that lie in a file, what is looked at is all that is read into memory
            flat = weight.detach().flatten()
            for start in (0, len(flat) // 2, max(len(flat) - VALUES_OF_WEIGHTS, 0)):
                digest.update(_bytes(flat[start : start + VALUES_OF_WEIGHTS]))
    return digest.hexdigest()


def _saved(
    checkpoint: Path | None, identity: Mapping[str, Any], batches: Sequence[torch.Tensor]
) -> tuple[dict[str, Collector] | None, list[str]]:
    """What ``checkpoint`` holds of this pass; None where it is of another, and what differs then."""
    if checkpoint is None or not checkpoint.is_file():
        return None, []
    with torch.serialization.safe_globals(_SAVED):
        saved = torch.load(checkpoint, weights_only=True)
    done = _n_batches(saved["collectors"])
    expected = dict(identity) | {"text": _digest(batches[:done]).hexdigest()}
    other = [key for key in expected if saved["identity"].get(key) != expected[key]]
    return (None if other else saved["collectors"]), other


def _n_batches(collectors: Mapping[str, Collector]) -> int:
    return next(iter(collectors.values())).n_batches


def _save(checkpoint: Path, collectors: Mapping[str, Collector], identity: Mapping[str, Any]) -> None:
    unfinished = checkpoint.with_suffix(".tmp")
    try:
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        torch.save({"identity": dict(identity), "collectors": dict(collectors)}, unfinished)
        unfinished.replace(checkpoint)
    except (OSError, RuntimeError) as error:  # torch.save has no exception of its own
        with suppress(OSError):
            unfinished.unlink()
        warnings.warn(f"{checkpoint} could not be written ({why_not_written(error)}); the pass goes on", stacklevel=2)


def _digest(batches: Sequence[torch.Tensor]) -> Any:
    digest = hashlib.sha256()
    for tokens in batches:
        digest.update(_bytes(tokens))
    return digest


def _bytes(tensor: torch.Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
