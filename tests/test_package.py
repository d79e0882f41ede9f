"""What importing the package does, and does not."""

import re
import subprocess
import sys
from importlib.metadata import version

import pytest

import bandsplit


def test_importing_the_package_does_not_load_torch():
    # In a process of its own: this one may have loaded torch long ago.
    code = "import sys, bandsplit; print('torch' in sys.modules, 'numpy' in sys.modules, bandsplit.__version__)"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False", bandsplit.__version__]


def test_the_installed_version_is_the_one_the_package_names():
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+)?", bandsplit.__version__)
    assert version("bandsplit") == bandsplit.__version__


def test_every_public_name_exists():
    for name in bandsplit.__all__:
        assert getattr(bandsplit, name) is not None


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'bandsplit' has no attribute 'separator'"):
        _ = bandsplit.separator
