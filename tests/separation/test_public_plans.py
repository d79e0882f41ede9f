"""Plans of other software: each equals its definition in plain loops, and the numbers of the original."""

import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from bandsplit.core.errors import ConfigError
from bandsplit.models.chunk_config import (
    BoundedConfig,
    ChunkConfig,
    FadedConfig,
    FoldedConfig,
    HammingConfig,
    JoinedConfig,
    TrimmedConfig,
)
from bandsplit.separation.chunks import ChunkPlan, describe_chunks, longest_samples, plan_chunks
from bandsplit.separation.streaming import stream_plan
from songs import noise

RATE_HZ = 1000
LSB = 1 / 32768


def toy(chunks: np.ndarray) -> np.ndarray:
    """Estimates that depend on the level of a chunk and on the place in it, ``b s c samples``."""
    level = np.sqrt(np.mean(chunks**2, axis=(1, 2), keepdims=True))
    return np.stack([chunks * level, chunks * np.linspace(0, 1, chunks.shape[-1], dtype=chunks.dtype)], axis=1)


def separate(config: ChunkConfig, signal: np.ndarray, batch_size: int = 1, rate_hz: int = RATE_HZ) -> np.ndarray:
    """Follow a plan; reads are in order and in the song, as a stream needs them."""
    plan, reads = plan_chunks(signal.shape[1], config, rate_hz), [0]

    def read(start: int, samples: int) -> np.ndarray:
        assert reads[-1] <= start and samples > 0 and start + samples <= signal.shape[1]
        assert samples <= 2 * longest_samples(config, rate_hz)  # memory is bounded
        reads.append(start)
        return signal[:, start : start + samples]

    blocks = [block for _, block in stream_plan(plan, read, toy, batch_size)]
    assert {block.dtype for block in blocks} == {np.dtype(np.float32)}
    return np.concatenate(blocks, axis=-1)


# --- the definitions, in float64, on the complete padded song ---------------------------------------------------------


def plain_faded(signal: np.ndarray, length: int, overlaps: int, batch: int) -> np.ndarray:
    step, fade = length // overlaps, length // 10
    border, samples = length - step, signal.shape[1]
    padded = border > 0 and samples > 2 * border
    song = np.pad(signal, ((0, 0), (border, border)), mode="reflect") if padded else signal
    total, weights = np.zeros((2, *song.shape)), np.zeros(song.shape[1])
    starts = list(range(0, song.shape[1], step))
    batches = [starts[first : first + batch] for first in range(0, len(starts), batch)]
    for number, some in enumerate(batches):
        for start in some:
            part = song[:, start : start + length]
            missing = length - part.shape[1]
            mode = "reflect" if part.shape[1] > length // 2 else "constant"
            window = np.ones(length)
            if not (number == 0 and len(some) == 1):
                window[:fade] = np.linspace(0, 1, fade)
            if number < len(batches) - 1:
                window[length - fade :] = np.linspace(1, 0, fade)
            estimate = toy(np.pad(part, ((0, 0), (0, missing)), mode=mode)[None])[0]
            total[:, :, start : start + length] += (estimate * window)[..., : part.shape[1]]
            weights[start : start + length] += window[: part.shape[1]]
    result = np.divide(total, weights, out=np.zeros_like(total), where=weights > 0)
    return result[..., border : border + samples] if padded else result


def plain_folded(signal: np.ndarray, length: int, overlaps: int) -> np.ndarray:
    hop, samples = length // overlaps, signal.shape[1]
    more = hop - (samples - length) % hop + length - hop
    song = np.pad(signal, ((0, 0), (length - hop, more)))
    total = np.zeros((2, *song.shape))
    for start in range(0, song.shape[1] - length + 1, hop):
        total[:, :, start : start + length] += toy(song[None, :, start : start + length])[0] / overlaps
    return total[..., length - hop : length - hop + samples]


def plain_hamming(signal: np.ndarray, length: int, hop: int) -> np.ndarray:
    at = np.arange(length)
    window = 0.54 - 0.46 * np.cos(2 * np.pi * at / (length - 1))
    total, weights = np.zeros((2, *signal.shape)), np.zeros(signal.shape[1])
    for start in range(0, signal.shape[1], min(hop, length)):
        place = slice(start, start + length) if start + length <= signal.shape[1] else slice(-length, None)
        total[..., place] += toy(signal[None, :, place])[0] * window
        weights[place] += window
    return total / weights


def plain_trimmed(signal: np.ndarray, length: int, trim: int) -> np.ndarray:
    middle, samples = length - 2 * trim, signal.shape[1]
    song = np.pad(signal, ((0, 0), (trim, middle + trim - samples % middle)))
    parts = [
        toy(song[None, :, start : start + length])[0][..., trim : trim + middle]
        for start in range(0, song.shape[1] - length + 1, middle)
    ]
    return np.concatenate(parts, axis=-1)[..., :samples]


def plain_bounded(signal: np.ndarray, length: int, trim: int) -> np.ndarray:
    middle, samples = length - 2 * trim, signal.shape[1]
    parts = []
    for start in range(0, samples, middle):
        first = max(start - trim, 0)
        estimate = toy(signal[None, :, first : start + middle + trim])[0]
        parts.append(estimate[..., start - first :][..., :middle])
    return np.concatenate(parts, axis=-1)


def plain_joined(signal: np.ndarray, length: int, sixteen_bits: bool = False) -> np.ndarray:
    hop, samples = math.ceil(length / 2), signal.shape[1]
    overlap = length - hop
    song = np.pad(signal, ((0, 0), (0, hop - (samples - length) % hop)))
    into = np.arange(overlap) / overlap
    result = np.zeros(0)
    for start in range(0, song.shape[1] - length + 1, hop):
        estimate = toy(song[None, :, start : start + length])[0]
        if sixteen_bits:
            estimate = np.clip(np.floor(estimate / LSB), -32768, 32767) * LSB
        if start:
            shared = result[..., -overlap:] * into[::-1] + estimate[..., :overlap] * into
            result = np.concatenate([result[..., :-overlap], shared, estimate[..., overlap:]], axis=-1)
        else:
            result = estimate
    result = result[..., :samples]
    return np.trunc(result / LSB) * LSB if sixteen_bits else result


def cases() -> Iterator[tuple[ChunkConfig, Callable[[np.ndarray], np.ndarray]]]:
    for length, overlaps in [(200, 2), (200, 4), (200, 1), (201, 3), (16, 2)]:
        yield (
            FadedConfig(chunk_s=length / RATE_HZ, overlaps=overlaps),
            lambda signal, length=length, overlaps=overlaps: plain_faded(signal, length, overlaps, 1),
        )
        for batch in (1, 2, 3, 100):
            yield (
                FadedConfig(chunk_s=length / RATE_HZ, overlaps=overlaps, exact_batch=batch),
                lambda signal, length=length, overlaps=overlaps, batch=batch: plain_faded(
                    signal, length, overlaps, batch
                ),
            )
        yield (
            FoldedConfig(chunk_s=length / RATE_HZ, overlaps=overlaps),
            lambda signal, length=length, overlaps=overlaps: plain_folded(signal, length, overlaps),
        )
    for length, hop in [(200, 200), (200, 50), (200, 130), (33, 999)]:
        yield (
            HammingConfig(chunk_s=length / RATE_HZ, hop_s=hop / RATE_HZ),
            lambda signal, length=length, hop=hop: plain_hamming(signal, length, hop),
        )
    for length, trim in [(200, 20), (200, 99), (33, 1)]:
        yield (
            TrimmedConfig(chunk_s=length / RATE_HZ, trim_s=trim / RATE_HZ),
            lambda signal, length=length, trim=trim: plain_trimmed(signal, length, trim),
        )
        yield (
            BoundedConfig(chunk_s=length / RATE_HZ, trim_s=trim / RATE_HZ),
            lambda signal, length=length, trim=trim: plain_bounded(signal, length, trim),
        )
    for length in (200, 201, 33):
        yield JoinedConfig(chunk_s=length / RATE_HZ), lambda signal, length=length: plain_joined(signal, length)


CASES = list(cases())
CONFIGS = [config for config, _ in CASES]


@pytest.mark.parametrize("config, plain", CASES, ids=lambda value: repr(value) if value in CONFIGS else "")
def test_a_plan_equals_its_definition(config: ChunkConfig, plain: Callable[[np.ndarray], np.ndarray]):
    for samples in (200, 201, 202, 399, 400, 401, 777, 1000, 1234):
        signal = noise(2, samples, seed=samples)
        expected = plain(signal.astype(np.float64))
        for batch_size in (1, 3):
            found = separate(config, signal, batch_size)
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6, err_msg=f"{samples} samples")


@pytest.mark.parametrize("overlaps", [1, 2, 4])
@pytest.mark.parametrize("batch", [1, 2])
def test_songs_too_short_to_be_extended_equal_the_original_too(overlaps: int, batch: int):
    for samples in (1, 2, 19, 20, 99, 100, 101, 150, 180, 199):
        signal = noise(2, samples, seed=samples)
        found = separate(FadedConfig(chunk_s=0.2, overlaps=overlaps, exact_batch=batch), signal)
        np.testing.assert_allclose(found, plain_faded(signal.astype(float), 200, overlaps, batch), rtol=0, atol=1e-6)
    two = separate(FadedConfig(chunk_s=0.2, overlaps=2, exact_batch=2), noise(2, 150))
    assert not two[..., 0].any() and two[..., 1].any()  # every window over the first sample is 0, as in the original


@pytest.mark.parametrize("config", CONFIGS, ids=repr)
def test_songs_of_any_length_have_a_plan_whose_chunks_are_as_long_as_it_says(config: ChunkConfig):
    for samples in (1, 2, 3, 7, 32, 99, 100, 101, 199, 5000):
        signal = noise(2, samples, seed=samples)
        assert separate(config, signal, batch_size=3).shape == (2, 2, samples)
        plan = plan_chunks(samples, config, RATE_HZ)
        assert max(chunk.stop - chunk.start for chunk in plan.chunks) <= longest_samples(config, RATE_HZ)
        assert all(chunk.used_start < chunk.used_stop for chunk in plan.chunks)


def summed(plan: ChunkPlan) -> np.ndarray:
    total = np.zeros(plan.total_samples)
    for chunk in plan.chunks:
        total[chunk.used_start : chunk.used_stop] += plan.weights(chunk)
    return total


@pytest.mark.parametrize(
    "config",
    [
        FadedConfig(chunk_s=0.2),
        FadedConfig(chunk_s=0.2, overlaps=7),
        FoldedConfig(chunk_s=0.2, overlaps=4),
        HammingConfig(chunk_s=0.2, hop_s=0.07),
        TrimmedConfig(chunk_s=0.2, trim_s=0.05),
        BoundedConfig(chunk_s=0.2, trim_s=0.05),
    ],
    ids=repr,
)
def test_weights_sum_to_one_at_every_sample(config: ChunkConfig):
    for samples in (1, 150, 200, 1234):
        np.testing.assert_allclose(summed(plan_chunks(samples, config, RATE_HZ)), 1, atol=1e-6)


def test_crossfades_of_the_joined_plan_lose_one_part_in_their_length_as_ffmpegs_do():
    total = summed(plan_chunks(1000, JoinedConfig(chunk_s=0.2), RATE_HZ))
    np.testing.assert_allclose(total[:100], 1)
    np.testing.assert_allclose(total[100:900], 0.99, atol=1e-6)


def test_overlaps_that_do_not_divide_a_folded_chunk_are_added_as_in_the_original():
    total = summed(plan_chunks(1000, FoldedConfig(chunk_s=0.2, overlaps=3), RATE_HZ))
    assert set(np.round(total, 4)) == {1.0, 1.3333}


def test_the_end_of_a_song_is_one_chunk_however_often_it_is_added():
    plan = plan_chunks(230, HammingConfig(chunk_s=0.2, hop_s=0.05), RATE_HZ)
    assert [(chunk.start, chunk.stop, chunk.repeats) for chunk in plan.chunks] == [(0, 200, 1), (30, 230, 4)]


def test_sixteen_bits_round_chunks_down_clip_them_and_round_the_song_towards_zero():
    signal = 3 * noise(2, 777)
    found = separate(JoinedConfig(chunk_s=0.2, sixteen_bits=True), signal)
    np.testing.assert_allclose(found, plain_joined(signal.astype(float), 200, True), rtol=0, atol=1.01 * LSB)
    np.testing.assert_array_equal(found / LSB, np.rint(found / LSB))
    assert found.min() == -1 and found.max() <= 1 - LSB


# --- the originals ----------------------------------------------------------------------------------------------------


def plans_of(case: str, length: int, overlap: float, batch: int, rate_hz: int) -> list[tuple[ChunkConfig, float]]:
    """Return plans that must equal a golden case, and the tolerance in LSB of 16 bits; 0: 1e-6 of the peak."""
    chunk_s = length / rate_hz
    match case.split("/")[0], case.split("/")[1].split("-")[0]:
        case "msst", _:
            exact: list[tuple[ChunkConfig, float]]
            exact = [(FadedConfig(chunk_s=chunk_s, overlaps=int(overlap), exact_batch=batch), 0)]
            return exact + ([(FadedConfig(chunk_s=chunk_s, overlaps=int(overlap)), 0)] if batch == 1 else [])
        case ("kuielab", _) | ("pas", "mdx23c"):
            return [(FoldedConfig(chunk_s=chunk_s, overlaps=int(overlap)), 0)]
        case "pas", "roformer":
            return [(HammingConfig(chunk_s=chunk_s, hop_s=overlap), 0)]
        case "dttnet", "trim":
            return [(TrimmedConfig(chunk_s=chunk_s, trim_s=overlap / rate_hz), 0)]
        case _:
            return [(JoinedConfig(chunk_s=chunk_s, sixteen_bits=True), 1), (JoinedConfig(chunk_s=chunk_s), 2)]


@pytest.mark.parametrize("software, count", [("msst", 6), ("kuielab", 3), ("dttnet", 4), ("pas", 4)])
def test_whole_songs_equal_the_originals(shared: Path, software: str, count: int):
    golden = load_file(shared / "golden" / "systems" / "inference" / f"{software}.safetensors")
    names = sorted(name.removesuffix("/input") for name in golden if name.endswith("/input"))
    assert len(names) == count
    for name in names:
        facts = dict(re.findall(r"-(chunk|overlap|batch|rate)([\d.]+)", name))
        rate_hz = int(facts["rate"]) if software == "pas" else RATE_HZ
        expected = golden[f"{name}/output"]
        given = int(facts["chunk"]), float(facts.get("overlap", 0)), int(facts.get("batch", 1)), rate_hz
        for config, lsb in plans_of(f"{software}/{name}", *given):
            found = separate(config, golden[f"{name}/input"], given[2], rate_hz)
            tolerance = lsb * LSB or 1e-6 * np.abs(expected).max()
            np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance, err_msg=f"{name}, {config!r}")


# --- errors and texts -------------------------------------------------------------------------------------------------


def test_plans_that_leave_nothing_of_a_chunk_are_refused():
    for config in (FadedConfig(chunk_s=0.01, overlaps=11), FoldedConfig(chunk_s=0.01, overlaps=11)):
        with pytest.raises(
            ConfigError, match="overlaps: 11 chunks over each sample need longer chunks than 10 samples"
        ):
            plan_chunks(100, config, RATE_HZ)
    with pytest.raises(ConfigError, match="trim_s: 1 samples at each end leave nothing of a chunk of 2; give less"):
        plan_chunks(100, TrimmedConfig(chunk_s=0.0029, trim_s=0.0012), RATE_HZ)
    with pytest.raises(ConfigError, match=r"hop_s: 0\.0001 s is less than one sample at 1000 Hz"):
        plan_chunks(100, HammingConfig(chunk_s=1, hop_s=0.0001), RATE_HZ)


def test_every_setting_of_a_plan_is_in_its_text():
    texts: list[tuple[ChunkConfig, str]] = [
        (FadedConfig(), "faded (chunk 8 s, 2 overlaps)"),
        (FadedConfig(overlaps=1, exact_batch=4), "faded (chunk 8 s, 1 overlap, fades as in batches of 4)"),
        (FoldedConfig(chunk_s=6), "folded (chunk 6 s, 8 overlaps)"),
        (HammingConfig(), "hamming (chunk 8 s, hop 8 s)"),
        (TrimmedConfig(chunk_s=6, trim_s=0.07), "trimmed (chunk 6 s, trim 0.07 s)"),
        (BoundedConfig(chunk_s=13, trim_s=1.5), "bounded (chunk 13 s, trim 1.5 s)"),
        (JoinedConfig(chunk_s=6), "joined (chunk 6 s, float)"),
        (JoinedConfig(chunk_s=6, sixteen_bits=True), "joined (chunk 6 s, 16 bits)"),
    ]
    for config, text in texts:
        assert describe_chunks(config) == text
