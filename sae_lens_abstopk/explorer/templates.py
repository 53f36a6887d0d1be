"""The explorer's templates."""

from jinja2 import Environment, PackageLoader, StrictUndefined

from sae_lens_abstopk.explorer.labels import escape_invisible


def environment(*, autoescape: bool = True) -> Environment:
    """Open the templates in the folder of assets; by default, values are escaped."""
    found = Environment(
        loader=PackageLoader("sae_lens_abstopk.explorer", "assets"),
        autoescape=autoescape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    found.filters["escape_invisible"] = escape_invisible
    return found
