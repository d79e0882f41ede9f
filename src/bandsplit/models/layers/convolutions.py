"""Convolutions of U-Nets that a CPU computes in another form, because that is faster, or the only correct one.

They map ``b n l``, or ``b n f t`` with a kernel along bins.
"""

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from bandsplit.models.layers.cpu_work import TwoPaths


class PointwiseConv1d(TwoPaths, nn.Conv1d):
    """A convolution of length 1. For inference it is a product, which takes a fifth of the time in bfloat16."""

    def __init__(self, n_in: int, n_out: int) -> None:
        """Make one from ``n_in`` to ``n_out`` features."""
        super().__init__(n_in, n_out, 1)

    def forward(self, input: Tensor) -> Tensor:
        """Convolve ``b n l``."""
        return _multiply(self, input) if self.infers_fast(input) else super().forward(input)


class PointwiseConv2d(TwoPaths, nn.Conv2d):
    """The same for spectrograms."""

    def __init__(self, n_in: int, n_out: int) -> None:
        """Make one from ``n_in`` to ``n_out`` features."""
        super().__init__(n_in, n_out, 1)

    def forward(self, input: Tensor) -> Tensor:
        """Convolve ``b n f t``."""
        return _multiply(self, input) if self.infers_fast(input) else super().forward(input)


def _multiply(conv: nn.Conv1d | nn.Conv2d, x: Tensor) -> Tensor:
    assert conv.bias is not None
    weight = conv.weight.flatten(1).expand(len(x), -1, -1)
    return torch.baddbmm(conv.bias[:, None], weight, x.flatten(2)).unflatten(2, x.shape[2:])


class StridedConv1d(nn.Conv1d):
    """A convolution with a stride.

    oneDNN 3.12, which PyTorch uses, returns wrong numbers in bfloat16 on CPUs with AMX if such a convolution has 8 to
    24 input features. Fewer than 32 are computed in single precision, which costs little, since they are few.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Convolve ``b n l``."""
        if not _is_wrong_in_bf16(input):
            return super().forward(input)
        with torch.autocast("cpu", enabled=False):
            return super().forward(input.to(self.weight.dtype))


class StridedConv2d(nn.Conv2d):
    """The same for spectrograms."""

    def forward(self, input: Tensor) -> Tensor:
        """Convolve ``b n f t``."""
        if not _is_wrong_in_bf16(input):
            return super().forward(input)
        with torch.autocast("cpu", enabled=False):
            return super().forward(input.to(self.weight.dtype))


def _is_wrong_in_bf16(x: Tensor) -> bool:
    return x.device.type == "cpu" and torch.is_autocast_enabled("cpu") and x.shape[1] < 32


class TransposedConv1d(TwoPaths, nn.ConvTranspose1d):
    """A transposed convolution without padding, whose kernel is twice as long as its stride.

    Each output sees two neighbours of the input. For inference, all outputs between two neighbours are features of an
    ordinary convolution of length 2, and are then put in their places. That takes a half to a fifth of the time, unless
    there are more weights to rearrange than positions to compute.
    """

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        """Make one from ``n_in`` to ``n_out`` features."""
        super().__init__(n_in, n_out, 2 * stride, stride)

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Map ``b n l`` to ``stride * (l + 1)`` positions."""
        if not self.infers_fast(input) or _has_few_positions(input):
            return super().forward(input, output_size)
        y = F.conv1d(input, *_to_convolution(self.weight, self.bias), padding=1)
        return rearrange(y, "b (n k) l -> b n (l k)", k=self.stride[0])


class TransposedConv2d(TwoPaths, nn.ConvTranspose2d):
    """The same for spectrograms, along bins."""

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        """Make one from ``n_in`` to ``n_out`` features."""
        super().__init__(n_in, n_out, (2 * stride, 1), (stride, 1))

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Map ``b n f t`` to ``stride * (f + 1)`` bins."""
        if not self.infers_fast(input) or _has_few_positions(input):
            return super().forward(input, output_size)
        weight, bias = _to_convolution(self.weight[..., 0], self.bias)
        y = F.conv2d(input, weight[..., None], bias, padding=(1, 0))
        return rearrange(y, "b (n k) f t -> b n (f k) t", k=self.stride[0])


def _has_few_positions(x: Tensor) -> bool:
    """Return whether PyTorch's own transposed convolution of ``x`` is faster, by measurement."""
    return x.numel() < 4 * x.shape[1] ** 2


def _to_convolution(weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """Turn weights ``n_in n_out 2k`` and biases into those of a convolution of length 2 to ``n_out * k`` features."""
    assert bias is not None
    # The second half of a kernel reaches the outputs behind the next input: it belongs to the earlier of two inputs.
    both = rearrange(weight, "n m (j k) -> (m k) n j", j=2).flip(-1)
    return both, bias.repeat_interleave(len(both) // len(bias))
