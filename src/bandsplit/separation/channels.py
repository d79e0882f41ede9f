"""Groups of channels that a model estimates together: mono, stereo, surround in pairs."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bandsplit.core.errors import AudioError

# Number of channels -> speakers that belong together, in the order of wav files.
_LAYOUTS = {
    3: ("L R", "C"),
    4: ("L R", "Ls Rs"),
    5: ("L R", "C", "Ls Rs"),
    6: ("L R", "C", "LFE", "Ls Rs"),
    7: ("L R", "C", "LFE", "Cs", "Ls Rs"),
    8: ("L R", "C", "LFE", "Lb Rb", "Ls Rs"),
}


@dataclass(frozen=True)
class ChannelGroups:
    """Groups of a song's channels, as inputs of a model with a fixed number of channels."""

    groups: tuple[tuple[int, ...], ...]
    """Channels that the model receives together; a single one is duplicated, and its estimates are averaged."""
    width: int
    """Channels of the model."""
    note: str | None = None
    """Note for the user."""

    def estimate(self, model: Callable[[np.ndarray], np.ndarray], batch: np.ndarray) -> np.ndarray:
        """Estimate all groups of ``b c samples`` at once: ``b s c samples``."""
        if self.groups == (tuple(range(batch.shape[1])),) and batch.shape[1] == self.width:
            return model(batch)
        # Fancy indexing duplicates a single channel.
        parts = [batch[:, np.resize(group, self.width)] for group in self.groups]
        found = model(np.concatenate(parts))
        estimates = np.empty((len(batch), found.shape[1], *batch.shape[1:]), np.float32)
        for group, part in zip(self.groups, np.split(found, len(self.groups)), strict=True):
            estimates[:, :, list(group)] = part if len(group) == self.width else part.mean(axis=2, keepdims=True)
        return estimates


def group_channels(channels: int, width: int | None, name: str) -> ChannelGroups:
    """Choose the groups of a song called ``name`` for a model of ``width`` channels; None for one that takes any.

    Raises:
        AudioError: the model cannot take that many channels.
    """
    everything = tuple(range(channels))
    if width in (None, channels):
        return ChannelGroups((everything,), channels)
    if channels == 1:
        return ChannelGroups(
            (everything,), width, f"mono was duplicated to the {width} channels the model needs; stems are mono again"
        )
    if width == 1:
        return ChannelGroups(tuple((channel,) for channel in everything), 1, "the channels were separated one by one")
    if width == 2 and channels in _LAYOUTS:
        layout = _LAYOUTS[channels]
        sizes = [len(speakers.split()) for speakers in layout]
        starts = np.cumsum([0, *sizes])
        groups = tuple(tuple(range(start, start + size)) for start, size in zip(starts, sizes, strict=False))
        text = ", ".join(speakers.replace(" ", "/") for speakers in layout)
        return ChannelGroups(groups, 2, f"{channels} channels were separated in pairs, in the order of wav: {text}")
    raise AudioError(
        f"{name}: has {channels} channels, but the model needs {width}; give {width} of them (or 1, which is "
        f"duplicated{', or surround of 3 to 8' if width == 2 else ''}), or use a model with independent channels"
    )
