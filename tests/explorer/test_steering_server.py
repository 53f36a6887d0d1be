"""A site served with its model: who may ask for what, and what steering answers."""

import http.client
import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from sae_lens import SAE, AbsTopKSAEConfig

from sae_lens_abstopk import ConfigError
from sae_lens_abstopk.diffs.page import write_page as write_diff
from sae_lens_abstopk.explorer.steering_server import (
    MOST_BYTES,
    Steerer,
    SteeringRequest,
    sources_of_site,
    steering_server,
)
from sae_lens_abstopk.pairs.page import write_page as write_pairs
from tests.cli.test_cli import invoke
from tests.diffs.page_example import hostile_example
from tests.pairs.page_example import example_codes, example_pairs, example_results

ASKED = {"sae": 0, "latent": 3, "prompt": "When I was", "strength": 2.0, "scale": 1.5, "operator": "add"}


class Served(NamedTuple):
    port: int
    token: str

    def ask(self, path: str, content: Any = None, **headers: str) -> tuple[int, bytes]:
        """Ask for ``path``, in which TOKEN stands for the token; POST if there is content."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        body = content if isinstance(content, bytes | None) else json.dumps(content).encode()
        kind = {} if content is None else {"Content-Type": "application/json"}
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        method = "GET" if content is None else "POST"
        connection.request(method, path.replace("TOKEN", self.token), body, kind | names)
        answer = connection.getresponse()
        found = answer.status, answer.read()
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        connection.close()
        return found


@pytest.fixture(scope="module")
def steerer(trained_together: Path) -> Steerer:
    return Steerer([str(trained_together), str(trained_together / "topk")])


@pytest.fixture
def served(site: Path, steerer: Steerer, tmp_path: Path) -> Iterator[Served]:
    folder = shutil.copytree(site.parent, tmp_path / "site")
    (folder / ".labels.jsonl").write_text("answers")
    (tmp_path / "secret").write_text("secret")
    running, address = steering_server(folder, steerer)
    with running:
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        assert running.server_address[0] == "127.0.0.1"
        yield Served(running.server_port, address.rstrip("/").rpartition("/")[2])
        running.shutdown()


def test_the_page_says_that_it_is_served_and_both_operators_write_to_both_sides(served: Served, site: Path) -> None:
    status, page = served.ask("/TOKEN/")
    assert status == 200
    assert b'<meta name="served"' in page
    assert b'<meta name="served"' not in site.read_bytes()
    assert served.ask("/TOKEN/steer.js")[0] == 200
    for operator in ("add", "cap"):
        status, content = served.ask("/TOKEN/steer", ASKED | {"operator": operator, "strength": 16, "scale": 40.0})
        assert status == 200, content
        found = json.loads(content)
        assert list(found) == ["negative", "unsteered", "positive"]
        assert found["negative"] != found["positive"]


@pytest.mark.parametrize(
    ("path", "content", "headers", "status"),
    [
        ("/", None, {}, 403),
        ("/index.html", None, {}, 403),
        ("/wrong/", None, {}, 403),
        ("/wrong/steer", ASKED, {}, 403),
        ("/steer", ASKED, {}, 403),
        ("/TOKEN/", None, {"Host": "elsewhere.example"}, 403),
        ("/TOKEN/steer", ASKED, {"Host": "elsewhere.example"}, 403),
        ("/TOKEN/steer", ASKED, {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Dest": "empty"}, 403),
        ("/TOKEN/.labels.jsonl", None, {}, 403),
        ("/TOKEN/../secret", None, {}, 404),
        ("/TOKEN/%2e%2e/secret", None, {}, 404),
        ("/TOKEN//etc/passwd", None, {}, 404),
        ("/TOKEN/..%2f..%2f..%2fetc%2fpasswd", None, {}, 404),
        ("/TOKEN/steer", ASKED, {"Content_Type": "text/plain"}, 400),
        ("/TOKEN/steer", b"{" * 200, {}, 400),
        ("/TOKEN/steer", b"[" * MOST_BYTES, {}, 400),
        ("/TOKEN/steer", b" " * (MOST_BYTES + 1), {}, 413),
        ("/TOKEN/steer", ASKED | {"sae": 7}, {}, 400),
        ("/TOKEN/steer", ASKED | {"latent": 10**6}, {}, 400),
        ("/TOKEN/steer", ASKED | {"prompt": ""}, {}, 400),
        ("/TOKEN/other", ASKED, {}, 403),
    ],
)
def test_only_who_has_the_token_is_answered(
    path: str, content: Any, headers: dict[str, str], status: int, served: Served
) -> None:
    found, said = served.ask(path, content, **headers)
    assert found == status, said
    assert b"secret" not in said
    assert b"root:" not in said


@pytest.mark.parametrize(
    "wrong",
    [
        *({"strength": 0}, {"strength": 17}, {"strength": True}, {"scale": float("inf")}, {"scale": "1"}),
        *({"operator": "clamp"}, {"latent": 1.5}, {"sae": -1}, {"more": 1}, {"prompt": "x" * 3000}),
    ],
)
def test_a_request_out_of_bounds_is_refused(wrong: dict[str, Any]) -> None:
    SteeringRequest.parse(json.dumps(ASKED).encode())
    with pytest.raises(ValueError, match=r"must|has"):
        SteeringRequest.parse(json.dumps(ASKED | wrong).encode())


def test_the_saes_of_a_site_are_found_again(
    folders: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = invoke("explore", *map(str, folders), "--tokens", "128", "--out", str(tmp_path / "site"))
    assert done.exit_code == 0, done.output
    assert sources_of_site(tmp_path / "site") == list(map(str, folders))
    with pytest.raises(ConfigError, match="has no page"):
        sources_of_site(tmp_path)

    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sae_lens_abstopk.explorer.serve.ThreadingHTTPServer.serve_forever", interrupted)
    done = invoke("serve", str(tmp_path / "site"))
    assert done.exit_code == 130, done.output
    assert "http://127.0.0.1:" in done.output


def test_a_page_without_a_language_model_is_refused_in_a_sentence(tmp_path: Path) -> None:
    write_pairs(example_results(), example_pairs(), example_codes(), tmp_path / "pairs")
    write_diff(hostile_example(), tmp_path / "diff")
    for folder in (tmp_path / "pairs", tmp_path / "diff"):
        (source,) = sources_of_site(folder)
        assert source == str(folder / "sae")
        sae = SAE.from_dict(AbsTopKSAEConfig(d_in=4, d_sae=2, k=1).to_dict())
        sae.cfg.metadata.source = "vectors"
        sae.save_model(source)
        with pytest.raises(ConfigError, match="vectors of no language model"):
            Steerer([source])
        page = folder / "index.html"
        page.write_text(page.read_text().replace('"sae":"sae"', '"of":"before"'))
        with pytest.raises(ConfigError, match=f"abstopk steer {folder} --latent N"):
            sources_of_site(folder)
