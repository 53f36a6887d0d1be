"""Write the released dictionary: one SAE of the study in bfloat16 and the canonical gauge, with what it measures, as a card.

    python -m evidence.release --work runs/evidence

The run has to be trained (study.py does that). The half-precision SAE is measured anew, by the steering suite: numbers on the
card are its own. What was in `evals/releases/NAME` is replaced.
"""

import argparse
import shutil
from pathlib import Path

from sae_lens import SAE

from evidence.study import HERE
from sae_lens_abstopk.evaluation.evaluate import RESULTS_FILENAME, evaluate
from sae_lens_abstopk.hub import publish
from sae_lens_abstopk.hub.results import results_of_file
from sae_lens_abstopk.hub.sources import measure
from sae_lens_abstopk.quickstart_model import quickstart_model
from sae_lens_abstopk.training.resume import CONFIG_FILENAME

RELEASES = HERE.parent / "evals" / "releases"
NAME, SAE_ID = "smollm2-135m-instruct", "layer15_k57"
REPOSITORY = f"sae-lens-abstopk/{NAME}"
BASE_MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"


def in_bfloat16(folder: Path, out: Path) -> Path:
    """The SAE of ``folder``, rounded, in ``out``."""
    shutil.rmtree(out, ignore_errors=True)
    sae = SAE.load_from_disk(folder, dtype="bfloat16")
    sae.cfg.metadata.label = SAE_ID
    sae.save_model(out)
    shutil.copy(folder / CONFIG_FILENAME, out)  # the held-out text is in it
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("runs/evidence"), help="where study.py keeps its SAEs")
    parser.add_argument(
        "--run", default="layer15_x8_k57_mixed_seed0_lr0.001", help="folder of the one that is released"
    )
    parser.add_argument("--model", type=Path, help="folder of the model; by default the quickstart's, which is fetched")
    args = parser.parse_args()
    model, work = str(args.model or quickstart_model(print)), args.work / "release"
    rounded = in_bfloat16(args.work / "saes" / args.run, work / SAE_ID)
    evaluate({SAE_ID: rounded}, suite=HERE / "steering.yaml", out=work / "results", model_name=model)
    _, poles = measure({SAE_ID: rounded}, model_name=model)
    shutil.rmtree(RELEASES / NAME, ignore_errors=True)
    released = publish(
        {SAE_ID: rounded},
        REPOSITORY,
        results=results_of_file(work / "results" / RESULTS_FILENAME),
        poles=poles,
        license="mit",
        base_model=BASE_MODEL,
        dry_run=RELEASES / NAME,
    )
    print(f"{RELEASES / NAME}: {sum(file.size for file in released.files.values()) / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
