"""Export of networks to ONNX by `torch.onnx.export`, in the few operators that `bandsplit.models.onnx.sizes` knows.

Three programs work on a graph. PyTorch's exporter traces the network; it is the one based on TorchScript, because the
newer one needs another package, takes 6 to 20 s where this one takes less than one, and cannot export GRUs. onnxruntime
computes what is constant and removes what has no effect. `_plain` keeps only what other readers need.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from bandsplit.core.errors import ConfigError
from bandsplit.core.version import __version__
from bandsplit.models.network import SeparationModel
from bandsplit.models.onnx.sizes import OPSET
from bandsplit.models.onnx.torch_operations import register_operations

IR_VERSION = 8
"""Version of the files' format; matches the operators of `OPSET`."""
MOST_BYTES = (1 << 31) - (1 << 24)
"""Most bytes of weights: a file of Protocol Buffers holds less than 2 GiB, and the graph takes some."""
Estimate = Callable[[Any, Tensor], Tensor]
"""Maps a network and the graph's input to the graph's output."""
Axes = Sequence[int | str]
"""Sizes of axes, or names of those of any size."""


class _Core(nn.Module):
    def __init__(self, model: nn.Module, estimate: Estimate) -> None:
        super().__init__()
        self.model, self.estimate = model, estimate

    def forward(self, mixture: Tensor) -> Tensor:
        return self.estimate(self.model, mixture)


def export_core(
    model: SeparationModel,
    estimate: Estimate,
    mixture: np.ndarray,
    metadata: Mapping[str, str],
    given: Axes,
    found: Axes,
) -> bytes:
    """Write a part of a network as the bytes of an ONNX file.

    Args:
        model: the network.
        estimate: computes that part.
        mixture: an example of its input, which differs in size from ``given`` on those axes that are not constant in
            the trace.
        metadata: entries for the metadata of the file.
        given: axes of its input.
        found: axes of its output.

    Raises:
        ConfigError: the weights do not fit in a file.
    """
    weights = sum(tensor.nbytes for tensor in model.state_dict().values())
    if weights > MOST_BYTES:
        raise ConfigError(
            f"export: the model has {weights / 1e9:.2f} GB of weights, and an ONNX file holds at most "
            f"{MOST_BYTES / 1e9:.2f} GB; separate with the .safetensors model"
        )
    with tempfile.TemporaryDirectory() as folder:
        traced, simple = Path(folder) / "traced.onnx", Path(folder) / "simple.onnx"
        free = {axis: f"axis_{axis}" for axis, size in enumerate(given) if size != mixture.shape[axis]}
        _trace(_Core(model, estimate).eval(), torch.from_numpy(mixture), free, traced)
        _simplify(traced, simple)
        graph = onnx.load(simple).graph
    written = _plain(graph, given, found)
    helper.set_model_props(written, dict(metadata))
    return written.SerializeToString()


def _trace(core: nn.Module, mixture: Tensor, free: Mapping[int, str], path: Path) -> None:
    register_operations()
    # With gradients networks take their plain paths: others write into existing tensors, which a trace does not follow.
    with torch.enable_grad(), warnings.catch_warnings():
        # They warn of sizes that a trace might make constant; `bandsplit.separation.export` compares several sizes.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            core,
            (mixture,),
            str(path),
            input_names=["mixture"],
            output_names=["estimates"],
            dynamic_axes={"mixture": free},
            opset_version=OPSET,
            dynamo=False,
        )


def _simplify(path: Path, simple: Path) -> None:
    """Let onnxruntime compute constants and remove what has no effect, on the level that stays within ONNX."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(simple)
    options.log_severity_level = 4
    # Of its steps, one joins products and sums to an operator of their own.
    without = ["MatMulAddFusion"]
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"], disabled_optimizers=without)


def _plain(old: onnx.GraphProto, given: Axes, found: Axes) -> onnx.ModelProto:
    """Return a model of the graph with the fields that `bandsplit.models.onnx.metadata` reads, and no others."""
    read = {name for node in old.node for name in node.input} | {"estimates"}
    constants = [numpy_helper.from_array(numpy_helper.to_array(tensor), tensor.name) for tensor in old.initializer]
    nodes = [_plain_node(node, read, constants) for node in old.node]
    mixture = helper.make_tensor_value_info("mixture", TensorProto.FLOAT, given)
    estimates = helper.make_tensor_value_info("estimates", TensorProto.FLOAT, found)
    graph = helper.make_graph(nodes, "bandsplit", [mixture], [estimates], constants)
    return helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="bandsplit",
        producer_version=__version__,
    )


def _plain_node(node: onnx.NodeProto, read: set[str], constants: list[TensorProto]) -> onnx.NodeProto:
    """Return a node without a name, outputs that nothing reads, arrays as attributes, and attributes by default."""
    outputs, inputs = list(node.output), list(node.input)
    while outputs[-1] not in read:
        outputs.pop()
    if node.op_type == "ConstantOfShape":
        (value,) = (numpy_helper.to_array(one.t) for one in node.attribute)
        constants.append(numpy_helper.from_array(value.reshape(()), f"{outputs[0]}_value"))
        return helper.make_node("Expand", [constants[-1].name, *inputs], outputs)
    known = onnx.defs.get_schema(node.op_type, OPSET, node.domain).attributes
    attributes = {
        one.name: helper.get_attribute_value(one)
        for one in node.attribute
        if not _is_equal(one, known[one.name].default_value)
    }
    return helper.make_node(node.op_type, inputs, outputs, domain=node.domain or None, **attributes)


def _is_equal(one: onnx.AttributeProto, other: onnx.AttributeProto) -> bool:
    return one.type == other.type and helper.get_attribute_value(one) == helper.get_attribute_value(other)
