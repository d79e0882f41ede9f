"""Small checkpoints that are a bag together, and a registry entry of them."""

import hashlib
import io
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from bandsplit.models.pretrained.entries import BagOfFiles, Entry
from checkpoints import Store, entry_of
from dummy_family import DummyConfig, halving
from webserver import serve

PADDING = 60_000
"""Numbers next to the weights, so that a download can break in its middle."""


def filters(*targets: str, gain: float = 0.5) -> bytes:
    """A checkpoint of the dummy family, larger than what a bad server sends before it falters."""
    state = halving(DummyConfig(targets=targets, sample_rate_hz=8000)).state_dict()
    state["filters.weight"] *= 2 * gain
    return saved({"state_dict": state, "the state of a training": torch.zeros(PADDING)})


def mixer(matrix: Tensor) -> bytes:
    return saved({"linear.weight": matrix})


def saved(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def file_of(name: str, body: bytes, into: str, targets: Sequence[str] = (), **changes: Any) -> dict[str, Any]:
    """Describe a file as the registry would: of the digest its first digits."""
    document = {"document": {"targets": targets, "sample_rate_hz": 8000}} if targets else {}
    return {
        "url": "https://weights.invalid", "file": name, "bytes": len(body), "into": into,
        "sha256": hashlib.sha256(body).hexdigest()[:8], **document, **changes,
    }  # fmt: skip


def bag_entry(files: Sequence[Mapping[str, Any]], bags: Mapping[str, Any], **changes: Any) -> Entry:
    """Describe a bag as the registry would."""
    source = {"kind": "bag", "page": "https://weights.invalid/about", "files": files, "bags": bags}
    facts = {"family": "dummy", "targets": ["vocals", "bass"], "recipe": None, "source": source}
    return entry_of(b"", **{**facts, **changes})


FIRST, SECOND = filters("vocals", "bass"), filters("bass", gain=0.25)
BAG = {"members": [{"model": "a.safetensors", "weights": {"vocals": 1}}, {"model": "b.safetensors"}]}


def lists_two(store: Store, second: Mapping[str, Any] | None = None, **changes: Any) -> None:
    """Register a bag of two models; its server has them. ``second`` are changes to the second file's description."""
    files = [
        file_of("one.ckpt", FIRST, "a.safetensors", ["vocals", "bass"], sha256=hashlib.sha256(FIRST).hexdigest()),
        file_of("two.ckpt", SECOND, "b.safetensors", ["bass"], **(second or {})),
    ]
    store.lists(bag_entry(files, {"bag.yaml": BAG}, **changes))
    has(store, {"one.ckpt": FIRST, "two.ckpt": SECOND})


def has(store: Store, bodies: Mapping[str, bytes]) -> None:
    for name, body in bodies.items():
        store.server.pages[f"/models/{name}"] = [serve(body)]


def bag_source(entry: Entry) -> BagOfFiles:
    assert isinstance(entry.source, BagOfFiles)
    return entry.source
