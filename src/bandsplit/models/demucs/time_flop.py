"""Operations of the matrix products of Demucs v3 and v2, counted from their configuration.

A multiplication and its addition are two operations. Normalisations, activations and resampling are not counted.
"""

from __future__ import annotations

from bandsplit.models.contract import Flop
from bandsplit.models.demucs.config import KERNEL, STRIDE
from bandsplit.models.demucs.flop import count_conv, count_dconv, count_lstm
from bandsplit.models.demucs.levels import dconv_sizes
from bandsplit.models.demucs.time_config import CONTEXT, DemucsConfig, DemucsV2Config


def count_flop(config: DemucsConfig | DemucsV2Config, samples: int) -> Flop:
    """Count the operations of one signal of ``samples``, a length of its geometry, with all its channels.

    The backward pass takes twice the forward pass, except that the input needs no gradient.
    """
    forward = first = 0
    lengths = [config.inner_samples(samples)]
    for _ in range(config.depth):
        lengths.append((lengths[-1] - KERNEL) // STRIDE + 1)
    back = lengths[-1]
    for level in reversed(range(config.depth)):
        n, length = config.features(level), lengths[level + 1]
        n_in = config.features(level - 1) if level else config.channels
        n_out = config.features(level - 1) if level else len(config.targets) * config.channels
        first = count_conv(n_in, n, KERNEL, length)
        forward += first
        if isinstance(config, DemucsV2Config):
            back -= CONTEXT - 1
            forward += count_conv(n, 2 * n, 1, length) + count_conv(n, 2 * n, CONTEXT, back)
        else:
            forward += count_conv(n, 2 * n, 1 + CONTEXT, length) if config.rewrite else 0
            for wanted in (config.dconv.encoder, config.dconv.decoder):
                forward += count_dconv(dconv_sizes(config.dconv, n, level, wanted), 1, length)
        forward += count_conv(n, n_out, KERNEL, back)
        back = (back - 1) * STRIDE + KERNEL
    if isinstance(config, DemucsV2Config):
        forward += lengths[-1] * count_lstm(config.features(config.depth - 1))
    return Flop(forward, 3 * forward - first)
