"""bandsplit: band-split models for music separation - train, evaluate, compare, use.

Axes, one letter each, everywhere in code and docstrings:
``b`` batch, ``s`` target, ``c`` channel, ``f`` frequency bin, ``t`` frame, ``k`` band, ``n`` feature, ``g`` group,
``h`` head, ``l`` position (t or k). The sample axis is spelled out: ``b c samples``.

Lengths: an *excerpt* is a training example, a *segment* an active region of a stem, a *chunk* an inference window,
a *frame* one STFT column, a *window* a metric window.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from bandsplit.core.version import __version__
from bandsplit.core.waiting import bound_spinning

if TYPE_CHECKING:
    from bandsplit.core import errors
    from bandsplit.evaluation import metrics
    from bandsplit.models.files import load_model
    from bandsplit.separation.outputs import OutputConfig
    from bandsplit.separation.separator import Separator
    from bandsplit.tools.loading import load_separator
    from bandsplit.training import losses

bound_spinning()  # before anything below loads torch

# Resolved on first use, so that `import bandsplit` does not load torch.
_LAZY = {
    "OutputConfig": "bandsplit.separation.outputs",
    "Separator": "bandsplit.separation.separator",
    "load_model": "bandsplit.models.files",
    "load_separator": "bandsplit.tools.loading",
    "errors": "bandsplit.core.errors",
    "metrics": "bandsplit.evaluation.metrics",
    "losses": "bandsplit.training.losses",
}

__all__ = ["OutputConfig", "Separator", "__version__", "errors", "load_model", "load_separator", "losses", "metrics"]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'bandsplit' has no attribute {name!r}")
    module = import_module(_LAZY[name])
    return module if _LAZY[name].endswith("." + name) else getattr(module, name)


def __dir__() -> list[str]:
    return sorted(__all__)
