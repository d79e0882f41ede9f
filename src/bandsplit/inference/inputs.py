"""Checks of what a separator is given: arrays, models, devices."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from bandsplit.errors import AudioError, ConfigError
from bandsplit.models.model import BandSplitModel

Model: TypeAlias = Path | str | BandSplitModel

_MANY_CHANNELS = 8


def pick_device(device: str | torch.device) -> torch.device:
    """Choose the device that ``auto`` means, or check that the named one can be used.

    Raises:
        ConfigError: it cannot be used here.
    """
    if device == "auto":
        # Never mps by itself: it lacks operations on complex spectrograms, and its numbers have not been checked.
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        picked = torch.device(device)
        torch.empty(0, device=picked)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"device: {device!r} cannot be used here ({reason}); legal: 'auto', 'cpu', 'cuda'") from None
    return picked


def needed_channels(model: BandSplitModel) -> int | None:
    """Return the number of channels a model insists on; None if it takes any."""
    return None if model.config.stereo.kind == "independent" else model.config.channels


def check_models(models: Sequence[BandSplitModel], given: Sequence[Model]) -> None:
    """Make sure that models, ``given`` as files or objects, can be used together.

    Raises:
        ConfigError: naming two that cannot.
    """
    names = [
        str(item) if isinstance(item, str | Path) else f"model {number} of the list"
        for number, item in enumerate(given, 1)
    ]
    owners: dict[str, str] = {}
    for model, name in zip(models, names, strict=True):
        if not isinstance(model, nn.Module):
            raise ConfigError(f"{name}: is a {type(model).__name__}; give the path of a model file or a BandSplitModel")
        if model.config.sample_rate_hz != models[0].config.sample_rate_hz:
            raise ConfigError(
                f"{name}: works at {model.config.sample_rate_hz} Hz, but {names[0]} at "
                f"{models[0].config.sample_rate_hz} Hz; models used together must share a sample rate"
            )
        for target in model.config.targets:
            if target in owners:
                raise ConfigError(
                    f"target {target!r}: estimated by both {owners[target]} and {name}; leave one of them out"
                )
            owners[target] = name
    needed = {count: name for model, name in zip(models, names, strict=True) if (count := needed_channels(model))}
    if len(needed) > 1:
        facts = " and ".join(f"{name} needs {count} channels" for count, name in needed.items())
        raise ConfigError(f"model: {facts}; models used together must take the same number")


def to_numpy(audio: Any) -> np.ndarray:
    """Check kind, type and shape, and return float32 ``channels samples``.

    Raises:
        AudioError: it is no audio.
    """
    if not isinstance(audio, np.ndarray | Tensor):
        raise AudioError(
            f"audio: is a {type(audio).__name__}; give a NumPy array or a torch tensor, (channels, samples)"
        )
    is_float = audio.is_floating_point() if isinstance(audio, Tensor) else np.issubdtype(audio.dtype, np.floating)
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
    if isinstance(audio, Tensor):
        return audio.detach().to("cpu", torch.float32).numpy()
    return audio.astype(np.float32, copy=False)
