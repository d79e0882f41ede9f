"""Names and shapes of a network's tensors, computed from its configuration, to check files before reading them."""

from bandsplit.models.bs_roformer.config import BsRoformerConfig
from bandsplit.models.contract import Shapes

FEED_FORWARD_FACTOR = 4
"""Hidden size of the feed-forward networks, as a multiple of the feature dimension."""


def tensor_shapes(config: BsRoformerConfig) -> Shapes:
    """Yield name and shape of each tensor in the network's state dict, in its order."""
    n, runs = config.n_features, config.band_runs()
    for number, run in enumerate(runs):
        features = 2 * config.channels * run.width
        yield from _band_linear(f"split.projections.{number}", run.count, features, n)
        yield f"split.projections.{number}.gain", (run.count, 1, features)
    if config.linear_layers:
        for number in range(config.n_blocks):
            yield from _transformer(config, f"linears.{number}.linear", config.linear_layers)
    for number in range(config.n_blocks):
        yield from _transformer(config, f"blocks.{number}.time", config.time_layers)
        yield from _transformer(config, f"blocks.{number}.band", config.band_layers)
    if config.norm == "final":
        yield "norm.gain", (n,)
    sizes = [n] + [config.mask.hidden_factor * n] * config.mask.hidden_layers
    for target in config.targets:
        for number, size in enumerate(sizes[:-1]):
            yield from _band_linear(f"estimators.{target}.hidden.{number}", config.n_bands, size, sizes[-1])
        for number, run in enumerate(runs):
            name = f"estimators.{target}.leave.{number}"
            yield from _band_linear(name, run.count, sizes[-1], 4 * config.channels * run.width)


def _band_linear(name: str, n_bands: int, n_in: int, n_out: int) -> Shapes:
    yield f"{name}.weight", (n_bands, n_in, n_out)
    yield f"{name}.bias", (n_bands, 1, n_out)


def _transformer(config: BsRoformerConfig, part: str, depth: int) -> Shapes:
    n, heads, hidden = config.n_features, config.heads * config.head_features, FEED_FORWARD_FACTOR * config.n_features
    is_linear = part.endswith("linear")
    for number in range(depth):
        name = f"{part}.transformer.layers.{number}"
        if is_linear:
            yield f"{name}.attention.temperature", (config.heads, 1, 1)
        yield f"{name}.attention.norm.gain", (n,)
        if not is_linear:
            yield f"{name}.attention.rotary.frequencies", (config.head_features // 2,)
        yield f"{name}.attention.qkv.weight", (3 * heads, n)
        if not is_linear:
            yield f"{name}.attention.gate.weight", (config.heads, n)
            yield f"{name}.attention.gate.bias", (config.heads,)
        yield f"{name}.attention.out.weight", (n, heads)
        yield f"{name}.feed_forward.norm.gain", (n,)
        yield f"{name}.feed_forward.enter.weight", (hidden, n)
        yield f"{name}.feed_forward.enter.bias", (hidden,)
        yield f"{name}.feed_forward.leave.weight", (n, hidden)
        yield f"{name}.feed_forward.leave.bias", (n,)
    if config.norm == "each":
        yield f"{part}.transformer.norm.gain", (n,)
