"""
The ``abstopk`` command: a thin layer over the Python API.

A package of its own, which imports :mod:`sae_lens_abstopk`, and with it torch and SAELens, only once a command runs: help
and mistyped commands need not wait for these.
"""

from sae_lens_abstopk.cli import evaluation, interop, sharing, training  # each adds its subcommands
from sae_lens_abstopk.cli.app import app

__all__ = ["app", "evaluation", "interop", "sharing", "training"]
