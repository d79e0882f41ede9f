"""Construction of networks from configurations: the only module that knows both."""

from torch import nn
from typing_extensions import assert_never

from bandsplit.models.bsrnn.blocks import FrameAttention, Tac
from bandsplit.models.bsrnn.coders import BandEncoder, MaskDecoder
from bandsplit.models.bsrnn.config import (
    BsrnnConfig,
    ConvConfig,
    DilatedConfig,
    GruConfig,
    LayerConfig,
    LstmConfig,
    TacStereo,
)
from bandsplit.models.bsrnn.network import BandSplitModel
from bandsplit.models.layers.dual_path import Along
from bandsplit.models.layers.sequence import ConvLayer, DilatedStack, RecurrentLayer
from bandsplit.models.network import RepeatedPart


def build_network(config: BsrnnConfig) -> BandSplitModel:
    """Build the network that ``config`` describes, with random weights from torch's global generator."""
    runs = config.band_runs()
    merged_channels = config.merged_channels
    n, mask = config.n_features, config.mask
    decoders = nn.ModuleDict(
        {
            target: MaskDecoder(runs, n, mask.hidden_factor * n, mask.hidden_layers, merged_channels, mask.context)
            for target in config.targets
            if target != config.residual
        }
    )
    blocks = nn.Sequential(*(build_block(config) for _ in range(config.n_blocks)))
    return BandSplitModel(config, BandEncoder(runs, n, merged_channels), blocks, decoders)


def build_block(config: BsrnnConfig) -> RepeatedPart:
    """Build one block: time layer, band layer, TAC, attention, each if the configuration has it."""
    parts: dict[str, nn.Module] = {}
    n_head = config.n_features // config.heads
    if config.time is not None:
        parts["time"] = Along("time", build_layer(config.time, n_head, config.norm_groups), config.heads)
    if config.band is not None:
        parts["band"] = Along("band", build_layer(config.band, n_head, config.norm_groups), config.heads)
    if isinstance(config.stereo, TacStereo):
        tac = config.stereo
        parts["tac"] = Tac(config.n_features, tac.hidden_factor * config.n_features, tac.activation, tac.norm)
    if config.attention is not None:
        attention = config.attention
        parts["attention"] = FrameAttention(config.n_features, config.n_bands, attention.heads, attention.encoding_dim)
    block = RepeatedPart()
    for name, part in parts.items():
        block.add_module(name, part)
    return block


def build_layer(config: LayerConfig, n_features: int, norm_groups: int) -> nn.Module:
    """Build one sequence layer on ``n_features`` features."""
    hidden = config.hidden_factor * n_features
    match config:
        case LstmConfig():
            return RecurrentLayer(nn.LSTM, n_features, hidden, norm_groups)
        case GruConfig():
            return RecurrentLayer(nn.GRU, n_features, hidden, norm_groups)
        case ConvConfig():
            return ConvLayer(n_features, hidden, config.kernel, norm_groups)
        case DilatedConfig():
            return DilatedStack(n_features, hidden, config.depth, config.kernel)
        case _:
            assert_never(config)
