"""The check of whole data sets: facts against numbers taken here, what is called broken, and what is remembered."""

import json
import os
import shutil
import tracemalloc
import unicodedata
from pathlib import Path
from types import ModuleType

import numpy as np
import platformdirs
import pytest
import soundfile

from bandsplit.core.errors import DataError
from bandsplit.data.songs import check, facts
from bandsplit.data.songs.check import DatasetReport, check_dataset, require_sound
from bandsplit.data.songs.facts import facts_folder
from bandsplit.data.songs.layouts import index_dataset
from bandsplit.data.songs.tracks import Track
from songs import STEMS, link_songs, noise_stems, write_dataset, write_song

RATE_HZ = 8000


def report_of(root: Path, **options: object) -> DatasetReport:
    return check_dataset(index_dataset(root, **options))  # type: ignore[arg-type]


def lines(problems: tuple) -> list[str]:
    return [str(problem) for problem in problems]


def put(path: Path, signal: np.ndarray, sample_rate_hz: int = RATE_HZ) -> None:
    """Write ``c samples`` with all their bits (wav) or 16 of them (flac)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    subtype = "FLOAT" if path.suffix == ".wav" else "PCM_16"
    soundfile.write(path, np.asarray(signal).T, sample_rate_hz, subtype=subtype)


def get(path: Path) -> np.ndarray:
    return soundfile.read(path)[0].T


# --- facts -----------------------------------------------------------------------------------------------------------


def test_peak_level_clipping_and_silence_are_those_of_the_samples(tmp_path: Path) -> None:
    stems = {stem: signal[:, :3000] for stem, signal in noise_stems(0).items()}
    stems["vocals"][1, 100] = -0.75
    stems["bass"][:] = 0
    stems["bass"][0, 7] = 5e-5  # too quiet to hear
    stems["drums"][0, 50:55] = 1.0  # five at full scale: three follow two others
    stems["drums"][1, 60:62] = -1.0  # two are no clipping
    stems["drums"][1, 90:93] = -1.0
    write_song(tmp_path / "test" / "Song", stems)
    report = report_of(tmp_path)
    (song,) = report.songs
    for stem, signal in stems.items():
        measured = song.parts[stem]
        assert measured.peak == pytest.approx(np.abs(signal).max(), rel=1e-6)
        assert measured.rms_db == pytest.approx(10 * np.log10(np.mean(signal**2)), abs=1e-3)
        assert measured.clipped_samples == (4 if stem == "drums" else 0)
        assert measured.silent == (stem == "bass")
    assert lines(report.remarks)[:2] == ["test/Song, bass: is silent", "test/Song, drums: 4 samples are clipped"]
    assert report.broken == ()


@pytest.mark.parametrize("error_db", [-80.0, -40.0, -6.0])
def test_the_residual_is_that_of_a_known_error_and_its_size_decides_what_is_said(
    tmp_path: Path, error_db: float
) -> None:
    stems = noise_stems(1)
    song = write_song(tmp_path / "test" / "Song", stems)
    mixture = get(song / "mixture.wav")
    error = np.random.default_rng(5).normal(0, 1, mixture.shape)
    error *= 10 ** (error_db / 20) * np.sqrt(np.sum(mixture**2) / np.sum(error**2))
    put(song / "mixture.wav", mixture + error)
    expected_db = 10 * np.log10(np.sum(error**2) / np.sum((mixture + error) ** 2))
    report = report_of(tmp_path)
    assert report.songs[0].residual_db == pytest.approx(expected_db, abs=0.01)
    said = f"test/Song, mixture: mixture minus sum of stems is {expected_db:.1f} dB; "
    if error_db == -80.0:
        assert not report.broken and not report.remarks
    elif error_db == -40.0:
        assert lines(report.remarks) == [said + "it was processed or coded separately from the stems"]
    else:
        assert lines(report.broken) == [said + "a stem is missing, shifted or of another song"]


def test_a_summed_mixture_has_no_residual(tmp_path: Path) -> None:
    write_dataset(tmp_path, train=0, test=1)
    assert report_of(tmp_path).songs[0].residual_db is not None
    assert report_of(tmp_path, mixture="sum").songs[0].residual_db is None


def test_blocks_do_not_change_what_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_song(tmp_path / "test" / "Song", noise_stems(3, 10_001))
    (whole,) = report_of(tmp_path).songs
    shutil.rmtree(tmp_path / ".bandsplit")
    monkeypatch.setattr(check, "BLOCK_SAMPLES", 999)
    (pieces,) = report_of(tmp_path).songs
    for part, measured in whole.parts.items():
        assert pieces.parts[part].digest == measured.digest
        assert pieces.parts[part].peak == measured.peak
        assert pieces.parts[part].rms_db == pytest.approx(measured.rms_db, abs=1e-3)
    assert pieces.residual_db == pytest.approx(whole.residual_db, abs=1.0)


def test_memory_does_not_grow_with_the_length_of_a_song(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "BLOCK_SAMPLES", 1 << 14)
    peaks = []
    for seconds in (5, 50):
        root = tmp_path / str(seconds)
        write_song(root / "test" / "Song", noise_stems(0, seconds * RATE_HZ), suffix=".flac")
        dataset = index_dataset(root)
        tracemalloc.start()
        check_dataset(dataset)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]


# --- fingerprints ----------------------------------------------------------------------------------------------------


def prints(root: Path, **options: object) -> dict[str, str]:
    return report_of(root, **options).fingerprints


def test_a_copy_in_flac_or_elsewhere_has_the_fingerprint_of_the_original(tmp_path: Path) -> None:
    original = write_dataset(tmp_path / "original", train=2, test=1)
    expected = prints(original)
    assert set(expected) == {"train", "valid", "test"}
    assert len(set(expected.values())) == 3
    assert all(len(value) == 12 and int(value, 16) >= 0 for value in expected.values())
    shutil.copytree(original, tmp_path / "deep" / "copy")
    assert prints(tmp_path / "deep" / "copy") == expected
    flac = tmp_path / "flac"
    for path in sorted(original.rglob("*.wav"), reverse=True):
        put(flac / path.relative_to(original).with_suffix(".flac"), get(path))
    assert prints(flac) == expected
    assert report_of(original).dataset.fingerprints == expected


def test_the_fingerprint_does_not_depend_on_how_a_list_is_ordered(tmp_path: Path) -> None:
    rows = []
    for number, stem in enumerate(("vocals", "bass", "bass")):
        put(tmp_path / f"{number}.wav", noise_stems(number)["bass"])
        rows.append(f"{stem},{number}.wav")
    for name, order in (("a", rows), ("b", rows[::-1])):
        (tmp_path / f"{name}.csv").write_text("\n".join(["instrum,path", *order]))
    assert prints(tmp_path / "a.csv") == prints(tmp_path / "b.csv")


def test_the_way_a_system_writes_accents_does_not_change_the_fingerprint(tmp_path: Path) -> None:
    for form in ("NFC", "NFD"):
        write_song(tmp_path / form / "test" / unicodedata.normalize(form, "Été"), noise_stems(0))
    assert prints(tmp_path / "NFC") == prints(tmp_path / "NFD")


def _one_sample(root: Path) -> None:
    signal = get(root / "test" / "Song 2" / "bass.wav")
    signal[1, 3999] += 1 / 32768
    put(root / "test" / "Song 2" / "bass.wav", signal)


def _another_name(root: Path) -> None:
    (root / "test" / "Song 2").rename(root / "test" / "Song Two")


def _another_split(root: Path) -> None:
    (root / "test").rename(root / "valid")


def _another_rate(root: Path) -> None:
    for path in (root / "test" / "Song 2").iterdir():
        put(path, get(path), 2 * RATE_HZ)


def _swapped_stems(root: Path) -> None:
    song = root / "test" / "Song 2"
    (song / "bass.wav").rename(song / "x")
    (song / "drums.wav").rename(song / "bass.wav")
    (song / "x").rename(song / "drums.wav")


@pytest.mark.parametrize("change", [_one_sample, _another_name, _another_split, _another_rate, _swapped_stems])
def test_what_can_change_results_changes_the_fingerprint(tmp_path: Path, change) -> None:
    write_dataset(tmp_path, train=2, test=1)
    before = prints(tmp_path)
    change(tmp_path)
    after = prints(tmp_path)
    assert before["test"] not in after.values()
    assert after["train"] == before["train"] or change is _another_split


def test_the_length_that_is_chosen_and_the_source_of_the_mixture_change_the_fingerprint(tmp_path: Path) -> None:
    song = write_song(tmp_path / "test" / "Song", noise_stems(0))
    put(song / "drums.wav", get(song / "drums.wav")[:, :3000])
    padded, trimmed = (prints(tmp_path, lengths=lengths) for lengths in ("pad", "trim"))
    summed = prints(tmp_path, lengths="pad", mixture="sum")
    assert len({value["test"] for value in (padded, trimmed, summed)}) == 3
    assert prints(tmp_path, lengths="pad") == padded


# --- what is broken --------------------------------------------------------------------------------------------------


def test_a_good_set_has_nothing_broken_and_no_remarks(tmp_path: Path) -> None:
    report = report_of(write_dataset(tmp_path))
    assert report.broken == report.remarks == report.unusable == ()
    assert require_sound(report) is report.dataset


def test_the_known_erratum_is_told_but_not_refused(tmp_path: Path) -> None:
    for name in ("PR - Oh No", "Another"):
        song = write_song(tmp_path / "test" / name, noise_stems(len(name)))
        put(song / "mixture.wav", get(song / "mixture.wav")[:, ::-1])
    report = report_of(tmp_path)
    (remark,) = lines(report.remarks)
    assert remark.startswith("test/PR - Oh No, mixture: mixture minus sum of stems is ")
    assert "; known erratum: the left channel of the mixture is not the sum of the stems (listed: " in remark
    assert [problem.song for problem in report.broken] == ["test/Another"]


@pytest.mark.parametrize("damage", ["shifted", "missing", "of another song"])
def test_a_stem_that_is_not_in_the_mixture_breaks_the_song(tmp_path: Path, damage: str) -> None:
    write_dataset(tmp_path)
    stem = tmp_path / "train" / "Song 1" / "drums.wav"
    wrong = {
        "shifted": np.roll(get(stem), 20, axis=1),
        "missing": np.zeros((2, 4000)),
        "of another song": noise_stems(77)["bass"],
    }[damage]
    put(stem, wrong)
    report = report_of(tmp_path)
    (line,) = lines(report.broken)
    assert line.startswith("train/Song 1, mixture: mixture minus sum of stems is -")
    assert line.endswith("a stem is missing, shifted or of another song")
    with pytest.raises(DataError) as caught:
        require_sound(report)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path}: 1 problem(s) that would spoil the results\n  train/Song 1, mixture: ")
    assert message.endswith("or continue anyway with --allow")
    assert require_sound(report, allow=True).tracks == report.dataset.tracks


def test_a_song_whose_stems_are_all_silent_is_broken(tmp_path: Path) -> None:
    song = write_song(tmp_path / "test" / "Song", noise_stems(0))
    for stem in STEMS:
        put(song / f"{stem}.wav", np.zeros((2, 4000)))
    (line,) = lines(report_of(tmp_path).broken)
    assert line == "test/Song: all stems are silent but the mixture is not; copy the stems again"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("stem", ["vocals", "mixture"])
def test_samples_that_are_not_finite_break_a_song_also_when_remembered(tmp_path: Path, stem: str, value: float) -> None:
    write_dataset(tmp_path, train=2, test=1)
    path = tmp_path / "test" / "Song 2" / f"{stem}.wav"
    signal = get(path)
    signal[0, 17] = value
    put(path, signal)
    for report in (report_of(tmp_path), report_of(tmp_path)):
        assert lines(report.broken) == [f"test/Song 2, {stem}: holds samples that are not finite; export it again"]
        allowed = require_sound(report, allow=True)
        assert [track.name for track in allowed.tracks] == ["Song 0", "Song 1"]
        assert allowed.left_out == ("test/Song 2",)
        assert set(allowed.fingerprints) == {"train", "valid"}


def test_a_file_that_is_damaged_in_its_middle_is_named_and_mended_by_a_whole_one_of_the_same_age(
    tmp_path: Path,
) -> None:
    write_dataset(tmp_path, train=2, test=0)
    song = write_song(tmp_path / "test" / "Song", noise_stems(9, 60_000), suffix=".flac")
    path = song / "drums.flac"
    whole, status = path.read_bytes(), path.stat()
    middle = len(whole) // 2
    path.write_bytes(whole[:middle] + bytes(8000) + whole[middle + 8000 :])
    report = report_of(tmp_path)
    (line,) = lines(report.broken)
    assert line.startswith(f"test/Song, drums: {path}: ")
    assert "restore it" in line or "copy or export it again" in line
    assert [track.name for track in report.unusable] == ["Song"]
    assert "Song" not in [track.name for track in require_sound(report, allow=True).tracks]
    os.utime(path, ns=(status.st_mtime_ns, path.stat().st_mtime_ns))
    damaged_at = path.stat().st_mtime_ns
    path.write_bytes(whole)
    os.utime(path, ns=(damaged_at, damaged_at))
    assert report_of(tmp_path).broken == ()


def test_a_song_in_two_splits_under_two_names_is_broken_and_within_one_split_a_remark(tmp_path: Path) -> None:
    for split, name, seed in (
        ("train", "A", 0),
        ("train", "B", 0),
        ("test", "C", 1),
        ("train", "D", 2),
        ("test", "E", 2),
    ):
        write_song(tmp_path / split / name, noise_stems(seed))
    write_song(tmp_path / "valid" / "F", noise_stems(3))
    report = report_of(tmp_path)
    assert {problem.song for problem in report.broken} == {"test/E"}
    assert "test/E, vocals: is the same audio as vocals of train/D; remove one of them" in lines(report.broken)
    assert {problem.song for problem in report.remarks} == {"train/B"}
    assert "train/B, mixture: is the same audio as mixture of train/A; remove one of them" in lines(report.remarks)


def test_two_stems_of_a_song_that_are_the_same_are_broken(tmp_path: Path) -> None:
    stems = noise_stems(0)
    stems["other"] = stems["vocals"]
    write_song(tmp_path / "test" / "Song", stems)
    (line,) = lines(report_of(tmp_path).broken)
    assert line == "test/Song, other: is the same audio as vocals of test/Song; remove one of them"


def test_silent_stems_and_a_stem_that_is_all_of_its_song_are_no_duplicates(tmp_path: Path) -> None:
    for name, seed in (("A", 0), ("B", 1)):
        silence = {stem: np.zeros((2, 4000)) for stem in STEMS}
        write_song(tmp_path / "test" / name, silence | {"bass": noise_stems(seed)["bass"]})
    report = report_of(tmp_path)
    assert report.broken == ()
    assert all("is silent" in line for line in lines(report.remarks))


def test_a_file_that_a_list_names_twice_is_told(tmp_path: Path) -> None:
    put(tmp_path / "a.wav", noise_stems(0)["bass"])
    (tmp_path / "all.csv").write_text("instrum,path\nbass,a.wav\nbass,a.wav\n")
    (line,) = lines(report_of(tmp_path / "all.csv").remarks)
    assert line == "train/a, bass: is the same audio as bass of train/a; remove one of them"


# --- lossy songs -----------------------------------------------------------------------------------------------------


def full_band(seed: int, sample_rate_hz: int = 44100) -> dict[str, np.ndarray]:
    """Noise with the slope of music, about -3 dB per octave."""
    stems = {}
    for number, stem in enumerate(STEMS):
        spectrum = np.fft.rfft(np.random.default_rng((seed, number)).normal(0, 1, (2, sample_rate_hz)))
        spectrum /= np.sqrt(np.maximum(1, np.fft.rfftfreq(sample_rate_hz, 1 / sample_rate_hz) / 50))
        signal = np.fft.irfft(spectrum, sample_rate_hz)
        stems[stem] = 0.1 * signal / np.abs(signal).max()
    return stems


def low_passed(signal: np.ndarray) -> np.ndarray:
    spectrum = np.fft.rfft(signal)
    spectrum[:, np.fft.rfftfreq(signal.shape[1], 1 / 44100) > 16000] = 0
    return np.round(np.fft.irfft(spectrum, signal.shape[1]) * 32768) / 32768


def through_mp3(signal: np.ndarray, folder: Path) -> np.ndarray:
    path = folder / "coded.mp3"
    soundfile.write(path, signal.T, 44100, subtype="MPEG_LAYER_III", bitrate_mode="CONSTANT", compression_level=0.65)
    assert 120 <= path.stat().st_size * 8 / 1000 / (signal.shape[1] / 44100) <= 140  # kbit/s
    return get(path)


@pytest.mark.parametrize("coding", ["none", "low pass", "mp3"])
def test_songs_without_a_band_above_16_khz_are_told_as_lossy(tmp_path: Path, coding: str) -> None:
    for name, seed in (("A", 0), ("B", 1)):
        stems = full_band(seed)
        if coding == "low pass":
            stems = {stem: low_passed(signal) for stem, signal in stems.items()}
        elif coding == "mp3":
            stems = {stem: through_mp3(signal, tmp_path) for stem, signal in stems.items()}
        write_song(tmp_path / "test" / name, stems, 44100)
    report = report_of(tmp_path)
    assert report.broken == ()
    if coding == "none":
        assert report.compressed == ()
        assert report.bandwidth.startswith("full bandwidth: the level falls by 1 dB (median) from 13 - 15.5 kHz to")
    else:
        assert report.compressed == ("test/A", "test/B")
        assert report.bandwidth.startswith("LOSSY: the level falls by ")
        assert "35 dB in 2 of 2 songs" in report.bandwidth


def test_one_lossy_song_among_others_is_counted(tmp_path: Path) -> None:
    for name in "ABC":
        stems = full_band(ord(name))
        coded = {stem: low_passed(signal) for stem, signal in stems.items()} if name == "B" else stems
        write_song(tmp_path / "test" / name, coded, 44100)
    report = report_of(tmp_path)
    assert report.compressed == ("test/B",)
    assert report.bandwidth.startswith("full bandwidth: ")
    assert report.bandwidth.endswith("by more than 35 dB in 1 of 3 songs")


def test_a_low_rate_short_songs_and_no_songs_tell_nothing_about_lossy_coding(tmp_path: Path) -> None:
    write_song(tmp_path / "low" / "test" / "Song", full_band(0, 22050), 22050)
    assert report_of(tmp_path / "low").bandwidth == "the rate is too low to distinguish lossless from lossy"
    write_song(tmp_path / "short" / "test" / "Song", noise_stems(0, 4000), 44100)
    assert report_of(tmp_path / "short").bandwidth == "the songs are too short to distinguish lossless from lossy"
    none = check_dataset(index_dataset(tmp_path / "short"), splits=["train"])
    assert none.bandwidth == "there are no songs to distinguish lossless from lossy"


# --- what is remembered ----------------------------------------------------------------------------------------------


def change_in_secret(path: Path) -> None:
    """Give a file other samples but the size and time that it had."""
    status = path.stat()
    signal = get(path)
    put(path, -signal)
    assert path.stat().st_size == status.st_size
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_unchanged_files_are_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_dataset(tmp_path)
    first = report_of(tmp_path)
    change_in_secret(tmp_path / "train" / "Song 0" / "bass.wav")
    second = report_of(tmp_path)
    assert second.fingerprints == first.fingerprints
    assert [song.parts for song in second.songs] == [song.parts for song in first.songs]
    dataset = index_dataset(tmp_path)

    def refuse(*_: object) -> None:
        raise AssertionError("audio was read")

    monkeypatch.setattr(Track, "read", refuse)
    assert check_dataset(dataset).fingerprints == first.fingerprints


def test_only_songs_with_changed_files_are_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_dataset(tmp_path, train=3, test=0)
    before = prints(tmp_path)
    path = tmp_path / "train" / "Song 1" / "bass.wav"
    os.utime(path, ns=(1, path.stat().st_mtime_ns + 1))
    dataset, read = index_dataset(tmp_path), Track.read
    songs = set()

    def watched(track: Track, *arguments: object) -> np.ndarray:
        songs.add(track.name)
        return read(track, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Track, "read", watched)
    assert check_dataset(dataset).fingerprints == before
    assert songs == {"Song 1"}


def test_progress_counts_every_song(tmp_path: Path) -> None:
    dataset = index_dataset(write_dataset(tmp_path))
    told: list[tuple[int, int]] = []
    for _ in range(2):
        check_dataset(dataset, progress=lambda done, total: told.append((done, total)))
    assert told == 2 * [(1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"\x80\xff",
        b"[1, 2]",
        b"null",
        b'{"format": 1}',
        b'{"format": 1, "songs": {"a": 5}}',
        b'{"songs": {}',
        b"{}",
    ],
)
def test_a_damaged_cache_counts_as_empty(tmp_path: Path, damage: bytes) -> None:
    expected = prints(write_dataset(tmp_path))
    path = tmp_path / ".bandsplit" / f"check-{check.MEASURES}.json"
    path.write_bytes(damage)
    assert prints(tmp_path) == expected
    assert len(json.loads(path.read_text())["songs"]) == 4


@pytest.mark.parametrize(("module", "version"), [(facts, "FORMAT"), (check, "MEASURES")])
def test_facts_of_another_version_are_found_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: ModuleType, version: str
) -> None:
    before = prints(write_dataset(tmp_path, train=2, test=0))
    change_in_secret(tmp_path / "train" / "Song 0" / "bass.wav")
    assert prints(tmp_path) == before
    monkeypatch.setattr(module, version, getattr(module, version) + 1)
    assert prints(tmp_path)["train"] != before["train"]


@pytest.mark.parametrize("obstacle", ["no folder can be made", "the folder is not writable"])
def test_facts_of_a_read_only_set_go_to_the_users_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, obstacle: str
) -> None:
    root = write_dataset(tmp_path / "songs").resolve()
    cache, mkdir = tmp_path / "cache", Path.mkdir
    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda name: str(cache / name))

    def refuse(folder: Path, *arguments: object, **options: object) -> None:
        if folder.parent == root:
            raise PermissionError(30, "Read-only file system", str(folder))
        mkdir(folder, *arguments, **options)  # type: ignore[arg-type]

    if obstacle == "no folder can be made":
        monkeypatch.setattr(Path, "mkdir", refuse)
    else:
        monkeypatch.setattr(os, "access", lambda path, mode: root not in Path(path).parents)
    first = prints(root)
    (file,) = cache.rglob("check-*.json")
    assert file.parent == facts_folder(root)
    assert file.parent.parent == cache / "bandsplit" / "data"
    assert not (root / ".bandsplit" / f"check-{check.MEASURES}.json").exists()
    change_in_secret(root / "train" / "Song 0" / "bass.wav")
    assert prints(root) == first


def test_sets_of_one_name_do_not_share_a_folder_in_the_users_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda name: str(tmp_path / "cache" / name))
    monkeypatch.setattr(os, "access", lambda path, mode: "cache" in Path(path).parts)
    roots = [write_dataset(tmp_path / place / "songs", train=2, test=0) for place in "ab"]
    assert len({facts_folder(root) for root in roots}) == 2


def test_where_nothing_can_be_written_both_places_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache").touch()
    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda name: str(tmp_path / "cache" / name))
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    root = write_dataset(tmp_path / "songs", train=2, test=0)
    with pytest.raises(DataError) as caught:
        report_of(root)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'cache' / 'bandsplit' / 'data'}")
    assert f"and {root / '.bandsplit'} is not writable either" in message
    assert message.endswith("make one of them writable")


def test_facts_of_a_list_lie_beside_it(tmp_path: Path) -> None:
    put(tmp_path / "audio" / "a.wav", noise_stems(0)["bass"])
    (tmp_path / "all.csv").write_text("instrum,path\nbass,audio/a.wav\n")
    report_of(tmp_path / "all.csv")
    assert (tmp_path / ".bandsplit" / f"check-{check.MEASURES}.json").is_file()


# --- real songs ------------------------------------------------------------------------------------------------------


def test_real_songs_are_sound_lossless_and_their_own_stems_sums(shared: Path, tmp_path: Path) -> None:
    root = shared / "data" / "everything_is_free"
    if not root.is_dir():
        pytest.skip("the real songs are not here")
    report = report_of(link_songs(root, tmp_path / "eif"))
    assert report.broken == ()
    assert len(report.songs) == 6
    assert report.compressed == ()
    assert all(song.residual_db is not None and song.residual_db < check.SUM_WARNING_DB for song in report.songs)
