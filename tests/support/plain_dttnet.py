"""DTTNet once more: a plain function in double precision on tensors under their authors' names, from the description.

It shares no code with the package, and made ``tests/golden/data/dttnet.safetensors``:
``python tests/support/plain_dttnet.py`` writes that file again.
"""

import json
import math
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

OWN = Path(__file__).parents[1] / "golden" / "data" / "dttnet.safetensors"
ARGUMENTS: dict[str, Any] = {
    "target_name": "other", "dim_f": 40, "dim_t": 16, "n_fft": 96, "hop_length": 24, "overlap": 48, "audio_ch": 2,
    "block_type": "TFC_TDF_Res2", "num_blocks": 5, "l": 2, "g": 12, "k": 3, "bn": 4, "bias": True,
    "bandsequence": {"rnn_type": "LSTM", "bidirectional": True, "num_layers": 2, "n_heads": 2},
}  # fmt: skip


def make_weights(arguments: dict[str, Any]) -> dict[str, Tensor]:
    """Invent weights of a network with ``TFC_TDF_Res2`` blocks; they depend on nothing but their names."""
    g, levels, bins = arguments["g"], arguments["num_blocks"] // 2, arguments["dim_f"]
    heads, last = arguments["bandsequence"]["n_heads"], arguments["num_blocks"] // 2
    shapes: dict[str, tuple[int, ...]] = {}

    def layer(name: str, shape: tuple[int, ...], n: int, outputs: int) -> None:
        shapes.update({f"{name}.0.weight": shape, f"{name}.0.bias": (outputs,)})
        shapes.update({f"{name}.1.{part}": (n,) for part in ("weight", "bias", "running_mean", "running_var")})

    def block(name: str, level: int) -> None:
        n, width, k = g * (level + 1), bins >> level, arguments["k"]
        for part in [f"tfc{side}.H.{i}" for side in (1, 2) for i in range(arguments["l"])] + ["res.H.0"]:
            layer(f"{name}.{part}", (n, n, k, k), n, n)
        layer(f"{name}.tdf", (width // arguments["bn"], width), n, width // arguments["bn"])
        layer(f"{name}.tdf3", (width, width // arguments["bn"]), n, width)

    layer("first_conv", (g, 4, 1, 1), g, g)
    for level in range(levels):
        finer, coarser = g * (level + 1), g * (level + 2)
        block(f"encoding_blocks.{level}", level)
        layer(f"ds.{level}", (coarser, finer, 2, 2), coarser, coarser)
        layer(f"us.{last - 1 - level}", (coarser, finer, 2, 2), finer, finer)
        block(f"decoding_blocks.{last - 1 - level}", level)
    block("bottleneck_block1", last)
    n = g * (last + 1) // heads
    for number in range(arguments["bandsequence"]["num_layers"]):
        for axis in (0, 1):
            name = f"bottleneck_block2.bsrnn.{number}.{axis}"
            shapes.update({f"{name}.groupnorm.weight": (n,), f"{name}.groupnorm.bias": (n,)})
            shapes.update({f"{name}.fc.weight": (n, 4 * n), f"{name}.fc.bias": (n,)})
            for direction in ("", "_reverse"):
                for part, columns in (("weight_ih", (n,)), ("weight_hh", (2 * n,)), ("bias_ih", ()), ("bias_hh", ())):
                    shapes[f"{name}.rnn.{part}_l0{direction}"] = (8 * n, *columns)
    shapes.update({"final_conv.0.weight": (4, g, 1, 1), "final_conv.0.bias": (4,)})
    renamed = {name.replace(".tdf3.0.", ".tdf.3.").replace(".tdf3.1.", ".tdf.4."): s for name, s in shapes.items()}
    weights = {name: _numbers(name, shape) for name, shape in renamed.items()}
    n_fft = arguments["n_fft"]
    weights["window"] = torch.hann_window(n_fft, periodic=True)
    weights["freq_pad"] = torch.zeros(1, 4, n_fft // 2 + 1 - bins, 1)
    return weights


def _numbers(name: str, shape: tuple[int, ...]) -> Tensor:
    random = np.random.RandomState(crc32(name.encode())).uniform(-1, 1, shape)  # a stream that NumPy keeps forever
    if len(shape) > 1:
        random *= math.sqrt(6 / math.prod(shape[1:]))
    elif name.endswith(("weight", "running_var")):
        random = 1 + 0.5 * random
    else:
        random *= 0.2
    return torch.from_numpy(random).float()


def separate(weights: dict[str, Tensor], arguments: dict[str, Any], mixture: Tensor) -> Tensor:
    """Estimate the target of ``c samples``."""
    w = {name: tensor.double() for name, tensor in weights.items()}
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
    x = _dual_path(w, arguments["bandsequence"], _block(w, "bottleneck_block1", x, count))
    for level in range(levels):
        turned = F.conv_transpose2d(x, w[f"us.{level}.0.weight"], w[f"us.{level}.0.bias"], stride=2)
        x = _block(w, f"decoding_blocks.{level}", _norm(w, f"us.{level}.1", turned) * kept.pop(), count)
    return x


def _block(w: dict[str, Tensor], name: str, x: Tensor, count: int) -> Tensor:
    shortcut = _normed(w, f"{name}.res.H.0", x)
    for number in range(count):
        x = _normed(w, f"{name}.tfc1.H.{number}", x)
    y = x
    for number in (0, 3):
        linear = F.linear(y, w[f"{name}.tdf.{number}.weight"], w.get(f"{name}.tdf.{number}.bias"))
        y = _norm(w, f"{name}.tdf.{number + 1}", linear)
    x = x + y
    for number in range(count):
        x = _normed(w, f"{name}.tfc2.H.{number}", x)
    return x + shortcut


def _dual_path(w: dict[str, Tensor], arguments: dict[str, Any], x: Tensor) -> Tensor:
    heads = x.chunk(arguments["n_heads"], dim=1)
    return torch.cat([_head(w, arguments["num_layers"], head[0].permute(2, 1, 0)) for head in heads])[None]


def _head(w: dict[str, Tensor], layers: int, x: Tensor) -> Tensor:
    """Map the features of a head, ``f t n``, to ``n t f``."""
    n = x.shape[2]
    for number in range(layers):
        for axis in (0, 1):  # each bin along time, then each frame along frequency
            name = f"bottleneck_block2.bsrnn.{number}.{axis}"
            x = x.transpose(0, axis)
            scale, shift = w[f"{name}.groupnorm.weight"], w[f"{name}.groupnorm.bias"]
            normed = F.group_norm(x.transpose(1, 2), n // 16, scale, shift, 1e-5).transpose(1, 2)
            lstm = torch.nn.LSTM(n, 2 * n, batch_first=True, bidirectional=True, dtype=torch.float64)
            lstm.load_state_dict({part: w[f"{name}.rnn.{part}"] for part in lstm.state_dict()})
            x = (x + F.linear(lstm(normed)[0], w[f"{name}.fc.weight"], w[f"{name}.fc.bias"])).transpose(0, axis)
    return x.permute(2, 1, 0)


def _conv(w: dict[str, Tensor], name: str, x: Tensor, stride: int = 1) -> Tensor:
    weight = w[f"{name}.0.weight"]
    return F.conv2d(x, weight, w[f"{name}.0.bias"], stride, weight.shape[-1] // 2 if stride == 1 else 0)


def _normed(w: dict[str, Tensor], name: str, x: Tensor, stride: int = 1) -> Tensor:
    return _norm(w, f"{name}.1", _conv(w, name, x, stride))


def _norm(w: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    mean, variance = (w[f"{name}.running_{part}"][:, None, None] for part in ("mean", "var"))
    standardised = (x - mean) / torch.sqrt(variance + 1e-5)
    return torch.clamp(standardised * w[f"{name}.weight"][:, None, None] + w[f"{name}.bias"][:, None, None], min=0)


def write_own() -> None:
    """Write the golden case of the project."""
    samples = ARGUMENTS["hop_length"] * (ARGUMENTS["dim_t"] - 1)
    mixture = torch.from_numpy(np.random.RandomState(0).uniform(-0.5, 0.5, (2, samples))).float()
    with torch.no_grad():
        estimate = separate(make_weights(ARGUMENTS), ARGUMENTS, mixture).float().contiguous()
    save_file({"input": mixture, "output": estimate}, OWN, {"config": json.dumps(ARGUMENTS), "from": "plain_dttnet"})


if __name__ == "__main__":
    write_own()
