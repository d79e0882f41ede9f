"""Complex spectrograms as real images: real and imaginary parts become channels, and the highest bins are left out.

Source: docs/numerics.md#complex-as-channels.
"""

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F


def to_channels(spec: Tensor, bins: int) -> Tensor:
    """Turn ``b c f t`` complex into ``b (c r) f t`` real, with the lowest ``bins``: left re, left im, right re, ..."""
    return parts_to_channels(torch.view_as_real(spec[..., :bins, :]))


def from_channels(image: Tensor, bins: int) -> Tensor:
    """Invert `to_channels` for any axes in front of ``(c r) f t``; bins up to ``bins`` that were left out are zero."""
    spec, missing = as_complex(channels_to_parts(image)), bins - image.shape[-2]
    return F.pad(spec, (0, 0, 0, missing)) if missing else spec  # no padding would be a copy


def as_complex(parts: Tensor) -> Tensor:
    """Turn real and imaginary parts ``(..., r)`` of any precision into complex numbers of single precision or more."""
    # Under autocast, networks end in half precision, which Fourier transforms do not have.
    return torch.view_as_complex(parts.to(torch.promote_types(parts.dtype, torch.float32)).contiguous())


def parts_to_channels(parts: Tensor) -> Tensor:
    """Turn real and imaginary parts ``b c f t r`` into the image ``b (c r) f t``."""
    return rearrange(parts, "b c f t r -> b (c r) f t")


def channels_to_parts(image: Tensor) -> Tensor:
    """Invert `parts_to_channels` for any axes in front of ``(c r) f t``."""
    return rearrange(image, "... (c r) f t -> ... c f t r", r=2)
