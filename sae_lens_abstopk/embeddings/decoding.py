"""Codes in Parquet as the vectors that their SAE decodes them to."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from rich.console import Console
from sae_lens import SAE
from scipy.sparse import csr_array

from sae_lens_abstopk.embeddings.code_rows import decoded_rows, require_decoder
from sae_lens_abstopk.embeddings.encoding import CODES, INDICES, VALUES, sae_facts, sae_on
from sae_lens_abstopk.embeddings.parquet_parts import Written, parquet_writer
from sae_lens_abstopk.embeddings.row_files import VECTOR, RowFile, lists_of, open_rows
from sae_lens_abstopk.saes.loading import Source, origin_of
from sae_lens_abstopk.system.errors import ConfigError
from sae_lens_abstopk.system.files import require_new, require_space, whole_file
from sae_lens_abstopk.system.terminal import passes_bar
from sae_lens_abstopk.text.text_files import local_files, record_of
from sae_lens_abstopk.vectors.vector_spec import VectorSpec


def decode_file(
    sae: Source, codes: str | Path, out: str | Path, *, device: str = "auto", console: Console | None = None
) -> Written:
    """
    Decode codes of :func:`~.encoding.encode_file` to vectors in float32, in the order of the rows.

    Args:
        sae: The SAE that made the codes.
        codes: A Parquet file, or the folder of all parts.
        out: A new .npy file, or a new .parquet file with the other columns of the codes and the column ``vector``.

    Raises:
        ConfigError: the codes are of another SAE, damaged or incomplete, the SAE needs more than codes to decode, or
            ``out`` cannot be used.
    """
    out, console = Path(out), console or Console(quiet=True)
    require_new(out, ".npy", ".parquet")
    loaded, name = sae_on(sae, device), origin_of(sae)
    require_decoder(name, loaded)
    rows = open_rows(VectorSpec(dataset_path=str(codes)))
    _require_codes_of(loaded, name, rows, Path(codes))
    needed = rows.n_rows * loaded.cfg.d_in * 4
    out.parent.mkdir(parents=True, exist_ok=True)
    remedy = "free some, or choose another disk with --out"
    require_space(out.parent, needed, f"decoding {rows.n_rows:,} rows", remedy=remedy)
    write = _write_npy if out.suffix == ".npy" else _write_parquet
    with passes_bar(console, "decoding") as on_progress, whole_file(out) as partial:
        write(partial, loaded, rows, lambda done: on_progress(done, rows.n_rows))
    return Written(out, rows.n_rows, out.stat().st_size, rows.n_rows, 0)


def _write_npy(path: Path, sae: SAE[Any], rows: RowFile, on_rows: Any) -> None:
    about = {"descr": "<f4", "fortran_order": False, "shape": (rows.n_rows, sae.cfg.d_in)}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, about)
        for _, x, done in _decoded(sae, rows, []):
            file.write(x.tobytes())
            on_rows(done)


def _write_parquet(path: Path, sae: SAE[Any], rows: RowFile, on_rows: Any) -> None:
    others = [field for field in rows.schema if field.name not in (INDICES, VALUES, VECTOR)]
    made = pa.field(VECTOR, pa.list_(pa.float32(), sae.cfg.d_in))
    schema = pa.schema([*others, made])
    with parquet_writer(path, schema, [made]) as writer:
        for table, x, done in _decoded(sae, rows, [field.name for field in others]):
            kept = [table.column(field.name) for field in others]
            writer.write_table(pa.table([*kept, lists_of(torch.from_numpy(x))], schema=schema))
            on_rows(done)


def _decoded(
    sae: SAE[Any], rows: RowFile, others: list[str]
) -> Iterator[tuple[pa.Table, npt.NDArray[np.float32], int]]:
    """Yield the rows with ``others`` a block at a time, their vectors, and the number of rows so far."""
    done = 0
    for table in rows.read(range(rows.n_rows), [INDICES, VALUES, *others]):
        indices, values = (table.column(name).combine_chunks() for name in (INDICES, VALUES))
        counts, latents = np.asarray(indices.value_lengths().fill_null(0)), np.asarray(indices.flatten())
        sound = indices.value_lengths().equals(values.value_lengths()) and not indices.null_count
        if not sound or (latents.size and not 0 <= latents.min() <= latents.max() < sae.cfg.d_sae):
            raise ConfigError(
                f"{rows.name}: rows {done} to {done + len(table) - 1} do not have as many values as indices, each from "
                f"0 to {sae.cfg.d_sae - 1}; encode again."
            )
        offsets = np.concatenate([[0], counts.cumsum()])
        codes = csr_array((np.asarray(values.flatten()), latents, offsets), shape=(len(table), sae.cfg.d_sae))
        done += len(table)
        yield table, decoded_rows(sae, codes), done


def _require_codes_of(sae: SAE[Any], name: str, rows: RowFile, codes: Path) -> None:
    """Raise a ConfigError unless every file has codes of ``sae``."""
    rows.require_columns([field.name for field in CODES])
    digest = sae_facts(sae)["sae_sha256"]
    for file in local_files(codes)[1]:
        record = record_of(pq.read_schema(file))
        if (found := record.get("sae_sha256")) != digest:
            made_by = f"of another SAE ({record['sae']}, d_sae={record['d_sae']})" if found else "of an unknown SAE"
            raise ConfigError(
                f"{file} has codes {made_by}, not of {name}; give the SAE with which `abstopk encode` made them."
            )
