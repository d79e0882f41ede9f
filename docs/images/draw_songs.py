"""Draw the pictures of generated songs beside this file: ``.venv/bin/python docs/images/draw_songs.py``."""

from pathlib import Path

from PIL import Image

from bandsplit.data.synth.songs import song_title, synthesise_song
from bandsplit.reports.spectrograms import draw_song

DURATION_S = 40.0

for seed in (3, 101):
    path = Path(__file__).parent / f"song-{seed}.png"
    draw_song(path, f"Seed {seed}: {song_title(seed, DURATION_S)}", synthesise_song(seed, DURATION_S), 44100)
    with Image.open(path) as picture:
        small = picture.convert("RGB").quantize(128, dither=Image.Dither.NONE)
    small.save(path, optimize=True)
