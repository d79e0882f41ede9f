"""Score rows as stored, and the one place that aggregates songs and targets.

uSDR is averaged over songs, as are most metrics; cSDR, a median over windows, is the median over songs; a table row's
average is the mean of its targets. `SDR_CONVENTIONS` are the other ways in which publications aggregate an SDR.

Source: docs/numerics.md#metrics.
"""

from __future__ import annotations

import math
import statistics
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

from pydantic import ConfigDict, field_validator

from bandsplit.core.config import Grown
from bandsplit.core.errors import BandsplitError
from bandsplit.core.files import Journal
from bandsplit.core.rows import read_rows
from bandsplit.models.chunk_config import ChunkConfig

Metric = Literal[
    "usdr_db", "csdr_db", "si_sdr_db", "l1_freq", "si_sar_db", "bleedless", "fullness", "lsd_db",
    "msst_sdr_db", "kuielab_sdr_db", "csdr_rest_db", "csdr_own_db",
]  # fmt: skip


class MetricText(NamedTuple):
    """A metric in words, and how it is read."""

    name: str
    unit: str
    over_songs: str = "mean over {songs}"
    median_over_songs: bool = False
    """Whether the score of a set is the median over songs, not the mean."""
    higher_is_better: bool = True
    spread_known: bool = False
    """Whether published runs of one model show by how much it varies."""
    listed: bool = True
    """Whether tables of all metrics have it; the others are for `SDR_CONVENTIONS`."""

    def __str__(self) -> str:
        """Name and unit."""
        return f"{self.name}, {self.unit}" + ("" if self.higher_is_better else ", lower is better")


def _median(name: str, **facts: bool) -> MetricText:
    return MetricText(name, "dB", "median over {songs} of the median over 1 s windows", True, **facts)


METRICS: dict[Metric, MetricText] = {
    "usdr_db": MetricText("uSDR", "dB", spread_known=True),
    "csdr_db": _median("cSDR", spread_known=True),
    "si_sdr_db": MetricText("SI-SDR", "dB", spread_known=True),
    "l1_freq": MetricText("L1-freq", "0 to 100"),
    "si_sar_db": MetricText("SI-SAR", "dB"),
    "bleedless": MetricText("bleedless", "0 to 100"),
    "fullness": MetricText("fullness", "0 to 100"),
    "lsd_db": MetricText("log-spectral distance", "dB", higher_is_better=False),
    "msst_sdr_db": MetricText("SDR of MSST", "dB", listed=False),
    "kuielab_sdr_db": MetricText("SDR of KUIELab", "dB", listed=False),
    "csdr_rest_db": _median("cSDR-rest", listed=False),
    "csdr_own_db": _median("cSDR-own", listed=False),
}


SEEN_MARK = "‡"
SEEN_NOTE = f"{SEEN_MARK} trained on these songs: not a score"
"""Mark behind the names of systems in tables, and its footnote."""


class Setting(NamedTuple):
    """All that two scores must share before they may be aggregated."""

    system: str
    data: str
    fingerprint: str | None
    benchmark: str | None
    split: str
    metric: Metric
    convention: str
    mixture: str
    inference: str
    scored_with: tuple[str, ...]
    recipe: str | None
    seed: int | None
    budget: str | None
    source: str | None
    version: str
    errata: Literal["exclude", "relabel"] | None


class Score(Grown):
    """One number: one metric of one target of one song."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, ser_json_inf_nan="strings")
    ADDED: ClassVar = ("errata", "saw_test_songs", "budget")

    system: str
    """Name of the model or yardstick that made the estimate."""
    data: str
    """Name of the data set's folder."""
    fingerprint: str | None = None
    """Fingerprint of the split's audio, see `bandsplit.data.songs.check`; None where it was not computed."""
    benchmark: str | None = None
    """``MUSDB18-HQ`` where the split is the published one; only such scores are shown next to published ones."""
    split: str
    track: str
    target: str
    metric: Metric
    """Over the entire song; those that begin with ``csdr``: median over its 1 s windows."""
    value: float | None
    """In the unit of `METRICS`; None (NaN becomes None) where the metric is not defined, for example if no window
    of the song counts; infinite for an estimate without any error."""
    convention: str = ""
    """Definition of the metric; scores of different definitions cannot be compared."""
    mixture: Literal["file", "sum"]
    """Source of the mixture: its own file, or the sum of the stems."""
    errata: Literal["exclude", "relabel"] | None = None
    """Treatment of songs with known faults; None: they are kept as they are."""
    inference: str
    """Chunk plan or other settings of the system, in words."""
    plan: ChunkConfig | None = None
    """The chunk plan and all its settings; None for systems that do not cut songs, and in rows of earlier versions."""
    scored_with: tuple[str, ...]
    """Targets that were scored together: a window in which one of them is silent counts for none of them."""
    recipe: str | None = None
    """Recipe of the models; None for yardsticks, for estimates of other tools and for runs changed by hand."""
    seed: int | None = None
    """Seed that the models were trained with."""
    budget: str | None = None
    """Price at which their training stopped; None: it stopped as the recipe does."""
    source: str | None = None
    """Hash of the model files, of the estimates' files, or of the songs that a yardstick was fitted on."""
    version: str
    """Version of this package."""
    windows: tuple[float | None, ...] | None = None
    """Metrics that begin with ``csdr`` only: dB of each window of 1 s, None where it does not count."""
    wall_s: float | None = None
    """Seconds that the system took for the song, all its targets together; None for estimates of other tools."""
    audio_s: float | None = None
    """Length of the song in seconds."""
    saw_test_songs: Literal[True] | None = None
    """True where the system is known to have been trained on the song, so that the value is no score; else absent."""

    @field_validator("value")
    @classmethod
    def _nan_is_none(cls, value: float | None) -> float | None:
        return None if value is None or math.isnan(value) else value

    @property
    def setting(self) -> Setting:
        """Everything that the score must share with others to be aggregated with them."""
        return Setting(*(getattr(self, field) for field in Setting._fields))


def append_scores(path: str | Path, rows: Iterable[Score]) -> None:
    """Append rows to a file of one JSON object per line, all or none; creates the folder if it is missing.

    Raises:
        BandsplitError: the file cannot be written; it is unchanged.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        Journal(path).append(*(row.model_dump_json() for row in rows))
    except OSError as error:
        raise BandsplitError(f"{path}: cannot be written ({error.strerror}); choose another file") from None


def read_scores(path: str | Path, note: Callable[[str], None] = warnings.warn) -> list[Score]:
    """Read the rows of a file that `append_scores` wrote.

    Args:
        path: the file.
        note: called with one line of text if incomplete lines, whose writer was stopped, were left out.

    Raises:
        BandsplitError: there is no such file, or a line is neither a score nor the beginning of one.
    """
    try:
        rows, damage = read_rows(Path(path), Score.model_validate_json, "score", "evaluate that song again")
    except OSError as error:
        raise BandsplitError(f"{path}: cannot be read as scores ({error}); give a file that evaluate wrote") from None
    if damage:
        note(f"{damage}; evaluate the songs in question again")
    return rows


# --- aggregation -----------------------------------------------------------------------------------------------------


class Summary(NamedTuple):
    """A metric of one target, aggregated over songs."""

    value: float | None
    """In the metric's unit; None where no song has a value."""
    songs: int
    """Songs that have a value."""


def over_songs(metric: Metric, values: Sequence[float]) -> float:
    """Aggregate a metric over a data set: the median for cSDR, else the mean."""
    return float(statistics.median(values)) if METRICS[metric].median_over_songs else statistics.fmean(values)


def average_over_targets(values: Sequence[float | None]) -> float | None:
    """Average a table row; None where a target is missing, since a mean over fewer targets cannot be compared."""
    present = [value for value in values if value is not None]
    return statistics.fmean(present) if present and len(present) == len(values) else None


def aggregate(rows: Iterable[Score]) -> dict[Setting, dict[str, Summary]]:
    """Aggregate over songs: setting -> target -> summary, in the order of first appearance.

    Rows of different settings are never mixed. The later of two rows for the same song and target counts, so
    that a repeated evaluation is not counted twice.
    """
    songs: dict[Setting, dict[str, dict[str, float | None]]] = {}
    for row in rows:
        songs.setdefault(row.setting, {}).setdefault(row.target, {})[row.track] = row.value
    return {
        setting: {target: _summarise(setting.metric, values.values()) for target, values in targets.items()}
        for setting, targets in songs.items()
    }


def _summarise(metric: Metric, values: Iterable[float | None]) -> Summary:
    present = [value for value in values if value is not None]
    return Summary(over_songs(metric, present) if present else None, len(present))


# --- conventions of the SDR ------------------------------------------------------------------------------------------


class SdrConvention(NamedTuple):
    """A way to make one SDR of a data set, from rows."""

    metric: Metric
    """Of the rows."""
    over: Literal["mean", "median", "pooled"]
    """Over songs the mean or the median of their values; or the median over all windows of all songs."""
    name: str

    def summarise(self, rows: Iterable[Score]) -> Summary:
        """Aggregate rows of one target; songs, or windows, that have a value are counted."""
        latest = {row.track: row for row in rows}.values()
        if self.over == "pooled":
            values = [value for row in latest for value in row.windows or () if value is not None]
        else:
            values = [row.value for row in latest if row.value is not None]
        aggregated = statistics.fmean if self.over == "mean" else statistics.median
        return Summary(float(aggregated(values)) if values else None, len(values))


_OVER: dict[Literal["mean", "median", "pooled"], str] = {
    "median": "", "mean": ", mean", "pooled": ", pooled",
}  # fmt: skip
SDR_CONVENTIONS: Mapping[str, SdrConvention] = {
    "usdr": SdrConvention("usdr_db", "mean", "uSDR"),
    "msst": SdrConvention("msst_sdr_db", "mean", "uSDR, 1e-8"),
    "kuielab": SdrConvention("kuielab_sdr_db", "mean", "SDR, ratio + 1e-10"),
    **{
        f"{metric.removesuffix('_db')}-{over}": SdrConvention(metric, over, METRICS[metric].name + text)
        for metric in ("csdr_db", "csdr_rest_db", "csdr_own_db")
        for over, text in _OVER.items()
    },
}
"""In the order of tables; `bandsplit.published.paper.convention_users` names who uses them."""


def without_metric(setting: Setting) -> Setting:
    """Return a setting that rows of one evaluation share, whatever their metric."""
    return setting._replace(metric="usdr_db", convention="")


def summarise_conventions(rows: Iterable[Score]) -> dict[Setting, dict[str, dict[str, Summary]]]:
    """Aggregate rows by all conventions: setting `without_metric` -> convention -> target -> summary.

    Conventions without rows are missing.
    """
    systems: dict[Setting, dict[tuple[Metric, str], list[Score]]] = {}
    for row in rows:
        systems.setdefault(without_metric(row.setting), {}).setdefault((row.metric, row.target), []).append(row)
    found: dict[Setting, dict[str, dict[str, Summary]]] = {}
    for setting, by_metric in systems.items():
        found[setting] = {
            id: targets
            for id, convention in SDR_CONVENTIONS.items()
            if (
                targets := {
                    target: convention.summarise(some)
                    for (metric, target), some in by_metric.items()
                    if metric == convention.metric
                }
            )
        }
    return found
