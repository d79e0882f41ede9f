"""The filter bank that splits signals into subbands at a fraction of the sample rate, and joins them again.

Source: docs/presunet.md#filter-bank; 2021-ISMIR-MSS-Challenge-CWS-PResUNet. The filters are theirs.
"""

from functools import cache
from importlib import resources

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from bandsplit.models.presunet.config import SUBBANDS, TAPS


class FilterBank(nn.Module):
    """Analysis and synthesis filters of 64 taps: constants, stored with the weights of a network."""

    analysis: Tensor
    """``k 1 taps``."""
    synthesis: Tensor
    """``k k taps``: from subbands to the samples at each place in a group of four."""

    def __init__(self) -> None:
        """Take the filters of the package."""
        super().__init__()
        analysis, synthesis = _filters()
        self.register_buffer("analysis", torch.tensor(analysis).reshape(SUBBANDS, 1, TAPS))
        self.register_buffer("synthesis", torch.tensor(synthesis).reshape(SUBBANDS, SUBBANDS, TAPS // SUBBANDS))

    def split(self, signal: Tensor) -> Tensor:
        """Split ``(..., samples)`` into subbands ``(..., k, samples // 4)``, in the signal's precision."""
        padded = F.pad(signal, (TAPS - SUBBANDS, 0)).reshape(-1, 1, TAPS - SUBBANDS + signal.shape[-1])
        with torch.autocast(signal.device.type, enabled=False):
            return F.conv1d(padded, self.analysis, stride=SUBBANDS).unflatten(0, signal.shape[:-1])

    def join(self, bands: Tensor) -> Tensor:
        """Join subbands ``(..., k, samples)`` to ``(..., 4 * samples)``; the last 60 samples lack what follows them."""
        padded = F.pad(bands, (0, TAPS // SUBBANDS - 1)).flatten(0, -3)
        with torch.autocast(bands.device.type, enabled=False):
            joined = rearrange(F.conv1d(padded, self.synthesis), "n k samples -> n (samples k)")
        return joined.unflatten(0, bands.shape[:-2])


@cache
def _filters() -> np.ndarray:
    """Read the filters, ``2 k taps``: those of analysis, and those of synthesis by the subband that they make."""
    with resources.files("bandsplit.models.presunet").joinpath("filters.npy").open("rb") as file:
        return np.load(file, allow_pickle=False)
