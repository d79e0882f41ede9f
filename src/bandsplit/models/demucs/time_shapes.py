"""Names and shapes of the tensors of Demucs v3 and v2, computed from their configuration before files are read.

A test compares them with the state dicts of networks from `bandsplit.models.demucs.time_network`.
"""

from __future__ import annotations

from bandsplit.models.contract import Shapes
from bandsplit.models.demucs.config import KERNEL
from bandsplit.models.demucs.levels import dconv_sizes
from bandsplit.models.demucs.shapes import dconv_shapes, lstm_shapes, transposed, weight_and_bias, within
from bandsplit.models.demucs.time_config import CONTEXT, DemucsConfig, DemucsV2Config


def tensor_shapes(config: DemucsConfig | DemucsV2Config) -> Shapes:
    """Yield name and shape of each tensor in the network's state dict, in its order."""
    for level in range(config.depth):
        n_in = config.features(level - 1) if level else config.channels
        yield from within(f"encoder.{level}", _encoder(config, level, n_in))
    for number, level in enumerate(reversed(range(config.depth))):
        n_out = config.features(level - 1) if level else len(config.targets) * config.channels
        yield from within(f"decoder.{number}", _decoder(config, level, n_out))
    if isinstance(config, DemucsV2Config):
        yield from within("lstm", lstm_shapes(config.features(config.depth - 1)))


def _encoder(config: DemucsConfig | DemucsV2Config, level: int, n_in: int) -> Shapes:
    n = config.features(level)
    yield from weight_and_bias("0", n, n_in, KERNEL)
    if isinstance(config, DemucsV2Config):
        yield from weight_and_bias("2", 2 * n, n, 1)
        return
    yield from _norm(config, level, "1", n)
    at = 3
    if config.dconv.encoder:
        yield from within("3", dconv_shapes(dconv_sizes(config.dconv, n, level, wanted=True)))
        at += 1
    if config.rewrite:
        yield from weight_and_bias(str(at), 2 * n, n, 1)
        yield from _norm(config, level, str(at + 1), 2 * n)


def _decoder(config: DemucsConfig | DemucsV2Config, level: int, n_out: int) -> Shapes:
    n = config.features(level)
    if isinstance(config, DemucsV2Config):
        yield from weight_and_bias("0", 2 * n, n, CONTEXT)
        yield from transposed("2", n, n_out, KERNEL)
        return
    at = 0
    if config.rewrite:
        yield from weight_and_bias("0", 2 * n, n, CONTEXT)
        yield from _norm(config, level, "1", 2 * n)
        at = 3
    if config.dconv.decoder:
        yield from within(str(at), dconv_shapes(dconv_sizes(config.dconv, n, level, wanted=True)))
        at += 1
    yield from transposed(str(at), n, n_out, KERNEL)
    yield from _norm(config, level, str(at + 1), n_out)


def _norm(config: DemucsConfig, level: int, name: str, n: int) -> Shapes:
    if level >= config.norm_from:
        yield from weight_and_bias(name, n)
