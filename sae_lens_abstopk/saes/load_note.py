"""A README beside saved weights that says how to load them."""

from pathlib import Path

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

REGISTERED_ARCHITECTURES = (
    "signed_jumprelu",
    "sparse_abstopk",
    "sparse_topk",
    "sparse_batchtopk",
    "batch_abstopk",
    "matryoshka_batch_abstopk",
)
"""All that the import of this package adds to SAELens's own."""


def write_load_note(path: str | Path, architecture: str, *, training: bool = False) -> None:
    """Write ``README.md`` into the SAE folder ``path``, unless there is one already."""
    template = NEEDS_IMPORT if architecture in REGISTERED_ARCHITECTURES else STOCK
    readme = Path(path) / "README.md"
    if not readme.exists():
        readme.write_text(template.format(architecture=architecture, loader="TrainingSAE" if training else "SAE"))
