"""KUIELab-MDX-Net once more: a plain function in double precision on tensors under their authors' names.

It shares no code with the package, and made ``tests/golden/data/mdx-net.safetensors``:
``python tests/support/plain_mdx_net.py`` writes that file again.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from plain_dttnet import _conv, _norm, _normed, _numbers

OWN = Path(__file__).parents[1] / "golden" / "data" / "mdx-net.safetensors"
ARGUMENTS: dict[str, Any] = {
    "target_name": "other", "lr": 1e-4, "optimizer": "rmsprop", "dim_c": 4, "dim_f": 40, "dim_t": 16, "n_fft": 96,
    "hop_length": 24, "num_blocks": 5, "l": 2, "g": 6, "k": 3, "bn": 4, "bias": False, "overlap": 48, "ckpt": None,
}  # fmt: skip


def make_weights(arguments: dict[str, Any]) -> dict[str, Tensor]:
    """Invent weights of a network; they depend on nothing but their names."""
    g, levels, bins, kernel = arguments["g"], arguments["num_blocks"] // 2, arguments["dim_f"], arguments["k"]
    shapes: dict[str, tuple[int, ...]] = {}

    def layer(name: str, shape: tuple[int, ...], n: int, bias: int | None = None, at: int = 0) -> None:
        bias = n if bias is None else bias
        shapes.update({f"{name}.{at}.weight": shape} | ({f"{name}.{at}.bias": (bias,)} if bias else {}))
        shapes.update({f"{name}.{at + 1}.{part}": (n,) for part in ("weight", "bias", "running_mean", "running_var")})

    def block(name: str, level: int) -> None:
        n, width = g * (level + 1), bins >> level
        for number in range(arguments["l"]):
            layer(f"{name}.tfc.H.{number}", (n, n, kernel, kernel), n)
        narrow, bias = width // arguments["bn"], int(arguments["bias"])
        layer(f"{name}.tdf", (narrow, width), n, bias * narrow)
        layer(f"{name}.tdf", (width, narrow), n, bias * width, at=3)

    layer("first_conv", (g, 4, 1, 1), g)
    for level in range(levels):
        finer, coarser, back = g * (level + 1), g * (level + 2), levels - 1 - level
        block(f"encoding_blocks.{level}", level)
        layer(f"ds.{level}", (coarser, finer, 2, 2), coarser)
        layer(f"us.{back}", (coarser, finer, 2, 2), finer)
        block(f"decoding_blocks.{back}", level)
    block("bottleneck_block", levels)
    shapes |= {"final_conv.0.weight": (4, g, 1, 1), "final_conv.0.bias": (4,)}
    weights = {name: _numbers(name, shape) for name, shape in shapes.items()}
    weights["window"] = torch.hann_window(arguments["n_fft"], periodic=True)
    weights["freq_pad"] = torch.zeros(1, 4, arguments["n_fft"] // 2 + 1 - bins, arguments["dim_t"])
    return weights


def separate(weights: dict[str, Tensor], arguments: dict[str, Any], mixture: Tensor) -> Tensor:
    """Estimate the target of ``c samples``."""
    w = {name: tensor.double() for name, tensor in weights.items() if tensor.is_floating_point()}
    n_fft, hop, bins = arguments["n_fft"], arguments["hop_length"], arguments["dim_f"]
    transform = {"n_fft": n_fft, "hop_length": hop, "window": w["window"]}
    spec = torch.stft(mixture.double(), **transform, return_complex=True)[:, :bins]
    image = torch.stack([part for channel in spec for part in (channel.real, channel.imag)])[None]
    image = _conv(w, "final_conv", _unet(w, arguments, _normed(w, "first_conv", image).transpose(2, 3)).transpose(2, 3))
    parts = [torch.complex(image[0, c], image[0, c + 1]) for c in range(0, image.shape[1], 2)]
    return torch.istft(F.pad(torch.stack(parts), (0, 0, 0, n_fft // 2 + 1 - bins)), **transform)


def _unet(w: dict[str, Tensor], arguments: dict[str, Any], x: Tensor) -> Tensor:
    levels, count = arguments["num_blocks"] // 2, arguments["l"]
    kept = []
    for level in range(levels):
        x = _block(w, f"encoding_blocks.{level}", x, count)
        kept.append(x)
        x = _normed(w, f"ds.{level}", x, stride=2)
    x = _block(w, "bottleneck_block", x, count)
    for level in range(levels):
        turned = F.conv_transpose2d(x, w[f"us.{level}.0.weight"], w[f"us.{level}.0.bias"], stride=2)
        x = _block(w, f"decoding_blocks.{level}", _norm(w, f"us.{level}.1", turned) * kept.pop(), count)
    return x


def _block(w: dict[str, Tensor], name: str, x: Tensor, count: int) -> Tensor:
    for number in range(count):
        x = _normed(w, f"{name}.tfc.H.{number}", x)
    y = x
    for number in (0, 3):
        place = f"{name}.tdf.{number}"
        y = _norm(w, f"{name}.tdf.{number + 1}", F.linear(y, w[f"{place}.weight"], w.get(f"{place}.bias")))
    return x + y


def write_onnx(path: Path, weights: dict[str, Tensor], arguments: dict[str, Any]) -> Any:
    """Write the network as an ONNX file, as PyTorch exports it: normalisations inside convolutions, but no others."""
    import onnx  # an extra of the package

    levels, bins, frames = arguments["num_blocks"] // 2, arguments["dim_f"], arguments["dim_t"]
    nodes: list[onnx.NodeProto] = []
    stored: dict[str, Tensor] = {}

    def add(operator: str, *inputs: str, **attributes: Any) -> str:
        output = f"/{operator}_{len(nodes)}"
        nodes.append(onnx.helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def keep(*tensors: Tensor) -> list[str]:
        names = [f"onnx::{len(stored) + number}" for number in range(len(tensors))]
        stored.update(zip(names, tensors, strict=True))
        return names

    def norm(x: str, name: str) -> str:
        four = keep(*(weights[f"{name}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")))
        return add("BatchNormalization", x, *four, epsilon=1e-5, momentum=0.9)

    def conv(x: str, name: str, stride: int = 1, operator: str = "Conv") -> str:
        weight, bias = weights[f"{name}.0.weight"], weights[f"{name}.0.bias"]
        if operator == "Conv" and f"{name}.1.weight" in weights:
            gain = weights[f"{name}.1.weight"] / torch.sqrt(weights[f"{name}.1.running_var"] + 1e-5)
            weight = weight * gain[:, None, None, None]
            bias = (bias - weights[f"{name}.1.running_mean"]) * gain + weights[f"{name}.1.bias"]
        kernel = weight.shape[-1]
        pads = [kernel // 2 if stride == 1 else 0] * 4
        sizes: dict[str, Any] = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "dilations": [1, 1]}
        x = add(operator, x, *keep(weight, bias), pads=pads, group=1, **sizes)
        return norm(x, f"{name}.1") if operator != "Conv" else x

    def block(x: str, name: str) -> str:
        for number in range(arguments["l"]):
            x = add("Relu", conv(x, f"{name}.tfc.H.{number}"))
        y = x
        for number in (0, 3):
            y = add("MatMul", y, *keep(weights[f"{name}.tdf.{number}.weight"].T))
            if arguments["bias"]:
                y = add("Add", *keep(weights[f"{name}.tdf.{number}.bias"]), y)
            y = add("Relu", norm(y, f"{name}.tdf.{number + 1}"))
        return add("Add", x, y)

    x, kept = add("Transpose", add("Relu", conv("input", "first_conv")), perm=[0, 1, 3, 2]), []
    for level in range(levels):
        x = block(x, f"encoding_blocks.{level}")
        kept.append(x)
        x = add("Relu", conv(x, f"ds.{level}", stride=2))
    x = block(x, "bottleneck_block")
    for level in range(levels):
        x = add("Mul", add("Relu", conv(x, f"us.{level}", 2, "ConvTranspose")), kept.pop())
        x = block(x, f"decoding_blocks.{level}")
    x = conv(add("Transpose", x, perm=[0, 1, 3, 2]), "final_conv")
    ends = [onnx.helper.make_tensor_value_info(name, 1, ["batch", 4, bins, frames]) for name in ("input", x)]
    arrays = [onnx.numpy_helper.from_array(tensor.contiguous().numpy(), name) for name, tensor in stored.items()]
    graph = onnx.helper.make_graph(nodes, "network", ends[:1], ends[1:], arrays, doc_string="a network")
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)])
    path.write_bytes(model.SerializeToString())
    return model


def write_own() -> None:
    """Write the golden case of the project."""
    samples = ARGUMENTS["hop_length"] * (ARGUMENTS["dim_t"] - 1)
    mixture = torch.from_numpy(np.random.RandomState(0).uniform(-0.5, 0.5, (2, samples))).float()
    with torch.no_grad():
        estimate = separate(make_weights(ARGUMENTS), ARGUMENTS, mixture).float().contiguous()
    save_file({"input": mixture, "output": estimate}, OWN, {"config": json.dumps(ARGUMENTS), "from": "plain_mdx_net"})


if __name__ == "__main__":
    write_own()
