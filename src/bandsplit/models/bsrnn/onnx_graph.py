"""The real-valued core of a model as an ONNX graph: from the mixture's spectrogram to those of the estimates.

The graph is written node by node rather than traced: the layout of every layer is chosen for onnxruntime, sizes stay
dynamic, and the same code writes the int8 variant. `bandsplit.separation.export` compares its output with PyTorch's.
"""

from collections.abc import Mapping

import onnx
from onnx import TensorProto, helper

from bandsplit.core.version import __version__
from bandsplit.models.bsrnn.config import BsrnnConfig
from bandsplit.models.bsrnn.network import BandSplitModel
from bandsplit.models.bsrnn.onnx_layers import block_part, decode, encode
from bandsplit.models.onnx.layer_rules import MICROSOFT
from bandsplit.models.onnx.nodes import Nodes
from bandsplit.models.onnx.sizes import OPSET

_IR_VERSION = 8  # matches the operators of `OPSET`


def build_graph(model: BandSplitModel, metadata: Mapping[str, str], int8: bool = False) -> onnx.ModelProto:
    """Write ``mixture (b c f t 2) -> estimates (b s c f t 2)``, real and imaginary parts last, both float32."""
    config, nodes = model.config, Nodes(int8)
    merged = config.stereo.kind == "merged"
    frames_first = nodes.transpose("mixture", 3, 0, 2, 1, 4) if merged else nodes.transpose("mixture", 3, 0, 1, 2, 4)
    m = config.channels if merged else 1
    bins = config.n_bins
    mixture = nodes.reshape(frames_first, 0, -1, bins, m * 2)
    latent = encode(nodes, model.encoder, mixture)  # type: ignore[arg-type]
    for block in model.blocks:  # type: ignore[union-attr]
        for part in block:  # type: ignore[union-attr]
            latent = block_part(nodes, part, latent, config)
    parts = nodes.add_many("Split", 2, nodes.reshape(mixture, 0, 0, bins, m, 2), nodes.axes(1, 1), axis=4)
    re, im = (nodes.add("Squeeze", part, nodes.axes(4)) for part in parts)
    decoded = {
        target: decode(nodes, decoder, latent, (re, im))  # type: ignore[arg-type]
        for target, decoder in model.decoders.items()
    }
    if config.residual is not None:
        decoded[config.residual] = _remainder(nodes, (re, im), list(decoded.values()))
    estimates = [decoded[target] for target in config.targets]
    if config.mixture_consistency:
        share = nodes.constant(1 / len(estimates))
        rest = [nodes.add("Mul", part, share) for part in _remainder(nodes, (re, im), estimates)]
        estimates = [(nodes.add("Add", a, rest[0]), nodes.add("Add", b, rest[1])) for a, b in estimates]
    _finish(nodes, estimates, merged)
    return _assemble(nodes, config, metadata)


def _remainder(nodes: Nodes, mixture: tuple[str, str], estimates: list[tuple[str, str]]) -> tuple[str, str]:
    """Subtract all estimates from the mixture."""
    re, im = (
        nodes.add("Sub", part, nodes.total(parts))
        for part, parts in zip(mixture, zip(*estimates, strict=True), strict=True)
    )
    return re, im


def _finish(nodes: Nodes, estimates: list[tuple[str, str]], merged: bool) -> None:
    """Turn real and imaginary parts ``(t b f m)`` of each target into the output."""
    b, c = nodes.size("mixture", 0), nodes.size("mixture", 1)
    turned = []
    for parts in estimates:
        both = nodes.concat([nodes.add("Unsqueeze", part, nodes.axes(0)) for part in parts], axis=0)
        if merged:
            together = nodes.transpose(both, 2, 4, 3, 1, 0)
        else:
            split = nodes.reshape(both, 2, nodes.size("mixture", 3), b, c, nodes.size("mixture", 2))
            together = nodes.transpose(split, 2, 3, 4, 1, 0)
        turned.append(nodes.add("Unsqueeze", together, nodes.axes(1)))
    nodes.nodes.append(helper.make_node("Concat", turned, ["estimates"], axis=1))


def _assemble(nodes: Nodes, config: BsrnnConfig, metadata: Mapping[str, str]) -> onnx.ModelProto:
    sizes = ["channels" if config.any_channels else config.channels, config.n_bins, "frames", 2]
    mixture = helper.make_tensor_value_info("mixture", TensorProto.FLOAT, ["batch", *sizes])
    output = ["batch", len(config.targets), *sizes]
    estimates = helper.make_tensor_value_info("estimates", TensorProto.FLOAT, output)
    graph = helper.make_graph(nodes.nodes, "bandsplit", [mixture], [estimates], list(nodes.constants.values()))
    opsets = [helper.make_opsetid("", OPSET)]
    if any(node.domain == MICROSOFT for node in nodes.nodes):
        opsets.append(helper.make_opsetid(MICROSOFT, 1))
    built = helper.make_model(
        graph,
        opset_imports=opsets,
        ir_version=_IR_VERSION,
        producer_name="bandsplit",
        producer_version=__version__,
    )
    helper.set_model_props(built, dict(metadata))
    return built
