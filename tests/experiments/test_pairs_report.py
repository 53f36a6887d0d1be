"""The page on pairs is what the records of its study say."""

from experiments.pairs import report


def test_the_page_has_the_tables_of_the_records(monkeypatch, tmp_path) -> None:
    written = tmp_path / "pairs.md"
    written.write_text(report.PAGE.read_text())
    before = written.read_text()
    monkeypatch.setattr(report, "PAGE", written)
    monkeypatch.setattr(report, "PICTURE", tmp_path / "pairs.svg")
    report.main()
    assert written.read_text() == before
