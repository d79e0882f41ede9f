"""One model, one file."""

import json
import os
import stat
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from bandsplit.core.errors import ModelFileError
from bandsplit.models.bsrnn.config import BsrnnConfig
from bandsplit.models.card import ModelCard, read_card
from bandsplit.models.files import load_model, save_model
from bandsplit.models.importing import import_checkpoint
from bandsplit.models.network import SeparationModel, build_model
from places import CHECKPOINT

CONFIG = BsrnnConfig.parse(
    {"targets": ["vocals"], "bands": [[500, 4]], "n_features": 8, "n_blocks": 1, "attention": {"heads": 2}}
)
CARD = ModelCard(name="small", training_data="none", licence="CC0", scores={"usdr_db": 1.5})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "small.safetensors"
    save_model(path, build_model(CONFIG), CARD)
    return path


def rewrite(file: Path, *, drop: str = "", add: str = "", **metadata: str) -> Path:
    """Change tensors or metadata of a model file."""
    with safe_open(file, framework="pt") as opened:
        tensors = {key: opened.get_tensor(key) for key in opened.keys() if key != drop}  # noqa: SIM118
        before = opened.metadata()
    if add:
        tensors[add] = torch.zeros(3)
    save_file(tensors, file, before | metadata)
    return file


def test_a_model_comes_back_the_same(file: Path):
    torch.manual_seed(0)
    before, after = build_model(CONFIG).eval(), load_model(file)
    mixture = torch.randn(1, 2, 5000)
    with torch.inference_mode():
        assert torch.equal(before(mixture).signal, after(mixture).signal)
    assert read_card(file) == (CONFIG, CARD)
    assert not after.training


def test_writing_leaves_no_temporary_file(file: Path):
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_a_card_without_licence_is_refused():
    with pytest.raises(ValueError, match="licence"):
        ModelCard(name="x", training_data="y")  # type: ignore[call-arg]


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(ModelFileError, match=r"none.safetensors: no such model file"):
        load_model(tmp_path / "none.safetensors")


def test_another_kind_of_file_is_refused_with_the_way_to_import(tmp_path: Path):
    path = tmp_path / "vocals.ckpt"
    path.write_bytes(b"PK" + b"0" * 100)
    with pytest.raises(ModelFileError, match=r"bandsplit models import vocals.ckpt"):
        load_model(path)


def test_another_safetensors_file_is_refused(tmp_path: Path):
    save_file({"x": torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(ModelFileError, match="a safetensors file, but not a bandsplit model"):
        load_model(tmp_path / "x.safetensors")


def test_a_file_cut_at_every_tenth_of_its_length_is_refused(file: Path):
    whole = file.read_bytes()
    for tenth in range(10):
        file.write_bytes(whole[: len(whole) * tenth // 10])
        with pytest.raises(ModelFileError, match=r"small.safetensors"):
            load_model(file)


def test_a_lying_header_length_is_refused(file: Path):
    file.write_bytes((1 << 60).to_bytes(8, "little") + file.read_bytes()[8:])
    with pytest.raises(ModelFileError, match="is damaged"):
        load_model(file)


def test_a_missing_tensor_is_named(file: Path):
    with pytest.raises(ModelFileError, match=r"missing: decoders.vocals.enter.weight"):
        load_model(rewrite(file, drop="decoders.vocals.enter.weight"))


def test_an_unexpected_tensor_is_named(file: Path):
    with pytest.raises(ModelFileError, match="unexpected: extra"):
        load_model(rewrite(file, add="extra"))


def test_a_misshapen_tensor_is_named_with_both_shapes(file: Path):
    config = json.loads(CONFIG.model_dump_json()) | {"bands": [[500, 5]]}
    with pytest.raises(ModelFileError, match=r"misshapen: encoder.projections.0.weight is \(4, .*, expected \(5, "):
        load_model(rewrite(file, config=json.dumps(config)))


def test_a_wrong_config_is_refused(file: Path):
    with pytest.raises(ModelFileError, match="does not describe a model"):
        load_model(rewrite(file, config='{"targets": ["vocals"], "n_blockz": 3}'))


def estimates(model: SeparationModel, threads: int) -> torch.Tensor:
    """Separate noise; the time axis is long enough for both kinds of LSTM."""
    mixture = torch.randn(1, 2, 6000, generator=torch.Generator().manual_seed(0))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode():
            return model(mixture).signal
    finally:
        torch.set_num_threads(before)


def test_weights_are_aligned_and_estimates_equal_whatever_the_length_of_the_card(tmp_path: Path):
    torch.manual_seed(0)
    config = BsrnnConfig.parse({"targets": ["vocals"], "bands": [[500, 4]], "n_features": 24, "n_blocks": 1})
    model, path, places = build_model(config).eval(), tmp_path / "m.safetensors", set()
    expected = estimates(model, 1)
    for letters in range(65):
        save_model(path, model, CARD.model_copy(update={"name": "x" * letters}))
        places.add(int.from_bytes(path.read_bytes()[:8], "little") % 64)
        loaded = load_model(path)
        assert [name for name, weights in loaded.named_parameters() if weights.data_ptr() % 64] == []
        if letters % 8 == 0:  # the header's length is a multiple of eight
            assert torch.equal(estimates(loaded, 1), expected)
    assert len(places) == 8


@pytest.mark.parametrize("threads", [1, 2])
def test_the_name_of_a_checkpoint_changes_no_estimate(tmp_path: Path, threads: int):
    found = []
    for name in ("b", "bbb"):
        (tmp_path / f"{name}.ckpt").write_bytes(CHECKPOINT.read_bytes())
        model, card = import_checkpoint(tmp_path / f"{name}.ckpt")
        save_model(tmp_path / f"{name}.safetensors", model, card)
        loaded = load_model(tmp_path / f"{name}.safetensors")
        assert all(weights.data_ptr() % 64 == 0 for one in (model, loaded) for weights in one.parameters())
        found += [estimates(model, threads), estimates(loaded, threads)]
    assert all(torch.equal(one, found[0]) for one in found)


def test_a_loaded_model_does_not_change_with_its_file(file: Path):
    model = load_model(file)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with file.open("r+b") as stream:
        stream.seek(-1000, 2)
        stream.write(bytes(1000))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_nan_weights_are_refused(file: Path, tmp_path: Path):
    model = load_model(file)
    with torch.no_grad():
        model.decoders["vocals"].enter.bias[0] = float("nan")  # type: ignore[union-attr]
    save_model(file, model, CARD)
    with pytest.raises(ModelFileError, match=r"not finite: decoders.vocals.enter.bias"):
        load_model(file)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(ModelFileError, match="cannot be written"):
        save_model(tmp_path / "file" / "x.safetensors", build_model(CONFIG), CARD)


def test_others_may_read_a_model_if_the_umask_lets_them(tmp_path: Path):
    before = os.umask(0o022)
    try:
        save_model(tmp_path / "a.safetensors", build_model(CONFIG), CARD)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.safetensors").stat().st_mode) == 0o644
