"""Continue prompts while a latent is added to either side: of an SAE of tokens, of pairs or of two models."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sae_lens_abstopk.diffs.diff_files import RESULTS as OF_DIFF
from sae_lens_abstopk.diffs.diff_files import SAE_FOLDER
from sae_lens_abstopk.diffs.diff_results import DiffResults
from sae_lens_abstopk.evaluation.steering.latent_scale import latent_scale
from sae_lens_abstopk.evaluation.steering.steer import Operator
from sae_lens_abstopk.evaluation.steering.steered_model import SteeredModel, tuned_model_of
from sae_lens_abstopk.evaluation.subjects.sae_specs import model_of_metadata
from sae_lens_abstopk.evaluation.subjects.subjects import load_subject_saes
from sae_lens_abstopk.explorer.latents import SteeredText
from sae_lens_abstopk.explorer.steered import NEW_TOKENS, steered_texts
from sae_lens_abstopk.pairs.pair_files import RESULTS as OF_PAIRS
from sae_lens_abstopk.pairs.pair_results import PairResults
from sae_lens_abstopk.saes.loading import load_sae
from sae_lens_abstopk.system.errors import ConfigError, require_given, require_range
from sae_lens_abstopk.system.files import reading
from sae_lens_abstopk.text.text_spec import TextSpec

TOKENS = 20_480
"""Tokens to measure a scale on."""


class SteeredPrompts(NamedTuple):
    """Greedy continuations of prompts."""

    model: str
    scale: float
    """The code that a strength of 1 adds."""
    strengths: tuple[float, ...]
    """From the most negative one on, with 0."""
    texts: tuple[SteeredText, ...]
    """One a prompt, with a continuation for each strength."""


def steer_prompts(
    source: str | Path,
    latent: int,
    prompts: Sequence[str],
    *,
    strengths: Sequence[float] = (1.0,),
    operator: Operator = "add",
    scale: float | None = None,
    model: str | None = None,
    adapter: str | None = None,
    tuned: bool = False,
    text: str | None = None,
    chat: bool = False,
    max_new_tokens: int = NEW_TOKENS,
    device: str = "auto",
) -> SteeredPrompts:
    """
    Continue prompts with a latent added at every token, to both sides, and without it.

    Args:
        source: Folder or ``RELEASE:SAE_ID`` of an SAE, or the output folder of ``abstopk pairs`` or ``abstopk diff``.
        latent: The latent, or axis.
        prompts: Texts to continue.
        strengths: Each is added and taken away.
        operator: ``add``, or ``cap`` to move each token at least that far along the latent and no further; see
            :func:`~sae_lens_abstopk.evaluation.steering.steer.steer`.
        scale: Code that a strength of 1 adds; by default the 99th percentile of |code| in the record of pairs or of
            two models, or else measured on text.
        model: Hub id or folder of another model than the SAE's.
        adapter: PEFT adapter that is switched on in the model.
        tuned: Steer the tuned model of ``abstopk diff`` in place of the base.
        text: Text to measure the scale on, in place of what the run of the SAE held out.
        chat: The prompts are a user's turns.
        max_new_tokens: Longest continuation.
        device: Where the model runs.

    Raises:
        ConfigError: before weights are read, if the SAE cannot be loaded or lacks the latent, or the model, adapter or
            scale is unknown; the model lacks the hook.
    """
    folder = Path(source) / SAE_FOLDER if (Path(source) / SAE_FOLDER).is_dir() else Path(source)
    sae = load_sae(folder if folder.is_dir() else source)
    require_range("latent", latent, at_least=0, below=sae.cfg.d_sae)
    metadata: Any = sae.cfg.metadata
    if tuned:
        model, adapter = tuned_model_of(sae, model=model, adapter=adapter)
    scale = scale if scale is not None else _recorded_scale(folder, latent)
    if scale is not None and text is not None:
        raise ConfigError(
            f"text={text!r} is to measure the scale of latent {latent} on, which is given or recorded as {scale:.3g}; "
            "leave the text out."
        )
    if metadata.get("source") == "model_difference" or metadata.get("reading"):
        require_given(
            f"the scale of latent {latent} in the record beside {source}",
            scale,
            "give --scale CODE, or a latent that fired",
        )
    lm: Any = None
    if scale is None:
        subjects = load_subject_saes(source, model=model, text=text, device=device).with_model()
        lm, (of_subjects,) = subjects.model, subjects.saes.values()
        scale = latent_scale(lm, of_subjects, subjects.batches(TOKENS), latents=[latent])(latent)
    spec = model_of_metadata(folder, sae, model_name=model, device=device)
    unread = TextSpec(dataset_path="prompts", context_size=2, use_chat_formatting=chat)
    if lm is not None and adapter is None:
        steered = SteeredModel(lm)
    else:
        steered = SteeredModel.load(spec, unread, adapter=adapter, d_in=sae.cfg.d_in)
    every = tuple(sorted({0.0, *strengths, *(-each for each in strengths)}))
    options: dict[str, Any] = {"operator": operator, "chat": chat, "max_new_tokens": max_new_tokens}
    with steered.running():
        moved = sae.to(spec.device)
        texts = steered_texts(steered.model, moved, {latent: scale}, prompts, strengths=every, **options)
    name = f"{spec.model_name} with {adapter}" if adapter else spec.model_name
    return SteeredPrompts(name, scale, every, texts[latent])


def _recorded_scale(folder: Path, latent: int) -> float | None:
    """Return the scale of a latent in the record beside the SAE that it is of, if there is one."""
    if folder.resolve().name != SAE_FOLDER:
        return None
    if (record := folder.parent / OF_PAIRS).is_file():
        with reading(record, "fit the pairs again with `abstopk pairs`"):
            of_pairs = PairResults.model_validate_json(record.read_text(encoding="utf-8"))
        return next(each.scale for each in of_pairs.axes if each.latent == latent) or None
    if (record := folder.parent / OF_DIFF).is_file():
        with reading(record, "make it again with `abstopk diff`"):
            of_diff = DiffResults.model_validate_json(record.read_text(encoding="utf-8"))
        found = next(each for each in of_diff.latents if each.latent == latent)
        return max(found.positive.scale, found.negative.scale) or None
    return None
