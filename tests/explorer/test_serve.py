"""The server of a site."""

import http.client
import re
import shutil
import threading
from pathlib import Path

import pytest

from sae_lens_abstopk import ConfigError
from sae_lens_abstopk.explorer.serve import server
from tests.cli.test_cli import invoke


def test_a_port_that_is_taken_is_refused_before_the_sae_is_looked_for(site: Path) -> None:
    with server(site.parent) as running:
        taken = f"port={running.server_port} cannot be served on"
        with pytest.raises(ConfigError, match=taken):
            server(site.parent, port=running.server_port)
        arguments = ["--serve", "--port", str(running.server_port), "--out", str(site.parent / "new")]
        assert taken in invoke("explore", "nowhere", *arguments).output


def test_a_site_is_served_until_it_is_interrupted(
    folders: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sae_lens_abstopk.explorer.serve.ThreadingHTTPServer.serve_forever", interrupted)
    done = invoke("explore", str(folders[0]), "--tokens", "128", "--out", str(tmp_path / "site"), "--serve")
    assert done.exit_code == 130, done.output
    assert re.search(r"http://127\.0\.0\.1:\d+/ until Ctrl-C", done.output)


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/", {}, 200),
        ("/data/0/overview.js", {"Sec-Fetch-Site": "same-origin", "Host": "localhost:8000"}, 200),
        # a link that was followed
        ("/index.html", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "document"}, 200),
        ("/index.html", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "iframe"}, 200),
        ("/data/0/overview.js", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "script"}, 403),
        ("/index.html", {"Host": "elsewhere.example"}, 403),
        ("/.labels.jsonl", {}, 403),
        ("/data/%2e/../%2elabels.jsonl", {}, 403),
    ],
)
def test_only_the_site_s_own_pages_are_answered(
    path: str, headers: dict[str, str], status: int, site: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(site.parent, tmp_path / "site")
    (folder / ".labels.jsonl").write_text("answers")
    with server(folder) as running:
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        connection = http.client.HTTPConnection("127.0.0.1", running.server_port)
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        content = answer.read()
        assert answer.status == status
        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        if status == 403:
            assert f"Open http://localhost:{running.server_port}/" in content.decode()
        elif "data" not in path:
            assert content == site.read_bytes()
        connection.close()
        running.shutdown()
