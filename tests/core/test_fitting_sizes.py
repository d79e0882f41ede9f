"""Arithmetic of sizes: the same for numbers and for the tensors that stand for them while a network is traced."""

import pytest
import torch

from bandsplit.core.sizes import at_least, at_most, missing_to_multiple


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 16, 100])
def test_tensors_give_the_sizes_of_numbers(size: int):
    tensor = torch.tensor(size)
    assert at_least(size, 8) == int(at_least(tensor, 8)) == max(size, 8)
    assert at_most(size, 8) == int(at_most(tensor, 8)) == min(size, 8)
    assert missing_to_multiple(size, 8) == int(missing_to_multiple(tensor, 8)) == -size % 8
