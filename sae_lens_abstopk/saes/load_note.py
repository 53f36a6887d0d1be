"""A README beside saved weights that says how to load them."""

import json
from pathlib import Path

from sae_lens.registry import SAE_CLASS_REGISTRY, SAE_TRAINING_CLASS_REGISTRY

NOTE = """\
# {architecture} SAE

{need}

```python
{import_line}from sae_lens import {loader}

sae = {loader}.load_from_disk({folder})
```
"""
STOCK = "This is a stock SAELens SAE; it loads without any other package:"
NEEDS_IMPORT = (
    "The architecture `{architecture}` is registered by the module `{module}`{of_package}. Without its import SAELens "
    "answers\n`KeyError: '{architecture}'`."
)


def needed_import(architecture: str) -> str | None:
    """Return the module that registers ``architecture`` with SAELens; None for SAELens's own."""
    registered = (registry.get(architecture) for registry in (SAE_CLASS_REGISTRY, SAE_TRAINING_CLASS_REGISTRY))
    modules = [kind.__module__ for found in registered if found is not None for kind in found]
    packages = {module: module.partition(".")[0] for module in modules}
    this_package = __name__.partition(".")[0]
    # a user's module may register one of our classes; the first module is that of the class that loads the SAE
    elsewhere = (module for module in modules if packages[module] not in ("sae_lens", this_package))
    return next(elsewhere, this_package if this_package in packages.values() else None)


def write_load_note(path: str | Path, architecture: str, *, training: bool = False, folder: Path | None = None) -> None:
    """Write ``README.md`` into the SAE folder ``path``, unless there is one; ``path`` will be moved to ``folder``."""
    readme = Path(path) / "README.md"
    if readme.exists():
        return
    module, loader = needed_import(architecture), "TrainingSAE" if training else "SAE"
    of_package = " of the package `sae-lens-abstopk`" if module == "sae_lens_abstopk" else ""
    need = NEEDS_IMPORT.format(architecture=architecture, module=module, of_package=of_package) if module else STOCK
    import_line = f"import {module}  # registers {architecture}\n" if module else ""
    name = json.dumps(str(folder or path), ensure_ascii=False)
    note = NOTE.format(architecture=architecture, need=need, import_line=import_line, loader=loader, folder=name)
    readme.write_text(note, encoding="utf-8")
