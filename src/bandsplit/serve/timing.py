"""Time that a job takes: its price in the queue, and what is left of it over all stages."""

from __future__ import annotations

from typing import NamedTuple

from bandsplit.serve.job import Progress

MINUTE_S = 60
_SEPARATION = 0.9
"""Part of the separation in the time of a job while no price is known."""


class Price(NamedTuple):
    """Time that a minute of music takes."""

    separate_s: float
    listen_s: float
    """For the copy of one signal: the song, or a stem."""

    def costs(self, audio_s: float, signals: int) -> tuple[float, float]:
        """Return the time of the separation of a song, and that of the copies of the song and its stems."""
        minutes = audio_s / MINUTE_S
        return minutes * self.separate_s, minutes * self.listen_s * signals


class Timing:
    """Progress of one job."""

    def __init__(self, price: Price | None, about_s: float | None, signals: int) -> None:
        """Take what is known before it begins.

        Args:
            price: of its model.
            about_s: length of the song.
            signals: number of copies: of the song and its stems.
        """
        self._price, self._audio_s, self._signals = price, about_s, signals
        self._began: dict[str, float] = {}

    def follow(self, stage: str, done_s: float, total_s: float, now_s: float) -> Progress:
        """Return the progress after a report of the worker, which says how much of a stage is done."""
        passed_s = now_s - self._began.setdefault(stage, now_s)
        part = min(1.0, done_s / total_s) if total_s else 0.0
        if stage == "separate":
            self._audio_s = total_s  # exact
        separate_s, listen_s = self._costs()
        weight = _SEPARATION if separate_s is None or listen_s is None else separate_s / (separate_s + listen_s)
        match stage:
            case "separate":
                left_s, share = _add(_left(part, passed_s, separate_s), listen_s), weight * part
            case "write":
                left_s, share = listen_s, weight
            case "listen":
                left_s, share = _left(part, passed_s, listen_s), weight + (1 - weight) * part
            case _:
                left_s, share = _add(separate_s, listen_s), 0.0
        return Progress(stage=stage, share=share, left_s=left_s)

    def _costs(self) -> tuple[float, float] | tuple[None, None]:
        if self._price is None or self._audio_s is None:
            return None, None
        return self._price.costs(self._audio_s, self._signals)


def _add(stage_s: float | None, later_s: float | None) -> float | None:
    """Add the time of a stage and that of the later ones, as far as it is known."""
    return None if stage_s is None else stage_s + (later_s or 0)


def _left(part: float, passed_s: float, cost_s: float | None) -> float | None:
    """Return the time left of a stage: as fast as until now, or, at its beginning, by its price."""
    return passed_s * (1 - part) / part if part and passed_s else cost_s
