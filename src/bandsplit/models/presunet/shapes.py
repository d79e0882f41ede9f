"""Names and shapes of a network's tensors, computed from its configuration, to check files before reading them.

A test compares them with the state dict of `bandsplit.models.presunet.network.PresunetModel`.
"""

from bandsplit.models.contract import Shapes
from bandsplit.models.presunet.config import BOTTLENECK, HEAD_BLOCKS, PARTS, SUBBANDS, TAPS, PresunetConfig


def tensor_shapes(config: PresunetConfig) -> Shapes:
    """Yield name and shape of each tensor in the network's state dict, in its order."""
    yield "bank.analysis", (SUBBANDS, 1, TAPS)
    yield "bank.synthesis", (SUBBANDS, SUBBANDS, TAPS // SUBBANDS)
    yield from _norm("norm", config.stft.n_fft // 2 + 1)
    widths, n_blocks = config.widths, config.n_blocks
    for level, (n_in, n_out) in enumerate(zip((config.image_channels, *widths), widths, strict=False)):
        yield from _blocks(f"unet.encoder.{level}", n_in, n_out, n_blocks)
    for number in range(BOTTLENECK):
        yield from _blocks(f"unet.bottleneck.{number}", widths[-1], widths[-1], n_blocks)
    coarser = (widths[-1], *widths[:0:-1])
    for level, (n_in, n_out) in enumerate(zip(coarser, reversed(widths), strict=True)):
        yield from _norm(f"unet.decoder.{level}.norm", n_in)
        yield f"unet.decoder.{level}.up.weight", (n_in, n_out, 3, 3)
        yield from _blocks(f"unet.decoder.{level}.blocks", 2 * n_out, n_out, n_blocks)
    for head in range(len(config.targets)):
        yield from _blocks(f"heads.{head}.blocks", widths[0], widths[0], HEAD_BLOCKS)
        yield f"heads.{head}.leave.weight", (PARTS * config.image_channels, widths[0], 1, 1)
        yield f"heads.{head}.leave.bias", (PARTS * config.image_channels,)


def _norm(name: str, n: int) -> Shapes:
    for part in ("weight", "bias", "running_mean", "running_var"):
        yield f"{name}.{part}", (n,)


def _blocks(name: str, n_in: int, n_out: int, n_blocks: int) -> Shapes:
    for number in range(n_blocks):
        first = n_out if number else n_in
        place = f"{name}.{number}"
        yield from _norm(f"{place}.norm1", first)
        yield f"{place}.conv1.weight", (n_out, first, 3, 3)
        yield from _norm(f"{place}.norm2", n_out)
        yield f"{place}.conv2.weight", (n_out, n_out, 3, 3)
        if first != n_out:
            yield f"{place}.shortcut.weight", (n_out, first, 1, 1)
            yield f"{place}.shortcut.bias", (n_out,)
