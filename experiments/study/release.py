"""Write the released dictionaries: SAEs of the study in bfloat16 and the canonical gauge, with their card.

    python -m experiments.study.release layer15_k57=runs/evidence/saes/layer15_x8_k57_mixed_32nd_seed0_lr0.001 \\
      layer15_k57_abstopk=runs/evidence/saes/layer15_x8_k57_abstopk_seed0_lr0.001

The numbers of the card are measured on the rounded SAEs (`release.yaml`). An existing release is replaced once the new
one is complete.
"""

import argparse
import shutil
from collections.abc import Mapping
from pathlib import Path

from sae_lens import SAE

from experiments.study.arguments import plain_errors
from experiments.study.runs import HERE, ROOT, weights_digest
from sae_lens_abstopk.cli.app import named_folders
from sae_lens_abstopk.evaluation.suite.evaluate import evaluate
from sae_lens_abstopk.evaluation.suite.results_folder import RESULTS_FILENAME
from sae_lens_abstopk.hub import publish
from sae_lens_abstopk.model.quickstart_model import quickstart_model
from sae_lens_abstopk.system.errors import ConfigError
from sae_lens_abstopk.system.yaml_files import CONFIG_FILENAME

RELEASES = ROOT / "evals" / "releases"
NAME = "smollm2-135m-instruct"
REPOSITORY = f"sae-lens-abstopk/{NAME}"
BASE_MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
MODEL_WEIGHTS = "quantised to four bits (Q4_1) and back"


def in_bfloat16(folder: Path, out: Path) -> Path:
    """Write the SAE of ``folder``, rounded, to ``out``, whose name is its id."""
    if out.resolve() == folder.resolve():
        raise ConfigError(f"{folder} is where the rounded SAE would be written; give another --work or another id.")
    if not (folder / CONFIG_FILENAME).is_file():
        raise ConfigError(f"{folder} is not the folder of a run of the study: it has no {CONFIG_FILENAME}.")
    sae = SAE.load_from_disk(folder, dtype="bfloat16")
    shutil.rmtree(out, ignore_errors=True)
    sae.cfg.metadata.label = out.name
    sae.cfg.metadata.model_weights = MODEL_WEIGHTS
    sae.save_model(out)
    shutil.copy(folder / CONFIG_FILENAME, out)  # says which text is held out
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("saes", nargs="+", metavar="ID=FOLDER", help="an SAE of the study and its id in the release")
    parser.add_argument("--work", type=Path, default=Path("runs/evidence/release"), help="folder of the measurements")
    parser.add_argument("--model", type=Path, help="folder of the model; by default the quickstart's, which is fetched")
    args = parser.parse_args()
    with plain_errors(parser):
        release(named_folders(args.saes), args.work, str(args.model or quickstart_model(print)))


def release(saes: Mapping[str, Path], work: Path, model: str) -> None:
    """Round, measure and stage the SAEs in ``work``, then replace the release."""
    rounded = {sae_id: in_bfloat16(folder, work / sae_id) for sae_id, folder in saes.items()}
    results = work / f"results_{weights_digest(rounded.values())}"
    evaluate(rounded, suite=HERE / "release.yaml", out=results, model_name=model)
    staged = work / NAME
    shutil.rmtree(staged, ignore_errors=True)
    published = publish(
        rounded,
        REPOSITORY,
        results=results / RESULTS_FILENAME,
        measure=True,
        model_name=model,
        license="mit",
        base_model=BASE_MODEL,
        dry_run_folder=staged,
    )
    copied = RELEASES / f".{NAME}"
    shutil.rmtree(copied, ignore_errors=True)
    shutil.copytree(staged, copied)
    shutil.rmtree(RELEASES / NAME, ignore_errors=True)
    copied.rename(RELEASES / NAME)
    print(f"{RELEASES / NAME}: {sum(file.size for file in published.files.values()) / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
