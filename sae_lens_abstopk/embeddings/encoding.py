"""Vectors in files as sparse codes in Parquet: the latents of each row and their values."""

import hashlib
import json
from collections.abc import Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from rich.console import Console
from sae_lens import SAE

from sae_lens_abstopk.embeddings.code_rows import code_rows
from sae_lens_abstopk.embeddings.parquet_parts import Shard, Work, Written
from sae_lens_abstopk.embeddings.row_files import open_vector_rows
from sae_lens_abstopk.embeddings.run_work import run_work
from sae_lens_abstopk.evaluation.results.facts import config_facts
from sae_lens_abstopk.model.model_spec import require_device, resolve_device
from sae_lens_abstopk.saes.loading import Source, load_sae, origin_of
from sae_lens_abstopk.saes.signed import is_signed
from sae_lens_abstopk.system.errors import require_same_width
from sae_lens_abstopk.system.files import without_path
from sae_lens_abstopk.vectors.vector_spec import VectorSpec
from sae_lens_abstopk.vectors.vectors import require_finite

INDICES, VALUES = "indices", "values"
CODES = (pa.field(INDICES, pa.list_(pa.int32())), pa.field(VALUES, pa.list_(pa.float32())))
"""Columns of codes: the active latents of a row, ascending, and their values, with their signs."""


def encode_file(
    sae: Source,
    data: VectorSpec,
    out: str | Path,
    *,
    model_name: str | None = None,
    keep: Sequence[str] = (),
    shard: Shard | None = None,
    ray_workers: int | None = None,
    device: str = "auto",
    console: Console | None = None,
) -> Written:
    """
    Encode vectors, or texts with ``model_name``, into Parquet with the columns :data:`CODES`, one row a vector.

    Memory does not grow with the number of rows. The schema's metadata say which SAE made the codes. Without ``shard``
    and ``ray_workers``, embeddings of texts go through the cache of :func:`~.embedding.embedded`.

    Args:
        sae: With an architecture that :func:`~.topk_codes.encode_topk` supports.
        data: Vectors, or texts in the column ``column_name``.
        out: A new .parquet file; with ``shard`` or ``ray_workers`` a folder of parts, of which those that are there are
            not made again.
        model_name: The sentence-transformers model that embeds the texts.
        keep: Columns to copy, such as ids and labels.
        shard: Encode only this share of the rows.
        ray_workers: Number of workers on Ray; 0 takes one for each GPU of the cluster, or each core if it has none.
        device: Device of the SAE and of the model.

    Raises:
        ConfigError: the SAE, the data, a column or ``out`` cannot be used, widths differ, or a value is not finite.
    """
    make = partial(encode_work, sae, data, model_name=model_name, keep=tuple(keep), device=device)
    if shard is None and ray_workers is None:
        make = partial(make, cached_for=console or Console(quiet=True))
    return run_work("encoding", make, Path(out), shard=shard, ray_workers=ray_workers, console=console)


def encode_work(
    sae: Source,
    data: VectorSpec,
    *,
    model_name: str | None,
    keep: tuple[str, ...],
    device: str,
    cached_for: Console | None = None,
) -> Work:
    """Load all that encoding needs, and check it; ``cached_for`` as in :func:`~.row_files.open_vector_rows`."""
    loaded = sae_on(sae, device)
    code_rows(loaded, torch.zeros(1, loaded.cfg.d_in))  # raises for other architectures
    found = open_vector_rows(data, model_name=model_name, device=device, cached_for=cached_for)
    name = found.rows.name
    require_same_width(name, found.d_in, origin_of(sae), loaded.cfg.d_in)

    def make(block: pa.Array, start: int) -> list[pa.Array]:
        x = found.vectors(block, start)
        require_finite(x, name, start)
        codes = code_rows(loaded, x)
        codes.sort_indices()
        return [pa.ListArray.from_arrays(codes.indptr, part) for part in (codes.indices, codes.data)]

    record = {
        "kind": "codes",
        "sae": without_path(origin_of(sae)),
        **sae_facts(loaded),
        "source": without_path(data.dataset_path),
        "model": model_name and without_path(model_name),
    }
    return Work(found.rows, found.column, keep, CODES, record, make)


def sae_on(sae: Source, device: str) -> SAE[Any]:
    """Load an SAE onto a device; one in memory stays where it is, and a copy of it moves."""
    device = resolve_device("device", device)
    require_device("device", device)
    loaded = load_sae(sae)
    return loaded if loaded.device == torch.device(device) else deepcopy(loaded).to(device)


def sae_facts(sae: SAE[Any]) -> dict[str, Any]:
    """Return what tells whether codes are of this SAE: a digest of its weights and settings, and its sizes."""
    settings = {key: value for key, value in config_facts(sae).items() if key != "metadata"}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for name, weight in sorted(sae.state_dict().items()):
        digest.update(name.encode())
        digest.update(weight.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    sizes = {"d_in": sae.cfg.d_in, "d_sae": sae.cfg.d_sae, "signed": is_signed(sae)}
    return {"sae_sha256": digest.hexdigest(), **sizes}
