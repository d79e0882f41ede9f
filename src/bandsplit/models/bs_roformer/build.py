"""Construction of networks from configurations: the only module that knows both."""

from torch import nn

from bandsplit.models.bs_roformer.coders import BandSplit, MaskEstimator
from bandsplit.models.bs_roformer.config import BsRoformerConfig
from bandsplit.models.bs_roformer.network import Axis, AxisTransformer, BsRoformer
from bandsplit.models.bs_roformer.shapes import FEED_FORWARD_FACTOR
from bandsplit.models.layers.attention import CrossCovarianceAttention, GatedAttention
from bandsplit.models.layers.rms_norm import RmsNorm
from bandsplit.models.layers.transformer import FeedForward, Transformer, TransformerLayer
from bandsplit.models.network import RepeatedPart


def build_network(config: BsRoformerConfig) -> BsRoformer:
    """Build the network that ``config`` describes, with random weights from torch's global generator."""
    runs, n, mask = config.band_runs(), config.n_features, config.mask
    linears = [_part(config, {"linear": config.linear_layers}) for _ in range(config.n_blocks)]
    blocks = [_part(config, {"time": config.time_layers, "band": config.band_layers}) for _ in range(config.n_blocks)]
    estimators = {
        target: MaskEstimator(runs, n, config.channels, mask.hidden_factor * n, mask.hidden_layers)
        for target in config.targets
    }
    return BsRoformer(
        config,
        BandSplit(runs, n, config.channels),
        nn.ModuleList(linears if config.linear_layers else ()),
        nn.ModuleList(blocks),
        RmsNorm(n) if config.norm == "final" else nn.Identity(),
        nn.ModuleDict(estimators),
    )


def _part(config: BsRoformerConfig, depths: dict[Axis, int]) -> RepeatedPart:
    """Build transformers in a row, given as axes and numbers of layers."""
    part = RepeatedPart()
    for axis, depth in depths.items():
        part.add_module(axis, AxisTransformer(axis, _transformer(config, axis, depth)))
    return part


def _transformer(config: BsRoformerConfig, axis: Axis, depth: int) -> Transformer:
    kind = CrossCovarianceAttention if axis == "linear" else GatedAttention
    n = config.n_features
    layers = [
        TransformerLayer(
            kind(n, config.heads, config.head_features, config.attention_dropout),
            FeedForward(n, FEED_FORWARD_FACTOR * n, config.feed_forward_dropout),
        )
        for _ in range(depth)
    ]
    return Transformer(layers, RmsNorm(n) if config.norm == "each" else None)
