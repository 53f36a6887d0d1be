"""Vectors that are sums of few signed directions, and SAEs whose latents are those directions."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from sae_lens.saes.sae import SAEMetadata

from sae_lens_abstopk import SignedJumpReLUSAE, SignedJumpReLUSAEConfig

N, D, F = 400, 12, 8
EVERY = 10


class Planted(NamedTuple):
    """A folder with ``x.parquet``, whose vectors have known codes [N, F], and an SAE ``sae`` that finds them."""

    folder: Path
    codes: torch.Tensor

    @property
    def sae(self) -> str:
        return str(self.folder / "sae")


def planted(folder: Path) -> Planted:
    """Write vectors with texts, labels and groups, and an SAE; latent 0 is the label ``mood``, 3 is in the texts."""
    random = np.random.default_rng(0)
    codes = random.uniform(1, 3, (N, F)) * random.choice([-1, 0, 0, 1], (N, F))
    codes[:, 0] = random.uniform(1, 3, N) * np.where(np.arange(N) % 7 < 4, 1, -1)
    directions = np.linalg.qr(random.normal(size=(D, F)))[0].T
    x = codes @ directions + 0.01 * random.normal(size=(N, D))
    columns: dict[str, Any] = {
        "vector": x.astype(np.float32).tolist(),
        "text": [f"text {i}{['', ' rising', ' falling'][int(sign)]}" for i, sign in enumerate(np.sign(codes[:, 3]))],
        "mood": ["glad" if code > 0 else "sad" for code in codes[:, 0]],
        "topic": [["none", "up", "down"][int(np.sign(code))] for code in codes[:, 1]],
        "season": ["autumn" if i < 3 else "summer" if i % 3 else "spring" for i in range(N)],
        "writer": [f"writer {i // 5}" for i in range(N)],
    }
    pq.write_table(pa.table(columns), folder / "x.parquet")
    save_sae(folder / "sae", torch.from_numpy(directions).float(), dataset_path=str(folder / "x.parquet"))
    return Planted(folder, torch.from_numpy(codes).float())


def save_sae(folder: Path, directions: torch.Tensor, **metadata: Any) -> None:
    """Save an SAE with these decoder rows [F, D], and the metadata of a run on vectors."""
    recorded = {"source": "vectors", "column_name": "vector", "group": None, "held_out_every": EVERY} | metadata
    sae = SignedJumpReLUSAE(
        SignedJumpReLUSAEConfig(d_in=directions.shape[1], d_sae=len(directions), metadata=SAEMetadata(**recorded))
    )
    with torch.no_grad():
        sae.W_dec.copy_(directions)
        sae.W_enc.copy_(directions.T)
        sae.b_enc.zero_()
        sae.b_dec.zero_()
        sae.threshold.fill_(0.5)
    sae.save_model(folder)
