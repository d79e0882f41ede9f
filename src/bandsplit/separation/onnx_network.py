"""Networks that onnxruntime computes from the .onnx files of `bandsplit export`, with NumPy and without PyTorch."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from bandsplit.core.errors import ConfigError, ModelFileError
from bandsplit.models.card import read_onnx
from bandsplit.models.families import onnx_core
from bandsplit.separation.pooled import PooledNetwork

_SETUP = "pip install 'bandsplit[onnx]', or onnxruntime alone"


class OnnxNetwork(PooledNetwork):
    """A model in onnxruntime, on the CPU; all its targets are computed, since they share one graph."""

    def __init__(self, path: Path | str, threads: int | None = None) -> None:
        """Load the model.

        Args:
            path: the file.
            threads: CPU threads that one call uses; by default those of `PooledNetwork`.

        Raises:
            ModelFileError: the file is missing, damaged, names other files, or `bandsplit export` did not write it.
            ConfigError: onnxruntime is not installed.
        """
        path = Path(path)
        data, config, _ = read_onnx(path)
        super().__init__(path.stem, config, threads)
        self._core = onnx_core(config)
        self._lock = threading.Lock()
        self._sessions: dict[int, Any] = {}
        self._data, self._path = data, path
        self._check(path, self._session(min(self._threads, self._separable(1, config.channels))))

    def _estimate(self, batch: np.ndarray, calls: int) -> np.ndarray:
        session = self._session(calls)
        mixture = self._core.before(self.config, batch)
        try:
            (estimates,) = session.run(["estimates"], {"mixture": mixture})
        except Exception as error:
            if any(text in str(error) for text in ("allocate memory", "bad_alloc", "bad allocation")):
                raise MemoryError from None
            reason = str(error).splitlines()[0]
            raise ModelFileError(
                f"{self._path}: onnxruntime cannot compute it ({reason}); the file is damaged: copy or export it again"
            ) from None
        return self._core.after(self.config, estimates, batch.shape[-1])

    def _session(self, calls: int) -> Any:
        """Return a session for ``calls`` parallel calls, which share the threads."""
        threads = self._threads - calls + 1  # each call brings its own
        with self._lock:
            if threads not in self._sessions:
                self._sessions[threads] = self._load(threads)
            return self._sessions[threads]

    def _load(self, threads: int) -> Any:
        runtime = _import_runtime()
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Files with external weights were refused before; with this path, which is not a folder, onnxruntime would not
        # find them either.
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
        options.log_severity_level = 4  # errors come as exceptions; the log would repeat them on stderr
        try:
            return runtime.InferenceSession(self._data, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises classes of its own, which share no base
            reason = str(error).splitlines()[0]
            raise ModelFileError(
                f"{self._path}: onnxruntime {runtime.__version__} cannot load it ({reason}); the file is damaged, or "
                f"needs a newer onnxruntime: copy or export it again, or pip install -U onnxruntime"
            ) from None

    def _check(self, path: Path, session: Any) -> None:
        """Check that the graph's inputs and outputs match the configuration."""
        expected = dict(zip(("mixture", "estimates"), self._core.shapes(self.config), strict=True))
        found = {
            value.name: [size if isinstance(size, int) else None for size in value.shape]
            for value in (*session.get_inputs(), *session.get_outputs())
            if value.type == "tensor(float)"
        }
        if found != expected:
            raise ModelFileError(
                f"{path}: its graph has {found}, but its configuration needs {expected} (None: any size); it was "
                f"changed after the export: export the model again"
            )


def _import_runtime() -> ModuleType:
    try:
        import onnxruntime
    except ImportError as error:
        raise ConfigError(f"runtime: 'onnx' needs onnxruntime, which cannot be imported ({error}); {_SETUP}") from None
    return onnxruntime
