"""Chunk plans: geometry, weights, and the authors' whole-song numbers."""

import re
from collections.abc import Callable
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from bandsplit.core.errors import AudioError, ConfigError
from bandsplit.models.chunk_config import CrossfadeConfig, OverlapAddConfig
from bandsplit.separation.chunks import ChunkPlan, plan_chunks
from bandsplit.separation.streaming import stream_plan

RATE_HZ = 1000


def toy(chunks: np.ndarray) -> np.ndarray:
    """Gain that depends on the level of the chunk, so that a wrong boundary shows; two targets."""
    gain = np.tanh(1 + np.sqrt(np.mean(chunks**2, axis=(1, 2), keepdims=True)))
    return np.stack([chunks * gain, -chunks], axis=1)


def identity(chunks: np.ndarray) -> np.ndarray:
    return chunks[:, None]


def apply_plan(
    plan: ChunkPlan, signal: np.ndarray, estimate: Callable[[np.ndarray], np.ndarray], batch_size: int = 1
) -> np.ndarray:
    """Estimate a song ``c samples``: ``s c samples``; the blocks of the stream are neighbours and cover it."""
    blocks = dict(stream_plan(plan, lambda start, samples: signal[:, start : start + samples], estimate, batch_size))
    lengths = [block.shape[-1] for block in blocks.values()]
    assert list(blocks) == list(accumulate(lengths, initial=0))[:-1] and sum(lengths) == plan.total_samples
    return np.concatenate(list(blocks.values()), axis=-1)


def uneven_noise(samples: int, seed: int = 0) -> np.ndarray:
    """Noise of varying level, ``2 samples``."""
    generator = np.random.default_rng(seed)
    level = 0.2 + np.abs(np.sin(np.arange(samples) / (0.7 * RATE_HZ)))
    return (level * generator.standard_normal((2, samples))).astype(np.float32)


def plain_crossfade(signal: np.ndarray, chunk_s: float, overlap: float, rate_hz: int) -> np.ndarray:
    """The authors' geometry told in sentences: weights per sample, in float64, added up over all chunks."""
    total, length, shared = (
        signal.shape[1],
        round(chunk_s * (1 + overlap) * rate_hz),
        round(chunk_s * overlap * rate_hz),
    )
    boundaries = [0]  # ends of the chunks; each later chunk begins one shared part before the end of the one before
    while boundaries[-1] < total:
        boundaries.append(min(boundaries[-1] + length, total))
    result, at = np.zeros(signal.shape), np.arange(total)
    for number, (before, stop) in enumerate(pairwise(boundaries)):
        start = before - shared if number else 0
        weight = ((at >= start) & (at < stop)).astype(float)
        if number:
            weight *= np.clip((at - start) / (shared - 1), 0, 1)
        if stop < total:
            weight *= np.clip((stop - 1 - at) / (shared - 1), 0, 1)
        estimate = np.zeros(signal.shape)
        estimate[:, start:stop] = toy(signal[None, :, start:stop])[0, 0]
        result += weight * estimate
    return result


def plain_overlap_add(signal: np.ndarray, chunk_s: float, hop_s: float, rate_hz: int) -> np.ndarray:
    """Zeros of one window on both sides, windows on the grid, divided by how many covered each sample."""
    window, hop = round(chunk_s * rate_hz), round(hop_s * rate_hz)
    padded = np.pad(signal, ((0, 0), (window, 2 * window)))
    result, count = np.zeros(padded.shape), np.zeros(padded.shape[1])
    for start in range(0, padded.shape[1] - window + 1, hop):
        result[:, start : start + window] += toy(padded[None, :, start : start + window])[0, 0]
        count[start : start + window] += 1
    inside = slice(window, window + signal.shape[1])
    return result[:, inside] / count[inside]


CONFIGS = [
    CrossfadeConfig(),
    CrossfadeConfig(chunk_s=0.5, overlap=0.25),
    CrossfadeConfig(chunk_s=0.1, overlap=0.01),  # a fade of one sample
    CrossfadeConfig(chunk_s=0.1, overlap=0.001),  # a fade of none
    CrossfadeConfig(chunk_s=0.003, overlap=0.49),
    CrossfadeConfig(chunk_s=0.5, overlap=0.25, geometry="even"),
    CrossfadeConfig(chunk_s=0.1, overlap=0.49, geometry="even"),
    CrossfadeConfig(chunk_s=0.002, overlap=0.49, geometry="even"),
    CrossfadeConfig(chunk_s=0.001, geometry="even"),
    OverlapAddConfig(),
    OverlapAddConfig(chunk_s=0.3, hop_s=0.3),
    OverlapAddConfig(chunk_s=0.3, hop_s=0.1),
    OverlapAddConfig(chunk_s=0.3, hop_s=0.07),  # does not divide the chunk
    OverlapAddConfig(chunk_s=0.1, hop_s=0.099),
    OverlapAddConfig(chunk_s=0.001, hop_s=0.001),
]
TOTALS = [1, 2, 3, 50, 99, 100, 101, 110, 111, 300, 499, 500, 501, 1234, 3000, 12345]


def summed_weights(plan) -> np.ndarray:
    total = np.zeros(plan.total_samples)
    for chunk in plan.chunks:
        assert chunk.start <= chunk.used_start < chunk.used_stop <= chunk.stop
        total[chunk.used_start : chunk.used_stop] += plan.weights(chunk)
    return total


@pytest.mark.parametrize("config", CONFIGS, ids=repr)
def test_weights_sum_to_one_at_every_sample(config):
    for total in TOTALS:
        np.testing.assert_allclose(
            summed_weights(plan_chunks(total, config, RATE_HZ)), 1, atol=1e-6, err_msg=str(total)
        )


@pytest.mark.parametrize("kind", ["authors", "even", "overlap-add"])
def test_weights_sum_to_one_for_any_geometry(kind: str):
    generator = np.random.default_rng(0)
    for _ in range(150):
        total, chunk = int(generator.integers(1, 4000)), int(generator.integers(1, 700))
        share = generator.uniform(0.001, 0.499)
        if kind == "overlap-add":
            hop = max(1, round(chunk * 2 * share))
            config = OverlapAddConfig(chunk_s=chunk / RATE_HZ, hop_s=hop / RATE_HZ)
        else:
            config = CrossfadeConfig.parse({"chunk_s": chunk / RATE_HZ, "overlap": share, "geometry": kind})
        plan = plan_chunks(total, config, RATE_HZ)
        np.testing.assert_allclose(summed_weights(plan), 1, atol=1e-6, err_msg=f"{config} {total}")


@pytest.mark.parametrize("config", CONFIGS, ids=repr)
def test_a_model_that_returns_its_input_gives_the_song_back(config):
    for total in (1, 100, 501, 1234):
        signal = uneven_noise(total)
        song = apply_plan(plan_chunks(total, config, RATE_HZ), signal, identity, batch_size=3)
        assert song.shape == (1, 2, total) and song.dtype == np.float32
        np.testing.assert_allclose(song[0], signal, atol=1e-6)


@pytest.mark.parametrize("config", CONFIGS, ids=repr)
def test_everything_before_the_next_chunk_is_final(config):
    plan = plan_chunks(1234, config, RATE_HZ)
    starts = [chunk.used_start for chunk in plan.chunks]
    assert starts == sorted(starts)


def seconds(plan) -> list[tuple[float, float]]:
    return [(chunk.start / RATE_HZ, chunk.stop / RATE_HZ) for chunk in plan.chunks]


def test_the_authors_chunks_are_11_then_12_seconds_long_and_the_last_one_takes_the_rest():
    plan = plan_chunks(40 * RATE_HZ, CrossfadeConfig(), RATE_HZ)
    assert seconds(plan) == [(0, 11), (10, 22), (21, 33), (32, 40)]
    assert [(chunk.fade_in, chunk.fade_out) for chunk in plan.chunks] == [
        (0, 1000),
        (1000, 1000),
        (1000, 1000),
        (1000, 0),
    ]


@pytest.mark.parametrize("total, chunks", [(10_999, 1), (11_000, 1), (11_001, 2), (22_000, 2), (22_001, 3)])
def test_a_further_chunk_of_the_authors_starts_only_while_more_than_the_overlap_remains(total: int, chunks: int):
    assert len(plan_chunks(total, CrossfadeConfig(), RATE_HZ).chunks) == chunks


def test_fades_run_from_zero_to_one_inclusive():
    plan = plan_chunks(40 * RATE_HZ, CrossfadeConfig(), RATE_HZ)
    weights = plan.weights(plan.chunks[1])
    assert weights[0] == 0 and weights[999] == 1 and weights[-1000] == 1 and weights[-1] == 0
    np.testing.assert_allclose(np.diff(weights[:1000]), 1 / 999, atol=1e-6)


def test_chunks_of_the_even_geometry_have_one_length_and_the_last_ends_with_the_song():
    plan = plan_chunks(40 * RATE_HZ, CrossfadeConfig(geometry="even"), RATE_HZ)
    assert seconds(plan) == [(0, 10), (9, 19), (18, 28), (27, 37), (30, 40)]


def test_a_song_shorter_than_a_chunk_of_a_crossfade_is_taken_whole():
    for geometry in ("authors", "even"):
        plan = plan_chunks(500, CrossfadeConfig(geometry=geometry), RATE_HZ)
        assert seconds(plan) == [(0, 0.5)]


def test_overlap_add_weighs_hop_over_window_when_the_hop_divides_it():
    plan = plan_chunks(1000, OverlapAddConfig(chunk_s=0.3, hop_s=0.1), RATE_HZ)
    for chunk in plan.chunks:
        np.testing.assert_allclose(plan.weights(chunk), 1 / 3, rtol=1e-6)


def test_overlap_add_hears_zeros_beyond_both_ends():
    heard = []

    def listen(chunks: np.ndarray) -> np.ndarray:
        heard.append(chunks)
        return identity(chunks)

    apply_plan(
        plan_chunks(5, OverlapAddConfig(chunk_s=0.01, hop_s=0.005), RATE_HZ), np.ones((1, 5), np.float32), listen
    )
    assert [list(chunk[0, 0]) for chunk in heard] == [[0] * 5 + [1] * 5, [1] * 5 + [0] * 5]


@pytest.mark.parametrize("chunk_s, overlap", [(2, 0.1), (2, 0.25), (1, 0.4)])
@pytest.mark.parametrize("total", [700, 2200, 2201, 9876])
def test_the_authors_crossfade_equals_its_definition(total: int, chunk_s: float, overlap: float):
    signal = uneven_noise(total)
    plan = plan_chunks(total, CrossfadeConfig(chunk_s=chunk_s, overlap=overlap), RATE_HZ)
    np.testing.assert_allclose(
        apply_plan(plan, signal, toy)[0], plain_crossfade(signal, chunk_s, overlap, RATE_HZ), atol=1e-6
    )


@pytest.mark.parametrize("chunk_s, hop_s", [(3, 1.5), (1.5, 0.5), (1, 0.3), (1, 1)])
@pytest.mark.parametrize("total", [1, 700, 9876])
def test_overlap_add_equals_its_definition(total: int, chunk_s: float, hop_s: float):
    signal = uneven_noise(total)
    plan = plan_chunks(total, OverlapAddConfig(chunk_s=chunk_s, hop_s=hop_s), RATE_HZ)
    np.testing.assert_allclose(
        apply_plan(plan, signal, toy)[0], plain_overlap_add(signal, chunk_s, hop_s, RATE_HZ), atol=1e-6
    )


@pytest.mark.parametrize("batch_size", [1, 3])
def test_whole_songs_equal_the_authors(shared: Path, batch_size: int):
    golden = load_file(shared / "golden/inference/whole-song.safetensors")
    mixture = golden.pop("mixture")[0]
    assert len(golden) >= 4
    for name, expected in golden.items():
        method, chunk, step = re.findall(r"^estimate/(fader|ola)-([\d.]+)s-([\d.]+)s?$", name)[0]
        config = (
            CrossfadeConfig(chunk_s=float(chunk), overlap=float(step))
            if method == "fader"
            else OverlapAddConfig(chunk_s=float(chunk), hop_s=float(step))
        )
        plan = plan_chunks(mixture.shape[1], config, 44100)
        np.testing.assert_allclose(apply_plan(plan, mixture, toy, batch_size)[0], expected, rtol=0, atol=1e-6)
        # The definition that the other tests trust is held to the same numbers.
        plain = plain_crossfade if method == "fader" else plain_overlap_add
        np.testing.assert_allclose(plain(mixture, float(chunk), float(step), 44100), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("config", [CrossfadeConfig(chunk_s=1), OverlapAddConfig(chunk_s=1, hop_s=0.3)], ids=repr)
def test_batches_change_nothing_and_hold_only_chunks_of_equal_length(config):
    signal = uneven_noise(9876)
    plan = plan_chunks(9876, config, RATE_HZ)
    sizes = []

    def estimate(chunks: np.ndarray) -> np.ndarray:
        sizes.append(len(chunks))
        return toy(chunks)

    batched = apply_plan(plan, signal, estimate, batch_size=4)
    assert max(sizes) == 4 and sum(sizes) == len(plan.chunks)
    np.testing.assert_array_equal(batched, apply_plan(plan, signal, toy))


def test_a_plan_prints_as_a_table_in_seconds():
    lines = str(plan_chunks(25 * RATE_HZ, CrossfadeConfig(), RATE_HZ)).splitlines()
    assert lines[0] == (
        "crossfade (authors geometry, nominal chunk 10 s, overlap 10%): 3 chunk(s) for 25.000 s at 1000 Hz"
    )
    assert lines[1].split() == ["chunk", "start_s", "stop_s", "fade_in_s", "fade_out_s"]
    assert lines[3].split() == ["2", "10.000", "22.000", "1.000", "1.000"]
    assert "overlap-add (chunk 3 s, hop 0.5 s)" in str(plan_chunks(10, OverlapAddConfig(), RATE_HZ))


def test_a_song_without_samples_has_no_plan():
    with pytest.raises(AudioError, match="total_samples: 0; a song has at least 1 sample"):
        plan_chunks(0, CrossfadeConfig(), RATE_HZ)


def test_chunks_and_hops_of_less_than_a_sample_are_refused():
    with pytest.raises(ConfigError, match=r"chunk_s: 0.0001 s is less than one sample at 1000 Hz"):
        plan_chunks(10, CrossfadeConfig(chunk_s=0.0001), RATE_HZ)
    with pytest.raises(ConfigError, match=r"hop_s: 0.0001 s is less than one sample at 1000 Hz"):
        plan_chunks(10, OverlapAddConfig(hop_s=0.0001), RATE_HZ)
