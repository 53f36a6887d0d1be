"""Write the reports of results files."""

from collections.abc import Sequence
from pathlib import Path

from sae_lens_abstopk.evaluation.reports.csv_report import csv_report
from sae_lens_abstopk.evaluation.reports.html_report import html_report
from sae_lens_abstopk.evaluation.reports.markdown_report import markdown_report
from sae_lens_abstopk.evaluation.results.merging import MergedResults, read_merged
from sae_lens_abstopk.system.errors import ConfigError
from sae_lens_abstopk.system.files import write_whole

_REPORTS = {"report.md": markdown_report, "report.html": html_report, "report.csv": csv_report}
REPORT_FILENAMES = tuple(_REPORTS)


def write_reports(paths: Sequence[Path], folder: Path) -> MergedResults:
    """
    Write ``report.md``, ``report.html`` and ``report.csv`` of one or several results files into ``folder``.

    Returns:
        The content of the reports.

    Raises:
        ConfigError: a file is not readable as results, two contradict each other (see :func:`~.merging.merge_results`),
            one is given twice, or ``folder`` is not writable. Nothing is written then.
    """
    repeated = [path for index, path in enumerate(paths) if path.resolve() in {p.resolve() for p in paths[:index]}]
    if repeated:
        raise ConfigError(f"{repeated[0]} is given twice; name each results file once.")
    merged = read_merged(paths)
    written = {name: report(merged) for name, report in _REPORTS.items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in written.items():
            write_whole(folder / name, text)
    except OSError as error:
        raise ConfigError(f"cannot write the report into {folder}: {error.strerror}; name another folder.") from None
    return merged
