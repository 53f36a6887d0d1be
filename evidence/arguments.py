"""Arguments that the commands of the study share."""

import argparse
from pathlib import Path

from sae_lens_abstopk.quickstart_model import quickstart_model


def study_parser(about: str | None) -> argparse.ArgumentParser:
    """A parser of the text, the folder and the model of the study; ``about`` is the docstring of the command."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, required=True, help="corpus, as corpus.py makes it")
    parser.add_argument("--work", type=Path, default=Path("runs/evidence"), help="SAEs, activations, evaluations")
    parser.add_argument("--model", type=Path, help="folder of the model; by default the quickstart's, which is fetched")
    return parser


def add_local(parser: argparse.ArgumentParser) -> None:
    """Let public tasks be read from files."""
    parser.add_argument("--local", action="append", default=[], metavar="TASK=PATH", help="files of a public task")


def parsed(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Arguments with the folder of the model; a corpus that is not there ends the command."""
    args = parser.parse_args()
    if not args.text.is_file():
        parser.error(f"{args.text} is not there; python -m evidence.corpus makes a corpus of a folder of texts.")
    args.model = args.model or quickstart_model(print)
    return args


def overrides_of(args: argparse.Namespace) -> list[str]:
    """Overrides of every run: text and model."""
    return [f"dataset_path={args.text}", f"model_name={args.model}"]
