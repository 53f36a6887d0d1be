"""SAEs to publish, as a user of another machine would have them."""

from pathlib import Path
from typing import Any

from sae_lens.saes.sae import SAEMetadata

from tests.equivalents.test_mirror import signed

REPO = "someone/signed-saes"


def an_sae(architecture: str = "signed_jumprelu", **options: Any) -> Any:
    metadata = SAEMetadata(
        hook_name="model.layers.3",
        model_name="/home/me/models/tiny",
        dataset_path="/home/me/texts.jsonl",
        training_tokens=204_800,
        label="mine",
    )
    return signed(architecture, metadata=metadata, **options)


def saved(tmp_path: Path, architecture: str = "signed_jumprelu", **options: Any) -> Path:
    folder = tmp_path / architecture.replace(" ", "-")
    an_sae(architecture, **options).save_model(folder)
    return folder
