"""Small checkpoints as the paper's authors write them, archives of them, and a registry that knows these archives."""

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bandsplit.core.errors import BandsplitError
from bandsplit.core.fetching import ByteProgress, Patience
from bandsplit.models.bsrnn.config import BsrnnConfig
from bandsplit.models.bsrnn.tensor_names import _source
from bandsplit.models.network import build_model
from bandsplit.models.pretrained import registry
from bandsplit.models.pretrained import store as model_store
from bandsplit.models.pretrained.entries import Entry, SingleCheckpoint, ZipArchive
from bandsplit.models.pretrained.sources import Sources
from downloads import CALM, zip_of
from webserver import Behaviour, Server, serve

UNSTACK: dict[str, Callable[[Tensor], Tensor]] = {
    "weight": lambda w: w.mT[..., None],
    "bias": lambda b: b[0],
    "norm_weight": lambda g: g[:, 0],
    "norm_bias": lambda g: g[0],
}


def checkpoint_of(first: str, *others: str, feature_dim: int = 8) -> bytes:
    """Make a checkpoint of a random network of one block: of one target, or of several that share an encoder."""
    torch.manual_seed(0)
    targets, shared = [first, *others], bool(others)
    config = BsrnnConfig.parse(
        {"targets": targets, "bands": "joint" if shared else first, "n_features": feature_dim, "n_blocks": 1,
         "mask": {"hidden_factor": 1}}
    )  # fmt: skip
    state = {}
    for name, tensor in build_model(config).state_dict().items():
        keys, _ = _source(config, name)
        if name.startswith("blocks"):
            state[keys[0]] = tensor
        else:
            unstack = UNSTACK[name.rpartition(".")[2]]
            state |= {key: unstack(part).clone() for key, part in zip(keys, tensor, strict=True)}
    arguments = {"targets": targets if shared else first, "joint_bandsplit": shared, "feature_dim": feature_dim}
    buffer = io.BytesIO()
    torch.save({"state_dict": state, "hyper_parameters": {**arguments, "num_repeat": 1, "fac_mask": 1}}, buffer)
    return buffer.getvalue()


def entry_of(body: bytes, **changes: Any) -> Entry:
    """Describe an archive as the registry would; changes of its source are named like the others."""
    source = {
        "kind": "zip", "doi": "10.5281/zenodo.1", "url": "https://zenodo.invalid/files", "file": "tiny.zip",
        "bytes": len(body), "md5": hashlib.md5(body).hexdigest(),
    }  # fmt: skip
    facts: dict[str, Any] = {
        "name": "tiny", "aliases": ["otiny"], "family": "bsrnn", "about": "a tiny model", "recipe": "optimised",
        "targets": ["bass"], "kept_bytes": 1_000_000, "training_data": "noise", "saw_test_songs": False,
        "licence": "not stated",
        "source": source | {name: changes.pop(name) for name in source.keys() & changes.keys()},
    }  # fmt: skip
    return Entry.parse(facts | changes)


def checkpoint_entry(body: bytes, config: bytes | None = None, **changes: Any) -> Entry:
    """Describe a checkpoint as the registry would, with the configuration file that comes with it, if there is one."""
    url = "https://weights.invalid"
    source = {
        "kind": "checkpoint", "page": f"{url}/about", "url": url, "file": "tiny.ckpt", "bytes": len(body),
        "sha256": hashlib.sha256(body).hexdigest(),
    }  # fmt: skip
    if config is not None:
        source["config"] = {"url": url, "file": "tiny.yaml", "sha256": hashlib.sha256(config).hexdigest()}
    source |= {name: changes.pop(name) for name in ("bytes", "sha256", "document", "holds_settings") if name in changes}
    score = {"metric": "SDR", "data": "noise", "values_db": {"vocals": 1.5}, "source": "nobody"}
    return entry_of(b"", **{"source": source, "recipe": None, "published": [score], **changes})


@dataclass
class Store:
    """A cache of models, a registry of one, and a mirror that has its archive."""

    server: Server
    cache: Path
    patch: pytest.MonkeyPatch
    entry: Entry = field(default_factory=lambda: entry_of(b""))

    def has(self, members: dict[str, bytes], *behaviours: Behaviour, **changes: Any) -> bytes:
        """Put an archive of members on the mirror and register it; the mirror serves it well unless told otherwise."""
        body = zip_of(members)
        self.register(body, **changes)
        self.does(*(behaviours or (serve(body),)))
        return body

    def register(self, body: bytes, **changes: Any) -> None:
        self.lists(entry_of(body, **changes))

    def lists(self, entry: Entry) -> None:
        """Make a model the only registered one."""
        self.entry = entry
        self.patch.setattr(registry, "entries", lambda: (entry,))

    def does(self, *behaviours: Behaviour) -> None:
        assert isinstance(self.entry.source, ZipArchive | SingleCheckpoint)
        self.server.pages[f"/models/{self.entry.source.file}"] = list(behaviours)

    def install(
        self, patience: Patience = CALM, progress: ByteProgress = lambda *_: None, **sources: Any
    ) -> list[Path]:
        return model_store.install_model(self.entry, Sources(**sources), progress=progress, patience=patience)

    def error(self, **options: Any) -> str:
        """Install, which must fail; the message. Nothing may look like a model then."""
        with pytest.raises(BandsplitError) as caught:
            self.install(**options)
        assert registry.cached_files(self.entry) == []
        return str(caught.value)

    @property
    def md5(self) -> str | None:
        """The registered digest of the archive."""
        assert isinstance(self.entry.source, ZipArchive)
        return self.entry.source.md5

    @property
    def names(self) -> list[str]:
        """What is in the cache, but for the lock."""
        folder = self.cache / "models"
        return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock") if folder.exists() else []
