"""Operations of a model's matrix products, counted from its configuration.

A multiplication and its addition are two operations. Normalisations, activations, rotations and Fourier transforms are
not counted.
"""

from bandsplit.models.bs_roformer.config import BsRoformerConfig
from bandsplit.models.bs_roformer.shapes import FEED_FORWARD_FACTOR
from bandsplit.models.contract import Flop


def count_flop(config: BsRoformerConfig, samples: int) -> Flop:
    """Count the operations of one signal of ``samples`` with all its channels.

    The backward pass takes twice the forward pass; only the band split's input needs no gradient.
    """
    n, frames, bands = config.n_features, 1 + samples // config.stft.hop_samples, config.n_bands
    bins = sum(run.count * run.width for run in config.band_runs())
    split = frames * 2 * (2 * config.channels * bins) * n
    blocks = config.n_blocks * frames * bands * _block(config, frames, bands)
    sizes = [n] + [config.mask.hidden_factor * n] * config.mask.hidden_layers
    hidden = bands * sum(size * sizes[-1] for size in sizes[:-1])
    masks = len(config.targets) * frames * 2 * (hidden + sizes[-1] * 4 * config.channels * bins)
    return Flop(split + blocks + masks, 2 * split + 3 * (blocks + masks))


def _block(config: BsRoformerConfig, frames: int, bands: int) -> int:
    """Count one block at one position, forward."""
    n, heads = config.n_features, config.heads * config.head_features
    products = 4 * heads * n + 2 * n * FEED_FORWARD_FACTOR * n  # queries, keys, values, output; feed-forward network
    gates = n * config.heads
    # Scores and weighted sums: between positions, or between the features of a head.
    linear = products + 2 * heads * config.head_features
    time, band = (products + gates + 2 * heads * length for length in (frames, bands))
    return 2 * (config.linear_layers * linear + config.time_layers * time + config.band_layers * band)
