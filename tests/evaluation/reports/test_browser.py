"""A report in a real browser, from disk: its plots are drawn, and everyone can read it."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from sae_lens_abstopk.evaluation.reports.html_report import html_report
from sae_lens_abstopk.evaluation.results.merging import merge_results
from tests.evaluation.results_document import results_document
from tests.explorer.reader import Reader, serious_violations

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_report_draws_its_plots_and_can_be_read_by_all(browser: Browser, tmp_path: Path, scheme: str) -> None:
    (tmp_path / "report.html").write_text(html_report(merge_results([results_document()])), encoding="utf-8")
    with Reader(browser, tmp_path / "report.html", color_scheme=scheme) as made:
        made.page.goto(made.site)
        expect(made.page.locator(".plot svg").first).to_be_visible()
        for summary in made.page.locator("summary").all():
            summary.click()
        assert serious_violations(made.page) == []
