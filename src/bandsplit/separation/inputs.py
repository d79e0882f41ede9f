"""Checks of the arrays that a separator receives."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from typing_extensions import TypeIs

from bandsplit.audio.arrays import check_finite
from bandsplit.core.errors import AudioError

if TYPE_CHECKING:
    import torch

_MANY_CHANNELS = 8


def is_tensor(audio: Any) -> TypeIs[torch.Tensor]:
    """Return whether this is a torch tensor, without importing torch if it is not imported yet."""
    loaded = sys.modules.get("torch")
    return loaded is not None and isinstance(audio, loaded.Tensor)


def to_numpy(audio: Any) -> np.ndarray:
    """Check kind, type and shape, and return float32 ``channels samples``.

    Raises:
        AudioError: it is not audio.
    """
    if not (isinstance(audio, np.ndarray) or is_tensor(audio)):
        raise AudioError(
            f"audio: is a {type(audio).__name__}; give a NumPy array or a torch tensor, (channels, samples)"
        )
    is_float = audio.is_floating_point() if is_tensor(audio) else np.issubdtype(audio.dtype, np.floating)
    if "complex" in str(audio.dtype):
        raise AudioError(
            f"audio: has dtype {audio.dtype}; give the waveform itself as float32, not its spectrum; where the "
            f"imaginary part is zero: audio.real"
        )
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
        audio = audio.detach().cpu()
        audio = (audio if audio.dtype.itemsize > 4 else audio.float()).numpy()
    with np.errstate(over="ignore"):
        return _check_size(audio.astype(np.float32, copy=False), audio)


def _check_size(rounded: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Return ``rounded`` unless a finite sample of ``given`` became infinite in it."""
    lost = np.argwhere(np.isinf(rounded.T)) if np.isinf(rounded).any() else ()
    for sample, channel in lost:
        if np.isfinite(value := given[channel, sample]):
            raise AudioError(
                f"audio: sample {sample} of channel {channel} is {value:g}, beyond the range of float32; full scale is "
                f"1, so scale the audio first"
            )
    return rounded


def check_samples(samples: Any) -> None:
    """Refuse a length that is not an integer.

    Raises:
        AudioError: it is not; the message names the value.
    """
    if isinstance(samples, bool) or not isinstance(samples, int | np.integer) or samples < 0:
        raise AudioError(f"samples: {samples!r} is not a length; give the samples of all blocks together, as an int")


def check_blocks(blocks: Iterable[Any], sample_rate_hz: int, samples: int) -> Iterator[np.ndarray]:
    """Check the blocks of a song and yield them as `to_numpy` does, without the empty ones.

    Raises:
        AudioError: a block is not audio, contains NaN or infinity, or has another number of channels than the first;
            or all blocks together do not have ``samples`` samples.
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
