"""Schedule of a batch: which song a free worker takes next, which ones are overdue, and when a song has failed."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from enum import Enum

SLOW = 2.0
"""A running song gets a second copy when it has taken this many times as long as the others let one expect."""


class End(Enum):
    """Meaning of the end of an attempt for its song."""

    DONE = "done"
    """The song is done, for the first time."""
    FAILED = "failed"
    """The song has failed for good."""
    AGAIN = "again"
    """It failed, and another attempt follows or is running."""
    SETTLED = "settled"
    """A second copy of a song that was settled before."""


class Schedule:
    """Order of the songs of a batch, by number, and their attempts. It knows no clock, so simulations can use it.

    The longest songs come first, so that none of them is alone at the end; songs of equal length keep their order. A
    song whose worker was lost is taken again next, one that failed when all others have been taken. Workers without a
    song take a second copy of one that is slow: whichever copy ends first counts, since both give the same stems.
    """

    def __init__(
        self, lengths_s: Sequence[float], *, attempts: int = 1, limit_s: float | None = None, copies: bool = False
    ) -> None:
        """Take the songs.

        Args:
            lengths_s: length of each song, at least roughly.
            attempts: attempts after which a song has failed.
            limit_s: time that an attempt may take.
            copies: whether slow songs get second copies.
        """
        self._lengths_s, self._attempts, self._limit_s, self._copies = lengths_s, attempts, limit_s, copies
        self._waiting = deque(sorted(range(len(lengths_s)), key=lambda song: -lengths_s[song]))
        self._running: dict[int, tuple[int, float]] = {}
        """Worker -> its song, and when it began."""
        self._failures = [0] * len(lengths_s)
        self._open = set(range(len(lengths_s)))
        self._done_s = self._done_length_s = 0.0

    @property
    def finished(self) -> bool:
        """Whether all songs are done or have failed; copies may still run."""
        return not self._open

    def take(self, worker: int, now_s: float) -> int | None:
        """Return the song that a free worker starts now, if there is one for it."""
        song = self._waiting.popleft() if self._waiting else self._slow(now_s)
        if song is not None:
            self._running[worker] = song, now_s
        return song

    def overdue(self, now_s: float) -> list[int]:
        """Return the workers whose songs have taken longer than they may."""
        if self._limit_s is None:
            return []
        return [worker for worker, (_, began_s) in self._running.items() if now_s - began_s > self._limit_s]

    def end(self, worker: int, now_s: float, *, done: bool, lost: bool = False) -> End:
        """Record that an attempt ended; ``lost`` if its worker did, too."""
        song, began_s = self._running.pop(worker)
        if song not in self._open:
            return End.SETTLED
        if done:
            self._open.discard(song)
            self._done_s += now_s - began_s
            self._done_length_s += self._lengths_s[song]
            return End.DONE
        self._failures[song] += 1
        if any(other == song for other, _ in self._running.values()):
            return End.AGAIN  # its other copy may succeed
        if self._failures[song] < self._attempts:
            if lost:
                self._waiting.appendleft(song)  # it may be long, and need not be the reason
            else:
                self._waiting.append(song)
            return End.AGAIN
        self._open.discard(song)
        return End.FAILED

    def _slow(self, now_s: float) -> int | None:
        """Return the song that has run longest beyond what is expected of its length.

        A copy is an attempt, of which a song has no more than it may: two that fail in turn would never end.
        """
        if not (self._copies and self._done_length_s):
            return None
        rate = self._done_s / self._done_length_s
        songs = [song for song, _ in self._running.values()]
        ratios = {
            song: (now_s - began_s) / max(rate * self._lengths_s[song], 1e-9)
            for song, began_s in self._running.values()
            if song in self._open and songs.count(song) == 1 and self._failures[song] + 1 < self._attempts
        }
        slowest = max(ratios, key=lambda song: ratios[song], default=None)
        return slowest if slowest is not None and ratios[slowest] > SLOW else None
