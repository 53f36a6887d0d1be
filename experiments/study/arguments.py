"""Arguments shared by the commands of the study."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from experiments.study.processes import default_jobs
from sae_lens_abstopk.model.quickstart_model import quickstart_model
from sae_lens_abstopk.system.errors import ConfigError, HubError, TrainingStopped


def study_parser(about: str | None) -> argparse.ArgumentParser:
    """Make a parser with ``--text``, ``--work`` and ``--model``; ``about`` is the command's docstring."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, required=True, help="corpus made by corpus.py")
    parser.add_argument(
        "--work", type=Path, default=Path("runs/evidence"), help="folder of SAEs, activations and evaluations"
    )
    parser.add_argument("--model", type=Path, help="folder of the model; by default the quickstart's, which is fetched")
    return parser


def add_local(parser: argparse.ArgumentParser) -> None:
    """Add ``--local``."""
    parser.add_argument(
        "--local",
        action="append",
        default=[],
        metavar="TASK=PATH",
        help="read a public task from files instead of the Hub (see evals/tasks/public/). The record read all seven: "
        "public/sst2, public/ud_tense, public/ud_number, public/english_french (one folder with the .conllu files of "
        "UD_English-PUD and UD_French-PUD), public/winogender, public/moods and public/facts",
    )


def add_jobs(parser: argparse.ArgumentParser) -> None:
    """Add ``--jobs``."""
    parser.add_argument(
        "--jobs",
        type=int,
        default=default_jobs(),
        help="SAEs trained at a time, each on one core (default: one per core, at most eight; one on a GPU)",
    )


@contextmanager
def plain_errors(parser: argparse.ArgumentParser) -> Iterator[None]:
    """End the command with the message of an error, without a traceback; also on Ctrl-C."""
    try:
        yield
    except (ConfigError, HubError, TrainingStopped) as error:
        parser.exit(2, f"{parser.prog}: error: {error}\n")
    except KeyboardInterrupt:
        parser.exit(130, "stopped; the same command goes on from here\n")


def parsed(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Parse arguments and add the folder of the model; end the command if the corpus or model is missing."""
    args = parser.parse_args()
    for name in ("jobs", "together"):
        if getattr(args, name, 1) < 1:
            parser.error(f"--{name} must be at least 1.")
    if not args.text.is_file():
        parser.error(f"{args.text} does not exist; make a corpus with python -m experiments.study.corpus FOLDER.")
    with plain_errors(parser):
        args.model = args.model or quickstart_model(print)
    return args


def overrides_of(args: argparse.Namespace) -> list[str]:
    """Return the overrides of every run: text and model."""
    return [f"dataset_path={args.text}", f"model_name={args.model}"]
