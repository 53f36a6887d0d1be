"""A README beside saved weights that says how to load them."""

from pathlib import Path

from sae_lens.registry import SAE_CLASS_REGISTRY, SAE_TRAINING_CLASS_REGISTRY

from sae_lens_abstopk.saes.own_code import is_foreign

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

The architecture `{architecture}` is registered by the module `{module}`{of_package}. Without its import SAELens answers
`KeyError: '{architecture}'`.

```python
import {module}  # registers {architecture}
from sae_lens import {loader}

sae = {loader}.load_from_disk("PATH_OF_THIS_FOLDER")
```
"""


def needed_import(architecture: str) -> str | None:
    """The module that has to be imported before SAELens knows ``architecture``; None where it knows it by itself."""
    registered = (registry.get(architecture) for registry in (SAE_CLASS_REGISTRY, SAE_TRAINING_CLASS_REGISTRY))
    modules = [kind.__module__ for found in registered if found is not None for kind in found]
    ours = __name__.partition(".")[0]
    # a module elsewhere may register one of our classes, and the first of them is of the class that loads the SAE
    foreign = filter(is_foreign, modules)
    return next(foreign, ours if any(module.startswith(f"{ours}.") for module in modules) else None)


def write_load_note(path: str | Path, architecture: str, *, training: bool = False) -> None:
    """Write ``README.md`` into the SAE folder ``path``, unless there is one already."""
    module = needed_import(architecture)
    template = NEEDS_IMPORT if module else STOCK
    of_package = " of the package `sae-lens-abstopk`" if module == "sae_lens_abstopk" else ""
    loader = "TrainingSAE" if training else "SAE"
    readme = Path(path) / "README.md"
    if not readme.exists():
        note = template.format(architecture=architecture, loader=loader, module=module, of_package=of_package)
        readme.write_text(note)
