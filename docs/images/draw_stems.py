"""Draw the first picture of the README beside this file: ``.venv/bin/python docs/images/draw_stems.py``."""

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch
from numpy.typing import NDArray
from PIL import Image

from bandsplit.core.pictures import save_figure
from bandsplit.data.synth.songs import synthesise_song
from bandsplit.reports.spectrograms import _level_db, _mel, peak_level_db

SEED, DURATION_S, RATE_HZ = 3, 40.0, 44100
FROM_S, TO_S = 28.0, 40.0
BACKGROUND, SILENT, TEXT = "#0f172a", "#020617", "#e2e8f0"
COLOURS = {"mixture": "#f8fafc", "vocals": "#f472b6", "bass": "#fbbf24", "drums": "#38bdf8", "other": "#4ade80"}
LOWEST_HZ, HIGHEST_HZ, RANGE_DB = 40.0, 16_000.0, 60.0


def strip(signal: NDArray[np.floating], reference_db: float, rows: int) -> NDArray[np.floating]:
    """Return a spectrogram of ``c samples`` in dB, on the mel scale."""
    level_db = _level_db(signal) - reference_db
    hz = 700 * (10 ** (np.linspace(_mel(LOWEST_HZ), _mel(HIGHEST_HZ), rows) / 2595) - 1)
    bins = hz / (RATE_HZ / 2) * (len(level_db) - 1)
    below = np.minimum(bins.astype(int), len(level_db) - 2)
    part = (bins - below)[:, None]
    return (1 - part) * level_db[below] + part * level_db[below + 1]


def draw(path: Path) -> None:
    """Draw the mixture, an arrow, and the four stems, on a dark card that suits light and dark pages."""
    cut = slice(int(FROM_S * RATE_HZ), int(TO_S * RATE_HZ))
    stems = {name: stem[:, cut] for name, stem in synthesise_song(SEED, DURATION_S, RATE_HZ).items()}
    signals = {"mixture": np.sum(list(stems.values()), axis=0), **stems}
    reference_db = peak_level_db(signals["mixture"])
    figure = Figure(figsize=(10, 3.6), facecolor=BACKGROUND)
    FigureCanvasAgg(figure)
    places = {"mixture": (0.02, 0.05, 0.42, 0.83)}
    places |= {name: (0.56, 0.77 - 0.24 * row, 0.42, 0.19) for row, name in enumerate(list(COLOURS)[1:])}
    for name, place in places.items():
        axes = figure.add_axes(place)
        colours = LinearSegmentedColormap.from_list(name, [SILENT, COLOURS[name]])
        picture = strip(signals[name], reference_db, 256 if name == "mixture" else 64)
        axes.imshow(picture, origin="lower", aspect="auto", cmap=colours, vmin=-RANGE_DB, vmax=-5)
        axes.set_axis_off()
        if name == "mixture":
            figure.text(place[0], 0.92, name, color=COLOURS[name], fontsize=14)
        else:
            figure.text(place[0] - 0.012, place[1] + 0.075, name, color=COLOURS[name], fontsize=13, ha="right")
    figure.add_artist(FancyArrowPatch((0.45, 0.465), (0.487, 0.465), color=TEXT, mutation_scale=18, lw=1.6))
    save_figure(figure, path, dpi=100)


def palette(shades: int = 40) -> Image.Image:
    """Return a palette with shades of every colour, so that few colours suffice."""
    ends = [(SILENT, colour) for colour in COLOURS.values()] + [(BACKGROUND, colour) for colour in COLOURS.values()]
    ramps = [np.linspace(to_rgb(low), to_rgb(high), shades if low == SILENT else 8) for low, high in ends]
    image = Image.new("P", (1, 1))
    image.putpalette((np.concatenate(ramps) * 255).round().astype(np.uint8).ravel().tolist())
    return image


path = Path(__file__).parent / "stems.png"
draw(path)
with Image.open(path) as picture:
    small = picture.convert("RGB").quantize(palette=palette(), dither=Image.Dither.NONE)
small.save(path, optimize=True)
