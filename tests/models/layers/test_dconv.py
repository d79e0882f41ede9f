"""Layers inside residual branches: what is traced for graphs of any length equals what is computed."""

import warnings

import pytest
import torch

from bandsplit.models.layers.dconv import FramedLstm


@pytest.fixture(scope="module")
def lstm() -> FramedLstm:
    torch.manual_seed(0)
    return FramedLstm(3)


@pytest.fixture(scope="module")
def traced(lstm: FramedLstm) -> torch.jit.ScriptModule:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that tracing is old
        found = torch.jit.trace(lstm, torch.zeros(2, 3, 7), check_trace=False)
    assert isinstance(found, torch.jit.ScriptModule)
    return found


@pytest.mark.parametrize("length", [1, 2, 100, 101, 150, 199, 200, 201, 300, 301, 350, 351, 1000])
def test_a_traced_lstm_cuts_any_length_into_the_same_frames(
    length: int, lstm: FramedLstm, traced: torch.jit.ScriptModule
):
    x = torch.randn(2, 3, length, generator=torch.Generator().manual_seed(length))
    with torch.inference_mode():
        torch.testing.assert_close(traced(x), lstm(x), rtol=1e-5, atol=1e-6)
