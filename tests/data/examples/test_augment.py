"""Augmentations, measured on signals whose pitch, beats, spectrum and place are known."""

import hashlib
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from scipy.signal import chirp, correlate

from bandsplit.core.errors import ConfigError
from bandsplit.data.examples.augment import (
    MIXTURE_DRAWS,
    STEM_DRAWS,
    MixtureAugmentation,
    StemAugmentation,
    check,
    draw_mixture,
    draw_stem,
)
from bandsplit.data.examples.mixing import AugmentConfig

pytest.importorskip("python_stretch", reason="needs the extra augment")

RATE_HZ = 44100
SAMPLES = RATE_HZ
EVERYTHING = AugmentConfig(
    polarity_probability=1, pitch_probability=1, tempo_probability=1, low_pass_probability=1, mp3_probability=1
)
MPEG_1_KBPS = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)


def noise(samples: int = SAMPLES, channels: int = 2, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, (channels, samples)).astype(np.float32)


def sine(frequency_hz: float, samples: int, rate_hz: int = RATE_HZ) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * frequency_hz * np.arange(samples) / rate_hz).astype(np.float32)[None]


def sweeps(samples: int, channels: int, rate_hz: int = RATE_HZ) -> np.ndarray:
    """One rising tone; one that falls beside it."""
    rising = 0.5 * chirp(np.arange(samples) / rate_hz, 200, samples / rate_hz, 2000)
    return np.stack([rising, rising[::-1]])[:channels].astype(np.float32)


def beats(times_s: np.ndarray, samples: int) -> np.ndarray:
    """Short decaying bursts of noise."""
    signal, burst = np.zeros((1, samples), np.float32), noise(1500, 1)[0] * np.exp(-np.arange(1500) / 200)
    for time_s in times_s:
        start = round(time_s * RATE_HZ)
        signal[0, start : start + 1500] += burst[: samples - start]
    return signal


def beat_times(signal: np.ndarray, near_s: np.ndarray) -> np.ndarray:
    """Centres of energy within 0.1 s of the given times."""
    starts = [round((time_s - 0.1) * RATE_HZ) for time_s in near_s]
    energies = [np.square(signal[0, start : start + RATE_HZ // 5]) for start in starts]
    return np.array(
        [
            (start + np.average(np.arange(len(e)), weights=e)) / RATE_HZ
            for start, e in zip(starts, energies, strict=True)
        ]
    )


def frequency(signal: np.ndarray) -> float:
    """Frequency in Hz of the strongest partial."""
    spectrum = np.abs(np.fft.rfft(signal[0] * np.hanning(signal.shape[1]), 1 << 21))
    return float(np.argmax(spectrum)) * RATE_HZ / (1 << 21)


def rms(signal: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(signal, dtype=np.float64))))


def level_db(signal: np.ndarray, low_hz: float, high_hz: float) -> float:
    """Mean power of a band in dB."""
    power = np.abs(np.fft.rfft(signal)) ** 2
    hz = np.fft.rfftfreq(signal.shape[1], 1 / RATE_HZ)
    return float(10 * np.log10(power[:, (hz >= low_hz) & (hz < high_hz)].mean()))


def lag(signal: np.ndarray, reference: np.ndarray) -> int:
    """Samples by which a signal comes later than the reference, where they are most alike."""
    return int(np.argmax(correlate(signal[0], reference[0], method="fft"))) - (reference.shape[1] - 1)


# --- off -------------------------------------------------------------------------------------------------------------


def test_everything_is_off_by_default_and_the_excerpt_itself_comes_back():
    stem, mixture = draw_stem(AugmentConfig(), [0.0] * 7), draw_mixture(AugmentConfig(), [0.0] * 2)
    signal = noise()
    tracemalloc.start()
    assert stem.needed_samples(SAMPLES) == SAMPLES
    assert stem.apply(signal, RATE_HZ, SAMPLES) is signal
    assert mixture.apply(signal, RATE_HZ) is signal
    assert tracemalloc.get_traced_memory()[1] < 10_000
    tracemalloc.stop()


def test_nothing_changes_its_input():
    signal = noise()
    before = signal.copy()
    stem = draw_stem(EVERYTHING, [0.5] * 7)
    stem.apply(signal, RATE_HZ, 10_000)
    draw_mixture(EVERYTHING, [0.5] * 2).apply(signal, RATE_HZ)
    assert np.array_equal(signal, before)


# --- draws -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("on", ["polarity", "pitch", "tempo", "low_pass"])
def test_switching_an_effect_on_changes_no_draw_of_another(on: str):
    some = AugmentConfig(
        polarity_probability=0.5, pitch_probability=0.5, tempo_probability=0.5, low_pass_probability=0.5
    )
    one = AugmentConfig.parse({f"{on}_probability": 0.5})
    place = ["polarity", "pitch", "tempo", "low_pass"].index(on)
    for uniforms in np.random.default_rng(0).random((50, len(STEM_DRAWS))):
        alone, together = draw_stem(one, uniforms), draw_stem(some, uniforms)
        assert alone[place] == together[place]
        assert not any(alone[:place] + alone[place + 1 :])


def test_probabilities_are_those_of_the_draws():
    config = AugmentConfig(polarity_probability=0.2, mp3_probability=1)
    drawn = [draw_stem(config, [u] + [0.0] * 6).inverted for u in (0.0, 0.19, 0.2, 0.99)]
    assert drawn == [True, True, False, False]
    assert draw_mixture(config, [1 - 2**-53, 0.0]).mp3_kbps == 64


@pytest.mark.parametrize("uniform, expected", [(0.0, (-2, 0.9, 2000, 64)), (0.5, (0, 1, 5656.85, 143.11))])
def test_pitch_and_tempo_are_drawn_evenly_cutoff_and_bit_rate_by_octaves(uniform: float, expected: tuple[float, ...]):
    stem, mixture = draw_stem(EVERYTHING, [uniform] * 7), draw_mixture(EVERYTHING, [uniform] * 2)
    assert (*stem[1:], mixture.mp3_kbps) == pytest.approx(expected, abs=0.01)


def test_retuned_stems_change_by_integer_semitones_and_normally_distributed_tempos():
    config = AugmentConfig(retune_probability=0.4, pitch_probability=1, tempo_factor=(0.88, 1.12))
    drawn = [draw_stem(config, uniforms) for uniforms in np.random.default_rng(0).random((4000, len(STEM_DRAWS)))]
    retuned = [stem for stem in drawn if stem.tempo_factor is not None]
    assert len(retuned) / len(drawn) == pytest.approx(0.4, abs=0.03)
    assert all(stem.pitch_semitones is not None for stem in drawn), "the others are shifted in pitch alone"
    semitones = np.array([stem.pitch_semitones for stem in retuned])
    assert {*semitones} == {-2.0, -1.0, 0.0, 1.0, 2.0}
    assert np.unique(semitones, return_counts=True)[1].min() > 0.15 * len(retuned)
    factors = np.array([stem.tempo_factor for stem in retuned])
    assert (factors.min(), factors.max()) == (0.88, 1.12)
    assert np.mean(np.abs(factors - 1) < 0.05) == pytest.approx(0.683, abs=0.04)
    assert np.mean(factors == 1.12) < 0.02
    assert draw_stem(config, [0.0] * len(STEM_DRAWS))[1:3] == (-2.0, 0.88)


def test_numbers_that_are_too_few_or_too_many_are_an_error():
    for count in (len(STEM_DRAWS) - 1, len(STEM_DRAWS) + 1):
        with pytest.raises(ValueError, match="zip"):
            draw_stem(EVERYTHING, [0.0] * count)
    with pytest.raises(ValueError, match="zip"):
        draw_mixture(EVERYTHING, [0.0] * (len(MIXTURE_DRAWS) + 1))


# --- polarity, pitch and tempo ---------------------------------------------------------------------------------------


def test_inverted_polarity_is_the_negative():
    assert np.array_equal(StemAugmentation(inverted=True).apply(noise(), RATE_HZ, SAMPLES), -noise())


@pytest.mark.parametrize("frequency_hz", [55, 440, 3000])
@pytest.mark.parametrize("semitones, factor", [(2, None), (-1.37, None), (None, 1.1), (-2, 0.9), (12, None)])
def test_the_pitch_of_a_sine_moves_by_the_asked_semitones(
    frequency_hz: float, semitones: float | None, factor: float | None
):
    augmentation = StemAugmentation(pitch_semitones=semitones, tempo_factor=factor)
    signal = sine(frequency_hz, augmentation.needed_samples(SAMPLES))
    cents = 1200 * np.log2(frequency(augmentation.apply(signal, RATE_HZ, SAMPLES)) / frequency_hz)
    assert cents == pytest.approx(100 * (semitones or 0), abs=1)


@pytest.mark.parametrize("semitones, factor", [(2, None), (-2, None), (None, 1.1), (None, 0.9), (2, 0.9), (-2, 1.1)])
def test_beats_come_at_the_asked_tempo_and_a_pitch_shift_leaves_them_in_place(
    semitones: float | None, factor: float | None
):
    augmentation = StemAugmentation(pitch_semitones=semitones, tempo_factor=factor)
    times_s = np.array([0.15, 0.45, 0.75])
    signal = beats(times_s, augmentation.needed_samples(SAMPLES))
    before_s = beat_times(signal, times_s)
    wanted_s = before_s / (factor or 1)
    found_s = beat_times(augmentation.apply(signal, RATE_HZ, SAMPLES), wanted_s)
    assert found_s == pytest.approx(wanted_s, abs=1e-3)


@pytest.mark.parametrize("semitones, factor", [(2, None), (-2, 0.9), (None, 1.1)])
def test_a_shifted_excerpt_fades_neither_in_nor_out(semitones: float | None, factor: float | None):
    augmentation = StemAugmentation(pitch_semitones=semitones, tempo_factor=factor)
    shifted = augmentation.apply(sine(440, augmentation.needed_samples(SAMPLES)), RATE_HZ, SAMPLES)
    levels = [rms(piece) for piece in np.split(shifted, 50, axis=1)]
    assert levels == pytest.approx([0.5 / 2**0.5] * len(levels), rel=0.15)


def test_no_shift_of_pitch_and_tempo_gives_the_excerpt_to_rounding():
    shifted = StemAugmentation(pitch_semitones=0.0, tempo_factor=1.0).apply(noise(), RATE_HZ, SAMPLES)
    assert np.abs(shifted - noise()).max() < 1e-5


def test_the_needed_length_grows_with_the_tempo():
    assert StemAugmentation(tempo_factor=1.1).needed_samples(132_300) == 145_530
    assert StemAugmentation(tempo_factor=0.9).needed_samples(132_300) == 119_070
    assert StemAugmentation(pitch_semitones=2).needed_samples(132_300) == 132_300
    assert StemAugmentation(tempo_factor=1.00001).needed_samples(132_300) == 132_302


def test_a_song_that_is_too_short_is_followed_by_zeros():
    augmentation = StemAugmentation(tempo_factor=1.1)
    shifted = augmentation.apply(noise(11_000), RATE_HZ, 30_000)
    assert shifted.shape == (2, 30_000)
    assert not shifted[:, 10_000:].any()
    assert rms(shifted[:, 9_000:10_000]) == pytest.approx(rms(noise()), rel=0.25)
    assert not StemAugmentation().apply(noise(10_000), RATE_HZ, 30_000)[:, 10_000:].any()


def test_a_view_gives_what_its_copy_gives():
    swapped = noise()[::-1, ::2]
    augmentation = StemAugmentation(True, 2.0, 1.1, 5000.0)
    for from_view, from_copy in (
        [augmentation.apply(signal, RATE_HZ, 10_000) for signal in (swapped, swapped.copy())],
        [MixtureAugmentation(128).apply(signal, RATE_HZ) for signal in (swapped, swapped.copy())],
    ):
        assert np.array_equal(from_view, from_copy)


# --- low-pass --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frequency_hz", [300, 1500, 3000, 6000, 12000])
def test_the_low_pass_attenuates_as_a_butterworth_filter_of_order_4(frequency_hz: float):
    cutoff_hz = 3000
    filtered = StemAugmentation(low_pass_hz=cutoff_hz).apply(sine(frequency_hz, SAMPLES), RATE_HZ, SAMPLES)
    warped = np.tan(np.pi * frequency_hz / RATE_HZ) / np.tan(np.pi * cutoff_hz / RATE_HZ)
    wanted_db = -10 * np.log10(1 + warped**8)
    settled = slice(RATE_HZ // 10, None)
    found_db = 20 * np.log10(rms(filtered[:, settled]) / rms(sine(frequency_hz, SAMPLES)[:, settled]))
    assert found_db == pytest.approx(wanted_db, abs=0.1)


def test_a_cutoff_above_half_the_sample_rate_changes_nothing():
    signal = noise()
    assert StemAugmentation(low_pass_hz=11_025).apply(signal, 22_050, SAMPLES) is signal


# --- MP3 -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("kbps", MPEG_1_KBPS)
def test_an_mp3_is_where_its_source_is_and_as_loud(kbps: int, channels: int):
    source = sweeps(20_000, channels)
    coded = MixtureAugmentation(kbps).apply(source, RATE_HZ)
    assert coded.shape == source.shape and coded.dtype == np.float32
    assert lag(coded, source) == 0
    assert np.vdot(coded, source) / np.vdot(source, source) == pytest.approx(1, abs=0.005 if kbps >= 64 else 0.015)


@pytest.mark.parametrize("rate_hz", [8000, 11025, 12000, 16000, 22050, 24000, 32000, 48000])
def test_other_sample_rates_take_the_nearest_bit_rate_that_they_have(rate_hz: int):
    source = sweeps(rate_hz // 2, 1, rate_hz)
    for kbps in (8, 64, 320):
        coded = MixtureAugmentation(kbps).apply(source, rate_hz)
        assert coded.shape == source.shape
        assert lag(coded, source) == 0
        assert np.vdot(coded, source) / np.vdot(source, source) == pytest.approx(1, abs=0.02)


def test_128_kbps_removes_what_is_above_17_khz_and_320_kbps_does_not():
    lost = {kbps: MixtureAugmentation(kbps).apply(noise(), RATE_HZ) for kbps in (128, 320)}
    for kbps, least, most in ((128, 30, np.inf), (320, -1, 1)):
        assert least < level_db(noise(), 17500, 19000) - level_db(lost[kbps], 17500, 19000) < most
        assert level_db(lost[kbps], 100, 5000) == pytest.approx(level_db(noise(), 100, 5000), abs=1.5)


def test_the_channels_of_an_mp3_are_kept_apart():
    source = noise()
    source[1] = 0
    coded = MixtureAugmentation(256).apply(source, RATE_HZ)
    assert rms(coded[1]) < 0.02 * rms(coded[0])


def test_peaks_beyond_1_are_not_clipped():
    source = 8 * sine(440, SAMPLES)
    coded = MixtureAugmentation(128).apply(source, RATE_HZ)
    assert rms(coded - source) < 1e-3 * rms(source)


def test_coding_prints_nothing(capfd: pytest.CaptureFixture[str]):
    for kbps, samples in ((32, 1), (128, 5000), (320, 50_000)):
        MixtureAugmentation(kbps).apply(noise(samples), RATE_HZ)
    assert capfd.readouterr() == ("", "")


# --- everything ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("samples", [1, 2, 7, 1000, 6000])
@pytest.mark.parametrize("uniform", [0.0, 0.999])
def test_excerpts_of_any_length_keep_it_and_stay_finite(samples: int, channels: int, uniform: float):
    stem, mixture = draw_stem(EVERYTHING, [uniform] * 7), draw_mixture(EVERYTHING, [uniform] * 2)
    signal = noise(stem.needed_samples(samples), channels)
    augmented = stem.apply(signal, RATE_HZ, samples)
    coded = mixture.apply(augmented, RATE_HZ)
    for result in (augmented, coded):
        assert result.shape == (channels, samples) and result.dtype == np.float32
        assert np.isfinite(result).all()
        assert np.abs(result).max() < 10 * np.abs(signal).max()


@pytest.mark.parametrize("semitones, factor", [(12, 0.5), (-12, 2)])
def test_the_widest_changes_stay_finite(semitones: float, factor: float):
    augmentation = StemAugmentation(pitch_semitones=semitones, tempo_factor=factor)
    signal = noise(augmentation.needed_samples(SAMPLES))
    signal[:, 20_000:60_000] = 0
    shifted = augmentation.apply(signal, RATE_HZ, SAMPLES)
    assert shifted.shape == (2, SAMPLES) and np.isfinite(shifted).all()


@pytest.mark.parametrize("samples", [1, SAMPLES])
def test_silence_stays_silence(samples: int):
    stem, mixture = draw_stem(EVERYTHING, [0.9] * 7), draw_mixture(EVERYTHING, [0.9] * 2)
    silence = np.zeros((2, stem.needed_samples(samples)), np.float32)
    assert not mixture.apply(stem.apply(silence, RATE_HZ, samples), RATE_HZ).any()


def fingerprint() -> str:
    stem, mixture = StemAugmentation(True, -12.0, 0.5, 5000.0), MixtureAugmentation(96)
    augmented = stem.apply(noise(stem.needed_samples(30_000)), RATE_HZ, 30_000)
    return hashlib.sha256(augmented.tobytes() + mixture.apply(augmented, RATE_HZ).tobytes()).hexdigest()


def test_every_process_makes_the_same_samples_without_torch():
    here = fingerprint()
    assert fingerprint() == here
    code = "import sys; sys.path.insert(0, sys.argv[1]); import test_augment; print(test_augment.fingerprint(), "
    command = [sys.executable, "-W", "error", "-c", code + "'torch' in sys.modules)", str(Path(__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [here, "False"]


# --- mistakes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data, message",
    [
        ({"pitch_probability": 1.5}, "pitch_probability: Input should be less than or equal to 1 (got 1.5)"),
        (
            {"pitch_semitones": (2, -2)},
            "pitch_semitones: must be (low, high), with -12 <= low <= high <= 12 (got (2, -2))",
        ),
        ({"tempo_factor": [0, 1]}, "tempo_factor: must be (low, high), with 0.5 <= low <= high <= 2 (got [0, 1])"),
        ({"low_pass_hz": (2, 4)}, "low_pass_hz: must be (low, high), with 20 <= low <= high <= 20000 (got (2, 4))"),
        ({"mp3_kbps": (64, 999)}, "mp3_kbps: must be (low, high), with 8 <= low <= high <= 320 (got (64, 999))"),
        (
            {"retune_probability": 1, "pitch_semitones": (0.2, 0.8)},
            "config: pitch_semitones: (0.2, 0.8) has no integer for retune_probability",
        ),
        ({"tempo_probabilty": 1}, "config: unknown key 'tempo_probabilty'; did you mean 'tempo_probability'?"),
    ],
)
def test_a_wrong_setting_is_named_with_what_is_legal(data: dict, message: str):
    with pytest.raises(ConfigError) as caught:
        AugmentConfig.parse(data)
    assert str(caught.value) == message


def test_what_cannot_be_done_to_the_excerpts_is_said_beforehand():
    check(EVERYTHING, RATE_HZ, 2)
    check(AugmentConfig(low_pass_probability=1, polarity_probability=1), 96_000, 6)
    with pytest.raises(ConfigError, match="tempo_probability: does not support 6 channels, only 1 or 2; set it to 0"):
        check(AugmentConfig(tempo_probability=1), RATE_HZ, 6)
    with pytest.raises(ConfigError, match="retune_probability: does not support 6 channels, only 1 or 2; set it to 0"):
        check(AugmentConfig(retune_probability=1), RATE_HZ, 6)
    with pytest.raises(ConfigError, match="mp3_probability: MP3 has no sample rate of 96000 Hz, only 8000, 11025"):
        check(EVERYTHING, 96_000, 2)


@pytest.mark.parametrize(
    "module, config, augmentation",
    [
        ("python_stretch.Signalsmith", AugmentConfig(pitch_probability=1), StemAugmentation(pitch_semitones=1)),
        ("python_stretch.Signalsmith", AugmentConfig(tempo_probability=1), StemAugmentation(tempo_factor=1.1)),
        ("python_stretch.Signalsmith", AugmentConfig(retune_probability=1), StemAugmentation(False, 1.0, 1.1)),
        ("scipy.signal", AugmentConfig(low_pass_probability=1), StemAugmentation(low_pass_hz=1000)),
    ],
)
def test_a_missing_library_is_named_by_its_extra(
    module: str, config: AugmentConfig, augmentation: StemAugmentation, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, module, None)
    for attempt in (
        lambda: check(config, RATE_HZ, 2),
        lambda: augmentation.apply(noise(1000), RATE_HZ, 900),
    ):
        with pytest.raises(ConfigError, match=r"pip install 'bandsplit\[augment\]'"):
            attempt()
    check(AugmentConfig(), RATE_HZ, 2)
