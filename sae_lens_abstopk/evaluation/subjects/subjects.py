"""SAEs with their model and text for an evaluation."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePath
from typing import Any, Literal

import torch
from sae_lens import SAE
from torch import nn
from transformer_lens.HookedRootModule import HookedRootModule

from sae_lens_abstopk.evaluation.subjects.named_saes import NamedSAEs, load_named
from sae_lens_abstopk.evaluation.subjects.sae_specs import (
    EXPLAINED,
    name_with_options,
    require_one_place,
    specs_of_sae,
    was_held_out,
)
from sae_lens_abstopk.evaluation.tasks.task import Task
from sae_lens_abstopk.model.check_hook import check_activations
from sae_lens_abstopk.model.hook_places import find_place
from sae_lens_abstopk.model.language_model import load_language_model, warn_of_other_weights
from sae_lens_abstopk.model.model_passes import ModelPasses
from sae_lens_abstopk.model.model_shape import model_files
from sae_lens_abstopk.model.model_spec import ModelSpec, require_device, resolve_device
from sae_lens_abstopk.model.reading_precision import precision_of_passes
from sae_lens_abstopk.model.representations import Representations, represent
from sae_lens_abstopk.model.text_batches import ReadingRules, shared_selection
from sae_lens_abstopk.model.text_store import token_batches
from sae_lens_abstopk.model.token_filter import TokenFilter
from sae_lens_abstopk.saes.loading import Source
from sae_lens_abstopk.system.errors import ConfigError, errors_in
from sae_lens_abstopk.system.files import without_path
from sae_lens_abstopk.system.precision import BFLOAT16, remembered_precision, weights_precision
from sae_lens_abstopk.text.documents import load_text
from sae_lens_abstopk.text.text_files import text_files
from sae_lens_abstopk.text.text_spec import TextPart, TextSpec
from sae_lens_abstopk.text.token_text import TokenText


@dataclass(frozen=True)
class LoadedSAEs(NamedSAEs):
    """SAEs that can be measured together, by name, before their model is loaded."""

    model_spec: ModelSpec
    text_spec: TextSpec
    part: TextPart
    """Part of the text to read."""
    held_out: bool
    """Whether the text is certainly held out from the training of every SAE."""

    @property
    def model_name(self) -> str:
        """Name of the model, without the path of a local folder."""
        return without_path(self.model_spec.model_name)

    @property
    def text_name(self) -> str:
        """Name of the text, without the path of a local file, with the options of ``--text``."""
        return name_with_options(self.text_spec)

    @property
    def hook_name(self) -> str:
        return self.model_spec.hook_name

    def with_model(
        self, model: HookedRootModule | None = None, *, reads: Literal["as trained", "fast", "float32"] = "as trained"
    ) -> "Subjects":
        """
        Add ``model``, or load it; copy the SAEs to the device of the hook.

        Args:
            model: The language model.
            reads: Precision of passes up to the hook: that of the SAEs' training, the one that a trial finds faster, or
                float32. Passes that measure a loss keep that of training, but for float32.

        Raises:
            ConfigError: the model cannot be loaded, has an unsupported class or device, or lacks the hook.
        """
        spec, d_in = self.model_spec, self.d_in
        if reads == "float32":
            spec = replace(spec, autocast_lm=False)
        if model is None:
            model = load_language_model(spec, self.text_spec)
            model = model.float() if reads == "float32" else model
        else:
            spec = _spec_in_memory(model, spec, d_in)
            for sae in self.saes.values():
                warn_of_other_weights(model, sae)
        passes = ModelPasses.of_spec(model, spec, d_in=d_in)
        device, precision = passes.device, None
        if reads != "as trained":
            known = (spec.model_name, model_files(spec.model_name), str(device))
            precision = (
                weights_precision(model)
                if reads == "float32"
                else remembered_precision(*known, lambda: precision_of_passes(passes))
            )
        resolve_device("the model's device", str(device))
        saes = self.copied_to(device)
        rules = ReadingRules.of_saes(saes, getattr(model, "tokenizer", None))
        return Subjects(saes, self.sources, spec, self.text_spec, self.part, self.held_out, model, rules, precision)


@dataclass(frozen=True)
class Subjects(LoadedSAEs):
    """SAEs that read one hook of one model, with that model and a text."""

    model: HookedRootModule
    rules: ReadingRules
    """Token filter of all SAEs; the first norm limit applies."""
    precision: str | None = None
    """Precision of passes up to the hook; None is that of training."""
    _batches: dict[tuple[int, bool], list[torch.Tensor]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    has_model = True

    @property
    def tokenizer(self) -> Any:
        return self.model.tokenizer

    @property
    def text_of(self) -> TokenText:
        return TokenText(self.tokenizer)

    @property
    def kept_tokens(self) -> str:
        """Which tokens are measured, in words."""
        return str(self.rules)

    @property
    def token_filter(self) -> TokenFilter:
        return self.rules.token_filter

    def activation_facts(self) -> dict[str, Any]:
        """Return everything that decides the activations and their order, local files included."""
        facts = {"model": asdict(self.model_spec), "text": asdict(self.text_spec), "part": self.part}
        files = {"model": model_files(self.model_spec.model_name), "text": text_files(self.text_spec.dataset_path)}
        return facts | {"files": files, "precision": self.precision}

    @property
    def passes(self) -> ModelPasses:
        """Passes of the model around the hook."""
        passes = ModelPasses.of_spec(self.model, self.model_spec, d_in=self.d_in)
        return passes if self.precision is None else passes.in_bfloat16(self.precision == BFLOAT16)

    @torch.no_grad()
    def sample(self, n_tokens: int) -> torch.Tensor:
        """Return the kept activations [n, d_in] of ``n_tokens`` tokens of the text, or a little more."""
        batches = self.batches(n_tokens)
        read = [(batch, self.passes.activations(batch)) for batch in batches]
        return torch.cat([self.token_filter.mask_and_rows(*each, self.passes.hook_name)[1] for each in read])

    def represent(
        self, saes: Mapping[str, SAE[Any]], task: Task, on_progress: Callable[[int, int], None]
    ) -> Representations:
        """Return activations and codes of the texts of ``task``."""
        reading = {"reads": task.reads, "markers": task.markers, "rules": self.rules}
        return represent(self.passes, self.tokenizer, saes, task.texts, **reading, on_progress=on_progress)

    def batches(self, n_tokens: int, *, with_logits: bool = False) -> list[torch.Tensor]:
        """
        Return token ids [batch, context] of at least ``n_tokens`` tokens, or of the whole text; equal calls are cached.

        Batches for the whole model, ``with_logits``, may be smaller.
        """
        key = n_tokens, with_logits
        if key not in self._batches:
            options: Any = {"part": self.part, "d_sae": max(sae.cfg.d_sae for sae in self.saes.values())}
            self._batches[key] = token_batches(
                self.model, self.model_spec, self.text_spec, n_tokens, with_logits=with_logits, **options
            )
        return self._batches[key]


def _spec_in_memory(model: Any, spec: ModelSpec, d_in: int) -> ModelSpec:
    """Return ``spec`` with the hook's name in a loaded model, after a pass over three tokens."""
    named = find_place(model, spec.hook_name).name if isinstance(model, nn.Module) else spec.hook_name
    if not isinstance(model, HookedRootModule):
        raise ConfigError(
            f"the model is a {type(model).__name__}; give a HookedTransformer, a TransformerBridge, or SAELens's "
            f"proxy of a transformers model: HookedProxyLM(model, tokenizer, hook_names=[{named!r}]), from "
            "sae_lens.load_model."
        )
    spec = replace(spec, hook_name=named)
    check_activations(model, spec, d_in=d_in)
    return spec


def open_subjects(
    sources: Source | Sequence[Source] | Mapping[str, Source],
    *,
    model_name: str | None = None,
    text: str | None = None,
    device: str = "auto",
) -> Subjects:
    """Load SAEs with their model and text; arguments and errors as in :func:`load_subject_saes`."""
    return load_subject_saes(sources, model=model_name, text=text, device=device).with_model()


def load_subject_saes(
    sources: Source | Sequence[Source] | Mapping[str, Source] | NamedSAEs,
    *,
    model: str | PurePath | HookedRootModule | None = None,
    text: str | None = None,
    device: str = "auto",
) -> LoadedSAEs:
    """
    Load SAEs and find their model and text, without loading the model.

    Run settings come from the ``config.yaml`` in the first SAE's folder or in the folder above it. ``model`` is the
    name or folder of a model instead of the recorded one, or the model itself; other arguments as in
    :func:`~.sae_specs.specs_of_sae`.

    Raises:
        ConfigError: an SAE cannot be loaded, the SAEs read different hooks or were trained on different kinds of token,
            or model or text is unknown.
    """
    named = sources if isinstance(sources, NamedSAEs) else load_named(sources)
    saes, origins = named.saes, named.sources
    for name, sae in saes.items():
        if (source := sae.cfg.metadata.get("source") or "tokens") in ("vectors", "model_difference"):
            use = "use `abstopk eval`" if source == "vectors" else "use `abstopk diff`"
            raise ConfigError(f"{name} was trained on {source}, and this measures SAEs of one language model; {use}.")
    model = str(model) if isinstance(model, PurePath) else model
    text = None if text is None else str(text)
    require_one_place(list(saes.values()), same_model=model is not None)
    shared_selection(saes)
    first, origin = next(iter(saes.values())), next(iter(origins.values()))
    model_name = model if isinstance(model, str) or model is None else _name_in_memory(model, first)
    is_loaded = isinstance(model, HookedRootModule)
    specs = specs_of_sae(Path(origin), first, model_name=model_name, text=text, device=device, is_loaded=is_loaded)
    require_device("device", specs.model.device)
    part: TextPart = "held_out" if text is None else "all"
    with errors_in("", "" if text is None else EXPLAINED):
        load_text(specs.text, part)  # report an unreadable text before the model is loaded
    return LoadedSAEs(
        saes,
        origins,
        model_spec=specs.model,
        text_spec=specs.text,
        part=part,
        held_out=text is None and all(was_held_out(specs.text, origins[name], sae) for name, sae in saes.items()),
    )


def _name_in_memory(model: Any, sae: SAE[Any]) -> str | None:
    """Return the name of a model in memory; None if ``sae`` records it."""
    if sae.cfg.metadata.model_name:
        return None
    cfg = getattr(model, "cfg", None)  # SAELens's proxy has no name
    config = getattr(getattr(model, "model", model), "config", None)
    return (getattr(config, "name_or_path", None) if cfg is None else cfg.model_name) or "unnamed model"
