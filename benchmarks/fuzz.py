"""Damaged songs by the thousand, fed to the real separator: each gives all its stems, or one message and no file.

    python benchmarks/fuzz.py                       # 3000 files of each format, a table
    python benchmarks/fuzz.py m4a webm --files 100 --seed 7

Every format runs in a child process with a limited address space, which is watched: an exception that is no
`BandsplitError`, a file that is left behind or incomplete, a crash, an appetite for memory, or a file that takes more
than a minute counts as wrong; the file is kept. Model files are only read.
"""

from __future__ import annotations

import argparse
import functools
import io
import json
import os
import re
import resource
import select
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile

from bandsplit.core.errors import BandsplitError
from bandsplit.separation.separator import Separator

if TYPE_CHECKING:
    from bandsplit.models.bsrnn.network import BandSplitModel

HANG_S = 60
FFMPEG_TURN = 10
"""Of so many files one is given to ffmpeg too, if all else refuses it: starting it takes longer than all the rest."""
MEMORY_BYTES = 2 << 30
"""Address space beyond what the process has when it starts to separate."""
RIGHT = ("refused", "separated")
LIES = (0, 1, 2, 3, 8, 255, 1000, 1 << 16, (1 << 31) - 1, 1 << 31, (1 << 32) - 8, (1 << 32) - 1, (1 << 63) - 1, -1)
SOUNDFILE = {
    "wav16": ("wav", "WAV", "PCM_16"),
    "wav24": ("wav", "WAVEX", "PCM_24"),
    "wavfloat": ("wav", "WAV", "FLOAT"),
    "rf64": ("wav", "RF64", "PCM_16"),
    "flac": ("flac", "FLAC", "PCM_16"),
    "mp3": ("mp3", "MP3", "MPEG_LAYER_III"),
    "ogg": ("ogg", "OGG", "VORBIS"),
    "opus": ("opus", "OGG", "OPUS"),
    "aiff": ("aiff", "AIFF", "PCM_16"),
    "caf": ("caf", "CAF", "PCM_16"),
}
PYAV = {
    "m4a": ("m4a", "aac", None),
    "mp4": ("mp4", "aac", None),
    "mp4video": ("mp4", "aac", "mpeg4"),
    "webm": ("webm", "libopus", None),
    "webmvideo": ("webm", "libopus", "libvpx"),
}
MODELS = {"safetensors": "safetensors", "ckpt": "ckpt", "pickle": "ckpt"}
"""Model files; "pickle" damages the part of a checkpoint that could run code, in a zip file that is sound."""
FORMATS = (*SOUNDFILE, *PYAV, *MODELS)
CHECKPOINT = Path(__file__).resolve().parents[1] / "tests" / "golden" / "data" / "bass.ckpt"
PICKLE = "/data.pkl"


def suffix_of(name: str) -> str:
    """Return the suffix of a format's files."""
    return MODELS[name] if name in MODELS else (SOUNDFILE.get(name) or PYAV[name])[0]


def make_songs(name: str, folder: Path) -> list[bytes]:
    """Make two short songs of a format, stereo and mono, with different rates and lengths; or a model file."""
    if name in MODELS:
        return [_make_model(name, folder)]
    generator, songs = np.random.default_rng(0), []
    for channels, rate_hz, samples in ((2, 24_000, 5000), (1, 48_000, 3000)):
        path = folder / f"song.{suffix_of(name)}"
        signal = generator.uniform(-0.5, 0.5, (channels, samples)).astype(np.float32)
        if name in SOUNDFILE:
            _, container, subtype = SOUNDFILE[name]
            with soundfile.SoundFile(path, "w", rate_hz, channels, subtype, format=container) as file:
                if container not in ("CAF", "RF64"):
                    file.title = "noise"
                file.write(signal.T)
        else:
            _encode(path, signal, rate_hz if channels == 1 or name[0] == "m" else 48_000, *PYAV[name][1:])
        songs.append(path.read_bytes())
        path.unlink()
    return songs


def _encode(path: Path, signal: np.ndarray, rate_hz: int, codec: str, video: str | None) -> None:
    import av

    layout = "stereo" if len(signal) == 2 else "mono"
    with av.open(str(path), "w", options={"movflags": "+faststart"} if layout == "mono" else {}) as container:
        container.metadata["title"] = "noise"
        sound = container.add_stream(codec, rate=rate_hz, layout=layout)
        if video:
            picture = container.add_stream(video, rate=25)
            picture.width = picture.height = 32
            for frame in [av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8))] * 3 + [None]:
                container.mux(picture.encode(frame))
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(signal), format="fltp", layout=layout)
        frame.sample_rate, frame.pts = rate_hz, 0
        resampler = av.AudioResampler(sound.format, layout, rate_hz, frame_size=sound.frame_size or 960)
        for part in [*resampler.resample(frame), *resampler.resample(None), None]:
            container.mux(sound.encode(part))


def _make_model(name: str, folder: Path) -> bytes:
    if name == "ckpt":
        return CHECKPOINT.read_bytes()
    if name == "pickle":
        return next(part for name, part in _parts().items() if name.endswith(PICKLE))
    from bandsplit.models.card import ModelCard
    from bandsplit.models.files import save_model

    save_model(folder / "m.safetensors", make_model(), ModelCard(name="m", training_data="none", licence="CC0"))
    return (folder / "m.safetensors").read_bytes()


@functools.cache
def _parts() -> dict[str, bytes]:
    with zipfile.ZipFile(CHECKPOINT) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def in_checkpoint(pickle: bytes) -> bytes:
    """Put a pickle in the place of that of the checkpoint."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as copy:
        for name, part in _parts().items():
            copy.writestr(name, pickle if name.endswith(PICKLE) else part)
    return made.getvalue()


# --- damage ----------------------------------------------------------------------------------------------------------


def damage(songs: Sequence[bytes], others: Sequence[bytes], generator: np.random.Generator) -> bytes:
    """Damage one of a format's songs, in one to three ways; ``others`` are songs of other formats."""
    data = bytearray(songs[int(generator.integers(len(songs)))])
    for _ in range(generator.choice([1, 1, 1, 2, 3])):
        kind = DAMAGES[generator.integers(len(DAMAGES))]
        pool = songs if generator.integers(5) else others
        kind(data, pool[int(generator.integers(len(pool)))], generator)
    return bytes(data)


def _place(data: bytearray, generator: np.random.Generator) -> int:
    """Choose a place: mostly in the header, or in the tail, where some formats keep their index."""
    reach = min(len(data), int(generator.choice([64, 200, 1500, len(data)])))
    at = int(generator.integers(max(1, reach)))
    return max(0, len(data) - 1 - at) if generator.integers(4) == 0 else at


def _change(data: bytearray, _song: bytes, generator: np.random.Generator) -> None:
    for _ in range(generator.integers(1, 5)):
        at = _place(data, generator)
        data[at : at + 1] = generator.bytes(1)


def _flip(data: bytearray, _song: bytes, generator: np.random.Generator) -> None:
    for _ in range(generator.integers(1, 9)):
        at = _place(data, generator)
        data[at : at + 1] = bytes(byte ^ 1 << generator.integers(8) for byte in data[at : at + 1])


def _fill(data: bytearray, _: bytes, generator: np.random.Generator) -> None:
    at, some = _place(data, generator), int(generator.integers(1, 65))
    data[at : at + some] = bytes([int(generator.choice([0, 255, int(generator.integers(256))]))]) * len(
        data[at : at + some]
    )


def _lie(data: bytearray, _: bytes, generator: np.random.Generator, at: int | None = None) -> None:
    """Put a number that is too small, too large or too near to 2^31, 2^32 or 2^63 anywhere."""
    at, size = _place(data, generator) if at is None else at, int(generator.choice([1, 2, 3, 4, 4, 4, 8]))
    number = (LIES[generator.integers(len(LIES))] + int(generator.integers(-1, 2))) % (1 << 8 * size)
    data[at : at + size] = number.to_bytes(size, "little" if generator.integers(2) else "big")[: len(data) - at]


def _lie_of_sizes(data: bytearray, song: bytes, generator: np.random.Generator) -> None:
    """Put such a number before or after the name of a chunk."""
    chunks = [match.start() for match in re.finditer(rb"[A-Za-z][A-Za-z0-9]{2}[A-Za-z0-9 ]", bytes(data))]
    if chunks:
        at = chunks[generator.integers(min(len(chunks), int(generator.choice([4, 40, 400]))))]
        _lie(data, song, generator, max(0, at + int(generator.choice([-4, 4, 8, 12]))))


def _lie_of_facts(data: bytearray, song: bytes, generator: np.random.Generator) -> None:
    """Put such a number where the sample rate, the length or the number of channels may stand."""
    fact = int(generator.choice([24_000, 48_000, 5000, 3000, 1, 2]))
    code = fact.to_bytes(int(generator.choice([2, 4])), "little" if generator.integers(2) else "big")
    found = [match.start() for match in re.finditer(re.escape(code), bytes(data[:2000]))]
    if found:
        _lie(data, song, generator, found[generator.integers(len(found))])


def _cut(data: bytearray, _: bytes, generator: np.random.Generator) -> None:
    del data[_place(data, generator) :]


def _remove(data: bytearray, _: bytes, generator: np.random.Generator) -> None:
    at = _place(data, generator)
    del data[at : at + int(generator.choice([1, 2, 4, 8, 100, 1000]))]


def _insert(data: bytearray, _: bytes, generator: np.random.Generator) -> None:
    at = _place(data, generator)
    data[at:at] = generator.bytes(int(generator.choice([1, 2, 4, 8, 100, 1000])))


def _repeat(data: bytearray, _: bytes, generator: np.random.Generator) -> None:
    at, to, some = _place(data, generator), _place(data, generator), int(generator.choice([4, 16, 100, 2000]))
    data[to:to] = data[at : at + some]


def _splice(data: bytearray, song: bytes, generator: np.random.Generator) -> None:
    del data[_place(data, generator) :]
    data += song[int(generator.integers(len(song))) if generator.integers(2) else len(data) :]


def _append(data: bytearray, song: bytes, generator: np.random.Generator) -> None:
    data += song if generator.integers(2) else generator.bytes(int(generator.integers(1, 3000)))


def _random_tail(data: bytearray, _: bytes, generator: np.random.Generator) -> None:
    at = _place(data, generator)
    data[at:] = generator.bytes(len(data) - at)


DAMAGES: tuple[Callable[[bytearray, bytes, np.random.Generator], None], ...] = (
    *(_change, _flip, _fill, _lie, _lie_of_sizes, _lie_of_sizes, _lie_of_facts, _lie_of_facts),
    *(_cut, _remove, _insert, _repeat, _splice, _append, _random_tail),
)


# --- one file --------------------------------------------------------------------------------------------------------


def make_model() -> BandSplitModel:
    """Make a network of random weights that takes any number of channels and next to no time."""
    import torch

    from bandsplit.models.bsrnn.config import BsrnnConfig
    from bandsplit.models.network import build_model

    torch.manual_seed(0)
    facts = {"targets": ["vocals", "bass"], "bands": [[500, 8]], "sample_rate_hz": 8000, "n_features": 4, "n_blocks": 1}
    return build_model(BsrnnConfig.parse({**facts, "stft": {"n_fft": 128, "hop_samples": 64}}))


def read_model(path: Path) -> None:
    """Read a model file of any kind."""
    from bandsplit.models.files import load_model
    from bandsplit.models.importing import import_checkpoint

    (import_checkpoint if path.suffix == ".ckpt" else load_model)(path)


def attempt(separator: Separator, song: Path, out: Path) -> str:
    """Separate a song, or read a model; return "separated" or "refused", or in a sentence what went wrong."""
    try:
        if song.suffix[1:] in MODELS:
            read_model(song)
            return "separated"
        result = separator.separate_file(song, out)
    except BandsplitError as error:
        verdict = "refused" if str(song) in str(error) else f"a message without the file's name: {error}"
        expected: set[Path] = set()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    else:
        verdict, expected = "separated", set(result.paths.values())
        for path in expected:
            facts = soundfile.info(path)
            if abs(facts.frames / facts.samplerate - result.audio_s) > 1e-9 or facts.frames < 1:
                return f"{path.name} has {facts.frames} samples instead of {result.audio_s * facts.samplerate}"
    left = {path for path in out.rglob("*") if path.is_file()} ^ expected
    left |= set(Path(tempfile.gettempdir()).iterdir())
    return f"left or missing: {sorted(path.name for path in left)}" if left else verdict


def work(name: str, files: int, seed: int, first: int, folder: Path, keep: Path) -> None:
    """Feed the files from number ``first`` on; print verdict, seconds and peak of the memory of each as JSON."""
    separator = Separator(make_model(), device="cpu")
    tempfile.tempdir = str(folder / "temporary")
    Path(tempfile.tempdir).mkdir()
    songs, others = make_songs(name, folder), make_songs("caf", folder) + make_songs("flac", folder)
    path = os.environ["PATH"]
    limit = _status_kb("VmSize") * 1024 + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    print(json.dumps("ready"), flush=True)
    song = folder / f"song.{suffix_of(name)}"
    for number in range(first, files):
        data = damage(songs, others, np.random.default_rng([seed, number, *name.encode()]))
        song.write_bytes(in_checkpoint(data) if name == "pickle" else data)
        os.environ["PATH"] = path if number % FFMPEG_TURN == 0 else ""
        began = time.perf_counter()
        verdict = attempt(separator, song, folder / "out")
        seconds = time.perf_counter() - began
        if verdict not in RIGHT:
            save(song, keep, f"{name}-{seed}-{number}")
        shutil.rmtree(folder / "out", ignore_errors=True)
        print(json.dumps([verdict, seconds, _status_kb("VmHWM") / 1024]), flush=True)


def save(song: Path, keep: Path, name: str) -> None:
    """Keep a file that went wrong."""
    keep.mkdir(parents=True, exist_ok=True)
    shutil.copy(song, keep / f"{name}{song.suffix}")


def _status_kb(fact: str) -> int:
    return int(Path("/proc/self/status").read_text().partition(f"{fact}:")[2].split()[0])


# --- many files ------------------------------------------------------------------------------------------------------


def campaign(name: str, files: int, seed: int, keep: Path) -> tuple[Counter[str], float, float]:
    """Feed ``files`` damaged files of a format, keep the wrong ones: counts, slowest in s, peak of the memory in MB."""
    counts: Counter[str] = Counter()
    slowest_s, peak_mb, number = 0.0, 0.0, 0
    while number < files:  # a crash or a hang ends a child; the next one goes on behind it
        with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
            song = Path(folder) / f"song.{suffix_of(name)}"
            arguments = [name, "--worker", folder, "--files", files, "--seed", seed, "--first", number, "--keep", keep]
            for verdict, seconds, megabytes in watch(arguments):
                slowest_s, peak_mb = max(slowest_s, seconds), max(peak_mb, megabytes)
                counts[verdict if verdict in RIGHT else "wrong"] += 1
                if verdict not in RIGHT:
                    print(f"wrong: {keep}/{name}-{seed}-{number}{song.suffix}: {verdict}", file=sys.stderr, flush=True)
                if verdict == "hang" or verdict.startswith("crash"):
                    save(song, keep, f"{name}-{seed}-{number}")
                number += 1
    return counts, slowest_s, peak_mb


def watch(arguments: list[object]) -> Iterator[tuple[str, float, float]]:
    """Run a worker; yield what it says of each file, and in the end how it crashed or hung, if it did."""
    command = [sys.executable, "-X", "faulthandler", __file__, *map(str, arguments)]
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, bufsize=0) as child,
    ):
        assert child.stdout is not None
        ready = False
        while select.select([child.stdout], [], [], HANG_S)[0]:
            line = child.stdout.readline()
            if line and ready:
                yield json.loads(line)
            elif not line:
                if child.wait():
                    errors.seek(0)
                    told = errors.read()[-1000:]
                    if not ready:
                        raise SystemExit(f"the worker could not begin:\n{told}")
                    yield f"crash, exit code {child.returncode}: {told}", 0, 0
                return
            ready = True
        child.kill()
        yield "hang", HANG_S, 0


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("formats", nargs="*", choices=[[], *FORMATS], help=f"default: {' '.join(FORMATS)}")
    parser.add_argument("--files", type=int, default=3000, help="of each format")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--keep", type=Path, default=Path("fuzz-wrong"), help="folder of the files that went wrong")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.formats[0], options.files, options.seed, options.first, options.worker, options.keep)
        return
    print("| format | files | refused | separated | wrong | slowest, s | peak memory, MB |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    wrong = 0
    for name in options.formats or FORMATS:
        counts, slowest_s, peak_mb = campaign(name, options.files, options.seed, options.keep)
        shares = " | ".join(str(counts[what]) for what in ("refused", "separated", "wrong"))
        print(f"| {name} | {sum(counts.values())} | {shares} | {slowest_s:.1f} | {peak_mb:.0f} |", flush=True)
        wrong += counts["wrong"]
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
