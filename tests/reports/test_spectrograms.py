"""Pictures of signals, looked at before they are written."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from bandsplit.reports import spectrograms


def test_inner_panels_share_their_axes_whatever_the_targets_are_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(spectrograms, "save_figure", lambda figure, *_, **__: drawn.append(figure))
    signal = np.random.default_rng(0).normal(0, 0.1, (2, 4000)).astype(np.float32)

    def hidden(names: list[str]) -> list[bool]:
        signals: dict[str, Any] = dict.fromkeys(names, signal)
        spectrograms.draw_separation(tmp_path / "picture.png", "title", signal, signals, signals, 8000)
        return [not axes.xaxis.get_tick_params()["labelbottom"] for axes in drawn[-1].axes[:5]]

    usual = hidden(["vocals", "bass"])
    assert usual == [False, True, False, False, False]  # the mixture, then estimate and reference of each target
    assert hidden(["reference vocals", "mixture of basses"]) == usual
