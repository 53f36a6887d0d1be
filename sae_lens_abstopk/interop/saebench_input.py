"""A stock SAE with its model, its text and classes of labelled texts for SAEBench."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from sae_lens import SAE
from transformer_lens.HookedRootModule import HookedRootModule

from sae_lens_abstopk.equivalents.mirror import MIRROR_END, mirror
from sae_lens_abstopk.evaluation.results.facts import weights_sha256
from sae_lens_abstopk.evaluation.subjects.sae_specs import specs_of_sae
from sae_lens_abstopk.evaluation.tasks.task import Task
from sae_lens_abstopk.model.hook_places import find_place
from sae_lens_abstopk.model.language_model import load_language_model
from sae_lens_abstopk.model.model_spec import require_device
from sae_lens_abstopk.saes.loading import load_sae, require_all_heads
from sae_lens_abstopk.saes.signed import SignedSAE
from sae_lens_abstopk.system.files import without_path
from sae_lens_abstopk.system.yaml_files import run_configs
from sae_lens_abstopk.text.documents import load_text

CONTEXT = 128
Classes = dict[str, list[str]]


class ClassSet(NamedTuple):
    """Texts by class; the classes of a split have equal sizes, as SAEBench expects."""

    name: str
    train: Classes
    test: Classes


def class_set(task: Task) -> ClassSet:
    """Make classes of the two poles of a task; val texts become training texts."""
    split = task.split(0)

    def classes(rows: Iterable[int]) -> Classes:
        examples = [task.examples[row] for row in rows]
        poles = enumerate(task.poles)
        return _equal_sizes({pole: [each.text for each in examples if each.pole == place] for place, pole in poles})

    return ClassSet(task.name, classes([*split.train, *split.val]), classes(split.test))


def joined(sets: Sequence[ClassSet]) -> ClassSet:
    """
    Join the classes of at least two sets, named ``task: pole``.

    Targeted probe perturbation needs more than two classes: with two, harm to one probe harms the other.
    """
    train, test = (
        _equal_sizes({f"{one.name}: {pole}": texts for one in sets for pole, texts in getattr(one, split).items()})
        for split in ("train", "test")
    )
    return ClassSet("+".join(one.name for one in sets), train, test)


def _equal_sizes(classes: Classes) -> Classes:
    least = min(map(len, classes.values()))
    return {name: texts[:least] for name, texts in classes.items()}


@dataclass(frozen=True)
class BenchInput:
    """An SAE with its model, text and data sets for SAEBench."""

    name: str
    """Name of the SAE in the results."""
    sae: SAE[Any]
    model: HookedRootModule
    model_name: str
    device: str
    dataset: Any
    """Text for ``core``; None if it does not run."""
    text_name: str
    prompts: int
    """Most contexts in one LM batch."""
    tasks: tuple[ClassSet, ...]
    """Data sets that replace SAEBench's own; empty to keep those."""
    n_tokens: int
    seed: int

    @property
    def text_length(self) -> int:
        """
        Number of tokens that labelled texts are padded to: the longest text of ``tasks``, at most 128.

        Codes of padding are masked but computed: texts of 20 tokens padded to 128 take six times as long.
        """
        tokenizer: Any = self.model.tokenizer
        splits = [split for one in self.tasks for split in (one.train, one.test)]
        texts = [text for split in splits for rows in split.values() for text in rows]
        return min(max((len(tokenizer(text).input_ids) for text in texts), default=CONTEXT), CONTEXT)


def open_input(
    source: str | Path,
    *,
    as_is: bool,
    model_name: str | None,
    text: str | None,
    reads_text: bool,
    tasks: tuple[ClassSet, ...],
    n_tokens: int,
    seed: int,
    device: str,
) -> BenchInput:
    """Load an SAE, as its mirror unless ``as_is``, with its model and, if ``reads_text``, its text."""
    sae = load_sae(source)
    require_all_heads(sae, "SAEBench")
    if text is None and not reads_text and not any("hook_name" in raw for _, raw in run_configs(Path(source))):
        text = "unread.jsonl"  # the specs take one
    specs = specs_of_sae(Path(source), sae, model_name=model_name, text=text, device=device)
    require_device("device", specs.model.device)
    dataset = load_text(specs.text, "all" if text else "held_out") if reads_text else None
    # SAEs in one folder may share a label
    digest = weights_sha256(source)
    label = sae.cfg.metadata.label or Path(source).name
    name = str(source).replace(":", "_") if digest is None else f"{label}_{digest[:8]}"
    if isinstance(sae, SignedSAE) and not as_is:
        sae, name = mirror(sae), f"{name}{MIRROR_END}"
    sae.to(device=specs.model.device, dtype=torch.float32)
    # folded decoder norms would change the selection of an SAE that selects without them
    with suppress(NotImplementedError):
        sae.fold_W_dec_norm()
    spec = specs.model
    if spec.model_class_name == "AutoModelForCausalLM":
        spec = replace(spec, model_class_name="TransformerBridge")  # SAEBench uses TransformerLens hooks
    model: Any = load_language_model(spec, specs.text)
    metadata = sae.cfg.metadata
    metadata.hook_name = find_place(model, metadata.hook_name).name
    metadata.context_size = metadata.context_size or CONTEXT
    skips_first = bool(metadata.seqpos_slice and (metadata.seqpos_slice[0] or 0) > 0)
    metadata.prepend_bos = skips_first or metadata.prepend_bos is not False
    # without its path: SAEBench makes folders from the name, and would write into the model's
    shown = without_path(spec.model_name)
    metadata.model_name = model.cfg.model_name = shown
    return BenchInput(
        name=name,
        sae=sae,
        model=model,
        model_name=shown,
        device=spec.device,
        dataset=dataset,
        text_name=text or "held-out text of the run",
        prompts=specs.text.store_batch_size_prompts,
        tasks=tasks,
        n_tokens=n_tokens,
        seed=seed,
    )
