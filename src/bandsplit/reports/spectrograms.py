"""Pictures of spectrograms and levels, drawn without a display and without global state."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imsave
from numpy.typing import NDArray

from bandsplit.audio.stft import stft
from bandsplit.audio.stft_config import StftConfig
from bandsplit.core.pictures import save_figure
from bandsplit.data.examples.mixing import ActivityConfig
from bandsplit.data.songs.tracks import Audio, Track

_RANGE_DB = 70.0
_STRIP_HZ, _STRIP_SIZE = (40.0, 16_000.0), (128, 1000)


def draw_separation(
    path: Path,
    title: str,
    mixture: Audio,
    estimates: Mapping[str, Audio],
    references: Mapping[str, Audio],
    rate_hz: int,
) -> None:
    """Draw spectrograms: the mixture on top, then estimate and reference of every target side by side.

    Args:
        path: the PNG to write.
        title: a line above all.
        mixture: ``c samples``; channels are averaged for the picture, as those of every other signal.
        estimates: target -> ``c samples``.
        references: target -> ``c samples``, at least the estimated targets.
        rate_hz: their sample rate.
    """
    figure = Figure(figsize=(12, 2.2 * (len(estimates) + 1)), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    grid = figure.add_gridspec(len(estimates) + 1, 2)
    reference_db = peak_level_db(mixture)
    _draw_panel(figure.add_subplot(grid[0, :]), "mixture", mixture, rate_hz, reference_db)
    for row, target in enumerate(estimates, start=1):
        left, right = figure.add_subplot(grid[row, 0]), figure.add_subplot(grid[row, 1])
        _draw_panel(left, f"{target}, estimate", estimates[target], rate_hz, reference_db)
        left.label_outer(remove_inner_ticks=False)
        _draw_panel(right, f"{target}, reference", references[target], rate_hz, reference_db)
    for axes in figure.axes[-2:]:
        axes.set_xlabel("s")
    _add_scale(figure)
    save_figure(figure, path, dpi=110)


def draw_strip(path: Path, signal: Audio, rate_hz: int, reference_db: float) -> None:
    """Draw a bare spectrogram, without axes, that spans exactly the signal; frequency is on the mel scale.

    Args:
        path: the picture to write; its suffix gives the format.
        signal: ``c samples``; channels are averaged for the picture.
        rate_hz: its sample rate.
        reference_db: level of the brightest colour, see `peak_level_db`.
    """
    level_db = _level_db(signal) - reference_db
    low, high = (_mel(hz) for hz in (_STRIP_HZ[0], min(_STRIP_HZ[1], rate_hz / 2)))
    rows_hz = 700 * (10 ** (np.linspace(low, high, _STRIP_SIZE[0]) / 2595) - 1)
    # A column shows its loudest frame: hits are shorter than a column is wide.
    starts = np.unique(np.linspace(0, level_db.shape[1], _STRIP_SIZE[1], endpoint=False).astype(int))
    columns = np.maximum.reduceat(level_db, starts, axis=1)
    bins = rows_hz / rate_hz * StftConfig().n_fft
    below = np.minimum(bins.astype(int), len(columns) - 2)
    part = (bins - below)[:, None]
    rows = (1 - part) * columns[below] + part * columns[below + 1]
    imsave(path, rows, cmap="magma", vmin=-_RANGE_DB, vmax=0, origin="lower")


def peak_level_db(signal: Audio) -> float:
    """Return the level of the loudest bin of ``c samples``: the brightest colour in all pictures of a song."""
    return float(_level_db(signal).max())


def draw_activity(
    path: Path,
    track: Track,
    modes: Mapping[str, ActivityConfig],
    segments: Mapping[str, Mapping[str, NDArray[np.int64]]],
) -> None:
    """Draw the level of every stem of a song with the segments that activity detection keeps shaded.

    Args:
        path: the PNG to write.
        track: the song.
        modes: name -> settings of the detector; each has its own strip.
        segments: name of the mode -> stem -> first samples of the kept segments.
    """
    figure = Figure(figsize=(12, 1.6 * len(track.stems) + 0.8), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(f"{track.name}: segments kept ({', '.join(modes)}, from the top)")
    rate_hz, strip = track.sample_rate_hz, 1 / len(modes)
    for number, stem in enumerate(track.stems, start=1):
        axes = figure.add_subplot(len(track.stems), 1, number)
        for row, (mode, config) in enumerate(modes.items()):
            low, high = 1 - (row + 1) * strip, 1 - row * strip
            for start in segments[mode][stem]:
                begin_s = start / rate_hz
                axes.axvspan(begin_s, begin_s + config.segment_s, low, high, color=f"C{row}", alpha=0.2, linewidth=0)
        times_s, levels_db = _levels(track, stem)
        axes.plot(times_s, levels_db, color="black", linewidth=0.7)
        axes.axhline(20 * np.log10(next(iter(modes.values())).floor), color="grey", linewidth=0.7, linestyle=":")
        axes.set(title=stem, xlim=(0, track.samples / rate_hz), ylim=(-90, 0), ylabel="dB")
        axes.label_outer()
    figure.axes[-1].set_xlabel("s (level per 0.1 s; dotted: floor of the threshold)")
    save_figure(figure, path, dpi=110)


def _draw_panel(axes: Axes, name: str, signal: Audio, rate_hz: int, reference_db: float) -> Axes:
    """Draw the spectrogram of ``c samples`` up to 16 kHz, over seconds."""
    axes.imshow(
        _level_db(signal) - reference_db, origin="lower", aspect="auto", cmap="magma", vmin=-_RANGE_DB, vmax=0,
        extent=(0, signal.shape[-1] / rate_hz, 0, rate_hz / 2000),
    )  # fmt: skip
    axes.set_title(name, fontsize=9, loc="left")
    axes.set(ylim=(0, min(16, rate_hz / 2000)), ylabel="kHz")
    return axes


def _add_scale(figure: Figure) -> None:
    figure.colorbar(figure.axes[0].images[0], ax=figure.axes, label="dB below the mixture's peak", shrink=0.5)


def _levels(track: Track, stem: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return times in s and levels in dB of pieces of 0.1 s, read one by one."""
    piece = max(1, track.sample_rate_hz // 10)
    starts = np.arange(0, track.samples, piece)
    powers = [np.square(track.read(stem, int(start), min(piece, track.samples - start))).mean() for start in starts]
    return starts / track.sample_rate_hz, 10 * np.log10(np.array(powers) + 1e-9)


def _level_db(signal: Audio) -> NDArray[np.float32]:
    spec = stft(torch.from_numpy(np.ascontiguousarray(signal.mean(axis=0))), StftConfig())
    return (20 * torch.log10(spec.abs() + 1e-6)).numpy()


def _mel(frequency_hz: float) -> float:
    return float(2595 * np.log10(1 + frequency_hz / 700))
