"""Draw the pictures of generated songs beside this file: ``.venv/bin/python docs/images/draw_songs.py``."""

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from bandsplit.core.pictures import save_figure
from bandsplit.data.synth.songs import song_title, synthesise_song
from bandsplit.reports.spectrograms import _add_scale, _draw_panel, peak_level_db

DURATION_S, RATE_HZ = 40.0, 44100


def draw_song(path: Path, seed: int) -> None:
    """Draw spectrograms of a generated song: the mixture, which is the sum of the stems, and each stem below it."""
    stems = synthesise_song(seed, DURATION_S, RATE_HZ)
    signals = {"mixture": np.sum(list(stems.values()), axis=0), **stems}
    figure = Figure(figsize=(10, 1.5 * len(signals)), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(f"Seed {seed}: {song_title(seed, DURATION_S)}")
    reference_db = peak_level_db(signals["mixture"])
    for row, (name, signal) in enumerate(signals.items(), start=1):
        _draw_panel(figure.add_subplot(len(signals), 1, row), name, signal, RATE_HZ, reference_db).label_outer()
    figure.axes[-1].set_xlabel("s")
    _add_scale(figure)
    save_figure(figure, path, dpi=90)


for seed in (3, 101):
    path = Path(__file__).parent / f"song-{seed}.png"
    draw_song(path, seed)
    with Image.open(path) as picture:
        small = picture.convert("RGB").quantize(128, dither=Image.Dither.NONE)
    small.save(path, optimize=True)
