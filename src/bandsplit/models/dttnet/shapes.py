"""Names and shapes of a network's tensors, computed from its configuration, to check files before reading them.

A test compares them with the state dict of `bandsplit.models.dttnet.network.DttnetNetwork`.
"""

from bandsplit.models.contract import Shapes
from bandsplit.models.dttnet.config import DttnetConfig
from bandsplit.models.layers.tfc_tdf_v2_config import unet_shapes


def tensor_shapes(config: DttnetConfig) -> Shapes:
    """Yield name and shape of each tensor in the network's state dict, in its order."""
    for name, shape in unet_shapes(config.unet, config.image_channels, config.bins):
        yield f"unet.{name}", shape
    for number in range(config.dual_path.layers):
        for axis in ("time", "band"):
            for name, shape in _recurrent(config):
                yield f"unet.middle.{number}.{axis}.layer.{name}", shape


def _recurrent(config: DttnetConfig) -> Shapes:
    n, hidden = config.head_features, 2 * config.head_features
    rows = (4 if config.dual_path.rnn == "lstm" else 3) * hidden
    directions = ("", "_reverse") if config.dual_path.bidirectional else ("",)
    yield "norm.weight", (n,)
    yield "norm.bias", (n,)
    for suffix in directions:
        yield f"rnn.weight_ih_l0{suffix}", (rows, n)
        yield f"rnn.weight_hh_l0{suffix}", (rows, hidden)
        yield f"rnn.bias_ih_l0{suffix}", (rows,)
        yield f"rnn.bias_hh_l0{suffix}", (rows,)
    yield "project.weight", (n, len(directions) * hidden)
    yield "project.bias", (n,)
