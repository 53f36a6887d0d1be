"""What the site's files hold, without a browser."""

import http.client
import json
import re
import shutil
import threading
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import torch

from sae_lens_abstopk import ConfigError
from sae_lens_abstopk.explorer.data_files import short
from sae_lens_abstopk.explorer.exploration import Exploration
from sae_lens_abstopk.explorer.labels import escape_invisible, label_of, top_tokens
from sae_lens_abstopk.explorer.serve import server
from sae_lens_abstopk.saes.poles import pole_statistics
from sae_lens_abstopk.text.token_text import TokenText
from tests.cli.test_cli import invoke
from tests.explorer.planted import CLOSED, D_SAE, PLANTED, QUIET

UNSEEN = [
    ("a\u200bb\u202e\x07\u2028", "a⟨U+200B⟩b⟨U+202E⟩⟨U+0007⟩⟨U+2028⟩"),
    (" \xa0x\n\t    y", " ⟨U+00A0⟩x⏎⇥␣×4y"),
    ("\u200dمی\u200cخواهم \u200c", "⟨U+200D⟩می\u200cخواهم ⟨U+200C⟩"),
    ("👩\u200d🚀", "👩\u200d🚀"),
]


def data(path: Path) -> Any:
    """The value that a data file hands to the page."""
    found = re.fullmatch(r'explorer\.take\("([^"]+)",(.*)\);\n', path.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    assert path.as_posix().endswith(f"data/{found[1]}.js")
    return json.loads(found[2])


def test_shards_hold_every_latent_once(site: Path, exploration: Exploration) -> None:
    shards = [data(site.parent / "data" / "0" / f"shard-{n}.js") for n in range(3)]
    shown = [latent["norm"] for shard in shards for latent in shard["latents"]]
    assert shown == [short(exploration.latent(index).latent.norm) for index in range(D_SAE)]
    assert not (site.parent / "data" / "0" / "shard-3.js").exists()


def test_the_overview_agrees_with_the_collection(site: Path, exploration: Exploration) -> None:
    found, sae = data(site.parent / "data" / "0" / "overview.js"), exploration.saes["signed"]
    assert found["fires"] == sae.collected.pole_counts.tolist()
    assert found["summary"]["dead"] == int((sae.collected.pole_counts.sum(0) == 0).sum()) > 0
    assert found["summary"]["l0"] == pytest.approx(sum(map(sum, found["fires"])) / found["tokens"], rel=1e-3)
    sums, matches = sae.collected.sums, sae.matches
    assert (found["summary"]["fvu"], found["summary"]["nmse"]) == (short(sums.fvu()), short(sums.nmse()))
    assert found["summary"]["fvu"] != found["summary"]["nmse"]
    assert matches is not None
    assert found["axis"] == [short(min(both)) for both in matches.cosine.T.tolist()]
    assert sorted(found["suggested"]) == list(range(D_SAE))
    assert (found["labels"][1][PLANTED], found["labels"][0][PLANTED]) == ("he", "she")
    assert found["labels"][0][QUIET] == "never fires"
    assert (found["labels"][1][CLOSED], found["fires"][0][CLOSED] > 0) == ("closed", True)
    dead, closed = (found["summary"][name] for name in ("deadPoles", "closedPoles"))
    assert (dead + closed, closed) == (pole_statistics(sae.collected.pole_counts).dead_poles, 1)


def test_a_planted_latent_shows_both_sides(exploration: Exploration) -> None:
    latent = exploration.saes["signed"][PLANTED]
    assert [c.tokens[c.at] for c in latent.positive.strongest] == [" she"] * 4
    assert [c.tokens[c.at] for c in latent.negative.strongest] == [" he"] * 4
    assert {c.code for c in latent.positive.strongest} == {2.0}
    assert {c.code for c in latent.negative.strongest} == {-2.0}
    assert latent.positive.promoted[0].text == latent.negative.demoted[0].text == " she"
    assert latent.negative.promoted[0].by == -latent.positive.demoted[0].by > 0
    assert (latent.positive.match, latent.negative.match) != (None, None)
    assert latent.positive.match is not None
    assert latent.negative.match is not None
    assert (latent.positive.match.latent, latent.negative.match.latent) == (4, 3)
    assert latent.positive.match.cosine == pytest.approx(1)
    back = exploration.saes["topk"][3].positive.match  # its direction is the negative pole of the planted latent
    assert back is not None
    assert (back.latent, back.pole) == (PLANTED, 1)


def test_each_pole_has_a_scale_of_its_own_and_says_what_its_tokens_are_of(exploration: Exploration) -> None:
    sae = exploration.saes["signed"]
    latent, strengths = sae[PLANTED], sae.collected.strengths
    for index, pole in enumerate(latent.poles):
        assert not pole.closed
        assert pole.scale == strengths.quantile(0.99, index)[PLANTED].item() > 0
        assert pole.sampled_firings == min(pole.fires, 12) == sum(token.firings for token in pole.tokens)
    assert [pole.closed for pole in sae[CLOSED].poles] == [False, True]
    assert sae[CLOSED].negative.scale == 0
    assert [pole.closed for pole in exploration.saes["topk"][3].poles] == [False, True]


def test_the_nearest_rows_are_aligned_and_the_farthest_opposed(site: Path, exploration: Exploration) -> None:
    shown = data(site.parent / "data" / "0" / "shard-0.js")["latents"][PLANTED]
    rows = torch.nn.functional.normalize(exploration.saes["signed"].W_dec, dim=1)
    cosines = rows @ rows[PLANTED]
    cosines[PLANTED] = 0
    for key, best in (("aligned", cosines.max(0)), ("opposed", cosines.min(0))):
        latent, cosine, _ = shown[key][0]
        assert (latent, cosine) == (int(best.indices), pytest.approx(best.values.item(), rel=1e-3))


def test_nothing_outside_is_named_and_model_text_is_no_markup(site: Path) -> None:
    for path in site.parent.rglob("*.*"):
        text = path.read_text(encoding="utf-8") if path.suffix in (".html", ".js") else ""
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text), path
    page = site.read_text(encoding="utf-8")
    assert "words &lt;b&gt;" in page
    assert "innerHTML" not in "".join(path.read_text() for path in site.parent.glob("*.js"))


def test_a_folder_of_other_things_is_left_alone(exploration: Exploration, site: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ConfigError, match="is not empty and is not an explorer"):
        exploration.write(tmp_path)
    with pytest.raises(ConfigError, match="is a file"):
        exploration.write(tmp_path / "thesis.tex")
    assert (tmp_path / "thesis.tex").read_text() == "years of work"
    (tmp_path / "page.js").write_text("// of a site of somebody's own\n")
    (tmp_path / "data").mkdir()
    with pytest.raises(ConfigError, match="is not empty and is not an explorer"):
        exploration.write(tmp_path)
    assert (tmp_path / "data").is_dir()
    exploration.write(site.parent)  # an explorer is renewed
    shard = site.parent / "data" / "0" / "shard-0.js"
    before = shard.read_bytes()

    def stopped(*_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        exploration.write(site.parent, on_progress=stopped)
    assert shard.read_bytes() == before, "an earlier site is whole until there is a new one"
    exploration.write(site.parent)
    assert not (site.parent / "data.new").exists()


def test_an_explorer_whose_writing_was_interrupted_is_written_again(
    exploration: Exploration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr("sae_lens_abstopk.explorer.site.shard", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            exploration.write(tmp_path)
    assert exploration.write(tmp_path).is_file()


def test_cards_escape_text_and_need_no_script(exploration: Exploration) -> None:
    for html in (exploration._repr_html_(), exploration.latent(PLANTED)._repr_html_()):
        assert "<script" not in html
        assert "<img" not in html
        assert "&lt;" in html
    assert "&lt;script&gt;" in exploration.latent(PLANTED)._repr_html_()
    card = exploration.latent(PLANTED)._repr_html_()
    assert card.index("negative") < card.index("positive")
    one_sided = exploration.latent(3, sae="topk")._repr_html_()
    assert "negative" not in one_sided


def test_a_latent_that_is_not_there_is_named(exploration: Exploration) -> None:
    with pytest.raises(ConfigError, match="latent 300 is not one of the 300 of signed, 0 to 299"):
        exploration.latent(300)
    with pytest.raises(ConfigError, match="use one of signed, topk"):
        exploration.latent(0, sae="other")


def test_the_scale_that_steering_takes_is_the_one_that_is_shown(exploration: Exploration) -> None:
    assert exploration.scale(PLANTED, sae="signed") == exploration.latent(PLANTED).latent.scale > 0
    assert exploration.scale(3, sae="topk") == exploration.latent(3, sae="topk").latent.scale
    with pytest.raises(ConfigError, match=f"latent {QUIET} did not fire"):
        exploration.scale(QUIET, sae="signed")


def test_the_server_serves_the_folder_and_says_when_a_port_is_taken(site: Path) -> None:
    with server(site.parent) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        with urllib.request.urlopen(f"http://127.0.0.1:{running.server_port}/") as answer:
            assert answer.read() == site.read_bytes()
        with pytest.raises(ConfigError, match=f"port={running.server_port} cannot be served on"):
            server(site.parent, port=running.server_port)
        done = invoke(
            "explore", "nowhere", "--serve", "--port", str(running.server_port), "--out", str(site.parent / "new")
        )
        assert f"port={running.server_port} cannot be served on" in done.output, "before the SAE is looked for"
        running.shutdown()


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/data/0/overview.js", {"Sec-Fetch-Site": "same-origin", "Host": "localhost:8000"}, 200),
        (
            "/index.html",
            {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "document"},
            200,
        ),  # a link that was followed
        ("/index.html", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "iframe"}, 200),
        ("/data/0/overview.js", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "script"}, 403),
        ("/index.html", {"Host": "elsewhere.example"}, 403),
        ("/.collection.pt", {}, 403),
        ("/data/%2e/../%2ecollection.pt", {}, 403),
    ],
)
def test_the_server_answers_its_own_pages_alone(
    path: str, headers: dict[str, str], status: int, site: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(site.parent, tmp_path / "site")
    (folder / ".collection.pt").write_text("texts")
    with server(folder) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        connection = http.client.HTTPConnection("127.0.0.1", running.server_port)
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        assert answer.status == status
        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert status == 200 or f"Open http://localhost:{running.server_port}/" in answer.read().decode()
        connection.close()
        running.shutdown()


@pytest.mark.parametrize(
    ("firings", "label"),
    [
        ([], "never fires"),
        ([(" he", 3.0), ("He", 2.0), (" x", 0.1), (" x", 0.1)], "he"),
        ([(" a", 1.0), (" a", 1.0), (" b", 2.0), (" b", 2.0)], "b · a"),
        ([(f" {c}", 1.0) for c in "abcdefghijklmnopqrst"], "mixed: a · b"),
        ([("\n", 2.0)], "⏎"),
        ([("\u200bHe", 2.0)], "⟨U+200B⟩he"),
        ([("\\xe2\\x80", 9.0), (" he", 1.0)], "\\xe2\\x80"),
    ],
)
def test_labels_are_the_words_with_the_energy(firings: list[tuple[str, float]], label: str) -> None:
    assert label_of(top_tokens(firings)) == label
    assert label_of(top_tokens(firings[::-1])) == label


@pytest.mark.parametrize(("text", "shown"), UNSEEN)
def test_characters_that_cannot_be_seen_are_named(text: str, shown: str) -> None:
    assert escape_invisible(text) == shown
    assert escape_invisible(shown) == shown


def test_bytes_of_one_character_are_shown_as_one(tokenizer: Any) -> None:
    text = "the 猫 sat"
    ids = tokenizer(text)["input_ids"]
    pieces = TokenText(tokenizer).pieces(ids)
    assert "".join(piece for piece, _ in pieces) == text
    assert any("猫" in piece for piece, _ in pieces)
    assert [i for _, there in pieces for i in there] == list(range(len(ids)))


def test_bytes_that_make_up_no_character_are_shown_as_such(tokenizer: Any) -> None:
    ids = tokenizer("猫")["input_ids"]
    assert len(ids) == 3
    assert TokenText(tokenizer).joined(ids[:2]) == r"\xe7\x8c"
    assert TokenText(tokenizer)(ids[2]) == r"\xab"


def test_a_byte_of_a_tokenizer_that_falls_back_to_bytes_is_shown_as_one() -> None:
    class Fallback:
        def decode(self, ids: list[int], **_: Any) -> str:
            return bytes(ids).decode("utf-8", errors="replace")

        def convert_ids_to_tokens(self, token: int) -> str:
            return f"<0x{token:02X}>"

    text_of: Any = TokenText(Fallback())
    assert text_of.pieces([0xE2, 0x80, 0x99, 0xE2, 0x80]) == [
        ("’", range(3)),
        (r"\xe2", range(3, 4)),
        (r"\x80", range(4, 5)),
    ]
