"""Songs in formats that libsndfile does not know."""

from pathlib import Path
from typing import Any

import av
import numpy as np


def encode(path: Path, signal: np.ndarray, codec: str, rate_hz: int = 48000, **options: Any) -> Path:
    """Write a file with PyAV; in mp4, the index goes first, as in files made for the web."""
    with av.open(str(path), "w", options=options) as container:
        container.metadata["title"] = "Hello"
        stream = container.add_stream(codec, rate=rate_hz, layout="stereo")
        for start in range(0, signal.shape[1], 1024):
            block = np.ascontiguousarray(signal[:, start : start + 1024])
            frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="stereo")
            frame.sample_rate, frame.pts = rate_hz, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path
