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


def overrides_of(args: argparse.Namespace) -> list[str]:
    """Overrides of every run: text and model. The model is named in ``args`` after it."""
    args.model = args.model or quickstart_model(print)
    return [f"dataset_path={args.text}", f"model_name={args.model}"]
