"""Options of several commands, each declared once, in groups that reach a command as one object."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

import typer
from typer.core import TyperCommand

from bandsplit.cli.terminal import print_lines, song_progress, split_names
from bandsplit.core.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console
    from submitit import Job

    from bandsplit.data.songs.tracks import Dataset


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command take groups of options: Typer sees their fields, the command gets the objects.

    Args:
        command: a function for Typer. A parameter whose type is a dataclass stands for the fields of that class, which
            are annotated as Typer's options are.
    """
    seen: list[inspect.Parameter] = []
    groups: dict[str, Any] = {}
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        group = parameter.annotation
        if not is_dataclass(group):
            seen.append(parameter.replace(kind=parameter.KEYWORD_ONLY))
            continue
        groups[parameter.name] = group
        hints = get_type_hints(group, include_extras=True)
        for field in fields(group):
            default = parameter.empty if field.default is MISSING else field.default
            option = inspect.Parameter(
                field.name, parameter.KEYWORD_ONLY, default=default, annotation=hints[field.name]
            )
            seen.append(option)

    @wraps(command)
    def run(**options: Any) -> None:
        made = {
            name: group(**{field.name: options.pop(field.name) for field in fields(group)})
            for name, group in groups.items()
        }
        command(**made, **options)

    run.__dict__["__signature__"] = inspect.Signature(seen)
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in seen}
    return run


def option_name(field: Field[Any]) -> str:
    """Return the name of an option on the command line, after that of its field."""
    return f"--{field.name.replace('_', '-')}"


def as_arguments(*groups: Any) -> list[str]:
    """Return the words of a command line that give these options, without those at their defaults."""
    words: list[str] = []
    for group in groups:
        for field in fields(group):
            value = getattr(group, field.name)
            if value is True:
                words.append(option_name(field))
            elif value != field.default:
                for one in value if isinstance(value, list) else [value]:
                    words += [option_name(field), str(one)]
    return words


def refuse_moved(moved: Mapping[str, str]) -> type[TyperCommand]:
    """Make a class of commands that refuse options of earlier versions and name their replacements.

    Args:
        moved: option -> its replacement.
    """

    class Command(TyperCommand):
        def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
            for option in (word.partition("=")[0] for word in args):
                if option in moved:
                    raise ConfigError(f"{option}: is no longer an option of `{ctx.command_path}`; use {moved[option]}")
            return super().parse_args(ctx, args)

    return Command


RootArgument = Annotated[
    Path, typer.Argument(help="Songs: a folder like MUSDB18-HQ, stem folders, a CSV of instrum,path, or MoisesDB.")
]
DataOption = Annotated[
    Path,
    typer.Option("--data", help="Songs: a folder like MUSDB18-HQ, stem folders, a CSV of instrum,path, or MoisesDB."),
]
StemsOption = Annotated[
    str, typer.Option("--stems", help="Names of the stems, if they are not these four; separated by commas.")
]
LengthsOption = Annotated[
    Literal["error", "pad", "trim"], typer.Option("--lengths", help="What to do if files of a song differ in length.")
]
MixtureOption = Annotated[
    Literal["file", "sum"],
    typer.Option("--mixture", help="Take the mixture from its file, or sum the stems (as the authors do)."),
]
AllowOption = Annotated[
    bool, typer.Option("--allow", help="Continue even if `bandsplit data check` finds broken songs.")
]
ErrataOption = Annotated[
    Literal["keep", "exclude", "relabel"],
    typer.Option(
        "--errata",
        help="Songs of MUSDB18 with listed faults: keep, leave out, or take the sum where the mixture is not the sum.",
    ),
]
DEVICE_HELP = "auto (a CUDA GPU if there is one), cpu, cuda or cuda:N."
DeviceOption = Annotated[str, typer.Option("--device", "-d", help=DEVICE_HELP)]
MODEL_NAMES = ("--name", "-n", "--model", "-m")


def complete_models(incomplete: str) -> list[str]:
    """List the registered and fetched models whose names begin so, for the completion of shells."""
    from bandsplit.models.pretrained.registry import known_entries

    return sorted(entry.name for entry in known_entries() if entry.name.startswith(incomplete))


YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
ForceOption = Annotated[bool, typer.Option("--force", "-f", help="Replace an existing file.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@dataclass(frozen=True)
class DatasetOptions:
    """Reading of the songs of a data set."""

    stems: StemsOption = "vocals,bass,drums,other"
    lengths: LengthsOption = "error"
    mixture: MixtureOption = "file"
    allow: AllowOption = False
    errata: ErrataOption = "keep"

    def open(self, console: Console, root: Path, splits: Sequence[str]) -> Dataset:
        """Index the songs of some splits, check them, and print notes and faults.

        Raises:
            DataError: the set is broken, and ``allow`` is false.
        """
        from bandsplit.data.songs.check import check_dataset, require_sound
        from bandsplit.data.songs.errata import apply_errata
        from bandsplit.data.songs.layouts import index_dataset

        found = index_dataset(
            root, split_names(self.stems), splits,
            mixture=self.mixture, lengths=self.lengths, allow_broken=self.allow,
        )  # fmt: skip
        dataset = apply_errata(found, self.errata)
        print_lines(console, *dataset.notes)
        with song_progress(console, "checking") as progress:
            report = check_dataset(dataset, splits, progress)
        for problem in report.broken if self.allow else ():
            print_lines(console, f"allowed: {problem}", style="red")
        sound = require_sound(report, self.allow)
        print_lines(console, *sound.notes[len(dataset.notes) :])
        return sound


chunk_option, job_option = (partial(typer.Option, rich_help_panel=panel) for panel in ("Chunks", "Jobs"))


@dataclass(frozen=True)
class ChunkOptions:
    """Changes to the chunk plan of the model's authors."""

    method: Annotated[
        Literal["crossfade", "overlap-add", "faded", "folded", "hamming", "trimmed", "bounded", "joined", "triangle"]
        | None,
        chunk_option(
            "--method", help="How a song is cut into chunks and joined (default: as the model's authors did)."
        ),
    ] = None
    chunk: Annotated[
        float | None,
        chunk_option(
            "--chunk",
            "--segment",
            metavar="S",
            help="Chunk length in seconds (default: the authors' own, else that of the method).",
            min=0.01,
        ),
    ] = None
    overlap: Annotated[
        float | None,
        chunk_option(
            "--overlap",
            metavar="PART",
            help="Shared part of crossfaded chunks or triangles, as a fraction (default: 0.1 and 0.25).",
        ),
    ] = None
    hop: Annotated[
        float | None,
        chunk_option(
            "--hop", metavar="S", help="Hop of overlap-add and hamming in seconds (default: 0.5 and 8).", min=0.001
        ),
    ] = None
    overlaps: Annotated[
        int | None,
        chunk_option(
            "--overlaps", metavar="N", help="Chunks over each sample, of faded and folded (default: 2 and 8).", min=1
        ),
    ] = None
    trim: Annotated[
        float | None,
        chunk_option(
            "--trim", metavar="S", help="Context at each end of trimmed or bounded chunks, in seconds.", min=0.001
        ),
    ] = None
    geometry: Annotated[
        Literal["authors", "even"] | None,
        chunk_option("--geometry", help="Chunks as the paper's authors cut them, or equal ones (default: authors)."),
    ] = None
    exact_batch: Annotated[
        int | None,
        chunk_option(
            "--exact-batch", metavar="N", help="Fades of faded as the original has them in batches of N.", min=1
        ),
    ] = None
    sixteen_bits: Annotated[
        bool, chunk_option("--sixteen-bits", help="Round chunks of joined to 16 bits, as the original does.")
    ] = False

    power: Annotated[float | None, chunk_option("--power", help="Power of triangles (default: 1).", min=0.001)] = None
    multiple: Annotated[
        int | None,
        chunk_option(
            "--multiple",
            metavar="N",
            help="Around each triangle, pieces of the song of multiples of N samples; 0: as long as a chunk.",
            min=0,
        ),
    ] = None
    less: Annotated[
        int | None, chunk_option("--less", metavar="N", help="Samples less in each of these pieces.", min=0)
    ] = None
    shifts: Annotated[
        int | None,
        chunk_option(
            "--shifts", metavar="N", help="Mean of N separations with shifted triangles; N times the work.", min=1
        ),
    ] = None

    normalise: Annotated[
        Literal["none", "mono", "joint"] | None,
        chunk_option(
            "--normalise", help="Song normalised by its mean over channels, or all samples (default: as the authors)."
        ),
    ] = None
    tta: Annotated[
        str | None,
        chunk_option(
            "--tta",
            metavar="A,B",
            help="Mean with the estimates of exchanged channels (channels) and of the negated song (polarity).",
        ),
    ] = None

    def settings(self) -> dict[str, Any]:
        """Return those settings of a chunk plan that were given.

        Raises:
            ConfigError: an option has an illegal value, or does not apply to the method that was given.
        """
        from bandsplit.models.chunk_config import CrossfadeConfig, TriangleConfig
        from bandsplit.separation.chunk_choice import check_settings

        values = {
            "kind": self.method, "chunk_s": self.chunk, "overlap": self.overlap, "hop_s": self.hop,
            "geometry": self.geometry, "overlaps": self.overlaps, "trim_s": self.trim,
            "exact_batch": self.exact_batch, "sixteen_bits": self.sixteen_bits or None,
            "power": self.power, "multiple_samples": self.multiple, "less_samples": self.less, "shifts": self.shifts,
            "normalise": self.normalise, "tta": None if self.tta is None else split_names(self.tta),
        }  # fmt: skip
        settings = {name: value for name, value in values.items() if value is not None}
        if self.method is not None:
            check_settings(settings, self.method)
        if self.overlap is not None:
            # Without a method, the model's plan decides how much is too much.
            (CrossfadeConfig if self.method == "crossfade" else TriangleConfig).parse({"overlap": self.overlap})
        return settings


Launcher = Literal["slurm", "local"]


@dataclass(frozen=True)
class JobOptions:
    """Resources of each job, on a cluster or on this machine."""

    hours: Annotated[float, job_option("--hours", help="Wall time of a job, in hours.")] = 24.0
    gpus: Annotated[int, job_option("--gpus", help="GPUs of a job.", min=0)] = 1
    cpus: Annotated[int, job_option("--cpus", help="CPU cores of a job.", min=1)] = 4
    slurm: Annotated[
        list[str] | None,
        job_option("--slurm", metavar="KEY=VALUE", help="Option of sbatch, for example partition=gpu; repeatable."),
    ] = None

    def submit(self, commands: Sequence[Sequence[str]], folder: Path, launcher: Launcher, name: str) -> list[Job[None]]:
        """Submit one job for each command line; see `bandsplit.training.cluster.submit`."""
        from bandsplit.training.cluster import submit

        return submit(
            commands, folder, executor=launcher, hours=self.hours, gpus=self.gpus, cpus=self.cpus,
            options=self.sbatch_options(), name=name,
        )  # fmt: skip

    def sbatch_options(self) -> dict[str, str]:
        """Read the values of ``--slurm``.

        Raises:
            ConfigError: one is not KEY=VALUE.
        """
        pairs = [option.partition("=") for option in self.slurm or []]
        for key, equals, value in pairs:
            if not key or not equals:
                raise ConfigError(f"--slurm {key}{equals}{value}: must be KEY=VALUE, for example partition=gpu")
        return {key: value for key, _, value in pairs}
