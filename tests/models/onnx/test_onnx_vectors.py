"""The published test vectors are right: for our transforms, and for onnxruntime with the model that lies in them."""

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bandsplit.audio.stft_config import StftConfig
from bandsplit.audio.stft_numpy import istft, stft
from bandsplit.separation.onnx_network import OnnxNetwork
from onnx_vectors import FILE, build_vectors

VECTORS = json.loads(FILE.read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", VECTORS["transforms"], ids=lambda case: f"{len(case['signal'][0])} samples")
def test_transforms(case: dict[str, Any]):
    config = StftConfig(n_fft=case["n_fft"], hop_samples=case["hop_samples"])
    signal = np.array(case["signal"], np.float32)
    spec = stft(signal, config)
    expected = np.array(case["stft"], np.float32)
    assert spec.shape == expected.shape[:-1]
    np.testing.assert_allclose(np.stack([np.real(spec), np.imag(spec)], -1), expected, atol=3e-6)
    np.testing.assert_allclose(istft(spec, config, signal.shape[1]), signal, atol=1e-6)
    spec[:, ::2] = 0
    inverse = istft(spec, config, signal.shape[1])
    np.testing.assert_allclose(inverse, np.array(case["inverse_with_even_bins_zero"]), atol=1e-6)


def test_the_model_in_them(tmp_path: Path):
    ort = pytest.importorskip("onnxruntime")
    case = VECTORS["model"]
    path = tmp_path / "model.onnx"
    path.write_bytes(base64.b64decode(case["onnx_base64"]))
    signal = np.array(case["signal"], np.float32)
    found = OnnxNetwork(path, threads=1).estimate(signal)
    np.testing.assert_allclose(found, np.array(case["estimated_signal"]), atol=2e-6)

    spec = stft(signal, StftConfig(n_fft=32, hop_samples=8))
    session = ort.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    (estimates,) = session.run(["estimates"], {"mixture": np.stack([np.real(spec), np.imag(spec)], -1)})
    np.testing.assert_allclose(estimates, np.array(case["estimates"]), atol=1e-5)


def test_they_are_what_the_code_makes_now():
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    made = build_vectors()
    assert made.keys() == VECTORS.keys()
    assert made["signal"] == VECTORS["signal"]
    for name in ("estimates", "estimated_signal"):
        np.testing.assert_allclose(made["model"][name], VECTORS["model"][name], atol=1e-5)
    for ours, theirs in zip(made["transforms"], VECTORS["transforms"], strict=True):
        np.testing.assert_allclose(ours["stft"], theirs["stft"], atol=3e-6)
