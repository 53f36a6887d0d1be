"""
Train five short runs, and one that is killed and resumed, and print the SHA-256 of their weights.

A change to the code that shall not change numbers leaves every hash equal on one machine:

    python -m experiments.bit_equality --model FOLDER --out before.json     # before the change
    python -m experiments.bit_equality --model FOLDER --against before.json  # after it

``--model`` is a folder with SmolLM2-135M-Instruct, such as the one that ``abstopk quickstart`` makes.
"""

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

STEPS = 40
KILL_AFTER = 20
"""Step of the checkpoint after which the run is killed."""
COMPANION = {"batchtopk": {"architecture": "sparse_batchtopk"}}
SAES: dict[str, dict[str, Any]] = {
    "quickstart": {},
    "abstopk": {"sae": {"architecture": "abstopk", "expansion_factor": 8, "k": 57}, "companions": {}},
    "batch_abstopk, signed_share": {
        "sae": {"architecture": "batch_abstopk", "expansion_factor": 8, "k": 57, "signed_share": 0.25},
        "companions": {},
    },
    "matryoshka": {
        "sae": {"architecture": "matryoshka_batch_abstopk", "expansion_factor": 8, "k": 57},
        "companions": {},
    },
    "jumprelu, target_l0": {
        "sae": {"architecture": "jumprelu", "expansion_factor": 8, "l0_coefficient": 1.0},
        "target_l0": {"sae": 57},
        "companions": {"topk": {"architecture": "sparse_topk", "k": 57}},
    },
}
KILLED = "batch_abstopk, signed_share"


def main() -> None:
    """Run missing runs, print the hashes, and compare them."""
    arguments = _arguments()
    with tempfile.TemporaryDirectory() as scratch:
        found: dict[str, str] = {}
        for name, changes in SAES.items():
            found |= _hashes(name, _train(Path(scratch), name, arguments.model, changes))
        killed = _killed_and_resumed(Path(scratch), arguments.model, SAES[KILLED])
        found |= _hashes(f"{KILLED}, resumed after kill -9", killed)
    print(json.dumps(found, indent=1))
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(found, indent=1) + "\n")
    if arguments.against is not None:
        before = json.loads(arguments.against.read_text())
        if different := [name for name in before if found.get(name) != before[name]]:
            sys.exit(f"different weights: {', '.join(different)}")
        print(f"the same weights in all {len(before)} SAEs")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--out", type=Path, help="where to write the hashes")
    parser.add_argument("--against", type=Path, help="hashes to compare with")
    return parser.parse_args()


def _config(folder: Path, name: str, model: Path, changes: dict[str, Any]) -> Path:
    """Write the config of a run: the preset quickstart, cut short, with ``changes``."""
    shown = subprocess.run(["abstopk", "configs", "quickstart"], check=True, capture_output=True, text=True)
    raw = yaml.safe_load(shown.stdout) | {"model_name": str(model), "training_tokens": STEPS * 256, **changes}
    raw |= {"output_path": str(folder / name), "device": "cpu"}
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(raw))
    return path


def _train(folder: Path, name: str, model: Path, changes: dict[str, Any]) -> Path:
    config = _config(folder, name, model, changes)
    subprocess.run(["abstopk", "train", config], check=True, stdout=sys.stderr)
    return folder / name


def _killed_and_resumed(folder: Path, model: Path, changes: dict[str, Any]) -> Path:
    config = _config(folder, "killed", model, changes | {"checkpoint_freq": KILL_AFTER})
    # its own process group: the command may have child processes
    process = subprocess.Popen(["abstopk", "train", config], stdout=sys.stderr, start_new_session=True)
    while not list((folder / "killed" / "checkpoints").glob("[0-9]*")):
        if process.poll() is not None:
            sys.exit("the run ended before it could be killed")
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    subprocess.run(["abstopk", "train", config, "--resume"], check=True, stdout=sys.stderr)
    return folder / "killed"


def _hashes(name: str, run: Path) -> dict[str, str]:
    return {
        f"{name}: {weights.parent.relative_to(run)}": hashlib.sha256(weights.read_bytes()).hexdigest()
        for weights in sorted(run.rglob("sae_weights.safetensors"))
        if "checkpoints" not in weights.parts
    }


if __name__ == "__main__":
    main()
