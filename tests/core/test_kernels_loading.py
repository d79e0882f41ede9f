"""Which CPU kernels are loaded, and what is said where none are."""

import _ctypes
import logging
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bandsplit.core import kernels
from bandsplit.core.errors import ConfigError
from bandsplit.core.kernels import instruction_sets, load_library, search_kernels
from bandsplit.tools import doctor
from cpu_kernels import NAMES, installed_kernels
from places import ROOT


@pytest.fixture(autouse=True)
def _search_again(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("BANDSPLIT_KERNELS", raising=False)
    search_kernels.cache_clear()
    yield
    search_kernels.cache_clear()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of an installed package without a library, before all others."""
    folder = tmp_path / "bandsplit_kernels"
    folder.mkdir()
    shutil.copy(ROOT / "kernels" / "bandsplit_kernels" / "__init__.py", folder)
    monkeypatch.setitem(sys.modules, "bandsplit_kernels", None)  # restored at the end
    del sys.modules["bandsplit_kernels"]
    monkeypatch.syspath_prepend(str(tmp_path))
    return folder


def finding() -> doctor.Finding:
    return next(one for one in doctor._device() if one.name == "CPU kernels")


def test_the_last_set_that_this_cpu_has_is_chosen_and_the_doctor_names_it():
    best = installed_kernels()
    sets = instruction_sets(best.library)
    assert [one.name for one in sets] == [name for name in NAMES if name in {one.name for one in sets}]
    assert best == [one for one in sets if best.library.bandsplit_set_runs(one.number)][-1]
    assert finding().status == "ok"
    assert finding().value == f"{best.name} ({', '.join(best.precisions)}), the best of this CPU"


@pytest.mark.parametrize("name", NAMES)
def test_the_setting_chooses_an_instruction_set(name: str, monkeypatch: pytest.MonkeyPatch):
    library = installed_kernels().library
    runs = [one.name for one in instruction_sets(library) if library.bandsplit_set_runs(one.number)]
    search_kernels.cache_clear()
    monkeypatch.setenv("BANDSPLIT_KERNELS", name)
    if name in runs:
        assert installed_kernels().name == name and "by BANDSPLIT_KERNELS" in finding().value
    else:
        with pytest.raises(ConfigError, match="does not run here"):
            search_kernels()


def test_off_is_no_kernels(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("BANDSPLIT_KERNELS", "off")
    assert search_kernels().kernels is None
    assert finding()[2:] == ("off (BANDSPLIT_KERNELS)", "note", "")


def test_an_unknown_setting_is_refused_with_the_legal_ones(monkeypatch: pytest.MonkeyPatch):
    installed_kernels()
    search_kernels.cache_clear()
    monkeypatch.setenv("BANDSPLIT_KERNELS", "mmx")
    with pytest.raises(ConfigError, match=r"BANDSPLIT_KERNELS: 'mmx' does not run here; legal on this CPU: .*; off$"):
        search_kernels()
    assert finding().status == "fail"


def test_no_package_is_said_by_the_doctor_alone(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    monkeypatch.setattr(kernels, "_PACKAGE", "bandsplit_no_kernels")
    assert search_kernels() == (None, "not installed", False)
    assert caplog.text == "" and finding().fix.endswith("in the source folder, pip install ./kernels")


def test_a_cpu_without_avx2_has_none_and_the_doctor_says_so(monkeypatch: pytest.MonkeyPatch):
    installed_kernels()
    search_kernels.cache_clear()
    monkeypatch.setattr(kernels, "instruction_sets", lambda library: [])
    assert search_kernels() == (None, "this CPU lacks AVX2", False)
    assert finding()[2:] == ("this CPU lacks AVX2", "note", "")
    search_kernels.cache_clear()
    monkeypatch.setenv("BANDSPLIT_KERNELS", "avx2")
    with pytest.raises(ConfigError, match="'avx2' does not run here; legal on this CPU: none; off"):
        search_kernels()


def refused(caplog: pytest.LogCaptureFixture) -> str:
    """Search, and return the reason that was logged as a warning, once."""
    for _ in range(2):
        found, reason, broken = search_kernels()
        assert found is None and broken
    warned = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warned == [f"CPU kernels are not used: {reason}"]
    assert finding().value == reason and "--force-reinstall" in finding().fix
    return reason


def test_a_package_without_its_library_is_named(package: Path, caplog: pytest.LogCaptureFixture):
    assert refused(caplog) == "bandsplit_kernels is installed without its library"


def test_a_library_of_another_machine_is_named(package: Path, caplog: pytest.LogCaptureFixture):
    file = package / "libbandsplit_kernels.so"
    header = bytearray(Path(_ctypes.__file__).read_bytes())
    header[18:20] = (0xF3, 0)  # the machine in the header of a library of Linux: RISC-V
    file.write_bytes(header)
    assert refused(caplog).startswith(f"{file} cannot be loaded: ")


def test_a_file_that_is_no_library_is_named(package: Path, caplog: pytest.LogCaptureFixture):
    file = package / "libbandsplit_kernels.so"
    file.write_bytes(b"no library")
    assert refused(caplog).startswith(f"{file} cannot be loaded: ")


def test_a_library_without_an_interface_is_another_version(package: Path, caplog: pytest.LogCaptureFixture):
    shutil.copy(_ctypes.__file__, package / "libbandsplit_kernels.so")
    assert "has interface None, and this bandsplit needs" in refused(caplog)


def test_the_version_of_the_kernels_and_the_extra_follow_the_interface():
    number = kernels.INTERFACE
    library = (ROOT / "kernels" / "pyproject.toml").read_text()
    assert re.search(rf'^version = "0\.{number}\.\d+"$', library, re.MULTILINE)
    assert f'"bandsplit-kernels>=0.{number},<0.{number + 1} ;' in (ROOT / "pyproject.toml").read_text()
    assert f"const int INTERFACE = {number};" in (ROOT / "kernels" / "src" / "library.cpp").read_text()


def test_the_kernels_have_the_licence_of_the_project():
    assert (ROOT / "kernels" / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()
    for folder in (ROOT, ROOT / "kernels"):
        assert '\nlicense-files = ["LICENSE"]\n' in (folder / "pyproject.toml").read_text()


def test_a_library_of_another_version_is_refused(monkeypatch: pytest.MonkeyPatch):
    path = Path(installed_kernels().library._name)
    number = kernels.INTERFACE
    monkeypatch.setattr(kernels, "INTERFACE", number + 1)
    with pytest.raises(ConfigError, match=f"has interface {number}, and this bandsplit needs {number + 1}"):
        load_library(path)


def test_a_broken_library_leaves_separation_to_pytorch(package: Path):
    (package / "libbandsplit_kernels.so").write_bytes(b"no library")
    script = (
        "import numpy as np\nfrom tiny_models import separator, tiny_model\n"
        "song = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 8000))\n"
        "print(sorted(separator(tiny_model(n_features=16)).separate(song, 8000)))"
    )
    folders = [package.parent, ROOT / "src", ROOT / "tests" / "support"]
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True,
        env={"PYTHONPATH": ":".join(map(str, folders)), "OMP_NUM_THREADS": "1", "PATH": "/usr/bin"},
    )  # fmt: skip
    assert ended.stdout.strip() == "['bass', 'vocals']"
    assert ended.stderr.count("CPU kernels are not used: ") == 1
