"""The files of a site, without a browser."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from sae_lens_abstopk import ConfigError
from sae_lens_abstopk.explorer.exploration import Exploration
from sae_lens_abstopk.explorer.site import SCRIPTS, SHARED_SCRIPTS
from sae_lens_abstopk.saes.poles import pole_statistics
from sae_lens_abstopk.system.pages import short
from tests.explorer.planted import CLOSED, D_SAE, PLANTED, QUIET


def data(path: Path) -> Any:
    """The value that a data file hands to the page."""
    found = re.fullmatch(r'explorer\.take\("([^"]+)",(.*)\);\n', path.read_text(encoding="utf-8"), re.DOTALL)
    assert path.as_posix().endswith(f"data/{found[1]}.js")
    return json.loads(found[2])


def test_shards_hold_every_latent_once(site: Path, exploration: Exploration) -> None:
    shards = [data(site.parent / "data" / "0" / f"shard-{n}.js") for n in range(3)]
    shown = [(latent["index"], latent["norm"]) for shard in shards for latent in shard["latents"]]
    norms = exploration.saes["signed"].norms.tolist()
    assert shown == [(index, short(norms[index])) for index in range(D_SAE)]
    assert not (site.parent / "data" / "0" / "shard-3.js").exists()


def test_the_overview_agrees_with_the_collection(site: Path, exploration: Exploration) -> None:
    found, sae = data(site.parent / "data" / "0" / "overview.js"), exploration.saes["signed"]
    assert found["fires"] == sae.collected.pole_counts.tolist()
    assert found["summary"]["silent"] == int((sae.collected.pole_counts.sum(0) == 0).sum()) > 0
    assert found["summary"]["dead"] is None, "no training recorded it"
    assert found["summary"]["l0"] == pytest.approx(sum(map(sum, found["fires"])) / found["tokens"], rel=1e-3)
    sums, matches = sae.collected.sums, sae.matches
    assert (found["summary"]["fvu"], found["summary"]["nmse"]) == (short(sums.fvu()), short(sums.nmse()))
    assert found["summary"]["fvu"] != found["summary"]["nmse"]
    assert found["axis"] == [short(min(both)) for both in matches.cosine.T.tolist()]
    assert sorted(found["suggested"]) == list(range(D_SAE))
    assert (found["labels"][1][PLANTED], found["labels"][0][PLANTED]) == ("he", "she")
    assert found["labels"][0][QUIET] == "never fires"
    assert (found["labels"][1][CLOSED], found["fires"][0][CLOSED] > 0) == ("closed", True)
    dead, closed = (found["summary"][name] for name in ("deadPoles", "closedPoles"))
    assert (dead + closed, closed) == (pole_statistics(sae.collected.pole_counts).dead_poles, 1)


def test_a_planted_latent_shows_both_sides(exploration: Exploration) -> None:
    latent = exploration.saes["signed"][PLANTED]
    positive, negative = latent.poles
    for pole, word, code in ((positive, " she", 2.0), (negative, " he", -2.0)):
        assert [(c.tokens[c.at], c.code) for c in pole.strongest] == [(word, code)] * 4
    assert positive.promoted[0].text == negative.demoted[0].text == " she"
    assert negative.promoted[0].by == -positive.demoted[0].by > 0
    assert (positive.match.latent, negative.match.latent) == (4, 3)
    assert positive.match.cosine == pytest.approx(1)
    back = exploration.saes["topk"][3].positive.match
    assert (back.latent, back.pole) == (PLANTED, 1), "the negative pole of the planted latent"


def test_the_nearest_rows_are_aligned_and_the_farthest_opposed(site: Path, exploration: Exploration) -> None:
    shown = data(site.parent / "data" / "0" / "shard-0.js")["latents"][PLANTED]
    rows = torch.nn.functional.normalize(exploration.saes["signed"].W_dec, dim=1)
    cosines = rows @ rows[PLANTED]
    cosines[PLANTED] = 0
    for key, best in (("aligned", cosines.max(0)), ("opposed", cosines.min(0))):
        assert shown[key][0][:2] == [int(best.indices), pytest.approx(best.values.item(), rel=1e-3)]


def test_no_address_elsewhere_and_model_text_is_no_markup(site: Path) -> None:
    for path in site.parent.rglob("*.*"):
        text = path.read_text(encoding="utf-8") if path.suffix in (".html", ".js") else ""
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text), path
    assert "words &lt;b&gt;" in site.read_text(encoding="utf-8")
    assert "innerHTML" not in "".join(path.read_text() for path in site.parent.glob("*.js"))


def test_a_folder_of_other_things_is_left_alone(exploration: Exploration, tmp_path: Path) -> None:
    (tmp_path / "page.js").write_text("// of a site of somebody's own\n")
    for folder in (tmp_path / "page.js", tmp_path):
        with pytest.raises(ConfigError, match="is neither empty nor an explorer's site"):
            exploration.write(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["page.js"]


def test_a_site_is_renewed_and_stays_whole_until_then(exploration: Exploration, tmp_path: Path) -> None:
    def stop(*_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        exploration.write(tmp_path, on_progress=stop)
    exploration.write(tmp_path)
    shard = tmp_path / "data" / "0" / "shard-0.js"
    before = shard.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        exploration.write(tmp_path, on_progress=stop)
    assert shard.read_bytes() == before
    (tmp_path / ".collection.pt").write_bytes(b"a pickle of an earlier version")
    exploration.write(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"index.html", "data", *SCRIPTS, *SHARED_SCRIPTS}


def test_cards_escape_text_and_need_no_script(exploration: Exploration) -> None:
    card = exploration.latent(PLANTED)._repr_html_()
    for html in (exploration._repr_html_(), card):
        assert "<script" not in html
        assert "<img" not in html
        assert "&lt;" in html
    assert "&lt;script&gt;" in card
    assert card.index("negative") < card.index("positive")
    assert "negative" not in exploration.latent(3, sae="topk")._repr_html_()


def test_a_latent_or_a_scale_that_is_not_there_is_named(exploration: Exploration) -> None:
    assert exploration.scale(3, sae="topk") == exploration.latent(3, sae="topk").latent.scale > 0
    with pytest.raises(IndexError, match="latent 300 is not one of the 300 of signed, 0 to 299"):
        exploration.latent(300)
    with pytest.raises(ConfigError, match="one of signed, topk"):
        exploration.latent(0, sae="other")
    with pytest.raises(ConfigError, match=f"scale of latent {QUIET} is missing; it did not fire"):
        exploration.scale(QUIET, sae="signed")
