"""The ``abstopk`` command: a thin layer over the Python API."""

from sae_lens_abstopk.cli import evaluation, interop, sharing, training  # each adds its subcommands
from sae_lens_abstopk.cli.app import app

__all__ = ["app", "evaluation", "interop", "sharing", "training"]
