"""SAEs with what they are measured on: a language model and its text, or vectors, as they were trained."""

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath

from transformer_lens.HookedRootModule import HookedRootModule

from sae_lens_abstopk.evaluation.subjects.named_saes import load_named
from sae_lens_abstopk.evaluation.subjects.subjects import LoadedSAEs, Subjects, load_subject_saes
from sae_lens_abstopk.evaluation.subjects.vector_subjects import VectorSubjects, is_of_vectors, vector_subjects
from sae_lens_abstopk.saes.loading import Source
from sae_lens_abstopk.system.errors import ConfigError

Measured = Subjects | VectorSubjects


def load_measured(
    sources: Source | Sequence[Source] | Mapping[str, Source],
    *,
    model: str | PurePath | HookedRootModule | None = None,
    text: str | None = None,
    data: str | Path | None = None,
    show: str | None = None,
    labels: str | None = None,
    float32: bool = False,
    device: str = "auto",
) -> LoadedSAEs | VectorSubjects:
    """
    Load SAEs and find what they are measured on, without loading a language model.

    ``model`` and ``text`` as in :func:`~.subjects.load_subject_saes`, ``data`` and ``show`` as in
    :func:`~.vector_subjects.vector_subjects`; ``labels``, a column of vectors, is only checked.
    ``float32`` is for texts that are embedded; for others, see :meth:`~.subjects.LoadedSAEs.with_model`.

    Raises:
        ConfigError: SAEs of vectors are mixed with others, an option is for SAEs of the other kind, or as there.
    """
    named = load_named(sources)
    of_vectors = [name for name, sae in named.saes.items() if is_of_vectors(sae)]
    others = [name for name in named.saes if name not in of_vectors]
    if of_vectors and others:
        raise ConfigError(
            f"SAEs trained on vectors ({', '.join(of_vectors)}) and on a language model ({', '.join(others)}) cannot "
            "be measured together; give those of one kind."
        )
    kinds = ("vectors", "a language model") if of_vectors else ("a language model", "vectors")
    options = {"--model": model, "--text": text} if of_vectors else {"--data": data, "--show": show, "--labels": labels}
    if wrong := [option for option, value in options.items() if value is not None]:
        raise ConfigError(
            f"{' and '.join(wrong)}: these SAEs were trained on {kinds[0]}, and that is an option for SAEs trained on "
            f"{kinds[1]}; leave it out."
        )
    if of_vectors:
        return vector_subjects(named, data=data, show=show, float32=float32, device=device)
    return load_subject_saes(named, model=model, text=text, device=device)
