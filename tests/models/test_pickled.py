"""Files of torch.save read as data, compared with what torch itself reads from them."""

from collections import OrderedDict, defaultdict
from pathlib import Path
from typing import Any

import pytest
import torch

from bandsplit.core.errors import ModelFileError
from bandsplit.models.pickled import PickledFile, StoredTensor
from bandsplit.models.settings import Record
from places import CHECKPOINT


def save(path: Path, value: Any) -> Path:
    torch.save(value, path)
    return path


def test_tensors_are_those_that_torch_reads(tmp_path: Path):
    together = torch.randn(100)
    tensors = {
        "its own": torch.randn(3, 4),
        "one number": torch.tensor(2.5),
        "a part of another": together[10:22].view(3, 4),
        "the next part": together[22:25],
        "every second": together[::2],
        "turned": torch.randn(3, 4).T,
        "a parameter": torch.nn.Parameter(torch.randn(2)),
        "half": torch.randn(5).half(),
        "brain": torch.randn(5).bfloat16(),
        "double": torch.randn(5).double(),
    }
    path = save(tmp_path / "x.pt", tensors)
    expected = torch.load(path, weights_only=True)
    with PickledFile(path) as file:
        assert list(file.content) == list(tensors)
        for name, stored in file.content.items():
            assert isinstance(stored, StoredTensor)
            assert stored.shape == tuple(tensors[name].shape)
            assert (
                torch.equal(file.tensor(stored), expected[name]) and file.tensor(stored).dtype == expected[name].dtype
            )


def test_plain_containers_and_values_are_those_that_torch_reads(tmp_path: Path):
    value = {
        "numbers": [0, -1, 255, 256, 65536, -(2**31), 2**40, -(2**70), 0.5, -1e300, True, False, None],
        "texts": ("", "a", "äöü", "x" * 300),
        "tuples": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)],
        "dicts": [{}, {"a": 1}, OrderedDict(b=2, c=[3])],
        1: {2.5: [[]]},
    }
    path = save(tmp_path / "x.pt", value)
    with PickledFile(path) as file:
        assert file.content == torch.load(path, weights_only=True)
    with PickledFile(save(tmp_path / "y.pt", [defaultdict(list)])) as file:
        assert file.content == [{}]


def test_the_golden_checkpoint_names_what_it_would_build_and_builds_nothing():
    with PickledFile(CHECKPOINT) as file:
        settings = file.content["hyper_parameters"]
        state = file.content["state_dict"]
    assert all(isinstance(tensor, StoredTensor) for tensor in state.values())
    records = [value for value in settings.values() if isinstance(value, Record)]
    assert {record.name for record in records} == {"omegaconf.dictconfig.DictConfig"}
    assert all("_content" in record.state for record in records)


def test_a_tensor_that_reaches_past_its_part_is_refused(tmp_path: Path):
    path = save(tmp_path / "x.pt", {"a": torch.randn(4)})
    with PickledFile(path) as file:
        stored = file.content["a"]
        for change in ({"shape": (5,)}, {"offset": 1}, {"stride": (2,)}, {"shape": (2**70,)}, {"offset": -1}):
            wrong = StoredTensor(**(vars(stored) | change))
            with pytest.raises(ModelFileError, match="cannot be read as a checkpoint, nothing was run"):
                file.tensor(wrong)
