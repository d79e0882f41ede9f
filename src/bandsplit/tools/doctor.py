"""Checks of the installation, the machine, and a separation on it.

Imports happen inside the checks, so that a broken package is reported instead of crashing.
"""

from __future__ import annotations

import io
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Literal, NamedTuple

from bandsplit.core.extras import describe_missing, extras, install, requirements
from bandsplit.core.machine import cores, has_packages
from bandsplit.core.version import __version__
from bandsplit.core.waiting import describe_waiting

Status = Literal["ok", "note", "fail"]

NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")

LITTLE_SPACE_BYTES = 5_000_000_000

CODECS = {
    "wav": ("WAV", "PCM_24"), "rf64": ("RF64", "FLOAT"), "flac": ("FLAC", "PCM_16"), "mp3": ("MP3", None),
    "ogg": ("OGG", "VORBIS"), "opus": ("OGG", "OPUS"), "aiff": ("AIFF", "PCM_16"),
}  # fmt: skip
"""Format and subtype, by libsndfile's names."""


class Finding(NamedTuple):
    """One line of the report."""

    section: str
    name: str
    value: str
    status: Status = "ok"
    """``note``: an optional part is missing. ``fail``: bandsplit will not work as it should."""
    fix: str = ""
    """Advice to the user."""


def examine(report: Callable[[str], None] = lambda section: None) -> list[Finding]:
    """Run all checks; a check that fails with an error is a finding, too.

    Args:
        report: called with each section before its checks.
    """
    sections: dict[str, Callable[[], Iterator[Finding]]] = {
        "versions": _versions,
        "device": _device,
        "audio": _audio,
        "extras": _extras,
        "models": _models,
        "self-test": _self_test,
    }
    findings: list[Finding] = []
    for section, look in sections.items():
        report(section)
        try:
            findings += look()
        except ModuleNotFoundError as error:
            status = _without_torch()[0] if error.name == "torch" else "fail"
            fix = describe_missing(error.name) or "see what it names, or install bandsplit again"
            findings.append(Finding(section, "check", f"not made: {error}", status, fix))
        except Exception as error:  # a broken section must not hide the others
            reason = f"{type(error).__name__}: {str(error).partition(os.linesep)[0]}"
            findings.append(Finding(section, "check", reason, "fail", "see what it names, or install bandsplit again"))
    return findings


def _versions() -> Iterator[Finding]:
    yield Finding("versions", "bandsplit", __version__)
    yield Finding("versions", "python", f"{platform.python_version()} ({sys.executable}), {platform.platform()}")
    for name, found, wanted in requirements():
        if found is None:
            status, use = _without_torch() if name == "torch" else ("fail", "")
            yield Finding("versions", name, f"missing{use}", status, f"pip install '{name}{wanted}'")
        elif not _contains(wanted, found):
            yield Finding("versions", name, f"{found}, needs {wanted}", "fail", f"pip install -U '{name}{wanted}'")
        else:
            yield Finding("versions", name, found)


def _without_torch() -> tuple[Status, str]:
    """Return status and text of a missing PyTorch: the CPU kernels and onnxruntime still compute some models."""
    models = {"models that the CPU kernels compute": _has_kernels(), ".onnx models": has_packages("onnxruntime")}
    there = [name for name, is_there in models.items() if is_there]
    return ("note", f": only {' and '.join(there)} can be used") if there else ("fail", "")


def _has_kernels() -> bool:
    from bandsplit.core.kernels import search_kernels

    return search_kernels().kernels is not None


def _contains(wanted: str, found: str) -> bool:
    from packaging.specifiers import SpecifierSet

    return SpecifierSet(wanted).contains(found, prereleases=True)


def _device() -> Iterator[Finding]:
    if not has_packages("torch") and _without_torch()[0] == "note":
        by = ["the CPU kernels"] if _has_kernels() else []
        by += [f"onnxruntime {version}"] if (version := _version_of("onnxruntime")) else []
        value = f"cpu, by {' and '.join(by)}, because PyTorch is not installed"
        yield Finding("device", "chosen", value, "note", "for other models, and for GPUs: pip install torch")
        yield Finding("device", "NVIDIA driver", _driver() or "none")
        yield Finding("device", "CPU cores", str(cores()))
        yield _cpu_kernels()
        return
    import torch

    from bandsplit.separation.torch_network import pick_device

    build = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "for CPUs only"
    driver = _driver()
    if torch.cuda.is_available():
        why = f"a CUDA device is available: {torch.cuda.get_device_name()}"
    elif torch.version.cuda is None:
        why = f"this PyTorch ({torch.__version__}) is built {build}"
    elif driver is None:
        why = "no NVIDIA driver was found"
    else:
        why = f"CUDA cannot be used, driver {driver}, PyTorch built {build}"
    unused = driver is not None and not torch.cuda.is_available()
    fix = ""
    if unused:
        fix = "the NVIDIA GPU is not used: install the PyTorch build for your driver, see https://pytorch.org"
    yield Finding("device", "chosen", f"{pick_device('auto')}, because {why}", "note" if unused else "ok", fix)
    yield Finding("device", "torch build", f"{torch.__version__}, {build}")
    yield Finding("device", "NVIDIA driver", driver or "none")
    waiting = describe_waiting()
    asked = os.environ.get("OMP_NUM_THREADS")
    by = f", OMP_NUM_THREADS={asked}" if asked else ""
    yield Finding("device", "CPU threads", f"{torch.get_num_threads()} used of {cores()} cores{by}")
    fix = "" if waiting else "import bandsplit before torch, or set GOMP_SPINCOUNT=1000"
    yield Finding("device", "waiting threads", waiting or "spin for milliseconds", "ok" if waiting else "note", fix)
    yield _cpu_kernels()


def _cpu_kernels() -> Finding:
    """Say which CPU kernels run, or why none do."""
    from bandsplit.core.errors import ConfigError
    from bandsplit.core.kernels import NOT_INSTALLED, search_kernels

    try:
        kernels, reason, broken = search_kernels()
    except ConfigError as error:
        return Finding("device", "CPU kernels", str(error), "fail", "unset it, or choose one of these")
    if kernels is not None:
        return Finding("device", "CPU kernels", f"{kernels.name} ({', '.join(kernels.precisions)}), {reason}")
    if broken:
        fix = install("kernels", "--force-reinstall ")
        return Finding("device", "CPU kernels", reason, "note", fix)
    fix = f"for quicker band-split networks: {install('kernels')}"
    return Finding("device", "CPU kernels", reason, "note", fix if reason == NOT_INSTALLED else "")


def _driver() -> str | None:
    """Return the version of the NVIDIA driver, if one is loaded."""
    try:
        first = NVIDIA_DRIVER.read_text(encoding="utf-8").splitlines()[0]
    except (OSError, IndexError):
        return "present" if shutil.which("nvidia-smi") else None
    return next((word for word in first.split() if word[0].isdigit() and "." in word), "present")


def _audio() -> Iterator[Finding]:
    import soundfile

    yield Finding("audio", "libsndfile", soundfile.__libsndfile_version__)
    missing = [name for name, (file_format, subtype) in CODECS.items() if not _survives(file_format, subtype)]
    value = f"reads and writes {', '.join(name for name in CODECS if name not in missing)}"
    vital = {"wav", "flac"} & set(missing)
    fix = f"{', '.join(missing)} cannot be used: pip install -U soundfile" if missing else ""
    yield Finding("audio", "formats", value, "fail" if vital else "note" if missing else "ok", fix)
    fix = "for m4a, mp4, webm: pip install av, or put an ffmpeg on the PATH"
    av, ffmpeg = _version_of("av"), shutil.which("ffmpeg")
    yield Finding("audio", "PyAV", av or "not installed", "ok" if av or ffmpeg else "note", "" if av or ffmpeg else fix)
    yield Finding("audio", "ffmpeg", ffmpeg or "not on the PATH")


def _survives(file_format: str, subtype: str | None) -> bool:
    """Return whether a tenth of a second can be written and read, in memory."""
    import numpy as np
    import soundfile

    rate_hz, buffer = 48000, io.BytesIO()
    tone = np.sin(np.arange(rate_hz // 10) / 20)[:, None].repeat(2, 1) / 2
    try:
        soundfile.write(buffer, tone, rate_hz, format=file_format, subtype=subtype)
        buffer.seek(0)
        back, _ = soundfile.read(buffer)
    except (soundfile.LibsndfileError, ValueError):
        return False
    return len(back) >= len(tone) and abs(float(np.abs(back).max()) - 0.5) < 0.1


def _version_of(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _extras() -> Iterator[Finding]:
    for extra in extras():
        needed = list(requirements(extra))
        missing = [name for name, found, wanted in needed if found is None or not _contains(wanted, found)]
        present = ", ".join(f"{name} {found}" for name, found, _ in needed if name not in missing)
        if missing:
            fix = f"if you need it: {install(extra)}"
            yield Finding("extras", extra, f"without {', '.join(missing)}", "note", fix)
        else:
            yield Finding("extras", extra, present)


def _models() -> Iterator[Finding]:
    from bandsplit.core.fetching import in_gb
    from bandsplit.core.settings import cache_folder, is_offline, mirror_setting
    from bandsplit.models.pretrained.registry import cached_files, entries, known_entries

    folder = cache_folder()
    size_bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else 0
    above = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    writable = above.is_dir() and os.access(above, os.W_OK | os.X_OK)
    fix = "" if writable else "it cannot be written: name another folder with BANDSPLIT_CACHE"
    yield Finding("models", "cache", f"{folder}, {in_gb(size_bytes)}", "ok" if writable else "fail", fix)
    free_bytes = shutil.disk_usage(above).free
    little = free_bytes < LITTLE_SPACE_BYTES
    fix = "fetching a model needs up to 5 GB for a while" if little else ""
    yield Finding("models", "free disk", in_gb(free_bytes), "note" if little else "ok", fix)
    cached = [entry.name for entry in known_entries() if cached_files(entry)]
    best = entries()[0]
    fix = "" if cached else f"to have one: bandsplit models fetch {best.name} ({in_gb(best.source.bytes)})"
    yield Finding("models", "fetched", ", ".join(cached) or "none", "ok" if cached else "note", fix)
    network = "off (BANDSPLIT_OFFLINE)" if is_offline() else mirror_setting() or "on"
    yield Finding("models", "downloads", network)


def _self_test() -> Iterator[Finding]:
    if has_packages("torch"):
        from bandsplit.tools.self_test import self_test
    elif _has_kernels():
        from bandsplit.tools.trial_separation import native_self_test as self_test
    else:
        fix = describe_missing("torch") or ""
        yield Finding("self-test", "check", "not made: it needs PyTorch or the CPU kernels", _without_torch()[0], fix)
        return
    for result in self_test():
        yield Finding("self-test", *result)
