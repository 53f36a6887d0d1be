"""SAEs that were trained on vectors, with the rows that they are measured on."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from sae_lens import SAE

from sae_lens_abstopk.evaluation.subjects.named_saes import NamedSAEs
from sae_lens_abstopk.evaluation.subjects.sae_specs import name_with_options, text_keys
from sae_lens_abstopk.evaluation.tasks.task import Task
from sae_lens_abstopk.model.model_spec import require_device, resolve_device
from sae_lens_abstopk.model.representations import Representations, represent_rows
from sae_lens_abstopk.model.text_store import CODES_OF_A_PASS
from sae_lens_abstopk.model.token_filter import TokenFilter
from sae_lens_abstopk.system.errors import errors_in, require_given, require_same_width
from sae_lens_abstopk.system.files import without_path
from sae_lens_abstopk.system.precision import FLOAT32
from sae_lens_abstopk.system.typed_values import field_types, from_keys
from sae_lens_abstopk.system.yaml_files import run_configs
from sae_lens_abstopk.text.text_files import ARRAYS
from sae_lens_abstopk.vectors.embedding import embedding_precision, open_rows
from sae_lens_abstopk.vectors.rows_as_texts import RowPasses, RowText
from sae_lens_abstopk.vectors.vector_spec import ANY_COLUMN, VectorPart, VectorSpec
from sae_lens_abstopk.vectors.vectors import Vectors

BATCH = 4096
"""Most rows of a batch."""


@dataclass(frozen=True)
class VectorSubjects(NamedSAEs):
    """
    SAEs of vectors with their rows, for the code that measures :class:`~.subjects.Subjects`.

    A row is read as a text of one token, whose id is the number of the row.
    """

    spec: VectorSpec
    part: VectorPart
    """Part of the rows to read."""
    held_out: bool
    """Whether these rows are certainly held out from the training of every SAE."""
    vectors: Vectors
    text_of: RowText

    has_model = False
    kept_tokens = None
    precision: str | None = None
    """Precision in which texts were embedded; None if vectors are read."""
    hook_name = RowPasses.hook_name
    token_filter = TokenFilter()

    def with_model(self, **_: Any) -> "VectorSubjects":
        """Return the same, as vectors need no model."""
        return self

    @property
    def passes(self) -> RowPasses:
        return RowPasses(self.vectors, self.spec, self.device)

    @property
    def model_name(self) -> str:
        """Name of the model that embeds the texts, without the path of a local folder; empty if vectors are read."""
        return without_path(self.spec.model_name) if self.spec.model_name else ""

    @property
    def text_name(self) -> str:
        """Name of the vectors, without the path of a local file, with the options of ``--data``."""
        return name_with_options(self.spec)

    def activation_facts(self) -> dict[str, Any]:
        """Return everything that decides the activations and their order, local files included."""
        return {"vectors": self.passes.identity(), "part": self.part}

    def batches(self, n_tokens: int, *, with_logits: bool = False) -> list[torch.Tensor]:  # noqa: ARG002
        """Return the numbers of the first ``n_tokens`` rows of the part, or of all its rows, in batches [n, 1]."""
        d_sae = max(sae.cfg.d_sae for sae in self.saes.values())
        rows = self.vectors.part(self.spec, self.part)[:n_tokens, None]
        return list(rows.split(max(1, min(BATCH, CODES_OF_A_PASS // d_sae))))

    def sample(self, n: int) -> torch.Tensor:
        """Return the first ``n`` vectors [n, d_in] that the run trained on; of other vectors, of all."""
        rows = self.vectors.part(self.spec, "all" if self.part == "all" else "train")
        return self.vectors.rows(rows[:n]).to(self.device)

    def represent(
        self, saes: Mapping[str, SAE[Any]], task: Task, on_progress: Callable[[int, int], None]
    ) -> Representations:
        """Return vectors and codes of the rows whose numbers are the texts of ``task``."""
        rows = torch.tensor([int(text) for text in task.texts])
        return represent_rows(self.passes, saes, rows, on_progress=on_progress)


def is_of_vectors(sae: SAE[Any]) -> bool:
    """Return whether an SAE was trained on vectors."""
    return sae.cfg.metadata.get("source") == "vectors"


def vector_subjects(
    named: NamedSAEs,
    *,
    data: str | Path | None = None,
    show: str | None = None,
    float32: bool = False,
    device: str = "auto",
) -> VectorSubjects:
    """
    Open the vectors that SAEs are measured on.

    ``data`` is read instead of the held-out rows of the first SAE's run: ``PATH``, or
    ``PATH,name=CONFIGURATION,split=SPLIT,column=COLUMN`` with any of these. ``show`` is the column with the texts of
    rows; see :meth:`RowText.of_vectors`. Texts are embedded in ``float32``, or else in the faster precision.

    Raises:
        ConfigError: the vectors cannot be opened, are not finite or not as wide as the SAEs, or a column is missing.
    """
    recorded = [_recorded(Path(named.sources[name]), sae) for name, sae in named.saes.items()]
    if data is None:
        what = f"the name of the vectors of {next(iter(named.sources.values()))}"
        require_given(what, recorded[0].get("dataset_path"), "give --data FILE")
        spec = _spec(recorded[0])
    else:
        plain = {"dataset_name": None, "split": "train", "column_name": ANY_COLUMN}
        spec = _spec(recorded[0] | plain | text_keys("data", str(data)) | {"group": None, "held_out_every": None})
    on = resolve_device("device", device)
    require_device("device", on)
    with errors_in("", " Give other vectors than those of the run with --data FILE." if data is None else ""):
        precision = None
        if spec.model_name:
            precision = FLOAT32 if float32 else embedding_precision(spec.model_name, device=on)
        vectors = open_rows(spec, precision=precision, device=on)
    for name, sae in named.saes.items():
        require_same_width(vectors.name, vectors.d_in, name, sae.cfg.d_in)
    vectors.require_sound()
    part: VectorPart = "all" if spec.held_out_every is None else "held_out"
    vectors.part(spec, part)  # a missing group is reported now
    return VectorSubjects(
        named.copied_to(on),
        named.sources,
        spec=spec,
        part=part,
        held_out=part == "held_out"
        and all(_spec(each) == spec and not each.get("from_pretrained_path") for each in recorded),
        vectors=vectors,
        text_of=RowText.of_vectors(vectors, show or (spec.column_name if spec.model_name else None)),
        precision=precision,
    )


def _recorded(folder: Path, sae: SAE[Any]) -> dict[str, Any]:
    """Return the keys of an SAE's vectors in its metadata, or those of its run, if the config is there."""
    for _, raw in run_configs(folder):
        if raw.get("source") == "vectors":
            return raw
    metadata = sae.cfg.metadata
    return {key: metadata[key] for key in field_types(VectorSpec) if key in metadata}


def _spec(recorded: Mapping[str, Any]) -> VectorSpec:
    path = Path(str(recorded.get("dataset_path") or "")).expanduser()
    embeds = recorded.get("model_name") and path.suffix not in ARRAYS  # an array holds vectors, whatever the run read
    model = os.path.expanduser(str(recorded["model_name"])) if embeds else ""
    return from_keys(VectorSpec, {**recorded, "dataset_path": str(path), "model_name": model})
