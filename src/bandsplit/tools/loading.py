"""Separators by name: model files, folders of some, registered models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bandsplit.models.pretrained.entries import Entry
from bandsplit.models.pretrained.registry import find_models
from bandsplit.separation.opening import Runtime
from bandsplit.separation.separator import Separator


def load_separator(
    names: str | Path | Sequence[str | Path] = (),
    fetch: Callable[[Entry], object] | None = None,
    say: Callable[[str], None] = lambda text: None,
    *,
    runtime: Runtime = "auto",
    **options: Any,
) -> Separator:
    """Make a separator from the names of models; nothing is downloaded unless ``fetch`` does it.

    Args:
        names: registered names (`bandsplit models list`), model files, folders of some; if empty, the best model in the
            cache, else the demo's model in this folder.
        fetch: called with a registered model that is not in the cache; to download it, pass
            `bandsplit.models.pretrained.store.install_model`.
        say: called with a line that names the chosen model and its published score, if none was named.
        runtime: as for `Separator`; "onnx" prefers the .onnx files of a folder, all others its .safetensors.
        options: the other arguments of `Separator`, such as ``device``.

    Raises:
        ModelFileError: there is no such model, or a file is not a model.
        ConfigError: as for `Separator`.
    """
    return Separator(find_models(names, fetch, say, runtime), runtime=runtime, **options)
