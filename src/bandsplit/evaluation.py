"""Score systems, models and yardsticks alike, on the songs of a data set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from bandsplit import __version__
from bandsplit.config import ChunkConfig
from bandsplit.data.tracks import Audio, Dataset, TrackAudio
from bandsplit.errors import BandsplitError
from bandsplit.inference.chunks import describe_chunks
from bandsplit.inference.separator import Separator
from bandsplit.metrics import csdr_windows, median_over_windows, usdr
from bandsplit.models.files import read_card
from bandsplit.results import Metric, Score
from bandsplit.tables import order_targets


class System(Protocol):
    """Anything that estimates targets of a song."""

    @property
    def inference(self) -> str:
        """Settings that change its scores, as text for the result rows."""
        ...

    def __call__(self, song: TrackAudio) -> Mapping[str, Audio]:
        """Estimate targets ``c samples``, as long as the mixture. Only yardsticks may look at the stems."""
        ...


class ModelSystem:
    """A separator that hears the mixture file."""

    def __init__(self, separator: Separator) -> None:
        """Wrap a separator."""
        self.separator = separator
        self.inference = describe_chunks(separator.chunks)

    def __call__(self, song: TrackAudio) -> Mapping[str, Audio]:
        """Separate the mixture."""
        return self.separator.separate(song.mixture, song.track.sample_rate_hz)


def model_systems(paths: Sequence[Path], device: str, chunks: ChunkConfig) -> dict[str, System]:
    """Make systems of model files: files of different targets form one, a repeated target starts the next.

    Systems are named by the cards of their models, and by their files where names repeat.

    Raises:
        ModelFileError: a file is not a model.
    """
    groups: list[dict[Path, tuple[str, set[str]]]] = []
    for path in map(Path, paths):
        config, card = read_card(path)
        taken = set().union(*(targets for _, targets in groups[-1].values())) if groups else set()
        if not groups or taken & set(config.targets):
            groups.append({})
        groups[-1][path] = (card.name, set(config.targets))
    names = [" + ".join(dict.fromkeys(name for name, _ in group.values())) for group in groups]
    if len(set(names)) < len(names):
        names = [" + ".join(map(str, group)) for group in groups]
    return {
        name: ModelSystem(Separator(list(group), device=device, chunks=chunks))
        for name, group in zip(names, groups, strict=True)
    }


def evaluate(systems: Mapping[str, System], dataset: Dataset, split: str) -> Iterator[list[Score]]:
    """Score every system on every song; yields the rows of one system and song at a time, songs outermost.

    The targets of a system that are stems of the song are scored together, since cSDR leaves out windows where any of
    them is silent.

    Args:
        systems: name -> system, in the order of the table.
        dataset: the data set; its name and fingerprint go into the rows.
        split: its songs that are scored.

    Raises:
        DataError: the split has no songs, or they are loose stems.
        BandsplitError: a system failed, gave no target that the song has, or an estimate of the wrong shape or with
            NaN; the system and the song are named.
    """
    for track in dataset.whole_songs(split):
        song = track.load()
        for name, system in systems.items():
            try:
                estimates = system(song)
            except BandsplitError as error:
                raise BandsplitError(f"{name}, song {track.name!r}: {error}") from None
            scored = order_targets(target for target in estimates if target in song.stems)
            _check_estimates(name, song, estimates, scored)
            yield _score(name, system.inference, song, estimates, tuple(scored), dataset)


def _check_estimates(system: str, song: TrackAudio, estimates: Mapping[str, Audio], scored: list[str]) -> None:
    where = f"{system}, song {song.track.name!r}"
    if not scored:
        raise BandsplitError(
            f"{where}: estimates {', '.join(estimates) or 'nothing'}, the song has {', '.join(song.stems)}; nothing "
            f"can be scored: use a data set with these stems"
        )
    for target in scored:
        shape, wanted = np.shape(estimates[target]), song.mixture.shape
        if shape != wanted:
            raise BandsplitError(f"{where}: the estimate of {target} has shape {shape}, the song {wanted}")
        bad = np.argwhere(~np.isfinite(estimates[target]))
        if len(bad):
            raise BandsplitError(
                f"{where}: the estimate of {target} has {len(bad)} values that are NaN or infinite, the first at "
                f"sample {bad[:, 1].min()}; check the model"
            )


def _score(
    system: str,
    inference: str,
    song: TrackAudio,
    estimates: Mapping[str, Audio],
    scored: tuple[str, ...],
    dataset: Dataset,
) -> list[Score]:
    reference = np.stack([song.stems[target] for target in scored])
    estimate = np.stack([estimates[target] for target in scored])
    values_db: dict[Metric, np.ndarray] = {
        "usdr_db": usdr(reference, estimate),
        "csdr_db": median_over_windows(csdr_windows(reference, estimate, song.track.sample_rate_hz)),
    }
    return [
        Score(
            system=system,
            data=dataset.name,
            fingerprint=dataset.fingerprints.get(song.track.split),
            benchmark=dataset.benchmark,
            split=song.track.split,
            track=song.track.name,
            target=target,
            metric=metric,
            value=float(values[index]),
            mixture=song.track.mixture_from,
            inference=inference,
            scored_with=scored,
            version=__version__,
        )
        for index, target in enumerate(scored)
        for metric, values in values_db.items()
    ]
