"""Results that print as one line, and as a small table in a notebook."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from html import escape

Facts = Sequence[Mapping[str, object]]
"""Facts by name: one row, or one an SAE."""


class Shown(ABC):
    """Prints the facts of :meth:`_facts`; a dataclass needs ``repr=False`` to inherit it."""

    @abstractmethod
    def _facts(self) -> Facts:
        """Return the facts to print."""

    def __repr__(self) -> str:
        rows = (", ".join(f"{name}: {value}" for name, value in row.items()) for row in self._facts())
        return f"<{type(self).__name__} {'; '.join(rows)}>"

    def __str__(self) -> str:
        return repr(self)

    def _repr_html_(self) -> str:
        rows = self._facts()
        names = list(dict.fromkeys(name for row in rows for name in row))
        cells = ["".join(f"<th>{escape(name)}</th>" for name in names)]
        cells += ["".join(f"<td>{escape(str(row.get(name, '–')))}</td>" for name in names) for row in rows]
        return f"<table>{''.join(f'<tr>{line}</tr>' for line in cells)}</table>"
