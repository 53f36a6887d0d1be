"""
Bidirectional (signed) sparse autoencoders for SAELens. Importing it registers the architectures.

The public names are listed in ``__init__.pyi`` and imported when they are first used.
"""

import os
import sys
from pathlib import Path

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

# read when torch is imported; by default threads of OpenMP that wait spin, and slow down every other process
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

# help and usage errors of the command need not wait for torch
if Path(sys.argv[0]).stem != "abstopk":
    import sae_lens_abstopk.saes  # noqa: F401
