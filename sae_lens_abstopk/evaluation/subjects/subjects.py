"""SAEs with the model and the text on which they are evaluated."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePath
from typing import Any

import torch
from sae_lens import SAE
from torch import nn
from transformer_lens.HookedRootModule import HookedRootModule

from sae_lens_abstopk.evaluation.subjects.sae_specs import explaining_options, specs_of_sae, was_held_out
from sae_lens_abstopk.evaluation.subjects.same_activations import require_one_place
from sae_lens_abstopk.model.check_hook import check_activations
from sae_lens_abstopk.model.devices import require_device, resolve_device
from sae_lens_abstopk.model.hook_places import find_place
from sae_lens_abstopk.model.language_model import load_language_model
from sae_lens_abstopk.model.model_passes import ModelPasses
from sae_lens_abstopk.model.model_shape import model_files
from sae_lens_abstopk.model.model_spec import ModelSpec
from sae_lens_abstopk.model.text_batches import ReadingRules, shared_selection
from sae_lens_abstopk.model.token_batches import token_batches
from sae_lens_abstopk.model.token_filter import TokenFilter
from sae_lens_abstopk.model.weight_processing import warn_of_other_weights
from sae_lens_abstopk.saes.loading import Source, is_release, load_sae, origin_of
from sae_lens_abstopk.system.errors import ConfigError
from sae_lens_abstopk.system.files import without_path
from sae_lens_abstopk.system.one_or_more import one_or_more
from sae_lens_abstopk.text.documents import load_text
from sae_lens_abstopk.text.text_files import text_files
from sae_lens_abstopk.text.text_spec import TextPart, TextSpec


@dataclass(frozen=True)
class LoadedSAEs:
    """SAEs that can be measured together, by name, before the model that they read is loaded."""

    saes: dict[str, SAE[Any]]
    sources: dict[str, str]
    """Folder, or release and id, of each SAE; for one in memory its name in errors."""
    model_spec: ModelSpec
    text_spec: TextSpec
    part: TextPart
    """The part of the text that is read."""
    held_out: bool
    """Whether the text is known to be held out from the training of every SAE."""

    @property
    def model_name(self) -> str:
        """Without the path of a local folder."""
        return without_path(self.model_spec.model_name)

    @property
    def text_name(self) -> str:
        """Without the path of a local file; with its options, as ``--text`` takes them."""
        text = self.text_spec
        options = {"name": text.dataset_name, "split": text.split, "column": text.column_name}
        usual = {"name": None, "split": "train", "column": "text"}
        named = [f"{key}={value}" for key, value in options.items() if value != usual[key]]
        return ",".join([without_path(text.dataset_path), *named])

    def with_model(self, model: HookedRootModule | None = None) -> "Subjects":
        """
        Return the same with ``model``, or with a model that is loaded; SAEs are copied to the device of the hook.

        Raises:
            ConfigError: the model cannot be loaded, is of a class that is not read here, lacks the hook, or is on a
                device on which metrics cannot be computed.
        """
        spec, d_in = self.model_spec, self.d_in
        if model is None:
            model = load_language_model(spec, self.text_spec)
        else:
            spec = _spec_in_memory(model, spec, d_in)
            for sae in self.saes.values():
                warn_of_other_weights(model, sae)
        device = ModelPasses.of_spec(model, spec, d_in=d_in).device
        resolve_device("the model's device", str(device))
        saes = {
            name: sae if sae.W_dec.device == device else deepcopy(sae).to(device) for name, sae in self.saes.items()
        }
        rules = ReadingRules.of_saes(saes, getattr(model, "tokenizer", None))
        return Subjects(saes, self.sources, spec, self.text_spec, self.part, self.held_out, model, rules)

    @property
    def d_in(self) -> int:
        """Width of the activations."""
        return next(iter(self.saes.values())).cfg.d_in


@dataclass(frozen=True)
class Subjects(LoadedSAEs):
    """SAEs that read one hook of one model, with that model and text for it."""

    model: HookedRootModule
    rules: ReadingRules
    """Of all SAEs; the norm limit is that of the first that has one."""
    _batches: dict[tuple[int, bool], list[torch.Tensor]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @property
    def tokenizer(self) -> Any:
        return self.model.tokenizer

    @property
    def device(self) -> torch.device:
        """Of the SAEs, and of the activations that they read."""
        return next(iter(self.saes.values())).device

    @property
    def token_filter(self) -> TokenFilter:
        """Which tokens every number is about."""
        return self.rules.token_filter

    def activation_facts(self) -> dict[str, Any]:
        """Return what decides the activations and their order, files of model and text included."""
        facts = {"model": asdict(self.model_spec), "text": asdict(self.text_spec), "part": self.part}
        files = {"model": model_files(self.model_spec.model_name), "text": text_files(self.text_spec.dataset_path)}
        return facts | {"files": files}

    @property
    def passes(self) -> ModelPasses:
        """Passes of the model around the hook."""
        return ModelPasses.of_spec(self.model, self.model_spec, d_in=self.d_in)

    def batches(self, n_tokens: int, *, with_logits: bool = False) -> list[torch.Tensor]:
        """
        Token ids [batch, context] of ``n_tokens`` tokens or more, or all that the text has; it is read once for equal
        calls.

        Batches that the whole model is run on, ``with_logits``, may be smaller than others.
        """
        asked = n_tokens, with_logits
        if asked not in self._batches:
            d_sae = max(sae.cfg.d_sae for sae in self.saes.values())
            self._batches[asked] = token_batches(
                self.model,
                self.model_spec,
                self.text_spec,
                n_tokens,
                part=self.part,
                d_sae=d_sae,
                with_logits=with_logits,
            )
        return self._batches[asked]


def _spec_in_memory(model: Any, spec: ModelSpec, d_in: int) -> ModelSpec:
    """Return ``spec`` with the name of its hook in a model in memory, after a pass over three tokens."""
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
    """
    Load SAEs with their model and text.

    Args:
        sources: Folder, ``RELEASE:SAE_ID`` or SAE in memory; one or several, or by the names that they are to have.
        model_name: Name or folder of the model to run instead of the one recorded.
        text: Dataset or file to read instead of the run's held-out text.
        device: For the model; ``"auto"`` takes CUDA where there is one, else the CPU.

    Raises:
        ConfigError: as :func:`load_subject_saes`, or the model cannot be loaded.
    """
    return load_subject_saes(sources, model=model_name, text=text, device=device).with_model()


def load_subject_saes(
    sources: Source | Sequence[Source] | Mapping[str, Source],
    *,
    model: str | PurePath | HookedRootModule | None = None,
    text: str | None = None,
    device: str = "auto",
) -> LoadedSAEs:
    """
    Load SAEs and find their model and text; the model is not loaded.

    Args:
        sources: One or several SAEs, as :func:`load_sae` takes them; by name if they are to be called other than their
            labels, folders or releases. Run settings come from the ``config.yaml`` in the first or in the folder above
            it.
        model: Name or folder of the model to run instead of the one recorded, or the model itself.
        text: Dataset or file to read instead of the run's held-out text (see :func:`~.sae_specs.specs_of_sae`).
        device: For a model that has to be loaded; ``"auto"`` takes CUDA where there is one, else the CPU.

    Raises:
        ConfigError: an SAE cannot be loaded, the SAEs read different hooks or were trained on different kinds of token,
            or model or text are unknown.
    """
    model = str(model) if isinstance(model, PurePath) else model
    text = None if text is None else str(text)
    listed: list[Source] = list(sources.values()) if isinstance(sources, Mapping) else one_or_more(sources)
    if not listed:
        raise ConfigError("no SAE was given; give one at least.")
    loaded = [load_sae(source) for source in listed]
    require_one_place(loaded, same_model=model is not None)
    names = list(sources) if isinstance(sources, Mapping) else _names(listed, loaded)
    if len(set(names)) < len(names):
        raise ConfigError(f"an SAE is named twice: {', '.join(names)}.")
    saes = dict(zip(names, loaded, strict=True))
    shared_selection(saes)
    model_name = model if isinstance(model, str) or model is None else _name_in_memory(model, loaded[0])
    origins = [origin_of(source) for source in listed]
    specs = specs_of_sae(
        Path(origins[0]),
        loaded[0],
        model_name=model_name,
        text=text,
        device=device,
        is_loaded=not (model is None or isinstance(model, str)),
    )
    require_device("device", specs.model.device)
    part: TextPart = "held_out" if text is None else "all"
    with explaining_options(text):
        load_text(specs.text, part)  # an unreadable text is reported before the model is loaded
    return LoadedSAEs(
        saes,
        sources=dict(zip(names, origins, strict=True)),
        model_spec=specs.model,
        text_spec=specs.text,
        part=part,
        held_out=text is None
        and all(was_held_out(specs.text, origin, sae) for origin, sae in zip(origins, loaded, strict=True)),
    )


def _names(sources: Sequence[Source], saes: Sequence[SAE[Any]]) -> list[str]:
    names = [sae.cfg.metadata.label or _called(source) for source, sae in zip(sources, saes, strict=True)]
    if len(set(names)) == len(names):
        return names
    return [
        f"{name}-{number}" if isinstance(source, SAE) else str(source)
        for number, (name, source) in enumerate(zip(names, sources, strict=True), start=1)
    ]


def _called(source: Source) -> str:
    """Return a name for an SAE without a label."""
    if isinstance(source, SAE):
        return source.cfg.architecture()
    return str(source) if is_release(source) else Path(source).name


def _name_in_memory(model: Any, sae: SAE[Any]) -> str | None:
    """Return the name under which a model in memory was loaded; None if ``sae`` records it."""
    if sae.cfg.metadata.model_name:
        return None
    cfg = getattr(model, "cfg", None)  # SAELens's proxy has none
    config = getattr(getattr(model, "model", model), "config", None)
    return (getattr(config, "name_or_path", None) if cfg is None else cfg.model_name) or "unnamed model"
