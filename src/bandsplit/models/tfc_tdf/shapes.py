"""Names and shapes of a network's tensors, computed from its configuration, to check files before reading them.

A test compares them with the state dict of networks from `bandsplit.models.tfc_tdf.network`.
"""

from typing_extensions import assert_never

from bandsplit.models.contract import Shape, Shapes
from bandsplit.models.tfc_tdf.config import BatchNorm, GroupNorm, InstanceNorm, TfcTdfConfig


def tensor_shapes(config: TfcTdfConfig) -> Shapes:
    """Yield name and shape of each tensor in the network's state dict, in its order."""
    n, image, last = config.n_features, config.image_channels, config.n_scales
    scale = config.scale_frames, config.scale_bins
    yield "enter.weight", (n, image, 1, 1)
    for at in range(last):
        yield from _blocks(config, f"unet.encoder.{at}", config.features_at(at), at)
    for at in range(last):
        coarser, finer = config.features_at(at + 1), config.features_at(at)
        yield from _pre_activated(config, f"unet.coarsen.{at}", finer, (coarser, finer, *scale))
    yield from _blocks(config, "unet.bottleneck", config.features_at(last), last)
    for number in range(last):
        coarser, finer = config.features_at(last - number), config.features_at(last - number - 1)
        yield from _pre_activated(config, f"unet.refine.{number}", coarser, (coarser, finer, *scale))
    for number in range(last):
        at = last - number - 1
        yield from _blocks(config, f"unet.decoder.{number}", 2 * config.features_at(at), at)
    yield "leave.0.weight", (n, n + image, 1, 1)
    yield "leave.2.weight", (len(config.targets) * image, n, 1, 1)


def _blocks(config: TfcTdfConfig, name: str, n_in: int, at: int) -> Shapes:
    n_out, bins = config.features_at(at), config.bins_at(at)
    narrow = bins // config.bottleneck_factor
    for number in range(config.n_blocks):
        block = f"{name}.{number}"
        yield f"{block}.shortcut.weight", (n_out, n_in, 1, 1)
        yield from _pre_activated(config, f"{block}.tfc1", n_in, (n_out, n_in, 3, 3))
        yield from _pre_activated(config, f"{block}.tdf.0", n_out, (narrow, bins))
        yield from _pre_activated(config, f"{block}.tdf.1", n_out, (bins, narrow))
        yield from _pre_activated(config, f"{block}.tfc2", n_out, (n_out, n_out, 3, 3))
        n_in = n_out


def _pre_activated(config: TfcTdfConfig, name: str, n_features: int, layer: Shape) -> Shapes:
    """Yield a normalisation and the layer behind it."""
    match config.norm:
        case None:
            parts = ()
        case InstanceNorm() | GroupNorm():
            parts = "weight", "bias"
        case BatchNorm():
            parts = "weight", "bias", "running_mean", "running_var"
        case other:
            assert_never(other)
    for part in parts:
        yield f"{name}.norm.{part}", (n_features,)
    yield f"{name}.layer.weight", layer
