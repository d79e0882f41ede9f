"""The report's folder: complete, self-contained, and safe from odd names."""

import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

from bandsplit.core.errors import AudioError, BandsplitError
from bandsplit.core.table import TextTable
from bandsplit.evaluation.results import Score
from bandsplit.reports.page import Report, ReportFigure, SongAudio, write_report
from bandsplit.reports.page.listing import list_scores, measured_on, score_beside

ODD = """<b>&"'</b>"""
PNG = bytes.fromhex("89504e470d0a1a0a")


def _score(value: float | None, target: str = "vocals", system: str = ODD, seed: int | None = None) -> Score:
    return Score(
        system=system,
        data="toys",
        fingerprint="abc123",
        split="test",
        track=ODD,
        target=target,
        metric="usdr_db",
        value=value,
        mixture="sum",
        inference="whole",
        scored_with=("vocals",),
        seed=seed,
        version="1",
    )


def _song(folder: Path, samples: int = 8000) -> SongAudio:
    folder.mkdir()
    random = np.random.default_rng(0)
    paths = {name: folder / f"{name}.wav" for name in ("mixture", "reference", "estimate")}
    for path in paths.values():
        soundfile.write(path, random.normal(0, 0.1, (samples, 2)), 8000)
    return SongAudio(ODD, paths["mixture"], {"vocals": paths["reference"]}, {ODD: {"vocals": paths["estimate"]}})


def _addresses(page: str) -> list[str]:
    return re.findall(r'(?:src|href|data-script)="([^"#]+)"', page)


def test_a_report_of_nothing_is_a_page_with_a_title(tmp_path: Path) -> None:
    page = write_report(tmp_path / "new" / "report", Report("Nothing yet")).read_text(encoding="utf-8")
    assert "<h1><bdi>Nothing yet</bdi></h1>" in page
    assert "<section" not in page
    assert "<script" not in page


def test_names_are_shown_as_they_are_and_every_address_is_a_file_of_the_folder(tmp_path: Path) -> None:
    figure = tmp_path / 'a "figure" & more.png'
    figure.write_bytes(PNG)
    csv = tmp_path / f"{ODD.replace('/', '')}.csv"
    csv.write_text("a,b\n")
    table = TextTable(ODD, (ODD, "dB"), ((ODD, "-1.5"), ("net", "not run")), (ODD,), files=(csv,))
    report = Report(
        ODD,
        ODD,
        (ODD,),
        (table,),
        (ReportFigure(ODD, figure, ODD),),
        (table,),
        (table,),
        (_score(-2.0), _score(None, "bass")),
        (_song(tmp_path / "song"),),
    )
    path = write_report(tmp_path / "report", report)
    page = path.read_text(encoding="utf-8")
    assert "<b>" not in page
    assert "&lt;b&gt;&amp;&#34;&#39;&lt;/b&gt;" in page
    assert "://" not in page, "an address outside the folder"
    addresses = [address for address in _addresses(page) if not address.startswith("data:")]
    assert len(addresses) >= 8
    assert page.count(" download=") == 3, "the table is shown three times"
    assert all((path.parent / address).is_file() for address in addresses)
    assert '<td class="number">−1.5</td>' in page
    assert 'data-value="-2.0">−2.00</td>' in page
    assert 'data-value="">–</td>' in page
    assert "uSDR −2.00 dB" in page
    assert "abc123" in page
    for asset in (path.parent / "assets").glob("*.*s"):
        assert "://" not in asset.read_text(encoding="utf-8")


def test_names_that_turn_the_order_of_text_around_stay_among_themselves(tmp_path: Path) -> None:
    name = "net\N{RIGHT-TO-LEFT OVERRIDE}abc"
    song = _song(tmp_path / "song")
    song = SongAudio(name, song.mixture, {name: song.mixture}, {name: {name: song.mixture}})
    scores = tuple(
        _score(1.5, name, name).model_copy(update={"track": name, "data": name, "split": split})
        for split in ("test", name)
    )
    table = TextTable(name, (name, "dB"), ((name, "1.5"),), (name,))
    report = Report(name, name, (name,), (table,), (), (table,), (table,), scores, (song,))
    page = write_report(tmp_path / "report", report).read_text(encoding="utf-8")
    shown = re.sub(
        r"<title>.*?</title>|<option.*?</option>|<[^>]*>", lambda tag: tag[0] if "bdi" in tag[0] else "", page
    )
    assert name in shown
    assert name not in re.sub(r"<bdi>[^<]*</bdi>", "", shown)


def test_rows_of_two_seeds_are_two_lines(tmp_path: Path) -> None:
    scores = (_score(1.0, system="net", seed=1), _score(2.0, system="net", seed=2))
    page = write_report(tmp_path / "report", Report("Seeds", scores=scores)).read_text(encoding="utf-8")
    assert "net (seed: 1)" in page
    assert "net (seed: 2)" in page


def test_a_system_that_was_trained_on_the_songs_is_marked_everywhere(tmp_path: Path) -> None:
    seen = _score(9.0, system="seen").model_copy(update={"saw_test_songs": True})
    listing = list_scores([_score(1.0), seen])
    assert listing.systems == (ODD, "seen ‡")
    assert "‡ trained on these songs: not a score" in measured_on([seen]).footnotes
    assert measured_on([_score(1.0)]).footnotes == ()
    assert score_beside([seen], ODD, "seen", "vocals") == "uSDR 9.00 dB, trained on this song"
    assert score_beside([_score(-1.0)], ODD, ODD, "vocals") == "uSDR \N{MINUS SIGN}1.00 dB"


def test_the_loudest_30_seconds_of_a_long_song_are_taken(tmp_path: Path) -> None:
    song = _song(tmp_path / "song", samples=50 * 8000)
    loud, rate_hz = soundfile.read(song.mixture)
    loud[: 15 * rate_hz] *= 0.01
    soundfile.write(song.mixture, loud, rate_hz)
    page = write_report(tmp_path / "report", Report("Long", songs=(song,))).read_text(encoding="utf-8")
    assert 'data-duration="30.0"' in page
    start = re.search(r"loudest 30 s, from 0:(\d\d)", page)
    assert start
    assert 15 <= int(start[1]) <= 20


def test_a_report_replaces_a_report_and_nothing_else(tmp_path: Path) -> None:
    write_report(tmp_path / "report", Report("First"))
    assert "Second" in write_report(tmp_path / "report", Report("Second")).read_text()
    (tmp_path / "report" / "thesis.txt").write_text("years of work")
    with pytest.raises(BandsplitError, match=r"report: holds 'thesis\.txt'.*choose a new or empty folder"):
        write_report(tmp_path / "report", Report("Third"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report"]


def test_files_that_cannot_be_shown_are_named_and_leave_the_old_report(tmp_path: Path) -> None:
    write_report(tmp_path / "report", Report("First"))
    with pytest.raises(BandsplitError, match=r"gone\.png: the report shows this file, but it does not exist"):
        write_report(tmp_path / "report", Report("2", figures=(ReportFigure("", tmp_path / "gone.png", ""),)))
    with pytest.raises(BandsplitError, match=r"figure\.pdf: is not a picture that browsers show; legal: \.svg"):
        write_report(tmp_path / "report", Report("2", figures=(ReportFigure("", tmp_path / "figure.pdf", ""),)))
    song = _song(tmp_path / "song")
    soundfile.write(song.references["vocals"], np.zeros((7999, 2)), 8000)
    with pytest.raises(AudioError, match=r"reference\.wav: has 7999 samples at 8000 Hz, but the mixture .* 8000 at"):
        write_report(tmp_path / "report", Report("2", songs=(song,)))
    assert "First" in (tmp_path / "report" / "index.html").read_text()
    assert not list(tmp_path.glob(".report*"))
