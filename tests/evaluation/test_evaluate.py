"""Systems are scored by the same rules, and the yardsticks score what theory says."""

import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bandsplit.audio.stft import istft, stft
from bandsplit.audio.stft_config import StftConfig
from bandsplit.core.errors import BandsplitError, DataError
from bandsplit.data.songs.layouts import index_dataset
from bandsplit.data.songs.tracks import Dataset, Track, TrackAudio
from bandsplit.evaluation import metrics
from bandsplit.evaluation.evaluate import evaluate
from bandsplit.evaluation.measuring import CONVENTIONS, SongReference
from bandsplit.evaluation.results import METRICS, Score
from bandsplit.evaluation.systems import About, ModelSystem, System, model_systems
from bandsplit.evaluation.yardsticks import (
    IdealBinaryMask,
    IdealRatioMask,
    Mixture,
    MultichannelWiener,
    Silence,
    StaticGain,
    yardstick_systems,
)
from bandsplit.models.chunk_config import OverlapAddConfig
from songs import STEMS, noise_stems, write_dataset, write_song
from tiny_models import separator, tiny_model, write_tiny_model

RATE_HZ = 8000
STFT = StftConfig(n_fft=512, hop_samples=128)


class Fixed:
    """A system whose estimates are given."""

    def __init__(self, **estimates: np.ndarray) -> None:
        self.estimates = estimates

    def about(self, track: Track) -> About:
        return About(targets=tuple(self.estimates))

    def __call__(self, song: TrackAudio) -> Mapping[str, np.ndarray]:
        return self.estimates


def _track(root: Path, stems: dict[str, np.ndarray], split: str = "test", name: str = "Song") -> Track:
    write_song(root / split / name, stems, RATE_HZ)
    return index_dataset(root, tuple(stems), [split]).songs(split)[-1]


def _dataset(*tracks: Track) -> Dataset:
    return Dataset(Path("set"), "songs", tuple(tracks[0].stems), tracks)


def _scores(systems: Mapping[str, System], track: Track) -> list[Score]:
    return [row for rows in evaluate(systems, _dataset(track), track.split) for row in rows]


def _usdr_db(system: System, track: Track) -> dict[str, float]:
    rows = _scores({"system": system}, track)
    return {row.target: row.value for row in rows if row.metric == "usdr_db" and row.value is not None}


def _band_noise(seed: int, low_hz: float, high_hz: float, samples: int = 3 * RATE_HZ) -> np.ndarray:
    spectrum = np.fft.rfft(np.random.default_rng(seed).normal(0, 0.2, (2, samples)))
    hz = np.fft.rfftfreq(samples, 1 / RATE_HZ)
    return np.fft.irfft(spectrum * ((hz >= low_hz) & (hz < high_hz)), samples)


@pytest.mark.parametrize(
    ("benchmark", "split", "saw", "marked"),
    [
        ("MUSDB18-HQ", "test", True, True),
        ("MUSDB18-HQ", "train", True, None),
        (None, "test", True, None),
        ("MUSDB18-HQ", "test", False, None),
        ("MUSDB18-HQ", "test", None, None),
    ],
)
def test_only_a_known_training_on_the_test_songs_is_marked(
    tmp_path: Path, benchmark: str | None, split: str, saw: bool | None, marked: bool | None
) -> None:
    first = write_tiny_model(tmp_path / "a.safetensors", "vocals", card={"saw_test_songs": saw})
    second = write_tiny_model(tmp_path / "b.safetensors", "bass")
    systems = model_systems([first, second], "cpu", {})
    dataset = replace(_dataset(_track(tmp_path, noise_stems(0, RATE_HZ), split)), benchmark=benchmark)
    rows = [row for some in evaluate(systems, dataset, split) for row in some]
    assert {row.target for row in rows} == {"vocals", "bass"} and {row.saw_test_songs for row in rows} == {marked}
    assert {row.saw_test_songs for some in evaluate({"silence": Silence()}, dataset, split) for row in some} == {None}
    fewer = replace(dataset, benchmark=None, errata="exclude")  # without some of the benchmark's songs
    found = [row for some in evaluate(systems, fewer, split) for row in some]
    assert {row.saw_test_songs for row in found} == {True if saw and split == "test" else None}
    assert {row.errata for row in found} == {"exclude"}


def test_silence_scores_exactly_zero_db(tmp_path: Path) -> None:
    assert _usdr_db(Silence(), _track(tmp_path, noise_stems(0, RATE_HZ))) == dict.fromkeys(STEMS, 0.0)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_the_mixture_of_equal_orthogonal_stems_scores_minus_the_others(tmp_path: Path, count: int) -> None:
    time = np.arange(RATE_HZ) / RATE_HZ
    tones = {stem: np.tile(0.2 * np.sin(2 * np.pi * 100 * (k + 1) * time), (2, 1)) for k, stem in enumerate(STEMS)}
    track = _track(tmp_path, {stem: tones[stem] for stem in STEMS[:count]})
    for value in _usdr_db(Mixture(), track).values():
        assert value == pytest.approx(-10 * np.log10(count - 1), abs=1e-4)


def test_static_gain_finds_the_shares_of_stems_that_are_scaled_copies(tmp_path: Path) -> None:
    noise = _band_noise(0, 0, RATE_HZ)
    track = _track(tmp_path, {"vocals": 0.25 * noise, "other": 1.5 * noise, "bass": -0.75 * noise})
    gain = StaticGain.fit([track], ("vocals", "bass", "other"), STFT)
    for stem, share in {"vocals": 0.25, "other": 1.5, "bass": -0.75}.items():
        np.testing.assert_allclose(gain.gains[stem], share, atol=1e-4)
    assert min(_usdr_db(gain, track).values()) > 60


def test_static_gain_is_a_filter_between_stems_of_different_bands(tmp_path: Path) -> None:
    heard, unseen = (
        _track(tmp_path, {"bass": _band_noise(n, 0, 1000), "other": _band_noise(9 + n, 1000, RATE_HZ)}, split, split)
        for n, split in enumerate(("train", "test"))
    )
    gain = StaticGain.fit([heard], ("bass", "other"), STFT)
    hz = np.fft.rfftfreq(STFT.n_fft, 1 / RATE_HZ)
    clear = np.abs(hz - 1000) > 100
    np.testing.assert_allclose(gain.gains["bass"].numpy()[clear], (hz < 1000)[clear], atol=0.01)
    np.testing.assert_allclose(gain.gains["other"].numpy()[clear], (hz > 1000)[clear], atol=0.01)
    assert min(_usdr_db(gain, unseen).values()) > 15


def test_no_other_gain_per_bin_is_closer_in_the_least_squares_sense(tmp_path: Path) -> None:
    scipy_signal = pytest.importorskip("scipy.signal")
    stems = noise_stems(3, RATE_HZ)
    track = _track(tmp_path, stems)
    gain = StaticGain.fit([track], STEMS, STFT)
    window = scipy_signal.get_window("hann", STFT.n_fft, fftbins=True)

    def column(signal: np.ndarray) -> np.ndarray:
        padded = np.pad(signal, ((0, 0), (STFT.n_fft // 2,) * 2), mode="reflect")
        frames = np.lib.stride_tricks.sliding_window_view(padded, STFT.n_fft, axis=-1)[:, :: STFT.hop_samples]
        spec = np.fft.rfft(frames * window)[..., 40].ravel()
        return np.concatenate([spec.real, spec.imag])

    mixture = column(np.sum(list(stems.values()), axis=0))[:, None]
    for stem in STEMS:
        best = np.linalg.lstsq(mixture, column(stems[stem]))[0]
        assert float(gain.gains[stem][40]) == pytest.approx(best.item(), rel=1e-4)


def test_static_gain_is_zero_where_nothing_sounds_and_refuses_another_rate(tmp_path: Path) -> None:
    silent = _track(tmp_path, {"bass": np.zeros((1, 600)), "other": np.zeros((1, 600))})
    gain = StaticGain.fit([silent], ("bass", "other"), STFT)
    assert not gain.gains["bass"].any()
    write_song(tmp_path / "faster" / "test" / "Song", noise_stems(0, 600), 16000)
    (faster,) = index_dataset(tmp_path / "faster").songs("test")
    with pytest.raises(DataError, match="test/Song has 16000 Hz, the training songs 8000 Hz"):
        gain(faster.load())
    with pytest.raises(DataError, match=r"sample rates \[8000, 16000\] Hz"):
        StaticGain.fit([silent, faster], ("other",), STFT)


def test_the_ideal_ratio_mask_is_above_the_static_gain_and_adds_up_to_the_mixture(tmp_path: Path) -> None:
    beat = np.arange(3 * RATE_HZ) // 2000 % 4  # the stems share one band and take turns
    stems = {stem: _band_noise(k, 0, RATE_HZ) * (beat == k) for k, stem in enumerate(STEMS)}
    track = _track(tmp_path, stems)
    oracle, static = IdealRatioMask(STFT), StaticGain.fit([track], STEMS, STFT)
    ceiling, floor = _usdr_db(oracle, track), _usdr_db(static, track)
    assert all(ceiling[stem] > floor[stem] + 5 for stem in STEMS)
    song = track.load()
    np.testing.assert_allclose(sum(oracle(song).values()), song.mixture, atol=1e-5)


def test_the_ideal_ratio_mask_is_the_share_of_power(tmp_path: Path) -> None:
    noise = _band_noise(0, 0, RATE_HZ)
    song = _track(tmp_path, {"vocals": 0.2 * noise, "other": 0.6 * noise}).load()
    estimates = IdealRatioMask(STFT)(song)
    for stem, share in {"vocals": 0.04 / 0.4, "other": 0.36 / 0.4}.items():
        np.testing.assert_allclose(estimates[stem], share * song.mixture, atol=1e-5)


def test_the_ideal_ratio_mask_leaves_silence_silent(tmp_path: Path) -> None:
    stems = {**noise_stems(0, 6000), "bass": np.zeros((2, 6000))}
    for signal in stems.values():
        signal[:, :3000] = 0
    estimates = IdealRatioMask(STFT)(_track(tmp_path, stems).load())
    assert not estimates["bass"].any()
    assert not estimates["other"][:, :2000].any() and estimates["other"][:, 3000:].any()


def test_the_ideal_binary_mask_gives_each_bin_to_the_loudest_stem(tmp_path: Path) -> None:
    noise = _band_noise(0, 0, RATE_HZ)
    song = _track(tmp_path, {"vocals": 0.2 * noise, "other": 0.6 * noise}).load()
    estimates = IdealBinaryMask(STFT)(song)
    np.testing.assert_allclose(estimates["other"], song.mixture, atol=1e-5)
    assert not estimates["vocals"].any()


def test_the_ideal_binary_mask_separates_stems_that_take_turns_and_adds_up_to_the_mixture(tmp_path: Path) -> None:
    beat = np.arange(3 * RATE_HZ) // 2000 % 4
    track = _track(tmp_path, {stem: _band_noise(k, 0, RATE_HZ) * (beat == k) for k, stem in enumerate(STEMS)})
    song = track.load()
    np.testing.assert_allclose(sum(IdealBinaryMask(STFT)(song).values()), song.mixture, atol=1e-5)
    binary, ratio = _usdr_db(IdealBinaryMask(STFT), track), _usdr_db(IdealRatioMask(STFT), track)
    assert all(binary[stem] > 15 and abs(binary[stem] - ratio[stem]) < 1 for stem in STEMS)


@pytest.fixture
def norbert() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return pytest.importorskip("norbert")


def _panned(overlap: bool) -> dict[str, np.ndarray]:
    """Two stems in one band, hard left and hard right or a little apart."""
    pans = ((1.0, 0.9), (0.9, 1.0)) if overlap else ((1.0, 0.0), (0.0, 1.0))
    return {
        stem: _band_noise(seed, 0, RATE_HZ)[:1] * np.array(pan)[:, None]
        for seed, (stem, pan) in enumerate(zip(("vocals", "other"), pans, strict=True))
    }


@pytest.mark.usefixtures("norbert")
def test_the_wiener_filter_uses_where_stems_stand_in_the_stereo_image(tmp_path: Path) -> None:
    track = _track(tmp_path, _panned(overlap=True))
    wiener, mask = _usdr_db(MultichannelWiener(STFT), track), _usdr_db(IdealRatioMask(STFT), track)
    assert all(wiener[stem] > mask[stem] + 10 for stem in wiener)


def test_the_wiener_filter_equals_norberts_own_iteration(tmp_path: Path, norbert: Any) -> None:
    song = _track(tmp_path, noise_stems(0, RATE_HZ)).load()
    system = MultichannelWiener(STFT)

    def frames(signal: np.ndarray) -> np.ndarray:
        return stft(torch.from_numpy(signal), STFT).permute(2, 1, 0).numpy().astype(np.complex128)

    x = frames(song.mixture)
    scale = max(1, np.abs(x).max() / 10)
    true = np.stack([frames(stem) for stem in song.stems.values()], axis=-1)
    y = scale * norbert.expectation_maximization(true / scale, x / scale, iterations=1)[0]
    for index, estimate in enumerate(system(song).values()):
        expected = istft(torch.from_numpy(y[..., index]).permute(2, 1, 0), STFT, RATE_HZ)
        np.testing.assert_allclose(estimate, expected, atol=1e-5)


def test_without_its_library_there_is_no_wiener_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    track = _track(tmp_path, noise_stems(0, 600))
    for installed in (False, True):
        monkeypatch.setattr("bandsplit.evaluation.yardsticks.has_wiener", lambda installed=installed: installed)
        names = yardstick_systems([track], STEMS, STFT)
        assert ("multichannel Wiener (ceiling)" in names) == installed


def test_rows_say_what_was_scored_together(tmp_path: Path) -> None:
    stems = noise_stems(0, 3 * RATE_HZ)
    system = Fixed(piano=stems["other"], bass=0.5 * stems["bass"], vocals=stems["vocals"] + 0.1 * stems["bass"])
    rows = _scores({"fixed": system}, _track(tmp_path, stems))
    assert [(row.target, row.metric) for row in rows] == [
        (target, metric) for target in ("vocals", "bass") for metric in METRICS
    ]
    assert {row.scored_with for row in rows} == {("vocals", "bass")}
    assert {(row.system, row.data, row.split, row.track) for row in rows} == {("fixed", "set", "test", "Song")}
    # Half the signal as the error is 6.02 dB, another stem of equal power at a tenth is 20 dB.
    for row in rows:
        if row.metric in ("usdr_db", "csdr_db"):
            assert row.value == pytest.approx({"vocals": 20, "bass": 6.0206}[row.target], abs=0.2)


def test_csdr_is_the_median_over_windows_of_a_second(tmp_path: Path) -> None:
    stems = noise_stems(0, 3 * RATE_HZ)
    error = np.repeat([0.1, 0.01, 0.1], RATE_HZ)  # 20, 40 and 20 dB
    rows = _scores({"fixed": Fixed(bass=(1 - error) * stems["bass"])}, _track(tmp_path, stems))
    assert rows[1].metric == "csdr_db" and rows[1].value == pytest.approx(20, abs=1e-3)


def test_csdr_of_silence_has_no_value(tmp_path: Path) -> None:
    rows = _scores({"silence": Silence()}, _track(tmp_path, noise_stems(0, 2 * RATE_HZ)))
    assert {row.value for row in rows if row.metric == "csdr_db"} == {None}


def test_the_rows_of_a_song_hold_what_the_functions_give(tmp_path: Path) -> None:
    stems = noise_stems(0, 2 * RATE_HZ + 500)
    stems["drums"][:, :RATE_HZ] = 0
    track = _track(tmp_path, stems)
    song = track.load()
    estimates = {target: 0.8 * song.stems[target] + 0.1 * song.mixture for target in ("vocals", "bass")}
    rows = _scores({"fixed": Fixed(**estimates)}, track)
    reference, estimate = (np.stack([signals["vocals"], signals["bass"]]) for signals in (song.stems, estimates))
    energies = metrics.usdr_energies(reference, estimate)
    windows = metrics.csdr_windows_by_rule(reference, estimate, song.mixture, RATE_HZ)
    bleed = metrics.bleedless_fullness(reference, estimate, RATE_HZ)
    expected = {
        "usdr_db": metrics.usdr(reference, estimate),
        "csdr_db": metrics.median_over_windows(metrics.csdr_windows(reference, estimate, RATE_HZ)),
        "si_sdr_db": metrics.si_sdr(reference, estimate),
        "l1_freq": metrics.l1_freq(reference, estimate),
        "si_sar_db": metrics.si_sar(np.stack(list(song.stems.values())), estimate),  # of all stems of the song
        "bleedless": bleed.bleedless,
        "fullness": bleed.fullness,
        "lsd_db": metrics.log_spectral_distance(reference, estimate),
        "msst_sdr_db": metrics.usdr_of_energies(energies, metrics.MSST_EPSILON),
        "kuielab_sdr_db": metrics.kuielab_sdr_of_energies(energies),
        "csdr_rest_db": metrics.median_over_windows(windows["rest"]),
        "csdr_own_db": metrics.median_over_windows(windows["own"]),
    }
    assert set(expected) == set(METRICS) == set(CONVENTIONS)
    for row in rows:
        assert row.value == expected[row.metric][row.scored_with.index(row.target)], row.metric
        assert (row.windows is None) == (not row.metric.startswith("csdr"))
        assert row.convention == CONVENTIONS[row.metric]
    rest = next(row for row in rows if (row.target, row.metric) == ("bass", "csdr_rest_db"))
    assert rest.windows == tuple(windows["rest"][1])


def test_numbers_do_not_depend_on_threads_or_on_systems_before(tmp_path: Path) -> None:
    song = _track(tmp_path, noise_stems(0, RATE_HZ)).load()
    first: dict[str, Any] = {stem: 0.9 * signal for stem, signal in song.stems.items()}
    second: dict[str, Any] = {stem: 0.5 * signal + 0.2 * song.mixture for stem, signal in song.stems.items()}
    shared = SongReference(song)
    shared.measure(first, STEMS)
    found = [shared.measure(second, STEMS), shared.measure(second, STEMS, threads=3)]
    assert found == [SongReference(song).measure(second, STEMS)] * 2


def test_a_short_mono_song_with_silence_has_rows_with_and_without_values(tmp_path: Path) -> None:
    stems = {stem: signal[:1, :700] for stem, signal in noise_stems(0, RATE_HZ).items()}
    stems["bass"] = np.zeros((1, 700))
    rows = _scores({"mixture": Mixture()}, _track(tmp_path, stems))
    values = {row.metric: row.value for row in rows if row.target == "bass"}
    without = {metric for metric, value in values.items() if value is None}
    assert without == {"csdr_db", "si_sdr_db", "csdr_rest_db", "csdr_own_db"}
    assert values["kuielab_sdr_db"] == -100 and values["fullness"] == 100
    vocals = {row.metric: row for row in rows if row.target == "vocals"}
    assert vocals["csdr_own_db"].windows == (vocals["csdr_own_db"].value,) != (None,)
    assert vocals["csdr_rest_db"].windows == (None,)  # the mixture minus the estimate, which is the mixture, is silent


def test_every_system_hears_every_song(tmp_path: Path) -> None:
    dataset = index_dataset(write_dataset(tmp_path, train=0, test=3))
    steps = list(evaluate({"silence": Silence(), "mixture": Mixture()}, dataset, "test"))
    assert [(rows[0].track, rows[0].system) for rows in steps] == [
        (f"Song {song}", system) for song in range(3) for system in ("silence", "mixture")
    ]


def test_bad_estimates_name_the_system_and_the_song(tmp_path: Path) -> None:
    track = _track(tmp_path, noise_stems(0, 500))
    short, bad = np.zeros((2, 499), np.float32), np.zeros((2, 500), np.float32)
    bad[1, 77] = np.nan
    for estimate, text in (
        ({"bass": short}, r"net, song 'Song': the estimate of bass has shape \(2, 499\), the song \(2, 500\)"),
        ({"bass": bad}, "net, song 'Song': the estimate of bass has 1 values that are NaN .* the first at sample 77"),
        ({"piano": bad}, "net, song 'Song': estimates piano, the song has vocals, bass, drums, other"),
    ):
        with pytest.raises(BandsplitError, match=text):
            _scores({"net": Fixed(**estimate)}, track)


def test_a_model_is_scored_at_the_rate_of_the_songs_with_its_chunk_settings(tmp_path: Path) -> None:
    model = tiny_model("vocals", "bass", sample_rate_hz=16000)
    parts = separator(model, chunks=OverlapAddConfig(chunk_s=1, hop_s=0.5))
    track = _track(tmp_path, noise_stems(0, 2 * RATE_HZ))
    rows = _scores({"net": ModelSystem(parts)}, track)
    assert {row.inference for row in rows} == {"overlap-add (chunk 1 s, hop 0.5 s)"}
    assert {row.scored_with for row in rows} == {("vocals", "bass")}
    song = track.load()
    estimate = parts.separate(song.mixture, RATE_HZ)["bass"]
    ratio = np.sum(song.stems["bass"] ** 2.0) / np.sum((song.stems["bass"] - estimate) ** 2.0)
    (usdr_db,) = [row.value for row in rows if (row.target, row.metric) == ("bass", "usdr_db")]
    assert usdr_db == pytest.approx(10 * np.log10(ratio), abs=1e-4)


def test_a_system_that_fails_is_named_with_the_song(tmp_path: Path) -> None:
    track = _track(tmp_path, noise_stems(0, 2000, channels=9))
    with pytest.raises(BandsplitError, match="net, song 'Song': audio: has 9 channels, but the model needs 2"):
        _scores({"net": ModelSystem(separator(tiny_model(stereo={"kind": "tac"})))}, track)
