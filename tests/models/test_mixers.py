"""The file of a mixer becomes that of a bag."""

from pathlib import Path
from typing import Any

import pytest
import torch

from bandsplit.core.errors import ModelFileError
from bandsplit.models.bags import Bag, BagMember, read_bag, write_bag
from bandsplit.models.mixers import read_mixer

MATRIX = torch.arange(80.0).reshape(8, 10) / 7


@pytest.mark.parametrize("content", [{"linear.weight": MATRIX}, {"state_dict": {"mixing_layer.weight": MATRIX}}])
def test_the_matrix_and_its_order_are_read_and_survive_the_file_of_a_bag(content: dict[str, Any], tmp_path: Path):
    torch.save(content, tmp_path / "mixer.ckpt")
    mixer = read_mixer(tmp_path / "mixer.ckpt")
    assert mixer.targets == ("bass", "drums", "other", "vocals")
    write_bag(tmp_path / "bag.yaml", Bag(members=(BagMember(model="x"),), mixer=mixer))
    assert torch.equal(torch.tensor(read_bag(tmp_path / "bag.yaml").mixer.matrix), MATRIX)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"linear.bias": MATRIX}, "is not a mixer: it must have one tensor, linear.weight or mixing_layer.weight; it "),
        ({"linear.weight": MATRIX, "x": MATRIX}, "is not a mixer: .* it has linear.weight, x$"),
        ({"linear.weight": MATRIX.T}, r"is not a mixer of bass, .*: linear.weight is \(10, 8\), expected \(8, 10\)$"),
        ({"linear.weight": MATRIX / 0}, "is damaged: linear.weight has values that are not finite"),
    ],
)
def test_another_file_is_refused(content: dict[str, Any], message: str, tmp_path: Path):
    torch.save(content, tmp_path / "mixer.ckpt")
    with pytest.raises(ModelFileError, match=rf"mixer.ckpt: {message}"):
        read_mixer(tmp_path / "mixer.ckpt")
    with pytest.raises(ModelFileError, match=r"missing\.ckpt: no such checkpoint file"):
        read_mixer(tmp_path / "missing.ckpt")
