"""Layers that compute on a CPU in another way than their plain one, and the conditions for it."""

import torch
from torch import Tensor, nn


class TwoPaths(nn.Module):
    """A layer with a plain path and an equivalent one that is faster on a CPU."""

    fast: bool = True
    """Whether the faster one may be taken."""

    def infers_fast(self, x: Tensor) -> bool:
        """Return whether the faster one may be taken for ``x``, if it is for inference only."""
        return self.fast and not torch.is_grad_enabled() and _is_eager_cpu_work(x)


def is_plain_cpu_work(x: Tensor) -> bool:
    """Return whether ``x`` is computed eagerly on a CPU in single precision, without tracing or autocast."""
    return _is_eager_cpu_work(x) and x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")


def lacks_bf16_lstm(x: Tensor) -> bool:
    """Return whether autocast would raise an error: CPUs without AVX-512 have no such LSTM in oneDNN."""
    if x.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
        return False
    return torch.backends.mkldnn.is_available() and not torch.ops.mkldnn._is_mkldnn_bf16_supported()


def _is_eager_cpu_work(x: Tensor) -> bool:
    tracing = torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]
    return x.device.type == "cpu" and not tracing and not torch.compiler.is_compiling()
