"""State of the public weights of a study: which are scored, cached, or failed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from bandsplit.models.pretrained.entries import Entry
from bandsplit.models.pretrained.registry import cached_files, find_entry
from bandsplit.studies.runner.folder import StudyFolder


class PublicState(NamedTuple):
    """Public weights in the folder of a study."""

    entry: Entry
    scored: int
    """Scorings that are done: one for each data set and plan."""
    failure: str | None
    """Why the last attempt to fetch or score them failed; None if it did not."""

    @property
    def cached(self) -> bool:
        """Whether nothing has to be downloaded to score them."""
        return bool(cached_files(self.entry))

    @property
    def text(self) -> str:
        """The state in words."""
        if self.failure is not None:
            return "failed"
        return "scored" if self.scored else "not scored"


def look_public(folder: StudyFolder, names: Iterable[str]) -> list[PublicState]:
    """Look up the state of public weights."""
    events = [event for event in folder.events() if "public" in event]
    states = []
    for entry in map(find_entry, names):
        own = [event for event in events if event["public"] == entry.name]
        parts = {event["part"] for event in own if event["event"] == "scored"}
        reason = own[-1].get("reason") if own else None
        states.append(PublicState(entry, sum((folder.parts / part).exists() for part in parts), reason))
    return states
