"""Songs of any length: the stream equals the array, memory does not grow, silence is free, nothing is left behind."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from bandsplit.audio import arrays
from bandsplit.audio import files as audio
from bandsplit.audio.streams import Source, Window, cut_blocks, resample_blocks
from bandsplit.core.errors import AudioError, Cancelled
from bandsplit.models.chunk_config import CrossfadeConfig, OverlapAddConfig
from bandsplit.separation.torch_network import TorchNetwork
from songs import noise
from tiny_models import RATE_HZ, separator, tiny_model, write_tiny_model


def pieces(signal: np.ndarray, seed: int = 0) -> Iterator[np.ndarray]:
    """Cut a signal at random places."""
    generator, start = np.random.default_rng(seed), 0
    while start < signal.shape[1]:
        stop = start + int(generator.integers(1, 3000))
        yield signal[:, start:stop]
        start = stop


@pytest.mark.parametrize("from_hz, to_hz", [(48000, 44100), (44100, 48000), (22050, 8000), (8000, 44100), (8000, 8000)])
@pytest.mark.parametrize("samples", [1, 2, 7, 1000, 20_011])
def test_a_stream_is_resampled_as_an_array_is(from_hz: int, to_hz: int, samples: int):
    signal = noise(2, samples)
    expected = arrays.resample(signal, from_hz, to_hz)
    found = np.concatenate(list(resample_blocks(pieces(signal), from_hz, to_hz, expected.shape[1])), axis=1)
    np.testing.assert_array_equal(found, expected)
    longer = np.concatenate(list(resample_blocks(pieces(signal), from_hz, to_hz, expected.shape[1] + 3)), axis=1)
    assert longer.shape[1] == expected.shape[1] + 3


def test_a_window_gives_any_ranges_asked_for_in_order():
    signal = noise(2, 10_000)
    window = Window(pieces(signal))
    for start, samples in [(0, 1), (0, 500), (400, 3000), (3399, 1), (9000, 1000), (9999, 1)]:
        np.testing.assert_array_equal(window.read(start, samples), signal[:, start : start + samples])


def test_a_window_forgets_what_lies_before():
    window = Window(cut_blocks(noise(1, 1 << 20)))
    for start in range(0, (1 << 20) - 1000, 1000):
        window.read(start, 1000)
        assert sum(block.shape[1] for block in window._held) <= 2 << 16


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
@pytest.mark.parametrize("samples", [1, 1000, 200_000])
def test_a_source_gives_what_read_gives(tmp_path: Path, suffix: str, samples: int):
    path = tmp_path / f"a.{suffix}"
    audio.write(path, noise(2, samples), 44100)
    expected, _ = audio.read(path)
    with Source(path) as source:
        assert (source.samples, source.channels, source.sample_rate_hz) == (expected.shape[1], 2, 44100)
        np.testing.assert_array_equal(np.concatenate(list(source.blocks()), axis=1), expected)


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3"])
def test_a_part_of_a_source_is_that_part(tmp_path: Path, suffix: str):
    path = tmp_path / f"a.{suffix}"
    audio.write(path, noise(2, 200_000), 44100)
    whole, _ = audio.read(path)
    for start_s, duration_s, start, stop in [
        (1, 2, 44_100, 132_300),
        (1.5, None, 66_150, 200_000),
        (4, 99, 176_400, 200_000),
    ]:
        with Source(path, start_s, duration_s) as source:
            np.testing.assert_array_equal(np.concatenate(list(source.blocks()), axis=1), whole[:, start:stop])


@pytest.mark.parametrize(
    "start_s, duration_s", [(-1, None), (3, None), (1, 0), (1, -2), (np.nan, None), (np.inf, None), (0, np.nan)]
)
def test_a_part_outside_the_song_is_refused(tmp_path: Path, start_s: float, duration_s: float | None):
    audio.write(tmp_path / "a.wav", noise(2, 16_000), RATE_HZ)
    with pytest.raises(AudioError, match=r"a\.wav: has no audio between .*it is 2 s long"):
        Source(tmp_path / "a.wav", start_s, duration_s)


@pytest.mark.parametrize("chunks", [CrossfadeConfig(chunk_s=1), OverlapAddConfig(chunk_s=1, hop_s=0.3)], ids=repr)
@pytest.mark.parametrize("sample_rate_hz", [RATE_HZ, 11_025])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_the_stream_of_a_file_equals_its_array(tmp_path: Path, chunks, sample_rate_hz: int, batch_size: int):
    path, mixture = tmp_path / "a.wav", noise(2, 100_003)
    audio.write(path, mixture, sample_rate_hz)
    parts = separator([tiny_model("vocals"), tiny_model("bass", "drums", seed=1)], chunks=chunks, batch_size=batch_size)
    expected, at = parts.separate(mixture, sample_rate_hz), 0
    for start, block in parts.stream(path):
        assert start == at and list(block) == ["vocals", "bass", "drums"]
        for target, stem in block.items():
            np.testing.assert_allclose(stem, expected[target][:, start : start + stem.shape[1]], rtol=0, atol=1e-6)
        at += stem.shape[1]
    assert at == 100_003


@pytest.mark.parametrize("sample_rate_hz", [RATE_HZ, 11_025])
def test_blocks_of_any_length_give_what_a_file_gives(tmp_path: Path, sample_rate_hz: int):
    mixture = noise(2, 50_003)
    audio.write(tmp_path / "a.wav", mixture, sample_rate_hz)
    parts, at = separator(chunks=CrossfadeConfig(chunk_s=1)), 0
    blocks = [np.zeros((2, 0), np.float32), *pieces(mixture)]
    from_file = list(parts.stream(tmp_path / "a.wav"))
    whole = {target: np.concatenate([stems[target] for _, stems in from_file], axis=1) for target in parts.targets}
    for start, stems in parts.stream_blocks(iter(blocks), sample_rate_hz, 50_003):
        assert start == at
        for target, stem in stems.items():
            np.testing.assert_array_equal(stem, whole[target][:, start : start + stem.shape[1]])
        at += stem.shape[1]
    assert at == 50_003
    assert list(parts.stream_blocks([], sample_rate_hz, 0)) == []


def test_blocks_are_taken_as_they_are_needed():
    taken = []

    def blocks() -> Iterator[np.ndarray]:
        for number in range(40):
            taken.append(number)
            yield noise(2, RATE_HZ, number)

    stream = separator(chunks=CrossfadeConfig(chunk_s=1), batch_size=1).stream_blocks(blocks(), RATE_HZ, 40 * RATE_HZ)
    next(stream)
    assert len(taken) < 5


@pytest.mark.parametrize(
    "blocks, samples, message",
    [
        ([noise(2, 5000)], 5001, "5001 were announced, but the blocks hold 5000"),
        ([noise(2, 5000), noise(2, 1)], 5000, "5000 were announced, but the blocks hold at least 5001"),
        ([], 1, "1 were announced, but the blocks hold 0"),
        ([noise(2, 5000), noise(1, 5000)], 10_000, "block 2: has 1 channels, but those before have 2"),
        ([noise(2, 5000), noise(2, 5000) * np.inf], 10_000, r"sample 5000 \(0\.625 s\) of channel 0 is -?inf"),
        ([noise(2, 5000)], "5000", "samples: '5000' is not a length; give the samples of all blocks together"),
        ([noise(2, 5000)], -1, "samples: -1 is not a length"),
        ([noise(2, 5000)[0]], 5000, r"has shape \(5000,\); it must be \(channels, samples\)"),
    ],
)
def test_blocks_that_are_not_the_song_that_was_announced_are_refused(blocks: list, samples: object, message: str):
    with pytest.raises(AudioError, match=message):
        list(separator().stream_blocks(blocks, RATE_HZ, samples))  # type: ignore[arg-type]


def test_silent_chunks_do_not_run_the_network_and_change_nothing(monkeypatch: pytest.MonkeyPatch):
    mixture = noise(2, 80_000)
    mixture[:, 20_000:60_000] = 0
    parts = separator(chunks=CrossfadeConfig(chunk_s=1), batch_size=3)
    (network,) = parts._networks.values()
    ran, estimate = [], network.estimate
    monkeypatch.setattr(network, "estimate", lambda batch: ran.append(len(batch)) or estimate(batch))
    skipping = parts.separate(mixture, RATE_HZ)
    chunks = parts.plans(80_000, RATE_HZ)[0].chunks
    silent = [chunk for chunk in chunks if not mixture[:, chunk.start : chunk.stop].any()]
    assert len(silent) >= 3 and sum(ran) == len(chunks) - len(silent)
    # A sound that nobody hears makes the network run on all of it.
    faint = mixture + np.float32(1e-30)
    for target, stem in separator(chunks=CrossfadeConfig(chunk_s=1)).separate(faint, RATE_HZ).items():
        np.testing.assert_allclose(skipping[target], stem, rtol=0, atol=1e-6)


def test_only_the_wanted_targets_are_computed(tmp_path: Path):
    write_tiny_model(tmp_path / "vocals.safetensors", "vocals")
    write_tiny_model(tmp_path / "bass.safetensors", "bass")
    both = [tmp_path / "vocals.safetensors", tmp_path / "bass.safetensors"]
    assert separator(both, targets=["bass"]).name == "bass"
    shared, mixture = tiny_model("vocals", "bass", "drums"), noise(2, 9000)
    parts = separator(shared, targets=["drums", "vocals"])
    assert parts.targets == ("vocals", "drums")
    (network,) = parts._networks.values()
    assert isinstance(network, TorchNetwork)
    decoders = network.model.get_submodule("decoders").named_children()
    assert [name for name, _ in decoders] == ["vocals", "drums"]
    whole = separator(shared).separate(mixture, RATE_HZ)
    for target, stem in parts.separate(mixture, RATE_HZ).items():
        np.testing.assert_allclose(stem, whole[target], atol=1e-6)


@pytest.mark.parametrize("changes", [{"residual": "drums"}, {"mixture_consistency": True}], ids=str)
def test_a_wanted_target_that_needs_the_others_is_right_too(changes: dict):
    model, mixture = tiny_model("vocals", "bass", "drums", **changes), noise(2, 9000)
    parts = separator(model, targets=["drums"])
    assert parts.targets == ("drums",)
    whole = separator(model).separate(mixture, RATE_HZ)
    np.testing.assert_allclose(parts.separate(mixture, RATE_HZ)["drums"], whole["drums"], atol=1e-6)


@pytest.mark.parametrize("calls", [1, 3])
def test_a_callback_that_returns_false_cancels_and_leaves_nothing(tmp_path: Path, calls: int):
    audio.write(tmp_path / "a.wav", noise(2, 50_000), RATE_HZ)
    told = []

    def progress(*news: object) -> bool:
        told.append(news)
        return len(told) < calls

    parts = separator(chunks=CrossfadeConfig(chunk_s=1))
    with pytest.raises(Cancelled, match=r"a\.wav: cancelled; nothing was written"):
        parts.separate_file(tmp_path / "a.wav", tmp_path / "out" / "deep", progress)
    assert len(told) == calls and sorted(path.name for path in tmp_path.iterdir()) == ["a.wav"]


def test_counting_an_mp3_is_told_and_can_be_cancelled(tmp_path: Path):
    path, told = tmp_path / "a.mp3", []
    audio.write(path, noise(2, 200_000), 44100)
    parts = separator()
    parts.separate_file(path, tmp_path / "out", lambda *news: told.append(news))
    stages = [stage for _, _, stage in told]
    assert list(dict.fromkeys(stages)) == ["count", "separate", "write"] and stages.count("count") > 2
    with pytest.raises(Cancelled, match=r"a\.mp3: cancelled; nothing was written"):
        parts.separate_file(path, tmp_path / "other", lambda *news: news[-1] != "count")
    assert not (tmp_path / "other").exists()


def test_an_error_in_the_callback_reaches_the_caller_and_leaves_nothing(tmp_path: Path):
    audio.write(tmp_path / "a.wav", noise(2, 50_000), RATE_HZ)
    with pytest.raises(ZeroDivisionError):
        separator().separate_file(tmp_path / "a.wav", tmp_path / "out", lambda *_: 1 / 0)
    assert not (tmp_path / "out").exists()


def test_stages_are_told_and_seconds_only_grow(tmp_path: Path):
    audio.write(tmp_path / "a.wav", noise(2, 50_000), RATE_HZ)
    told = []
    separator(chunks=CrossfadeConfig(chunk_s=1)).separate_file(
        tmp_path / "a.wav", tmp_path, lambda *news: told.append(news)
    )
    assert [stage for _, _, stage in told] == ["separate"] * (len(told) - 1) + ["write"]
    done = [done_s for done_s, _, _ in told]
    assert done == sorted(done) and done[0] == 0 and done[-1] == 6.25


def test_a_file_that_ends_early_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "a.wav"
    audio.write(path, noise(2, 300_000), RATE_HZ)
    parts, calls = separator(chunks=CrossfadeConfig(chunk_s=1)), []

    def progress(*_news: object) -> None:
        calls.append(1)
        if len(calls) == 2:
            path.write_bytes(path.read_bytes()[:900_000])  # in place: the open file shrinks

    with pytest.raises(AudioError, match=r"a\.wav: is truncated: its header promises 300000 samples"):
        parts.separate_file(path, tmp_path / "out", progress)
    assert not (tmp_path / "out").exists()


def test_a_file_that_vanishes_meanwhile_is_separated_as_it_was_and_one_that_grows_is_refused(tmp_path: Path):
    path, mixture = tmp_path / "a.wav", noise(2, 300_000)
    audio.write(path, mixture, RATE_HZ)
    parts = separator(chunks=CrossfadeConfig(chunk_s=1))
    expected = parts.separate(mixture, RATE_HZ)
    grow = [lambda: path.write_bytes(path.read_bytes() + b"more" * 1000)]
    with pytest.raises(AudioError, match=r"a\.wav: changed while it was read; wait until it is complete"):
        parts.separate_file(path, tmp_path / "out", lambda *_: grow and grow.pop()())
    assert not (tmp_path / "out").exists()
    vanish = [path.unlink]
    result = parts.separate_file(path, tmp_path / "out", lambda *_: vanish and vanish.pop()())
    np.testing.assert_array_equal(audio.read(result.paths["bass"])[0], expected["bass"])


@pytest.mark.parametrize("stage", ["count", "separate"])
@pytest.mark.parametrize("what", ["grows", "shrinks", "vanishes"])
def test_an_mp3_that_changes_meanwhile_gives_what_was_counted_or_nothing(tmp_path: Path, stage: str, what: str):
    path = tmp_path / "a.mp3"
    audio.write(path, noise(2, 300_000), 44100)
    data, changed = path.read_bytes(), []

    def progress(_done_s: float, _total_s: float, told: str) -> None:
        if told == stage and not changed:
            changed.append(what)
            if what == "vanishes":
                path.unlink()
            else:
                path.write_bytes(data + data if what == "grows" else data[: len(data) // 3])

    refusal = ""
    try:
        result = separator().separate_file(path, tmp_path / "out", progress)
        assert soundfile.info(result.paths["bass"]).frames == 300_000
    except AudioError as error:
        refusal = str(error)
        assert not (tmp_path / "out").exists()
    assert changed and (not refusal or str(path) in refusal)
    if what == "shrinks" or (stage, what) == ("count", "vanishes"):
        assert refusal


def test_nan_late_in_a_file_is_named_and_leaves_nothing(tmp_path: Path):
    mixture = noise(2, 200_000)
    mixture[1, 150_000] = np.nan
    soundfile.write(tmp_path / "a.wav", mixture.T, RATE_HZ, "FLOAT")
    with pytest.raises(AudioError, match=r"a\.wav: sample 150000 \(18\.750 s\) of channel 1 is nan"):
        separator(chunks=CrossfadeConfig(chunk_s=1)).separate_file(tmp_path / "a.wav", tmp_path / "out")
    assert not (tmp_path / "out").exists()


MEASURE = """
import json, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from bandsplit.models.chunk_config import OverlapAddConfig
from bandsplit.separation.separator import Separator
parts = Separator(sys.argv[1], device="cpu", chunks=OverlapAddConfig(chunk_s=10, hop_s=10))
peaks = []
for path in sys.argv[3:]:
    parts.separate_file(path, sys.argv[2])
    status = Path("/proc/self/status").read_text()
    peaks.append(int(status.partition("VmHWM:")[2].split()[0]) / 1024)
print(json.dumps(peaks))
"""


def write_minutes(path: Path, minutes: int) -> Path:
    """Write noise of 16 bit, mono, at 8 kHz."""
    second = (1000 * np.random.default_rng(0).standard_normal(8000)).astype(np.int16)
    soundfile.write(path, np.tile(second, 60 * minutes), RATE_HZ, "PCM_16")
    return path


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="Linux tells the peak of the memory in use")
def test_an_hour_takes_no_more_memory_than_five_minutes(tmp_path: Path):
    light = {"bands": [(2000, 1)], "stft": {"n_fft": 1024, "hop_samples": 256}, "n_features": 8}
    write_tiny_model(tmp_path / "m.safetensors", "vocals", **light)
    songs = [write_minutes(tmp_path / f"{minutes}.wav", minutes) for minutes in (5, 60)]
    run = [sys.executable, "-c", MEASURE, tmp_path / "m.safetensors", tmp_path / "out", *songs]
    five, hour = json.loads(subprocess.run(run, capture_output=True, text=True, check=True).stdout)
    assert hour < 1.1 * five
    assert soundfile.info(tmp_path / "out" / "60" / "vocals.wav").frames == 60 * 60 * RATE_HZ
