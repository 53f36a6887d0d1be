"""The planted exploration, its site, with results of an evaluation and without, and a browser that reads it."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from sae_lens_abstopk.evaluation.results.schema import Results
from sae_lens_abstopk.explorer.concepts import load_concepts
from sae_lens_abstopk.explorer.exploration import Exploration
from tests.evaluation.results_document import results_document
from tests.explorer.planted import PLANTED, planted_exploration
from tests.explorer.reader import Reader


@pytest.fixture(scope="session")
def exploration() -> Exploration:
    return planted_exploration()


@pytest.fixture(scope="session")
def site(exploration: Exploration, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first page of the written site."""
    return exploration.write(tmp_path_factory.mktemp("explorer") / "site")


@pytest.fixture(scope="session")
def evaluated_results() -> Results:
    """Results of an evaluation that found the planted latent for one concept, where steering leads the other way."""
    document = results_document(
        saes={"signed": None, "topk": None},
        tasks={"gender": ("he", "she"), "tense": ("<b>past</b>", "present")},
        text="<img src=x onerror=alert(3)>",
    )
    for task, measured in document.tasks.items():
        for name, found in measured.saes.items():
            latent = (PLANTED if name == "signed" else 3) if task == "gender" else 5
            found.pair.latent_a, found.pair.latent_b = 11, 12
            found.probes["single latent"].auroc.value = 0.987
            for record in (found.latent, found.best_coverage):
                record.latent, record.orientation, record.direction_cosine = latent, 1, 0.8
            if task in document.steering:
                document.steering[task][name].latent = latent
                document.steering[task][name].orientation = -1 if name == "signed" else 1
    return document


@pytest.fixture(scope="session")
def evaluated(
    exploration: Exploration, evaluated_results: Results, tmp_path_factory: pytest.TempPathFactory
) -> Exploration:
    """The same with these results."""
    path = tmp_path_factory.mktemp("results") / "results.json"
    evaluated_results.write(path)
    return replace(exploration, concepts=load_concepts([path], {"signed": None, "topk": None}))


@pytest.fixture(scope="session")
def evaluated_site(evaluated: Exploration, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first page of the written site with concepts."""
    return evaluated.write(tmp_path_factory.mktemp("evaluated") / "site")


@pytest.fixture(scope="module")  # while it is open no other event loop can run in the process
def browser() -> Iterator[Browser]:
    names = ("chromium", "chromium-browser", "google-chrome")
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.fail("no Chromium: apt-get install chromium, or name one in CHROMIUM; -m 'not browser' leaves these out")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def reader(browser: Browser, site: Path) -> Iterator[Reader]:
    with Reader(browser, site) as made:
        yield made
