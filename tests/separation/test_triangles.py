"""Triangles over pieces of the song: equal to a plain loop, and to the numbers of Demucs' own function."""

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load_file
from safetensors.torch import load_file as load_tensors

from bandsplit.core.errors import ConfigError
from bandsplit.models.bags import Bag, write_bag
from bandsplit.models.card import ModelCard
from bandsplit.models.chunk_config import TriangleConfig
from bandsplit.models.contract import Checkpoint, Imported
from bandsplit.models.demucs.weights import read_checkpoint
from bandsplit.models.files import model_from_tensors, save_model
from bandsplit.separation.chunks import describe_chunks, longest_samples, plan_chunks
from bandsplit.separation.separator import Separator
from bandsplit.separation.streaming import stream_plan
from songs import noise

RATE_HZ = 44_100
GOLDEN = {
    "default": {"chunk_s": 0.05},
    "overlap-0.5-power-2": {"chunk_s": 0.05, "overlap": 0.5, "power": 2},
    "overlap-0": {"chunk_s": 0.05, "overlap": 0},
    "segment-0.11": {"chunk_s": 0.11, "overlap": 0.1},
    "no-split": {"chunk_s": 8009 / RATE_HZ, "overlap": 0},
    "valid-length-2600": {"chunk_s": 0.05, "multiple_samples": 2600},
    "htdemucs-rule-segment-0.06": {"chunk_s": 0.06, "multiple_samples": 0},
}
"""Settings of the plan with which the golden file names these estimates."""
BAGS = {
    "bag-weights": ((0.05, 0.07, 0.03), (1, 0.5, 2), ((1, 0), (0.5, 1), (0.25, 3))),
    "bag-no-weights": ((0.05, 0.07), (1, 1), ((1, 1), (1, 1))),
}
"""Bags of the golden file: lengths of chunks, gains of the models, weights by model and target."""


def toy(chunks: np.ndarray) -> np.ndarray:
    """The golden file's network, whose estimates depend on the level of a chunk and on the place in it."""
    level = np.sqrt(np.mean(chunks.astype(np.float64) ** 2, axis=(1, 2), keepdims=True))
    ramp = np.arange(chunks.shape[-1]) / chunks.shape[-1] * chunks.mean(axis=(1, 2), keepdims=True)
    return np.stack([(k + 1) * chunks / (0.1 + level) ** 0.5 + k * ramp for k in range(2)], axis=1).astype(np.float32)


def separate(config: TriangleConfig, signal: np.ndarray, batch_size: int = 1) -> np.ndarray:
    """Follow a plan; reads are in order and in the song, as a stream needs them."""
    plan, reads = plan_chunks(signal.shape[1], config, RATE_HZ), [0]

    def read(start: int, samples: int) -> np.ndarray:
        assert reads[-1] <= start and samples > 0 and start + samples <= signal.shape[1]
        assert samples <= 2 * (longest_samples(config, RATE_HZ) + config.multiple_samples)  # memory is bounded
        reads.append(start)
        return signal[:, start : start + samples]

    return np.concatenate([block for _, block in stream_plan(plan, read, toy, batch_size)], axis=-1)


def plain(signal: np.ndarray, config: TriangleConfig) -> np.ndarray:
    """The definition of a plan without shifts, in float64."""
    total, samples, length = 0.0, signal.shape[1], int(config.chunk_s * RATE_HZ + 1e-6)
    weights = np.zeros(samples)
    rise = [*range(1, length // 2 + 1), *range(length - length // 2, 0, -1)]
    triangle = (np.array(rise) / max(rise)) ** config.power
    for start in range(0, samples, int((1 - config.overlap) * length)):
        n = min(length, samples - start)
        multiple = config.multiple_samples or length
        room = -(-(n + config.less_samples) // multiple) * multiple - config.less_samples - n
        padded = np.pad(signal, ((0, 0), (2 * length + 6000, 2 * length + 6000)))
        first = start - room // 2 + 2 * length + 6000
        estimate = toy(padded[None, :, first : first + n + room])[0, ..., room // 2 : room // 2 + n]
        total = total + np.pad(estimate * triangle[:n], ((0, 0), (0, 0), (start, samples - start - n)))
        weights[start : start + n] += triangle[:n]
    return total / weights


def shifted(signal: np.ndarray, config: TriangleConfig, before: list[int]) -> np.ndarray:
    """The mean of separations of the song behind so many zeros."""
    found = [separate(config, np.pad(signal, ((0, 0), (zeros, 0))))[..., zeros:] for zeros in before]
    return np.mean(found, axis=0)


def write_model(path: Path, imported: Imported) -> Path:
    card = ModelCard(name=path.stem, training_data=imported.training_data, licence=imported.licence)
    save_model(path, model_from_tensors(imported.config, imported.tensors), card)
    return path


def difference(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@pytest.fixture(scope="module")
def golden(shared: Path) -> dict[str, np.ndarray]:
    return load_file(shared / "golden" / "systems" / "demucs_mdx_presunet" / "demucs-apply-toy.safetensors")


@pytest.mark.parametrize("name", GOLDEN)
def test_estimates_are_those_of_the_original(golden: dict[str, np.ndarray], name: str):
    found = separate(TriangleConfig.parse(GOLDEN[name]), golden["input"][0], batch_size=3)
    assert difference(found, golden[f"output/{name}"][0]) < 1e-6


def test_shifts_are_those_of_the_original(golden: dict[str, np.ndarray]):
    before = [RATE_HZ // 2 - offset for offset in (123, 20_000)]
    found = shifted(golden["input"][0], TriangleConfig(chunk_s=0.05), before)
    assert difference(found, golden["output/shifts-2"][0]) < 1e-6


@pytest.mark.parametrize("name", BAGS)
def test_weighted_means_of_plans_are_those_of_the_originals_bags(golden: dict[str, np.ndarray], name: str):
    weights = np.array(BAGS[name][2])[:, :, None, None]
    found = np.stack(
        [
            gain * separate(TriangleConfig(chunk_s=chunk_s), golden["input"][0])
            for chunk_s, gain in zip(BAGS[name][0], BAGS[name][1], strict=True)
        ]
    )
    assert difference((found * weights).sum(0) / weights.sum(0), golden[f"output/{name}"][0]) < 1e-6


def test_bags_and_normalised_songs_are_those_of_the_original(shared: Path, tmp_path: Path):
    path = shared / "golden" / "systems" / "demucs_mdx_presunet" / "htdemucs-apply-bag.safetensors"
    with safe_open(path, framework="pt") as file:
        kwargs = json.loads(file.metadata()["config"])
    tensors = load_tensors(path)
    kwargs["segment"] = kwargs["segment"]["fraction"]
    models = []
    for prefix in ("weights/0.", "weights/1."):
        theirs = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        package = {"klass": "demucs.htdemucs.HTDemucs", "args": [], "kwargs": kwargs}
        imported = read_checkpoint(
            Checkpoint({k: tuple(v.shape) for k, v in theirs.items()}, theirs.__getitem__, package)
        )
        assert imported is not None
        models.append(write_model(tmp_path / f"{len(models)}.safetensors", imported))
    chunk_s = int(Fraction(40, 441) * RATE_HZ) / RATE_HZ
    published = TriangleConfig(chunk_s=chunk_s, multiple_samples=0, normalise="mono")
    members = [{"model": "0.safetensors", "weights": {"drums": 1}}, {"model": str(models[1]), "weights": {"bass": 1}}]
    bag = Bag.parse({"members": members, "chunks": {"normalise": "none"}})
    write_bag(tmp_path / "bag.yaml", bag)
    for model, settings, plan, output in (
        (models[0], {}, published, "output/cli"),
        (models[0], {"normalise": "none"}, published.model_copy(update={"normalise": "none"}), "output"),
        (tmp_path / "bag.yaml", {}, published.model_copy(update={"normalise": "none"}), "output/bag"),
    ):
        separator = Separator(model, device="cpu", chunks=settings)
        assert separator.chunks == (plan,)
        estimates = separator.separate(tensors["input"][0], RATE_HZ)
        found = torch.stack([estimates[target] for target in ("drums", "bass")])
        assert difference(found.numpy(), tensors[output][0].numpy()) < 2e-6


@pytest.mark.parametrize("samples", [1, 700, 4410, 30_011])
@pytest.mark.parametrize(
    "config",
    [
        TriangleConfig(chunk_s=0.1),
        TriangleConfig(chunk_s=0.09, overlap=0.6, power=0.5, multiple_samples=0),
        TriangleConfig(chunk_s=0.0501, overlap=0.3, power=3, multiple_samples=512, less_samples=100),
    ],
    ids=repr,
)
def test_a_plan_equals_a_plain_loop_and_its_shifts_the_mean_of_later_songs(config: TriangleConfig, samples: int):
    signal = noise(2, samples)
    found = separate(config, signal)
    assert difference(found, plain(signal, config)) < 1e-6
    assert np.array_equal(found, separate(config, signal, batch_size=4))
    shifts = separate(config.model_copy(update={"shifts": 3}), signal)
    assert difference(shifts, shifted(signal, config, [0, 7350, 14_700])) < 1e-6


def test_settings_are_named_and_mistakes_refused():
    config = TriangleConfig(chunk_s=44, overlap=0.5, power=2, multiple_samples=2048, less_samples=1366, shifts=2)
    assert describe_chunks(config) == (
        "triangle (chunk 44 s, overlap 0.5, power 2, pieces of multiples of 2048 less 1366 samples, mean of 2 shifts: "
        "2 times the work)"
    )
    assert (
        describe_chunks(TriangleConfig(multiple_samples=0)) == "triangle (chunk 7.8 s, overlap 0.25, complete pieces)"
    )
    with pytest.raises(ConfigError, match=r"overlap: 0\.999 leaves no hop between chunks of 44 samples; give less"):
        plan_chunks(100, TriangleConfig(chunk_s=0.001, overlap=0.999), RATE_HZ)
