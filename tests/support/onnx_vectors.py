"""Test vectors for programs that run our ONNX files: ``python tests/onnx_vectors.py`` writes them anew."""

import base64
import json
from typing import Any

import numpy as np
import torch

from bandsplit.audio.stft import istft, stft
from bandsplit.audio.stft_config import StftConfig
from bandsplit.models.bsrnn.build import build_network
from bandsplit.models.bsrnn.config import BsrnnConfig
from bandsplit.models.card import ONNX_FORMAT, ModelCard, describe_file
from places import ROOT

FILE = ROOT / "docs" / "onnx-test-vectors.json"
MODEL = {
    "targets": ["vocals", "bass"],
    "bands": [(1000, 2)],
    "sample_rate_hz": 8000,
    "stft": {"n_fft": 32, "hop_samples": 8},
    "n_features": 4,
    "n_blocks": 1,
    "mask": {"hidden_factor": 1, "hidden_layers": 1},
}


def signal(samples: int) -> np.ndarray:
    """Two channels ``c samples`` that any language can make again."""
    i = np.arange(samples)
    left, right = 0.5 * np.sin(0.3 * i) + 0.25 * np.cos(1.7 * i), 0.4 * np.cos(0.1 * i) - 0.2 * np.sin(2.1 * i)
    return np.stack([left, right]).astype(np.float32)


def transform_case(n_fft: int, hop: int, samples: int) -> dict[str, Any]:
    """One signal, its STFT ``c f t 2``, and what the inverse makes of half its bins ``c samples``."""
    config = StftConfig(n_fft=n_fft, hop_samples=hop)
    spec = stft(torch.from_numpy(signal(samples)), config)
    halved = spec.clone()
    halved[:, ::2] = 0
    return {
        "n_fft": n_fft,
        "hop_samples": hop,
        "signal": numbers(signal(samples)),
        "stft": numbers(torch.view_as_real(spec)),
        "inverse_with_even_bins_zero": numbers(istft(halved, config, samples)),
    }


def build_vectors() -> dict[str, Any]:
    """Return all vectors: transforms that take every rule, and a small model with its input and output."""
    from bandsplit.models.bsrnn.onnx_graph import build_graph

    torch.manual_seed(0)
    model = build_network(BsrnnConfig.parse(MODEL)).eval()
    card = ModelCard(name="test vectors", training_data="none", licence="MIT")
    graph = build_graph(model, describe_file(ONNX_FORMAT, model.config, card))
    mixture = torch.from_numpy(signal(100))[None]
    with torch.inference_mode():
        separation = model(mixture)
    return {
        "about": "docs/onnx.md explains; numbers are float32, rounded to 7 digits",
        "signal": "sample i: left 0.5 sin(0.3 i) + 0.25 cos(1.7 i), right 0.4 cos(0.1 i) - 0.2 sin(2.1 i)",
        "transforms": [transform_case(32, 8, 100), transform_case(32, 16, 37), transform_case(32, 8, 5)],
        "model": {
            "onnx_base64": base64.b64encode(graph.SerializeToString()).decode(),
            "signal": numbers(mixture),
            "estimates": numbers(torch.view_as_real(separation.spec)),
            "estimated_signal": numbers(separation.signal),
        },
    }


def numbers(values: Any) -> Any:
    """Turn an array into nested lists of 7 digits."""
    if np.ndim(values):
        return [numbers(value) for value in values]
    return float(f"{float(values):.7g}")


if __name__ == "__main__":
    FILE.write_text(json.dumps(build_vectors(), separators=(",", ":")) + "\n", encoding="utf-8")
