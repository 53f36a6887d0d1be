"""
Write the released dictionaries of pairs and of vectors, with their cards.

    abstopk pairs concepts --model HuggingFaceTB/SmolLM2-135M-Instruct --layer 15 --seed 10 --out runs/concepts
    abstopk train vectors model=sentence-transformers/all-MiniLM-L6-v2 data=glosses.jsonl column=text --out runs/glosses
    python -m experiments.small_releases --concepts runs/concepts --glosses runs/glosses

Each line of ``glosses.jsonl`` has a gloss of WordNet 3.0 as its ``text``; 20,000 were drawn by
``random.Random(0).sample``.
"""

import argparse
import shutil
import tempfile
from pathlib import Path
from typing import Any

from sae_lens import SAE

from experiments.study.arguments import plain_errors
from experiments.study.release import BASE_MODEL, MODEL_WEIGHTS, RELEASES
from sae_lens_abstopk.evaluation.suite.evaluate import evaluate
from sae_lens_abstopk.evaluation.suite.results_folder import RESULTS_FILENAME
from sae_lens_abstopk.hub import publish
from sae_lens_abstopk.system.yaml_files import CONFIG_FILENAME

CONCEPTS, GLOSSES = "smollm2-135m-concepts", "minilm-glosses"
EMBEDDER = "sentence-transformers/all-MiniLM-L6-v2"
TEXT = "20,000 glosses of WordNet 3.0 (WordNet 3.0 licence, Copyright 2006 by Princeton University)"


def release_concepts(run: Path) -> None:
    """Release the SAE of the concepts' pairs, which says what the model's weights were."""
    sae = SAE.load_from_disk(run / "sae", dtype="float32")
    sae.cfg.metadata.model_weights = MODEL_WEIGHTS
    sae.save_model(run / "sae")
    _publish(CONCEPTS, {"layer15": run / "sae"}, base_model=BASE_MODEL)


def release_glosses(run: Path, work: Path) -> None:
    """Round the SAE of glosses to bfloat16, measure it on held-out glosses, and release it."""
    sae, rounded = SAE.load_from_disk(run, dtype="bfloat16"), work / "embeddings"
    sae.save_model(rounded)
    shutil.copy(run / CONFIG_FILENAME, rounded)  # says which glosses are held out
    evaluate(rounded, out=work / "results")
    measured = work / "results" / RESULTS_FILENAME
    sae.cfg.metadata.dataset_path = TEXT
    sae.save_model(rounded)
    _publish(GLOSSES, {"embeddings": rounded}, base_model=EMBEDDER, results=measured)


def _publish(name: str, saes: dict[str, Path], **options: Any) -> None:
    shutil.rmtree(RELEASES / name, ignore_errors=True)
    publish(saes, f"sae-lens-abstopk/{name}", license="mit", dry_run_folder=RELEASES / name, **options)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--concepts", type=Path, help="folder of `abstopk pairs concepts`")
    parser.add_argument("--glosses", type=Path, help="folder of `abstopk train vectors`")
    args = parser.parse_args()
    with plain_errors(parser):
        if args.concepts:
            release_concepts(args.concepts)
        if args.glosses:
            with tempfile.TemporaryDirectory(prefix="glosses-") as work:
                release_glosses(args.glosses, Path(work))


if __name__ == "__main__":
    main()
