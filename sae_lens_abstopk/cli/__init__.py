"""The ``abstopk`` command. It imports torch and SAELens only when a command runs, so that help is fast."""

import os

# read when torch is imported: by default the waiting threads of OpenMP spin, which halves the speed of a second process
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

from sae_lens_abstopk.cli import evaluation, explore, interop, sharing, training  # each module adds its subcommands
from sae_lens_abstopk.cli.app import app

__all__ = ["app", "evaluation", "explore", "interop", "sharing", "training"]
