import csv
import io
from pathlib import Path

from rich.console import Console

from sae_lens_abstopk.training.loggers import ConsoleLogger, CsvLogger, Loggers


def test_csv_rows_are_there_as_soon_as_they_are_logged(tmp_path: Path) -> None:
    logger = CsvLogger(tmp_path / "deep" / "metrics.csv")
    logger.log({"fvu": 0.1234567, "tokens": 512, "unheard_of": 1}, step=3)
    with (tmp_path / "deep" / "metrics.csv").open() as file:
        row = next(csv.DictReader(file))
    assert (row["step"], row["fvu"], row["tokens"], row["loss_recovered_zero"]) == ("3", "0.123457", "512", "")
    logger.close()
    again = CsvLogger(tmp_path / "deep" / "metrics.csv")  # a resumed run goes on below
    again.log({"fvu": 0.1}, step=4)
    again.close()
    assert (tmp_path / "deep" / "metrics.csv").read_text().count("step") == 1


def test_the_console_shows_every_tenth_row_and_each_loss_recovered() -> None:
    out = io.StringIO()
    logger = Loggers([ConsoleLogger(Console(file=out, width=200), "topk")])
    for step in range(1, 22):
        logger.log({"fvu": 0.5, **({"loss_recovered_zero": 0.9} if step == 5 else {})}, step)
    logger.close()
    assert [line.split()[2] for line in out.getvalue().splitlines()] == ["1", "5", "11", "21"]
