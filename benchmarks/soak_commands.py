"""The commands that `soak.py` disturbs: small songs and models, and what must be true of their files at any moment."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

RATE_HZ = 16000
STEMS = ("vocals", "bass", "drums", "other")
SECONDS = 3
PIECE_BYTES = 4096


class Command:
    """A command, what it needs, and what must be true of what it leaves."""

    stopped: tuple[int, ...] = (1,)
    """Exit codes of a command that was stopped."""
    programs = True
    """Whether it can be started as a program of its own."""
    kept: tuple[str, ...] = ()
    """Unfinished files that are no secret: the next run continues them."""

    def __init__(self, base: Path) -> None:
        """Make what all tries read."""
        self.base = base

    def prepare(self, folder: Path, draw: random.Random) -> list[str]:
        """Make what one try works on, in its folder; return the arguments."""
        raise NotImplementedError

    def problems(self, folder: Path, finished: bool) -> Iterator[str]:
        """Say what is wrong with the files under final names."""
        raise NotImplementedError

    def is_done(self, folder: Path) -> bool:
        """Return whether the same command would refuse, since all is there."""
        return False

    def model(self) -> Path:
        """Write a small model of two targets."""
        import torch

        from bandsplit.models.bsrnn.config import BsrnnConfig
        from bandsplit.models.card import ModelCard
        from bandsplit.models.files import save_model
        from bandsplit.models.network import build_model

        path = self.base / "small.safetensors"
        torch.manual_seed(0)
        config = BsrnnConfig.parse(
            {
                "targets": STEMS[:2], "bands": [[500, 16]], "sample_rate_hz": RATE_HZ, "n_features": 8, "n_blocks": 1,
                "stft": {"n_fft": 512, "hop_samples": 128},
            }
        )  # fmt: skip
        save_model(path, build_model(config), ModelCard(name="small", training_data="none", licence="CC0"))
        return path

    def songs(self, suffix: str = ".wav") -> Path:
        """Write a small data set."""
        root = self.base / "songs"
        for number in range(4):
            split = "test" if number > 1 else "train"
            random_ = np.random.default_rng(number)
            stems = {stem: 0.1 * random_.uniform(-1, 1, (SECONDS * RATE_HZ, 2)) for stem in STEMS}
            place = root / split / f"Song {number}"
            place.mkdir(parents=True)
            for name, audio in {**stems, "mixture": sum(stems.values())}.items():
                soundfile.write(place / f"{name}{suffix}", audio, RATE_HZ, subtype="PCM_16")
        return root


def linked(root: Path, folder: Path) -> str:
    """Link to the songs of a data set, so that what is found out about them is kept beside the links."""
    for song in root.glob("*/*"):
        (folder / "songs" / song.parent.name).mkdir(parents=True, exist_ok=True)
        (folder / "songs" / song.parent.name / song.name).symlink_to(song)
    return "songs"


class Separate(Command):
    """Two songs, in several formats, one or two at a time, sometimes over older stems."""

    OLD = b"older"

    def __init__(self, base: Path) -> None:
        """Write two songs; they are loud, so that formats other than float need a second pass."""
        super().__init__(base)
        self.file = self.model()
        for name in ("a", "b"):
            audio = np.random.default_rng(ord(name)).uniform(-1, 1, (SECONDS * RATE_HZ, 2))
            soundfile.write(base / f"{name}.wav", audio, RATE_HZ, subtype="FLOAT")

    def prepare(self, folder: Path, draw: random.Random) -> list[str]:
        """Put older stems there in a third of the tries."""
        form = draw.choice(("wav", "flac", "ogg"))
        jobs = draw.choice(("1", "1", "2"))
        if draw.random() < 0.33:
            for name in ("a", "b"):
                (folder / "out" / name).mkdir(parents=True)
                for stem in STEMS[:2]:
                    (folder / "out" / name / f"{stem}.{form}").write_bytes(self.OLD)
        songs = [str(self.base / "a.wav"), str(self.base / "b.wav")]
        options = [] if form == "wav" else [f"--{form}"]
        return ["separate", *songs, "-n", str(self.file), "-o", "out", "--jobs", jobs, "--chunk", "0.5", *options]

    def problems(self, folder: Path, finished: bool) -> Iterator[str]:
        """All stems of a song are new, or none is, and they are complete; no empty folders."""
        for name in ("a", "b"):
            files = list((folder / "out" / name).glob("[!.]*"))
            old = [file for file in files if file.read_bytes() == self.OLD]
            new = [file for file in files if file not in old]
            if (folder / "out" / name).is_dir() and not list((folder / "out" / name).iterdir()):
                yield f"out/{name} is empty"
            if len(new) not in (0, 2) or len(old) not in (0, 2) or (old and new) or (finished and not new):
                yield f"{len(new)} new and {len(old)} older stems of {name}"
            for file in new:
                if soundfile.info(str(file)).frames != SECONDS * RATE_HZ:
                    yield f"{file} is incomplete"
        yield from cut_lines(folder / "out" / "manifest.jsonl")


class Train(Command):
    """A short training, sometimes with a loader worker."""

    stopped = (1, 3)

    def __init__(self, base: Path) -> None:
        """Write the songs."""
        super().__init__(base)
        self.root = self.songs()

    def prepare(self, folder: Path, draw: random.Random) -> list[str]:
        """Train few updates of a tiny model."""
        settings = {
            "training.examples_per_epoch": 8, "training.max_epochs": 3, "training.validate_every": 1,
            "training.excerpt_s": 0.5, "model.n_features": 4, "model.n_blocks": 1,
        }  # fmt: skip
        changes = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
        workers = draw.choice(("0", "0", "1"))
        valid = ["--valid", linked(self.root, folder)]
        return ["train", "mini-base", "-t", "vocals", "--data", "songs", *valid, "--workers", workers, *changes]

    def problems(self, folder: Path, finished: bool) -> Iterator[str]:
        """States and the best model can be read, lines are complete, JSON too."""
        import torch

        from bandsplit.models.files import load_model

        for run in folder.glob("runs/*/*/*"):
            for state in run.glob("state-*.pt"):
                torch.load(state, map_location="cpu", weights_only=True)
            for best in run.glob("best.safetensors"):
                load_model(best)
            for file in run.glob("*.json"):
                json.loads(file.read_text())
            yield from cut_lines(run / "log.jsonl")
        if finished and not list(folder.glob("runs/*/*/*/best.safetensors")):
            yield "no best model"


class Evaluate(Command):
    """Yardsticks and a model on two songs, in one process or with two workers."""

    def __init__(self, base: Path) -> None:
        """Write songs and model."""
        super().__init__(base)
        self.root, self.file = self.songs(), self.model()

    def prepare(self, folder: Path, draw: random.Random) -> list[str]:
        """Link to the songs."""
        jobs = draw.choice(("1", "1", "1", "2"))
        data = linked(self.root, folder)
        return ["evaluate", str(self.file), "--data", data, "--yardsticks", "--jobs", jobs, "-o", "rows.jsonl"]

    def problems(self, folder: Path, finished: bool) -> Iterator[str]:
        """Rows are scores; those of a song and system come together."""
        import warnings

        from bandsplit.evaluation.results import read_scores

        rows = folder / "rows.jsonl"
        if not rows.exists():
            yield from ["no rows"] if finished else []
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a line that a kill has cut is reported
            scores = read_scores(rows)
        songs: dict[tuple[str, str], int] = {}
        for row in scores:
            songs[row.system, row.track] = songs.get((row.system, row.track), 0) + 1
        if finished and not songs:
            yield "no rows"
        if odd := {key: count for key, count in songs.items() if count not in (8, 16)}:
            yield f"songs in part: {odd}"


class Fetch(Command):
    """A model from a slow server; what arrived of the archive stays, since the next run continues there."""

    programs = False
    kept = ("cache/models/tiny.zip.part",)

    def __init__(self, base: Path) -> None:
        """Start a server in a process of its own, and register its model."""
        super().__init__(base)
        from bandsplit.models.pretrained import registry
        from checkpoints import checkpoint_of, entry_of  # pyright: ignore[reportMissingImports]
        from downloads import zip_of  # pyright: ignore[reportMissingImports]

        body = zip_of({"bass.ckpt": checkpoint_of("bass"), "notes.ckpt.txt": np.random.default_rng(0).bytes(100_000)})
        self.entry, self.md5 = entry_of(body), hashlib.md5(body).hexdigest()
        registry.entries = lambda: (self.entry,)  # pyright: ignore[reportAttributeAccessIssue]
        os.environ["BANDSPLIT_MIRROR"] = f"{serve_slowly(body)}/models"

    def prepare(self, folder: Path, draw: random.Random) -> list[str]:
        """Name the model."""
        return ["models", "fetch", "tiny", "--yes"]

    def problems(self, folder: Path, finished: bool) -> Iterator[str]:
        """The archive has its name only with the right md5; the model is complete or absent."""
        from bandsplit.models.files import load_model

        models = folder / "cache" / "models"
        archive = models / "tiny.zip"
        if archive.exists() and hashlib.md5(archive.read_bytes()).hexdigest() != self.md5:
            yield "tiny.zip is not what was asked for"
        if finished and (archive.exists() or not (models / "tiny").exists()):
            yield f"in the end there is {sorted(path.name for path in models.iterdir())}"
        if (models / "tiny").exists():
            load_model(models / "tiny" / "bass.safetensors")


class Pack(Command):
    """A data set in flac."""

    def __init__(self, base: Path) -> None:
        """Write the songs."""
        super().__init__(base)
        self.root = self.songs(".flac")

    def prepare(self, folder: Path, draw: random.Random) -> list[str]:
        """Link to the songs."""
        rate = draw.choice(([], ["--sample-rate", "8000"]))
        if draw.random() < 0.3:
            (folder / "packed").mkdir()
        return ["data", "pack", linked(self.root, folder), "packed", *rate]

    def problems(self, folder: Path, finished: bool) -> Iterator[str]:
        """The copy is complete or absent."""
        files = list((folder / "packed").rglob("*.wav"))
        if files or finished or (folder / "packed" / "train").exists():
            lengths = {soundfile.info(str(file)).frames / soundfile.info(str(file)).samplerate for file in files}
            if len(files) != 20 or lengths != {SECONDS} or not (folder / "packed" / "pack.json").exists():
                yield f"packed has {len(files)} files of {lengths} s"

    def is_done(self, folder: Path) -> bool:
        """Look for the file that is written last."""
        return (folder / "packed" / "pack.json").exists()


class Export(Command):
    """A model as ONNX."""

    def __init__(self, base: Path) -> None:
        """Write the model."""
        super().__init__(base)
        self.file = self.model()

    def prepare(self, folder: Path, draw: random.Random) -> list[str]:
        """Name the files."""
        return ["export", str(self.file), "out/small.onnx", "--force"]

    def problems(self, folder: Path, finished: bool) -> Iterator[str]:
        """The file is complete or absent."""
        import onnx

        file = folder / "out" / "small.onnx"
        if file.exists():
            onnx.checker.check_model(onnx.load(str(file)))
        elif finished:
            yield "no file"


class Bench(Command):
    """A benchmark whose runtimes have a process each."""

    programs = False  # one of its own would multiply large matrices for most of its time

    def __init__(self, base: Path) -> None:
        """Write the model, and take small matrices for the rate that is measured beside it."""
        from bandsplit.core.processes import worker_pool
        from bandsplit.tools.bench import separation

        super().__init__(base)
        self.file = self.model()
        separation.worker_pool = functools.partial(worker_pool, initializer=multiply_small)  # type: ignore[assignment]

    def prepare(self, folder: Path, draw: random.Random) -> list[str]:
        """Measure a little."""
        how = ["--runtime", "plain,torch", "--chunk", "0.5", "--rounds", "1"]
        return ["bench", "separate", "-n", str(self.file), *how]

    def problems(self, folder: Path, finished: bool) -> Iterator[str]:
        """It writes nothing."""
        if found := [path.name for path in folder.iterdir() if path.name not in ("output.txt", "tmp")]:
            yield f"files: {found}"


def multiply_small() -> None:
    """Take small matrices in this process."""
    from bandsplit.tools.bench.matrix_rate import MATRIX_SIZE

    MATRIX_SIZE["cpu"] = 256


COMMANDS: dict[str, type[Command]] = {
    "separate": Separate, "train": Train, "evaluate": Evaluate, "fetch": Fetch, "pack": Pack, "export": Export,
    "bench": Bench,
}  # fmt: skip
KILLED = ("separate", "evaluate", "fetch", "pack")


def cut_lines(file: Path) -> Iterator[str]:
    """Yield a problem if a journal has a line that is no JSON."""
    for line in file.read_text().splitlines() if file.exists() else ():
        try:
            json.loads(line)
        except ValueError:
            yield f"{file.name} has a cut line"


def serve_slowly(body: bytes) -> str:
    """Serve an archive, piece by piece, from a process that ends with this one; return its address."""
    from webserver import Server  # pyright: ignore[reportMissingImports]

    def behave(handler: Any) -> None:
        start = int((handler.headers["Range"] or "bytes=0-")[len("bytes=") : -1])
        handler.head(206 if start else 200, len(body) - start)
        for place in range(start, len(body), PIECE_BYTES):
            handler.wfile.write(body[place : place + PIECE_BYTES])
            time.sleep(0.002)

    server = Server()
    parent = os.getpid()
    if not os.fork():
        import threading

        server.pages["/models/tiny.zip"] = [behave]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(0)
    url = server.url
    server.server_close()
    return url
