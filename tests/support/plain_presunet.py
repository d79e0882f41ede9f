"""CWS-PResUNet as a plain function in double precision, under the authors' names; it shares no code with the package.

Run as a script, it writes the small case in tests/golden/data.
"""

from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from places import ROOT

OWN = ROOT / "tests" / "golden" / "data" / "presunet.safetensors"
OWN_CASES: dict[str, dict[str, Any]] = {
    "one-target": {
        "targets": ["vocals"], "channels": 1, "stft": {"n_fft": 64, "hop_samples": 14}, "widths": [3, 5], "n_blocks": 2,
    },
    "two-targets": {
        "targets": ["bass", "other"], "stft": {"n_fft": 32, "hop_samples": 7}, "widths": [4, 4, 6], "n_blocks": 1,
    },
}  # fmt: skip
SAMPLES = 803


class Random:
    """Numbers that are the same bits everywhere."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.Generator(np.random.PCG64(seed))

    def __call__(self, *shape: int) -> Tensor:
        return torch.from_numpy(self.random.random(shape)).float()


def make_weights(shapes: Mapping[str, tuple[int, ...]], filters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Draw weights under any names; filters are given."""
    draw, weights = Random(17), dict[str, Tensor]()
    for name, shape in shapes.items():
        if name in filters:
            weights[name] = filters[name]
        elif len(shape) == 1:
            weights[name] = draw(*shape) + 0.5
        else:
            weights[name] = (draw(*shape) - 0.5) * 3 / prod(shape[1:]) ** 0.5
    return weights


def make_mixture(channels: int) -> Tensor:
    """Draw an input ``1 c samples``."""
    return Random(18)(1, channels, SAMPLES) - 0.5


def separate(weights: Mapping[str, Tensor], hop: int, heads: Sequence[str], mixture: Tensor) -> Tensor:
    """Estimate ``b s c samples``.

    Args:
        weights: tensors by the authors' names.
        hop: of the transform of subbands.
        heads: names of the targets with heads of their own; none for a model of one target.
        mixture: ``b c samples``.
    """
    w = {name: value.double() for name, value in weights.items()}
    channels, samples = mixture.shape[1:]
    filters = w["f_helper.qmf.ana_conv_filter.weight"][:, 0]
    bands = F.pad(mixture.double(), (60, 0)).unfold(-1, 64, 4) @ filters.T  # b c l k
    n_fft = 2 * (len(w["bn0.weight"]) - 1)
    window = 0.5 - 0.5 * torch.cos(2 * torch.pi * torch.arange(n_fft).double() / n_fft)
    padded = F.pad(bands.mT.flatten(1, 2), (n_fft // 2, n_fft // 2), mode="reflect")
    angles = 2 * torch.pi * torch.outer(torch.arange(n_fft), torch.arange(n_fft // 2 + 1)).double() / n_fft
    frames = padded.unfold(-1, n_fft, hop) * window  # b (c k) t n
    real, imag = frames @ angles.cos(), -(frames @ angles.sin())
    magnitude = (real**2 + imag**2).clamp(min=1e-8).sqrt()
    trunk = _unet(w, _norm(w, "bn0", magnitude.transpose(1, 3)).transpose(1, 3))
    estimates = []
    for head in heads or [""]:
        blocks, last = (f"{head}_blocks.0", f"{head}_blocks.1") if head else ("after_conv_block1", "after_conv2")
        masks = F.conv2d(_blocks(w, blocks, trunk), w[f"{last}.weight"], w[f"{last}.bias"])
        masks = F.pad(masks[:, :, : magnitude.shape[2]], (0, 1)).unflatten(1, (4, -1))
        found = (masks[:, 0].sigmoid() * magnitude + masks[:, 3]).relu()
        turn = torch.complex(masks[:, 1], masks[:, 2])
        turn = turn / turn.abs().clamp(min=1e-10)
        spec = found * turn * torch.complex(real / magnitude, imag / magnitude)
        signal = _inverse(spec, window, hop, bands.shape[2]).unflatten(1, (channels, -1))
        estimates.append(_join(w["f_helper.qmf.syn_conv_filter.weight"], signal, samples))
    return torch.stack(estimates, dim=1)


def _inverse(spec: Tensor, window: Tensor, hop: int, samples: int) -> Tensor:
    n_fft = len(window)
    frames = torch.fft.irfft(spec, n_fft) * window
    total = torch.zeros(*spec.shape[:2], n_fft + hop * (spec.shape[2] - 1), dtype=torch.float64)
    weight = torch.zeros(total.shape[-1], dtype=torch.float64)
    for number, frame in enumerate(frames.unbind(2)):
        total[..., number * hop : number * hop + n_fft] += frame
        weight[number * hop : number * hop + n_fft] += window**2
    return (total / weight.clamp(min=1e-11))[..., n_fft // 2 : n_fft // 2 + samples]


def _join(filters: Tensor, bands: Tensor, samples: int) -> Tensor:
    """Join ``b c k l``: each output filter makes every fourth sample."""
    taps = F.pad(bands, (0, 15)).unfold(-1, 16, 1)  # b c k l tap
    joined = torch.einsum("bcklt,jkt->bclj", taps, filters).flatten(2)
    return F.pad(joined, (0, samples - joined.shape[-1]))


def _norm(w: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
    mean, var, gain, bias = (
        w[f"{name}.{part}"].view(1, -1, 1, 1) for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / (var + 1e-5).sqrt() * gain + bias


def _blocks(w: Mapping[str, Tensor], place: str, x: Tensor, first: int = 1) -> Tensor:
    number = first
    while f"{place}.conv_block{number}.conv1.weight" in w:
        name = f"{place}.conv_block{number}"
        y = F.conv2d(F.leaky_relu(_norm(w, f"{name}.bn1", x), 0.01), w[f"{name}.conv1.weight"], padding=1)
        y = F.conv2d(F.leaky_relu(_norm(w, f"{name}.bn2", y), 0.01), w[f"{name}.conv2.weight"], padding=1)
        if f"{name}.shortcut.weight" in w:
            x = F.conv2d(x, w[f"{name}.shortcut.weight"], w[f"{name}.shortcut.bias"])
        x, number = x + y, number + 1
    return x


def _unet(w: Mapping[str, Tensor], image: Tensor) -> Tensor:
    levels = sum(name.startswith("decoder_block") and name.endswith(".bn1.bias") and name.count(".") == 2 for name in w)
    missing = -image.shape[2] % 2**levels
    x, kept = F.pad(image, (0, 0, 0, missing))[..., :-1], []
    for level in range(1, levels + 1):
        kept.append(_blocks(w, f"encoder_block{level}", x))
        x = F.avg_pool2d(kept[-1], 2)
    for number in range(levels + 1, levels + 5):
        x = _blocks(w, f"conv_block{number}", x)
    for level in range(1, levels + 1):
        name = f"decoder_block{level}"
        x = F.conv_transpose2d(_norm(w, f"{name}.bn1", x).relu(), w[f"{name}.conv1.weight"], stride=2)[..., :-1, :-1]
        x = _blocks(w, name, torch.cat([x, kept.pop()], dim=1), first=2)
    return x


def own_weights(name: str) -> dict[str, Tensor]:
    """Make the weights of one of the small cases, under the authors' names."""
    from bandsplit.models.presunet.config import PresunetConfig
    from bandsplit.models.presunet.filter_bank import FilterBank
    from bandsplit.models.presunet.shapes import tensor_shapes
    from bandsplit.models.presunet.weights import their_name

    config = PresunetConfig.parse(OWN_CASES[name])
    single = len(config.targets) == 1
    shapes = {their_name(key, config, single): shape for key, shape in tensor_shapes(config)}
    filters = {their_name(f"bank.{key}", config, single): value for key, value in FilterBank().state_dict().items()}
    return make_weights(shapes, filters)


def own_output(name: str) -> Tensor:
    """Compute the estimates of one of the small cases."""
    case = OWN_CASES[name]
    heads = case["targets"] if len(case["targets"]) > 1 else []
    return separate(own_weights(name), case["stft"]["hop_samples"], heads, make_mixture(case.get("channels", 2)))


if __name__ == "__main__":
    save_file({name: own_output(name).float() for name in OWN_CASES}, Path(OWN))
