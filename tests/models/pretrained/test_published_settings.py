"""Settings in the registry: they fit the published networks, whose tensors are listed here from their description."""

from collections.abc import Iterator
from itertools import pairwise
from math import prod
from typing import Any

import pytest
import torch

from bandsplit.models.contract import Checkpoint, Shape
from bandsplit.models.demucs.time_config import DemucsV2Config
from bandsplit.models.families import FAMILIES, find_part, tensor_shapes
from bandsplit.models.layers.unet_model_config import UnetModelConfig
from bandsplit.models.presunet.config import PresunetConfig
from bandsplit.models.presunet.weights import their_name
from bandsplit.models.pretrained.entries import BagOfFiles, RemoteFile, SingleCheckpoint
from bandsplit.models.pretrained.registry import entries, find_entry
from bandsplit.recipes.catalogue import RECIPES

BANDS = [2] * 24 + [4] * 12 + [12] * 8 + [24] * 8 + [48] * 8 + [128, 129]


def mel_widths() -> list[int]:
    """Widths of the 60 bands at 44.1 kHz: from the first to the last bin of each triangle that has a weight."""
    edges = [0.0] * 62
    top = 15 + 27 * torch.log(torch.tensor(22.05, dtype=torch.float64)).item() / torch.log(torch.tensor(6.4)).item()
    for k in range(62):
        mel = top * k / 61
        edges[k] = 200 * mel / 3 if mel < 15 else 1000 * 6.4 ** ((mel - 15) / 27)
    bins = [22050 * f / 1024 for f in range(1025)]
    found = []
    for low, high in zip(edges[:-2], edges[2:], strict=True):
        inside = [f for f, hz in enumerate(bins) if low < hz < high]
        found.append((inside[0], inside[-1]))
    found[0], found[-1] = (0, found[0][1]), (found[-1][0], 1024)
    return [last - first + 1 for first, last in found]


def roformer(width: int, depth: int, bands: list[int], mel: bool) -> Iterator[tuple[str, Shape]]:
    """Tensors of a RoFormer with 8 heads of 64, one stem, stereo."""
    for k, bins in enumerate(bands):
        yield f"band_split.to_features.{k}.0.gamma", (4 * bins,)
        yield f"band_split.to_features.{k}.1.weight", (width, 4 * bins)
        yield f"band_split.to_features.{k}.1.bias", (width,)
    for i in range(depth):
        # The Mel-Band class of MSST numbers its transformers as BS does where there is no linear attention.
        for layers in (f"layers.{i}.{j}" for j in (0, 1)):
            yield f"{layers}.layers.0.0.rotary_embed.freqs", (32,)
            yield f"{layers}.layers.0.0.norm.gamma", (width,)
            yield f"{layers}.layers.0.0.to_qkv.weight", (3 * 512, width)
            yield f"{layers}.layers.0.0.to_gates.weight", (8, width)
            yield f"{layers}.layers.0.0.to_gates.bias", (8,)
            yield f"{layers}.layers.0.0.to_out.0.weight", (width, 512)
            yield f"{layers}.layers.0.1.net.0.gamma", (width,)
            yield f"{layers}.layers.0.1.net.1.weight", (4 * width, width)
            yield f"{layers}.layers.0.1.net.1.bias", (4 * width,)
            yield f"{layers}.layers.0.1.net.4.weight", (width, 4 * width)
            yield f"{layers}.layers.0.1.net.4.bias", (width,)
            if mel:
                yield f"{layers}.norm.gamma", (width,)
    if not mel:
        yield "final_norm.gamma", (width,)
    for k, bins in enumerate(bands):
        sizes = [width, *[4 * width] * (2 if mel else 1), 8 * bins]
        for n, (inner, outer) in enumerate(pairwise(sizes)):
            yield f"mask_estimators.0.to_freqs.{k}.0.{2 * n}.weight", (outer, inner)
            yield f"mask_estimators.0.to_freqs.{k}.0.{2 * n}.bias", (outer,)


def unet(first: int, growth: int, outputs: int) -> Iterator[tuple[str, Shape]]:
    """Tensors of a TFC-TDF UNet of five scales, four subbands of 1024 bins, instance norm."""

    def norm(name: str, channels: int) -> Iterator[tuple[str, Shape]]:
        yield f"{name}.weight", (channels,)
        yield f"{name}.bias", (channels,)

    def blocks(name: str, inner: int, channels: int, bins: int) -> Iterator[tuple[str, Shape]]:
        for m in range(2):
            block, entering = f"{name}.blocks.{m}", channels if m else inner
            yield from norm(f"{block}.tfc1.0", entering)
            yield f"{block}.tfc1.2.weight", (channels, entering, 3, 3)
            yield from norm(f"{block}.tdf.0", channels)
            yield f"{block}.tdf.2.weight", (bins // 4, bins)
            yield from norm(f"{block}.tdf.3", channels)
            yield f"{block}.tdf.5.weight", (bins, bins // 4)
            yield from norm(f"{block}.tfc2.0", channels)
            yield f"{block}.tfc2.2.weight", (channels, channels, 3, 3)
            yield f"{block}.shortcut.weight", (channels, entering, 1, 1)

    yield "first_conv.weight", (first, 16, 1, 1)
    for i in range(5):
        channels = first + i * growth
        yield from blocks(f"encoder_blocks.{i}.tfc_tdf", channels, channels, 1024 >> i)
        yield from norm(f"encoder_blocks.{i}.downscale.conv.0", channels)
        yield f"encoder_blocks.{i}.downscale.conv.2.weight", (channels + growth, channels, 2, 2)
    yield from blocks("bottleneck_block", first + 5 * growth, first + 5 * growth, 32)
    for i in range(5):
        channels = first + (4 - i) * growth
        yield from norm(f"decoder_blocks.{i}.upscale.conv.0", channels + growth)
        yield f"decoder_blocks.{i}.upscale.conv.2.weight", (channels + growth, channels, 2, 2)
        yield from blocks(f"decoder_blocks.{i}.tfc_tdf", 2 * channels, channels, 1024 >> (4 - i))
    yield "final_conv.0.weight", (first, first + 16, 1, 1)
    yield "final_conv.2.weight", (outputs * 16, first, 1, 1)


PUBLISHED = {
    "bs-roformer-1297": (lambda: roformer(512, 12, BANDS, mel=False), 159_758_028),
    "mel-roformer-kim": (lambda: roformer(384, 6, mel_widths(), mel=True), 228_202_788),
    "mdx23c-instvoc-hq": (lambda: unet(128, 128, 2), 111_990_272),
}


FOUR = ["drums", "bass", "other", "vocals"]
DEMUCS = {
    "htdemucs": 41_984_456, "htdemucs_ft": 4 * 41_984_456, "htdemucs_6s": 27_414_996, "hdemucs_mmi": 83_637_832,
    "mdx": 345_460_200,
}  # fmt: skip
"""Parameters, in half precision."""


def files() -> Iterator[tuple[str, RemoteFile, dict[str, Any] | None]]:
    """All registered checkpoints, with their settings."""
    for entry in entries():
        match entry.source:
            case SingleCheckpoint() as source:
                yield entry.name, source, source.document
            case BagOfFiles() as source:
                for file in source.files:
                    yield entry.name, file, file.document


def test_all_registered_settings_are_tested():
    known = {name for name, file, document in files() if document and file.file.endswith(".ckpt")}
    assert known == {*PUBLISHED, "presunet-vocals"}
    others = {file.file: document for _, file, document in files() if document and not file.file.endswith(".ckpt")}
    assert {name for name in others if name.endswith(".onnx")} == {f"kuielab_a_{target}.onnx" for target in FOUR}
    assert others.pop("demucs-e07c671f.th") == {"sources": FOUR}
    assert all(settings == {"segment": 44} for name, settings in others.items() if name.endswith(".th"))


@pytest.mark.parametrize("name", DEMUCS)
def test_the_sizes_of_packages_fit_the_published_numbers_of_parameters(name: str):
    assert find_entry(name).source.bytes == pytest.approx(2 * DEMUCS[name], rel=3e-3)


def test_the_settings_of_v2_fit_its_tensors_and_its_size():
    (found,) = {(file.bytes, str(document)) for _, file, document in files() if file.file == "demucs-e07c671f.th"}
    shapes = dict(tensor_shapes(DemucsV2Config(targets=("a", "b", "c", "d"))))
    assert len(shapes) == 66 and sum(map(prod, shapes.values())) == 265_679_496
    assert found[0] == pytest.approx(4 * 265_679_496, rel=5e-3)
    checkpoint = Checkpoint(shapes, lambda key: torch.empty(shapes[key], device="meta"), None, {"sources": FOUR})
    imported = find_part("demucs_v2", "weights")(checkpoint)
    assert imported is not None and imported.config == DemucsV2Config(targets=tuple(FOUR))


@pytest.mark.parametrize("recipe", ["presunet", "presunet-joint"])
def test_the_settings_of_presunet_fit_its_tensors_and_the_estimate_of_its_size(recipe: str):
    config = next(run.model for run in RECIPES[recipe].all_run_configs())
    assert isinstance(config, PresunetConfig)
    single = len(config.targets) == 1
    shapes = {their_name(name, config, single): shape for name, shape in tensor_shapes(config)}
    source = find_entry("presunet-vocals" if single else "presunet-joint").source
    assert isinstance(source, SingleCheckpoint) and source.holds_settings != single
    transforms = 17_573_376 if single else 787_968  # stored with the weights
    assert source.bytes == pytest.approx(4 * (sum(map(prod, shapes.values())) + transforms), rel=5e-3)
    checkpoint = Checkpoint(shapes, lambda key: torch.empty(shapes[key], device="meta"), None, source.document)
    imported = find_part("presunet", "weights")(checkpoint)
    assert imported is not None and imported.config == config


@pytest.mark.parametrize("target", FOUR)
def test_the_settings_of_onnx_files_are_those_of_the_published_training(target: str):
    ((_, file, document),) = [one for one in files() if one[1].file == f"kuielab_a_{target}.onnx"]
    config = next(run.model for run in RECIPES["mdx-net"].all_run_configs() if run.model.targets == (target,))
    assert isinstance(config, UnetModelConfig) and document is not None
    stft = config.loss_stft
    assert document == {"target_name": target, "n_fft": stft.n_fft, "hop_length": stft.hop_samples}
    assert file.bytes == pytest.approx(4 * 7_423_236, rel=2e-3)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_settings_fit_the_published_tensors(name: str):
    entry, (make, parameters) = find_entry(name), PUBLISHED[name]
    shapes = dict(make())
    assert sum(prod(shape) for key, shape in shapes.items() if not key.endswith("freqs")) == parameters
    assert isinstance(entry.source, SingleCheckpoint) and entry.source.document is not None
    assert entry.source.bytes == pytest.approx(4 * parameters, rel=2e-3)
    if entry.family not in FAMILIES:
        pytest.skip(f"{entry.family} is not a family here yet")
    checkpoint = Checkpoint(shapes, lambda key: torch.empty(shapes[key], device="meta"), None, entry.source.document)
    found = find_part(entry.family, "weights")(checkpoint)
    assert found is not None and found.config.targets == entry.targets
    assert found.config.geometry.published.chunk_s == pytest.approx(
        entry.source.document["audio"]["chunk_size"] / 44100
    )
