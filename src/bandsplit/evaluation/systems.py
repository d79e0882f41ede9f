"""Systems to score: models, and anything else that estimates targets of a song."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from pooch import file_hash

from bandsplit.core.errors import BandsplitError
from bandsplit.data.songs.tracks import Audio, Track, TrackAudio
from bandsplit.models.bags import is_bag
from bandsplit.models.card import read_card
from bandsplit.models.chunk_config import ChunkConfig
from bandsplit.separation.chunks import describe_chunks
from bandsplit.separation.separator import Separator
from bandsplit.separation.systems import Chunks, read_system


@dataclass(frozen=True)
class About:
    """Description of a system that rows record."""

    name: str | None = None
    """Name in rows; None: that under which it is scored."""
    inference: str = "none"
    """Settings that change its scores."""
    plan: ChunkConfig | None = None
    """Chunk plan, which ``inference`` describes; None for systems that do not cut songs."""
    recipe: str | None = None
    seed: int | None = None
    budget: str | None = None
    source: str | None = None
    """Hash of the files or songs behind its estimates, where these may change under the same name."""
    targets: tuple[str, ...] | None = None
    """Estimated targets; None: every stem of the song."""
    timed: bool = True
    """Whether the time it takes is the time of a separation."""
    saw_test_songs: bool | None = None
    """Whether it was trained on the test songs of MUSDB18-HQ; None: not known."""


class System(Protocol):
    """Anything that estimates targets of a song. It can be pickled, to work in several processes."""

    def about(self, track: Track) -> About:
        """Describe the estimates of a song without making them."""
        ...

    def __call__(self, song: TrackAudio) -> Mapping[str, Audio]:
        """Estimate targets ``c samples``, as long as the mixture. Only yardsticks may look at the stems."""
        ...


@dataclass(frozen=True)
class Named:
    """A system whose rows have another name than that under which it is scored, so that plans share it."""

    name: str
    system: System

    def about(self, track: Track) -> About:
        """Describe the system."""
        return replace(self.system.about(track), name=self.name)

    def __call__(self, song: TrackAudio) -> Mapping[str, Audio]:
        """Estimate targets as the system does."""
        return self.system(song)


class ModelSystem:
    """A separator applied to the mixture file."""

    def __init__(
        self,
        separator: Separator,
        recipe: str | None = None,
        seed: int | None = None,
        budget: str | None = None,
        files: Sequence[Path] = (),
        chunks: Chunks = None,
        saw_test_songs: bool | None = None,
    ) -> None:
        """Wrap a separator; other processes load it from ``files`` with ``chunks``, where there are any files."""
        self.separator = separator
        self._files, self._chunks = tuple(files), chunks
        self._about = About(
            inference=" + ".join(map(describe_chunks, separator.chunks)),
            plan=separator.chunks[0] if len(separator.chunks) == 1 else None,
            recipe=recipe,
            seed=seed,
            budget=budget,
            source=hash_files(separator.files) if files else None,
            targets=separator.targets,
            saw_test_songs=saw_test_songs,
        )

    @classmethod
    def load(cls, files: Sequence[Path], device: str, chunks: Chunks) -> ModelSystem:
        """Load files of models and bags of different targets; what they do not share of recipe, seed, budget is None.

        Raises:
            ModelFileError: a file is not a model or a bag.
            ConfigError: the models do not go together, or the device is not available.
        """
        separator = Separator(list(files), device=device, chunks=chunks)
        cards = [read_card(file)[1] for file in separator.files if not is_bag(file)]
        recipes, seeds = {card.recipe for card in cards}, {card.seed for card in cards}
        budgets = {card.budget for card in cards}
        return cls(
            separator,
            recipe=recipes.pop() if len(recipes) == 1 else None,
            seed=seeds.pop() if len(seeds) == 1 else None,
            budget=budgets.pop() if len(budgets) == 1 else None,
            files=files,
            chunks=chunks,
            saw_test_songs=True if any(card.saw_test_songs for card in cards) else None,
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the names of the files, if there are any, instead of the weights."""
        if self._files:
            return ModelSystem.load, (self._files, str(self.separator.device), self._chunks)
        return ModelSystem, (self.separator, self._about.recipe, self._about.seed, self._about.budget)

    def about(self, track: Track) -> About:
        """Describe the models and the chunk plan."""
        return self._about

    def __call__(self, song: TrackAudio) -> Mapping[str, Audio]:
        """Separate the mixture."""
        return self.separator.separate(song.mixture, song.track.sample_rate_hz)


def model_systems(paths: Sequence[Path], device: str, chunks: Chunks) -> dict[str, System]:
    """Make systems of models and bags: files of different targets form one, a repeated target starts the next.

    Systems are named by the cards of their models and the names of bags, and by their files where names repeat.

    Raises:
        ModelFileError: a file is not a model or a bag.
        ConfigError: a bag's members do not go together.
    """
    groups: list[dict[Path, tuple[str, set[str]]]] = []
    for path in map(Path, paths):
        mean = read_system([path]).mean
        taken = set().union(*(targets for _, targets in groups[-1].values())) if groups else set()
        if not groups or taken & set(mean.targets):
            groups.append({})
        groups[-1][path] = (mean.name if is_bag(path) else read_card(path)[1].name, set(mean.targets))
    names = [" + ".join(dict.fromkeys(name for name, _ in group.values())) for group in groups]
    if len(set(names)) < len(names):
        names = [" + ".join(map(str, group)) for group in groups]
    return {name: ModelSystem.load(tuple(group), device, chunks) for name, group in zip(names, groups, strict=True)}


def hash_files(paths: Iterable[Path]) -> str:
    """Return twelve hexadecimal digits that identify the content of files, in their order.

    Raises:
        BandsplitError: a file cannot be read.
    """
    digest = hashlib.sha256()
    for path in paths:
        try:
            digest.update(file_hash(str(path)).encode())
        except OSError as error:
            raise BandsplitError(f"{path}: cannot be read ({error.strerror})") from None
    return digest.hexdigest()[:12]
