"""A README beside saved weights that says how to load them."""

from pathlib import Path

from sae_lens.registry import SAE_CLASS_REGISTRY, SAE_TRAINING_CLASS_REGISTRY

STOCK = """\
# {architecture} SAE

This is a stock SAELens SAE; it loads without any other package:

```python
from sae_lens import {loader}

sae = {loader}.load_from_disk("PATH_OF_THIS_FOLDER")
```
"""

NEEDS_IMPORT = """\
# {architecture} SAE

The architecture `{architecture}` is registered by the package `sae-lens-abstopk`. Without its import SAELens answers
`KeyError: '{architecture}'`.

```python
import sae_lens_abstopk  # registers {architecture}
from sae_lens import {loader}

sae = {loader}.load_from_disk("PATH_OF_THIS_FOLDER")
```
"""


def needs_import(architecture: str) -> bool:
    """Whether SAELens knows ``architecture`` only once this package is imported."""
    registered = (registry.get(architecture) for registry in (SAE_CLASS_REGISTRY, SAE_TRAINING_CLASS_REGISTRY))
    package = __name__.partition(".")[0]
    return any(found is not None and found[0].__module__.startswith(f"{package}.") for found in registered)


def write_load_note(path: str | Path, architecture: str, *, training: bool = False) -> None:
    """Write ``README.md`` into the SAE folder ``path``, unless there is one already."""
    template = NEEDS_IMPORT if needs_import(architecture) else STOCK
    readme = Path(path) / "README.md"
    if not readme.exists():
        readme.write_text(template.format(architecture=architecture, loader="TrainingSAE" if training else "SAE"))
