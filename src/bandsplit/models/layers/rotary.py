"""Rotary position embedding: queries and keys are rotated by angles that grow with their position."""

import torch
from torch import Tensor, nn


class Rotary(nn.Module):
    """Rotation of neighbouring features (2j, 2j + 1) by position x 10000^(-2j / n).

    The frequencies are not trained, but belong to a model's tensors: files in half precision have rounded ones, and the
    other weights fit these.

    Source: docs/bs-roformer.md#rotary-positions.
    """

    frequencies: Tensor

    def __init__(self, n_features: int) -> None:
        """Take the even number of features of a head."""
        super().__init__()
        exponents = torch.arange(0, n_features, 2, dtype=torch.float64) / n_features
        self.register_buffer("frequencies", (10000.0**-exponents).float())

    def forward(self, x: Tensor) -> Tensor:
        """Rotate ``(... l n)``, in single precision at least."""
        positions = torch.arange(x.shape[-2], device=x.device).float()
        angles = positions[:, None] * self.frequencies.float()
        pairs = x.to(torch.promote_types(x.dtype, torch.float32)).unflatten(-1, (-1, 2))
        # On a CPU the complex product takes a quarter of the time of real ones, the only ones that compilers and
        # exporters know.
        real = torch.compiler.is_compiling() or torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]
        rotate = _rotate_real if real else _rotate_complex
        return rotate(pairs, angles).flatten(-2).to(x.dtype)


def _rotate_complex(pairs: Tensor, angles: Tensor) -> Tensor:
    rotations = torch.polar(torch.ones_like(angles), angles)
    return torch.view_as_real(torch.view_as_complex(pairs) * rotations)


def _rotate_real(pairs: Tensor, angles: Tensor) -> Tensor:
    (a, b), cos, sin = pairs.unbind(-1), angles.cos(), angles.sin()
    return torch.stack([a * cos - b * sin, b * cos + a * sin], dim=-1)
