"""The network of the family: the spectrogram of a target from that of the mixture, by a U-Net with a dual path.

Source: docs/dttnet.md#forward-pass; DTTNet paper.
"""

from collections import OrderedDict
from typing import Literal

from torch import nn

from bandsplit.models.dttnet.config import FEATURES_OF_A_GROUP, DttnetConfig
from bandsplit.models.layers.dual_path import Along, DualPath
from bandsplit.models.layers.sequence import RecurrentLayer
from bandsplit.models.layers.unet_model import UnetModel
from bandsplit.models.network import RepeatedPart

EPS = 1e-5
"""Epsilon of the normalisation in front of the recurrent layers."""
HIDDEN_FACTOR = 2
"""Hidden features of a direction, as a multiple of the features of a head."""


class DttnetNetwork(UnetModel):
    """A separation model of one target that estimates its spectrogram directly, without a mask."""

    config: DttnetConfig

    def __init__(self, config: DttnetConfig) -> None:
        """Build the network that ``config`` describes, with random weights from torch's global generator."""
        super().__init__(config, DualPath(*(_dual_path_layer(config) for _ in range(config.dual_path.layers))))


def _dual_path_layer(config: DttnetConfig) -> RepeatedPart:
    return RepeatedPart(OrderedDict(time=_along(config, "time"), band=_along(config, "band")))


def _along(config: DttnetConfig, axis: Literal["time", "band"]) -> Along:
    n, path = config.head_features, config.dual_path
    kind = {"lstm": nn.LSTM, "gru": nn.GRU}[path.rnn]
    layer = RecurrentLayer(kind, n, HIDDEN_FACTOR * n, n // FEATURES_OF_A_GROUP, EPS, path.bidirectional)
    return Along(axis, layer, path.heads)
