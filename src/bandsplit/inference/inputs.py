"""Checks of the arrays that a separator is given."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from typing_extensions import TypeIs

from bandsplit.audio import check_finite
from bandsplit.errors import AudioError

if TYPE_CHECKING:
    import torch

_MANY_CHANNELS = 8


def is_tensor(audio: Any) -> TypeIs[torch.Tensor]:
    """Whether this is a torch tensor; where none can be, torch is not imported to find out."""
    loaded = sys.modules.get("torch")
    return loaded is not None and isinstance(audio, loaded.Tensor)


def to_numpy(audio: Any) -> np.ndarray:
    """Check kind, type and shape, and return float32 ``channels samples``.

    Raises:
        AudioError: it is no audio.
    """
    if not (isinstance(audio, np.ndarray) or is_tensor(audio)):
        raise AudioError(
            f"audio: is a {type(audio).__name__}; give a NumPy array or a torch tensor, (channels, samples)"
        )
    is_float = audio.is_floating_point() if is_tensor(audio) else np.issubdtype(audio.dtype, np.floating)
    if not is_float:
        raise AudioError(
            f"audio: has dtype {audio.dtype}; give float32 with full scale at 1, for int16 samples: "
            f"audio.astype('float32') / 32768 (torch: audio.float() / 32768)"
        )
    if audio.ndim != 2:
        fix = "for mono use audio[None, :]" if audio.ndim == 1 else "separate the items of a batch one by one"
        raise AudioError(f"audio: has shape {tuple(audio.shape)}; it must be (channels, samples), {fix}")
    channels, samples = audio.shape
    if channels == 0:
        raise AudioError(f"audio: has shape {tuple(audio.shape)}, no channels; give (channels, samples)")
    if channels > _MANY_CHANNELS and channels > samples:
        raise AudioError(f"audio: shape {tuple(audio.shape)} looks like (samples, channels); use audio.T")
    if is_tensor(audio):
        return audio.detach().cpu().float().numpy()
    return audio.astype(np.float32, copy=False)


def check_blocks(blocks: Iterable[Any], sample_rate_hz: int, samples: int) -> Iterator[np.ndarray]:
    """Check a song that comes in blocks and yield them, those without samples left out, as `to_numpy`.

    Raises:
        AudioError: a block is no audio, holds NaN or infinity, or has other channels than the first; or all together
            have not ``samples`` samples.
    """
    count, channels = 0, None
    for number, given in enumerate(blocks, start=1):
        block = to_numpy(given)
        channels = channels or len(block)
        if len(block) != channels:
            raise AudioError(f"block {number}: has {len(block)} channels, but those before have {channels}")
        check_finite(block, "audio", sample_rate_hz, count)
        count += block.shape[1]
        if count > samples:
            break
        if block.shape[1]:
            yield block
    if count != samples:
        more = "at least " if count > samples else ""
        raise AudioError(
            f"samples: {samples} were announced, but the blocks hold {more}{count}; give the length of all together"
        )
