"""Separators by name."""

from pathlib import Path

import pytest

import bandsplit
from bandsplit.core.errors import ModelFileError
from bandsplit.models.pretrained.registry import cached_files
from checkpoints import Store, checkpoint_of
from onnx_models import ARCHITECTURES, write_model
from places import CHECKPOINT


def test_a_registered_name_is_its_cached_models_which_can_be_fetched_on_demand(store: Store):
    store.has({"bass.ckpt": CHECKPOINT.read_bytes(), "drums.ckpt": checkpoint_of("drums")}, targets=["drums", "bass"])
    with pytest.raises(ModelFileError, match=r"tiny: is not in the cache .*: bandsplit models fetch tiny"):
        bandsplit.load_separator("otiny", device="cpu")
    separator = bandsplit.load_separator("otiny", lambda entry: store.install(), device="cpu")
    assert separator.targets == ("drums", "bass") and list(separator.files) == cached_files(store.entry)
    assert bandsplit.load_separator(device="cpu", targets=["bass"]).targets == ("bass",)


def test_folders_and_files_are_taken_together(tmp_path: Path):
    (tmp_path / "here").mkdir()
    folder = write_model(tmp_path / "here", ARCHITECTURES["targets"]).parent
    assert bandsplit.load_separator(folder, device="cpu").files == (folder / "model.safetensors",)
    assert bandsplit.load_separator([folder / "model.safetensors"], device="cpu").targets == ("vocals", "bass", "drums")


@pytest.mark.parametrize("name", ["obsrnn-simo", "."])
def test_a_separator_of_a_name_that_is_no_file_points_to_the_function_that_knows_names(name: str):
    with pytest.raises(ModelFileError) as caught:
        bandsplit.Separator(name)
    assert str(caught.value) == (
        f"{name}: no such model file; for a registered name or a folder of model files use "
        f"bandsplit.load_separator({name!r})"
    )
