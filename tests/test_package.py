"""What importing the package does, and does not."""

import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

import bandsplit
from bandsplit import audio
from bandsplit.config import ModelConfig
from bandsplit.models.build import build_model
from bandsplit.models.files import ModelCard, save_model


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


def test_the_python_of_the_page_on_separating_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    page = (Path(__file__).parents[1] / "docs" / "separate.md").read_text()
    (code,) = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(tmp_path)
    config = ModelConfig.parse({"targets": ["bass"], "bands": [[2000, 4]], "n_features": 4, "n_blocks": 1})
    save_model("bass.safetensors", build_model(config), ModelCard(name="bass", training_data="none", licence="CC0"))
    audio.write("song.mp3", np.random.default_rng(0).uniform(-0.5, 0.5, (2, 44_100)).astype(np.float32), 44_100)
    exec(code, {})
    assert audio.info("stems/song/bass.flac").samples == 44_100
