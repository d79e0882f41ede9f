"""The command ``bandsplit export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bandsplit.cli.options import ForceOption


def export(
    model: Annotated[
        str, typer.Argument(help="Model file, folder of model files, or name in `bandsplit models list`.")
    ],
    out: Annotated[Path, typer.Argument(help="The .onnx file to write; a folder for a model of several files.")],
    int8: Annotated[
        bool, typer.Option("--int8", help="8-bit integers in LSTMs: faster on CPUs made for it, slightly worse.")
    ] = False,
    force: ForceOption = False,
) -> None:
    """Export a model to ONNX, which separates without PyTorch; the file is kept only if it agrees with PyTorch."""
    from bandsplit.cli.model_choice import choose_models
    from bandsplit.cli.terminal import make_console, show
    from bandsplit.core.errors import ModelFileError
    from bandsplit.separation.export import export_model

    files = choose_models(make_console(), [model])
    if len(files) > 1 and out.suffix:
        names = ", ".join(str(file) for file in files)
        raise ModelFileError(
            f"{out}: {model} has {len(files)} files ({names}); give a folder, or export them one by one"
        )
    for file in files:
        path = out if out.suffix else out / f"{file.stem}.onnx"
        done = export_model(file, path, int8=int8, force=force)
        lengths = ", ".join(f"{samples}" for samples in done.lengths)
        show(
            f"{path}: {done.bytes / 1e6:.1f} MB; differs from PyTorch by {done.difference:.1e} of the peak at most, "
            f"{done.distance_db:.1f} dB below the estimates ({lengths} samples of noise)"
        )
