"""Bags: weighted means, mixers, models that see what others left, one model in memory at a time, and bad files."""

import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from bandsplit.audio import files as audio
from bandsplit.core.errors import AudioError, BandsplitError, ConfigError, ModelFileError
from bandsplit.models.bags import Bag, read_bag, write_bag
from bandsplit.models.card import read_card
from bandsplit.models.chunk_config import CrossfadeConfig, OverlapAddConfig
from bandsplit.separation.separator import Separator
from bandsplit.separation.torch_network import TorchNetwork
from songs import noise
from tiny_models import RATE_HZ, write_tiny_model

TAC = {"stereo": {"kind": "tac"}}
SHORT = {"kind": "overlap-add", "chunk_s": 0.5, "hop_s": 0.25}


def estimates_of(path: Path, song: np.ndarray, **options: Any) -> dict[str, np.ndarray]:
    return Separator(path, device="cpu", **options).separate(song, RATE_HZ)


def peak(signal: np.ndarray) -> float:
    return float(np.abs(signal).max())


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three models of stereo; the first two have the same targets, and the third only one of them."""
    folder = tmp_path_factory.mktemp("models")
    for seed, name in enumerate(("a", "b")):
        write_tiny_model(folder / f"{name}.safetensors", "vocals", "bass", seed=seed, **TAC)
    write_tiny_model(folder / "c.safetensors", "bass", seed=2, **TAC)
    return folder


@pytest.fixture
def bag(models: Path, tmp_path: Path) -> Callable[..., Path]:
    """Write a bag of members, given as keyword arguments of each, beside the models."""

    def write(*members: dict[str, Any], **settings: Any) -> Path:
        found = [member | {"model": str(models / f"{member['model']}.safetensors")} for member in members]
        write_bag(tmp_path / "bag.yaml", Bag.parse({"members": found, **settings}))
        return tmp_path / "bag.yaml"

    return write


WEIGHTED = (
    {"model": "a"},
    {"model": "b", "weights": {"vocals": 3, "bass": 0.5}, "chunks": SHORT},
    {"model": "c", "weights": {"bass": 2}},
)


def test_estimates_are_weighted_means_and_each_model_keeps_its_plan(models: Path, bag: Callable[..., Path]):
    path, song = bag(*WEIGHTED), noise(2, 30_000)
    separator = Separator(path, device="cpu")
    assert separator.targets == ("vocals", "bass") and separator.name == path.parent.name
    assert separator.chunks == (CrossfadeConfig(), OverlapAddConfig(chunk_s=0.5, hop_s=0.25))
    assert list(separator.files) == [path, *(models / f"{name}.safetensors" for name in "abc")]
    a, b, c = (
        estimates_of(models / f"{name}.safetensors", song, chunks=SHORT if name == "b" else None) for name in "abc"
    )
    found = separator.separate(song, RATE_HZ)
    assert peak(found["vocals"] - (a["vocals"] + 3 * b["vocals"]) / 4) <= 1e-6
    assert peak(found["bass"] - (a["bass"] + 0.5 * b["bass"] + 2 * c["bass"]) / 3.5) <= 1e-6


def test_one_model_in_memory_at_a_time_gives_the_same_bits(
    bag: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    alive: list[weakref.ref[TorchNetwork]] = []
    opening = TorchNetwork.open.__func__  # type: ignore[attr-defined]

    def opened(cls: type[TorchNetwork], *arguments: Any, **options: Any) -> TorchNetwork:
        assert all(one() is None for one in alive)
        network = opening(cls, *arguments, **options)
        alive.append(weakref.ref(network))
        return network

    path, song = bag(*WEIGHTED), noise(2, 30_000)
    together = Separator(path, device="cpu").separate(song, 44_100)
    monkeypatch.setattr(TorchNetwork, "open", classmethod(opened))
    separator = Separator(path, device="cpu", sequential=True)
    seconds: list[float] = []
    found = separator.separate(song, 44_100, lambda done_s, *_: seconds.append(done_s))
    assert len(alive) == 4  # the first once more before, to see that it can be loaded
    assert all(np.array_equal(found[target], together[target]) for target in together)
    assert seconds == sorted(seconds) and seconds[-1] == pytest.approx(30_000 / 44_100)
    audio.write(tmp_path / "song.wav", song, 44_100)
    stems = separator.separate_file(tmp_path / "song.wav", tmp_path / "out").paths
    assert all(np.array_equal(audio.read(stems[target])[0], together[target]) for target in together)


def test_only_models_that_a_wanted_target_needs_are_loaded(bag: Callable[..., Path], monkeypatch: pytest.MonkeyPatch):
    loaded: list[str] = []
    opening = TorchNetwork.open.__func__  # type: ignore[attr-defined]

    def opened(cls: type[TorchNetwork], model: Path, *rest: Any) -> TorchNetwork:
        loaded.append(Path(model).stem)
        return opening(cls, model, *rest)

    monkeypatch.setattr(TorchNetwork, "open", classmethod(opened))
    path = bag({"model": "a", "weights": {"vocals": 1}}, {"model": "b", "weights": {"bass": 1}}, {"model": "c"})
    for targets, names in ((["vocals"], "a"), (["bass"], "bc"), (None, "abc")):
        separator = Separator(path, device="cpu", targets=targets)
        assert "".join(loaded) == names and separator.targets == tuple(targets or ("vocals", "bass"))
        loaded.clear()


def test_a_model_may_see_what_others_left_chunk_by_chunk(models: Path, bag: Callable[..., Path]):
    one_chunk = {"kind": "trimmed", "chunk_s": 0.5, "trim_s": 0.05}
    path = bag({"model": "a", "weights": {"vocals": 1}}, {"model": "c", "minus": ["vocals"]}, chunks=one_chunk)
    song = noise(2, 3000)  # in one chunk, between zeros
    for sequential in (False, True):
        found = Separator(path, device="cpu", sequential=sequential).separate(song, RATE_HZ)
        chunk = np.pad(song, ((0, 0), (400, 600)))
        vocals = Separator(models / "a.safetensors", device="cpu").separate(chunk, RATE_HZ)["vocals"]
        bass = Separator(models / "c.safetensors", device="cpu").separate(chunk - vocals, RATE_HZ)["bass"]
        assert peak(found["vocals"] - vocals[:, 400:3400]) <= 1e-6
        assert peak(found["bass"] - bass[:, 400:3400]) <= 1e-6
    alone = Separator(path, device="cpu", targets=["bass"]).separate(song, RATE_HZ)
    assert list(alone) == ["bass"] and np.array_equal(alone["bass"], found["bass"])


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_mixers_map_estimates_and_the_mixture_and_bags_may_be_in_bags(
    models: Path, bag: Callable[..., Path], tmp_path: Path, channels: int
):
    matrix = np.random.default_rng(0).normal(0, 1, (4, 6)).round(3)
    inner = bag({"model": "a"}, mixer={"targets": ["bass", "vocals"], "matrix": matrix.tolist()})
    outer = inner.rename(tmp_path / "mixed.yaml").with_name("outer.yaml")
    mine, plain = {"vocals": 0.9, "bass": 0.5}, {"vocals": 0.1, "bass": 0.5}
    members = [{"model": "mixed.yaml", "weights": mine}, {"model": str(models / "b.safetensors"), "weights": plain}]
    outer.write_text(yaml.safe_dump({"members": members}))
    song = noise(channels, 9000)
    a, b = (estimates_of(models / f"{name}.safetensors", song) for name in "ab")
    mixed = {"vocals": np.empty_like(song), "bass": np.empty_like(song)}
    for pair in ([0, 1], [2]) if channels == 3 else [list(range(channels))]:
        stacked = np.concatenate([signal[np.resize(pair, 2)] for signal in (a["bass"], a["vocals"], song)])
        both = (matrix @ stacked).reshape(2, 2, -1)
        for target, found in zip(("bass", "vocals"), both, strict=True):
            mixed[target][pair] = found if len(pair) == 2 else found.mean(axis=0)
    separator = Separator(outer, device="cpu")
    assert separator.targets == ("bass", "vocals")
    found = separator.separate(song, RATE_HZ)
    assert peak(found["vocals"] - (0.9 * mixed["vocals"] + 0.1 * b["vocals"])) <= 2e-6
    assert peak(found["bass"] - (0.5 * mixed["bass"] + 0.5 * b["bass"])) <= 2e-6
    alone = Separator(outer, device="cpu", targets=["bass"]).separate(song, RATE_HZ)
    assert np.array_equal(alone["bass"], found["bass"])


@pytest.mark.parametrize("kind", ["mono", "joint"])
@pytest.mark.parametrize("channels", [1, 2])
def test_songs_are_normalised_and_estimates_put_back(models: Path, tmp_path: Path, kind: str, channels: int):
    path, song = models / "a.safetensors", 0.2 * noise(channels, 21_000) + np.float32(0.05)
    values = song.mean(axis=0, dtype=float) if kind == "mono" else song.astype(float)
    mean, scale = values.mean(), values.std(ddof=1) + 1e-8
    plain = estimates_of(path, ((song - mean) / scale).astype(np.float32), chunks=SHORT)
    found = estimates_of(path, song, chunks=SHORT | {"normalise": kind})
    assert all(peak(found[target] - (plain[target] * scale + mean)) <= 1e-6 for target in plain)
    audio.write(tmp_path / "song.wav", song, RATE_HZ)
    separator = Separator(path, device="cpu", chunks=SHORT | {"normalise": kind})
    stems = separator.separate_file(tmp_path / "song.wav", tmp_path / "out").paths
    assert all(np.array_equal(audio.read(stems[target])[0], found[target]) for target in found)
    with pytest.raises(ConfigError, match=r"^blocks: can be read once, and the song must be read again"):
        next(separator.stream_blocks([song], RATE_HZ, 21_000))


def test_a_normalised_song_keeps_its_silence(models: Path):
    settings = SHORT | {"normalise": "mono"}
    for samples in (1, 2, 100, 9000):
        silent = np.zeros((2, samples), np.float32)
        assert not any(map(np.any, estimates_of(models / "a.safetensors", silent, chunks=settings).values()))
    song = noise(2, 40_000)
    song[:, 12_000:26_000] = 0
    found = estimates_of(models / "a.safetensors", song, chunks=settings)
    assert all(found[target].any() and not found[target][:, 16_000:22_000].any() for target in found)


def test_test_time_averages_are_the_mean_with_altered_songs(models: Path):
    path, song = models / "a.safetensors", noise(2, 9000)
    plain = estimates_of(path, song)
    swapped = estimates_of(path, np.ascontiguousarray(song[::-1]))
    negated = estimates_of(path, -song)
    both = estimates_of(path, song, chunks={"tta": ["channels", "polarity"]})
    for target in plain:
        mean = (plain[target] + swapped[target][::-1] - negated[target]) / 3
        assert peak(both[target] - mean) <= 1e-6 < peak(both[target] - plain[target])
    with pytest.raises(ConfigError, match=r"tta: channels, channels names one twice"):
        Separator(path, device="cpu", chunks={"tta": ["channels", "channels"]})


def test_exchanged_channels_are_refused_where_they_change_nothing(tmp_path: Path):
    path = write_tiny_model(tmp_path / "m.safetensors")
    with pytest.raises(ConfigError, match=r"^--tta channels: changes nothing for .*m\.safetensors, which sees each"):
        Separator(path, device="cpu", chunks={"tta": ["channels"]})


BAD: list[tuple[Any, str]] = [
    ([], "is not a configuration: it must map names to values"),
    ({}, r"is not a bag of models: members: Field required.*models import CHECKPOINT --config bag\.yaml"),
    ({"members": []}, "members: Tuple should have at least 1 item"),
    ({"members": [{"model": "a.safetensors", "wieghts": {}}]}, "unknown key 'wieghts'; did you mean 'weights'"),
    ({"members": [{"model": "a.safetensors", "weights": {"vocals": -1}}]}, "should be greater than or equal to 0"),
    ({"members": [{"model": "a.safetensors", "weights": {"vocals": float("nan")}}]}, "finite number"),
    ({"members": [{"model": "a.safetensors", "weights": {"vocals": 0}}]}, r"number 1 \(a\.safetensors\) has no weight"),
    ({"members": [{"model": "a.safetensors", "weights": {"drums": 1}}]},
     r"number 1 \(a\.safetensors\): has no target 'drums' to give a weight; legal: vocals, bass"),
    ({"members": [{"model": "a.safetensors", "weights": {"vocals": 1, "bass": 0}}]},
     "target 'bass' has no weight above 0 in any member; give it one, or leave it out of all"),
    ({"members": [{"model": "none.safetensors"}]}, r"number 1 \(none\.safetensors\): none\.safetensors: no such model"),
    ({"members": [{"model": "unheard-of"}]}, "unheard-of: is not a file, a folder with model files or the name of a"),
    ({"members": [{"model": "simo-bsrnn-opt"}]}, r"is not in the cache .*; fetch it first"),
    ({"members": [{"model": "bag.yaml"}]}, "is a bag that contains itself; leave it out of its members"),
    ({"members": [{"model": "a.safetensors"}, {"model": "slow.safetensors"}]}, "must share a sample rate"),
    ({"members": [{"model": "a.safetensors"}, {"model": "mono.safetensors"}]}, "must take the same number"),
    ({"members": [{"model": "a.safetensors", "chunks": {"shifts": 2}}]}, "--shifts: has no meaning with"),
    ({"members": [{"model": "a.safetensors", "chunks": {"chunk": 2}}]}, "unknown key 'chunk'"),
    ({"members": [{"model": "a.safetensors", "minus": ["bass"]}]}, "minus: no model before it estimates 'bass'"),
    ({"members": [{"model": "a.safetensors"}, {"model": "a.safetensors", "minus": ["bass"], "chunks": SHORT}]},
     "minus: is cut into other chunks than .*a.safetensors, which estimates 'bass'"),
    ({"members": [{"model": "a.safetensors"}], "mixer": {"targets": ["vocals"], "matrix": [[1, 2]]}},
     "matrix: must have 2 rows of 4 numbers for 1 targets"),
    ({"members": [{"model": "a.safetensors"}], "mixer": {"targets": ["drums"], "matrix": [[0] * 4, [1] * 4]}},
     "mixer: no member estimates 'drums'"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "message"), BAD, ids=str)
def test_bags_that_make_no_sense_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: Any, message: str
):
    monkeypatch.setenv("BANDSPLIT_CACHE", str(tmp_path / "cache"))
    write_tiny_model(tmp_path / "a.safetensors", **TAC)
    write_tiny_model(tmp_path / "slow.safetensors", sample_rate_hz=4000)
    write_tiny_model(tmp_path / "mono.safetensors", channels=3, **TAC)
    (tmp_path / "bag.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(BandsplitError, match=message) as caught:
        Separator(tmp_path / "bag.yaml", device="cpu")
    assert str(caught.value).startswith(str(tmp_path / "bag.yaml")) or "members" not in str(content)


def test_a_bag_is_no_model_file(bag: Callable[..., Path]):
    with pytest.raises(ModelFileError, match=r"bag\.yaml: is a bag of models, not a model; name one of its members"):
        read_card(bag({"model": "a"}))


def test_bags_are_named_by_their_folder_or_file(bag: Callable[..., Path], tmp_path: Path):
    path = bag({"model": "a"})
    assert read_bag(path).name == tmp_path.name
    assert read_bag(path.rename(tmp_path / "mine.yaml")).name == "mine"
    assert read_bag(bag({"model": "a"}, name="other")).name == "other"


def test_a_full_disk_is_reported_with_what_to_do(
    bag: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    separator = Separator(bag({"model": "a"}, {"model": "c"}), device="cpu", sequential=True)
    with pytest.raises(
        AudioError, match=r"there is no room for it .*; set TMPDIR to a folder on another disk, or leave"
    ):
        separator.separate(noise(2, 100), RATE_HZ)
