"""The song generator: what every song must be, and a data set that is whole, kept or refused."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile

from bandsplit.core.errors import ConfigError, DataError
from bandsplit.data.songs.layouts import index_dataset
from bandsplit.data.synth import songs as synthesis
from bandsplit.data.synth.composition import STEMS, Composition, bass_line, compose, melody, played
from bandsplit.data.synth.songs import song_title, synthesise_song, write_dataset
from bandsplit.data.synth.sound import pluck, reverb, sawtooth

RATE_HZ = 44100
SEEDS = range(6)
SET = {"n_train": 2, "n_valid": 1, "n_test": 1, "duration_s": 2.0, "seed": 3}


@pytest.fixture(scope="module")
def songs() -> list[dict[str, np.ndarray]]:
    return [synthesise_song(seed, 6.0) for seed in SEEDS]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path]]:
    root = tmp_path_factory.mktemp("synthetic") / "été 1"
    return root, write_dataset(root, **SET)


def mean_power(signal: np.ndarray) -> float:
    return float(np.mean(signal.astype(np.float64) ** 2))


def state(root: Path) -> dict[Path, tuple[int, bytes]]:
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in sorted(root.rglob("*")) if path.is_file()}


def test_the_same_seed_gives_the_same_samples_and_another_seed_others(songs: list[dict[str, np.ndarray]]) -> None:
    again = synthesise_song(0, 6.0)
    for stem in STEMS:
        assert np.array_equal(again[stem], songs[0][stem])
        assert not np.array_equal(songs[0][stem], songs[1][stem])


def test_songs_differ_in_key_and_tempo() -> None:
    titles = {song_title(seed) for seed in range(20)}
    assert len(titles) > 17


def test_stems_are_stereo_float32_of_the_length_asked_for(songs: list[dict[str, np.ndarray]]) -> None:
    for song in songs:
        assert tuple(song) == STEMS
        for stem in song.values():
            assert stem.dtype == np.float32
            assert stem.shape == (2, 6 * RATE_HZ)
    assert synthesise_song(1, 1.5, 16000)["drums"].shape == (2, 24000)


def test_songs_are_loud_but_never_clip(songs: list[dict[str, np.ndarray]]) -> None:
    for song in songs:
        mixture = np.sum(list(song.values()), axis=0)
        assert 10 * np.log10(mean_power(mixture)) > -26
        for signal in (mixture, *song.values()):
            assert np.abs(signal).max() <= 0.99


def test_loud_passages_have_the_level_of_mastered_music(songs: list[dict[str, np.ndarray]]) -> None:
    levels_db = []
    for song in songs:
        mixture = np.sum(list(song.values()), axis=0)
        pieces = np.sort(np.square(mixture[:, : 15 * 17640].reshape(2, 15, 17640)).mean(axis=(0, 2)))
        levels_db.append(10 * np.log10(pieces[-5:].mean()))
    assert min(levels_db) > -20 and max(levels_db) < -13.5
    assert np.median(levels_db) > -17


def test_voices_have_the_long_term_spectrum_of_recorded_ones(songs: list[dict[str, np.ndarray]]) -> None:
    # Mean over the vocals of six songs of Software-Entwicklungskit, "Everything is Free" (CC0), measured as below.
    edges_hz, recorded_db = (150, 300, 600, 1200, 2400, 4800, 8000), (-13.1, -3.9, -6.4, -12.8, -16.6, -24.3)
    n_fft, found_db = 4096, []
    for song in songs:
        frames = np.lib.stride_tricks.sliding_window_view(song["vocals"].mean(axis=0), n_fft)[:: n_fft // 2]
        power = np.square(frames).mean(axis=1)
        spectrum = np.square(np.abs(np.fft.rfft(frames[power > 1e-3 * power.max()] * np.hanning(n_fft)))).mean(axis=0)
        f_hz = np.fft.rfftfreq(n_fft, 1 / RATE_HZ)
        bands = [spectrum[(low <= f_hz) & (f_hz < high)].sum() for low, high in pairwise(edges_hz)]
        found_db.append(10 * np.log10(bands / np.sum(bands)))
    assert np.abs(np.mean(found_db, axis=0) - recorded_db).max() < 6


def test_stems_are_within_a_few_decibels_of_one_another(songs: list[dict[str, np.ndarray]]) -> None:
    levels_db = np.array([[10 * np.log10(mean_power(song[stem])) for stem in STEMS] for song in songs])
    apart_db = levels_db - levels_db.mean(axis=1, keepdims=True)
    assert np.abs(apart_db).max() < 7.0
    assert np.abs(apart_db.mean(axis=0)).max() < 4.0


def test_stems_have_no_offset_and_do_not_jump_at_the_ends(songs: list[dict[str, np.ndarray]]) -> None:
    for song in songs:
        for signal in song.values():
            assert np.abs(signal.mean(axis=1)).max() < 1e-3
            assert np.abs(signal[:, [0, -1]]).max() < 1e-3


@pytest.mark.parametrize("seed", [2, 4])
def test_no_bar_of_the_drums_returns_sample_for_sample(seed: int) -> None:
    bar = round(240 * RATE_HZ / int(song_title(seed, 10.0).split()[-2]))
    drums = synthesise_song(seed, 10.0)["drums"].mean(axis=0).astype(np.float64)
    one, rest = drums[bar : 2 * bar], drums[2 * bar :]
    assert mean_power(one) > 1e-5
    # The power of what remains of the bar when any later stretch is subtracted from it, zero in a loop.
    product = np.fft.irfft(np.fft.rfft(rest, 1 << 19) * np.fft.rfft(one, 1 << 19).conj())[: rest.size - bar]
    energy = np.cumsum(np.concatenate([[0.0], rest**2]))
    remains = np.sum(one**2) + (energy[bar:-1] - energy[: -bar - 1]) - 2 * product
    assert remains.min() > 0.05 * np.sum(one**2)


def rest_shares(plan: Composition, duration_s: float) -> list[float]:
    return [
        sum(min(end, duration_s) - max(start, 0.0) for start, end in plan.silences[stem] if start < duration_s)
        / duration_s
        for stem in STEMS
    ]


@pytest.mark.parametrize(("duration_s", "least", "most"), [(20.0, 0.25, 0.5), (180.0, 0.2, 0.45)])
def test_every_stem_rests_somewhere_in_most_songs_and_somebody_always_plays(
    duration_s: float, least: float, most: float
) -> None:
    shares = []
    for seed in range(100):
        plan = compose(np.random.default_rng(seed), duration_s)
        shares.append(rest_shares(plan, duration_s))
        for time_s in np.arange(0, duration_s, 0.25):
            assert not all(plan.silent(stem, time_s) for stem in STEMS)
    assert np.max(shares) < 0.8
    assert np.mean(np.array(shares) > 0) > 0.6
    assert (least < np.mean(shares, axis=0)).all() and (np.mean(shares, axis=0) < most).all()


def test_long_songs_begin_with_few_stems_and_gather_in_the_chorus() -> None:
    playing = []
    for seed in range(60):
        plan = compose(np.random.default_rng(seed), 180.0)
        bars_s = 8 * 4 * plan.beat_s if plan.n_bars >= 48 else 4 * 4 * plan.beat_s
        playing.append([sum(not plan.silent(stem, place * bars_s + 0.1) for stem in STEMS) for place in (0, 1, 2)])
    intro, verse, chorus = np.mean(playing, axis=0)
    assert intro < verse < chorus and chorus > 3.3


def test_a_late_stem_is_silent_until_it_enters() -> None:
    for seed in range(40):
        plan = compose(synthesis._generators(seed)[0], 12.0)
        late = [(stem, spans[0][1]) for stem, spans in plan.silences.items() if spans and spans[0][0] < 0]
        if late:
            stem, entry_s = late[0]
            before = synthesise_song(seed, 12.0)[stem][:, : int((entry_s - 0.5) * RATE_HZ)]
            assert np.abs(before).max() < 1e-6, "nothing that a file of 16 bits would hold"
            return
    pytest.fail("no song in forty has a stem that enters late")


def make_plan(mode: str = "minor") -> Composition:
    silences: dict[str, list[tuple[float, float]]] = {stem: [] for stem in STEMS}
    silences["bass"] = [(4.0, 6.0)]
    return Composition(9, mode, 120, 0.0, 0.0, (0, 5, 3, 4), False, 16.0, silences)


def test_melody_and_bass_stay_in_the_scale_and_the_range() -> None:
    plan = make_plan()
    rng = np.random.default_rng(0)
    a_minor = {9, 11, 0, 2, 4, 5, 7}
    sung, bass = melody(plan, rng, 50, 65), bass_line(plan, rng)
    assert {note.pitch % 12 for note in sung + bass} <= a_minor
    assert all(50 <= note.pitch <= 65 for note in sung)
    assert all(26 <= note.pitch <= 53 for note in bass)
    assert {note.pitch % 12 for note in bass if note.start_s % 2 == 0} == {9, 5, 2, 4}


def test_nothing_is_played_in_a_rest() -> None:
    plan = make_plan()
    rng = np.random.default_rng(1)
    for note in played(plan, "bass", bass_line(plan, rng), rng):
        assert not 4.05 < note.start_s < 5.95
        assert note.start_s > 4 or note.start_s + note.length_s < 4.1


@pytest.mark.parametrize("f0_hz", [55.0, 233.1, 622.3])
def test_a_plucked_string_is_in_tune(f0_hz: float) -> None:
    sound = pluck(f0_hz, 1.0, 0.5, 3.0, RATE_HZ, np.random.default_rng(0))
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(sound.size), 1 << 20))
    f_hz = np.fft.rfftfreq(1 << 20, 1 / RATE_HZ)
    near = np.flatnonzero(np.abs(f_hz - f0_hz) < 0.06 * f0_hz)
    assert f_hz[near[np.argmax(spectrum[near])]] == pytest.approx(f0_hz, rel=0.004)


def test_a_sawtooth_has_the_harmonics_of_one_and_hardly_aliases() -> None:
    f0_hz = 1000.0
    wave = sawtooth(np.full(RATE_HZ, f0_hz), RATE_HZ)
    spectrum = np.asarray(np.abs(np.fft.rfft(wave))) * 2 / RATE_HZ
    assert spectrum[1000:4001:1000] == pytest.approx(2 / np.pi / np.arange(1, 5), rel=0.05)
    between = np.delete(spectrum[:5000], np.arange(0, 5000, 1000))
    assert between.max() < 0.003


def test_reverb_has_the_energy_of_its_sound_and_two_different_channels() -> None:
    click = np.zeros(RATE_HZ)
    click[0] = 1.0
    wet = reverb(click, 0.8, 5000, RATE_HZ, np.random.default_rng(0))
    assert [float(np.sum(row**2)) for row in wet] == pytest.approx([1, 1], abs=0.01)
    assert abs(np.mean(wet[0] * wet[1])) < 0.1 * mean_power(wet)
    first, last = (mean_power(wet[:, round(at * RATE_HZ) :][:, :4410]) for at in (0.05, 0.45))
    assert 10 * np.log10(first / last) == pytest.approx(30, abs=3)


def test_folders_files_and_names_are_those_of_musdb(dataset: tuple[Path, list[Path]]) -> None:
    root, folders = dataset
    assert [folder.parent.name for folder in folders] == ["train", "train", "valid", "test"]
    assert sorted(root.glob("*/*")) == sorted(folders)
    assert len({folder.name for folder in folders}) == 4
    for i, folder in enumerate(folders):
        assert folder.name.startswith(f"Song {i + 1:03d} - ")
        assert folder.name.endswith(" bpm")
        assert sorted(path.name for path in folder.iterdir()) == sorted(
            f"{name}.wav" for name in ("mixture", "vocals", "bass", "drums", "other")
        )


def test_the_mixture_is_the_integer_sum_of_the_stems(dataset: tuple[Path, list[Path]]) -> None:
    for folder in dataset[1]:
        info = soundfile.info(folder / "mixture.wav")
        assert (info.samplerate, info.channels, info.frames, info.subtype) == (44100, 2, 88200, "PCM_16")
        stems = [soundfile.read(folder / f"{stem}.wav", dtype="int16")[0].astype(int) for stem in STEMS]
        mixture = soundfile.read(folder / "mixture.wav", dtype="int16")[0]
        assert np.array_equal(mixture, sum(stems))
        assert all(stem.any() for stem in stems)


def test_a_song_depends_on_neither_the_number_of_songs_nor_the_processes(
    dataset: tuple[Path, list[Path]], tmp_path: Path
) -> None:
    (folder,) = write_dataset(tmp_path / "small", **{**SET, "n_train": 0, "n_valid": 0}, workers=1)
    for name in ("mixture.wav", "vocals.wav"):
        assert (folder / name).read_bytes() == (dataset[1][-1] / name).read_bytes()


def test_a_complete_data_set_is_left_untouched(dataset: tuple[Path, list[Path]]) -> None:
    root, folders = dataset
    before = state(root)
    assert write_dataset(root, **SET) == folders
    assert state(root) == before


def test_other_arguments_are_refused_with_the_folder_and_the_difference(dataset: tuple[Path, list[Path]]) -> None:
    root, _ = dataset
    before = state(root)
    with pytest.raises(DataError, match="seed is 3 instead of 4") as caught:
        write_dataset(root, **{**SET, "seed": 4})
    assert str(root) in str(caught.value)
    assert "Delete the folder, choose another one" in str(caught.value)
    assert state(root) == before


def test_a_folder_with_something_else_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(DataError, match="is not empty and holds no synthetic data set; choose an empty"):
        write_dataset(tmp_path, **SET)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_an_interrupted_data_set_does_not_look_complete_and_is_completed(
    dataset: tuple[Path, list[Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "cut short"
    whole = synthesis.synthesise_song
    calls = []

    def interrupted(seed: int, duration_s: float, sample_rate_hz: int) -> dict[str, np.ndarray]:
        calls.append(seed)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return whole(seed, duration_s, sample_rate_hz)

    monkeypatch.setattr(synthesis, "synthesise_song", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_dataset(root, **SET, workers=1)
    assert not (root / "synthesis.json").exists()
    assert not list(root.glob(".writing-*"))
    with pytest.raises(DataError, match="is an incomplete synthetic data set; complete it with `bandsplit data synth`"):
        index_dataset(root)
    (root / ".writing-Song 003").mkdir()  # what a kill leaves
    with pytest.raises(DataError, match="other arguments"):
        write_dataset(root, **{**SET, "duration_s": 3.0}, workers=1)

    write_dataset(root, **SET, workers=1)
    assert len(calls) == 5, "the two finished songs are not made again"
    written = {path.relative_to(root): content for path, (_, content) in state(root).items()}
    assert written == {path.relative_to(dataset[0]): content for path, (_, content) in state(dataset[0]).items()}
    assert json.loads((root / "synthesis.json").read_text())["seed"] == 3


def test_a_file_that_was_deleted_is_made_again(tmp_path: Path) -> None:
    small = {**SET, "n_train": 1, "n_valid": 0, "n_test": 0}
    (folder,) = write_dataset(tmp_path, **small, workers=1)
    bass = (folder / "bass.wav").read_bytes()
    (folder / "bass.wav").unlink()
    write_dataset(tmp_path, **small, workers=1)
    assert (folder / "bass.wav").read_bytes() == bass


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot write the synthetic data set to .*file/set: .*choose another"):
        write_dataset(tmp_path / "file" / "set", **SET)


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    (tmp_path / "synthesis.json").write_text("{")
    with pytest.raises(
        DataError, match=r"synthesis\.json is not the record of a synthetic data set: .*delete its folder"
    ):
        write_dataset(tmp_path, **SET)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"duration_s": 0.5}, "duration_s is 0.5; a song must last 1 s or more"),
        ({"duration_s": float("nan")}, "duration_s is nan"),
        ({"n_train": -1}, "no number of songs may be negative"),
        ({"n_train": 0, "n_valid": 0, "n_test": 0}, "at least one song"),
        ({"workers": 0}, "workers is 0; it must be 1 or more"),
    ],
)
def test_arguments_that_make_no_data_set_are_refused(change: dict[str, float], text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=text):
        write_dataset(tmp_path / "set", **{**SET, **change})
    assert not (tmp_path / "set").exists()


def test_a_sampling_rate_too_low_for_a_song_is_refused() -> None:
    with pytest.raises(ConfigError, match="sample_rate_hz is 8000; a song needs 16000 Hz or more"):
        synthesise_song(0, 2.0, 8000)
