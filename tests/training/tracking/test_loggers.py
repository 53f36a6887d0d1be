import csv
import io
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from sae_lens_abstopk.training.tracking import loggers
from sae_lens_abstopk.training.tracking.loggers import COLUMNS, GIVE_UP, ConsoleLogger, CsvLogger, Loggers


def test_csv_rows_are_there_as_soon_as_they_are_logged(tmp_path: Path) -> None:
    logger = CsvLogger(tmp_path / "deep" / "metrics.csv")
    logger.log({"fvu": 0.1234567, "tokens": 512, "unheard_of": 1}, step=3)
    with (tmp_path / "deep" / "metrics.csv").open() as file:
        row = next(csv.DictReader(file))
    assert (row["step"], row["fvu"], row["tokens"], row["loss_recovered_zero"]) == ("3", "0.123457", "512", "")
    logger.close()
    again = CsvLogger(tmp_path / "deep" / "metrics.csv")  # a resumed run goes on below
    again.log({"metrics/none_then": 2, "unheard_of": 3, "fvu": 0.1}, step=4)
    again.close()
    with (tmp_path / "deep" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [*COLUMNS, "unheard_of"], "the columns of the first row hold"
    assert [(row["step"], row["fvu"], row["unheard_of"]) for row in rows] == [("3", "0.123457", "1"), ("4", "0.1", "3")]


def test_the_console_shows_the_first_row_one_a_minute_each_loss_recovered_and_the_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, out = 0.0, io.StringIO()
    monkeypatch.setattr(loggers, "time", SimpleNamespace(monotonic=lambda: now))
    logger = Loggers([ConsoleLogger(Console(file=out, width=200), "topk", 21)], pytest.fail)
    for step in range(1, 22):
        logger.log({"fvu": 0.5, **({"loss_recovered_zero": 0.9} if step == 5 else {})}, step)
        now += 10
    logger.close()
    assert [line.split()[2] for line in out.getvalue().splitlines()] == [f"{step}/21" for step in (1, 5, 11, 17, 21)]


class Failing:
    """Fails from step 3 on."""

    calls = 0

    def log(self, metrics: object, step: int) -> None:  # noqa: ARG002
        self.calls += 1
        if step >= 3:
            raise ConnectionError("the server\nis gone")

    def close(self) -> None:
        pytest.fail("it was given up")


def test_a_logger_that_fails_warns_once_and_stops_nothing(tmp_path: Path) -> None:
    warnings: list[str] = []
    failing, csv_logger = Failing(), CsvLogger(tmp_path / "metrics.csv")
    logger = Loggers([failing, csv_logger], warnings.append)
    for step in range(1, 11):
        logger.log({"fvu": 0.1}, step)
    logger.close()
    assert warnings == ["warning: Failing failed (ConnectionError: the server is gone); the run goes on without it."]
    assert failing.calls == 2 + GIVE_UP
    assert len((tmp_path / "metrics.csv").read_text().splitlines()) == 11
