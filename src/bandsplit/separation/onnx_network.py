"""Networks that onnxruntime computes from the .onnx files of `bandsplit export`, with NumPy and without PyTorch."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from bandsplit.core.errors import ConfigError, ModelFileError
from bandsplit.core.machine import cpu_threads
from bandsplit.models.card import read_onnx
from bandsplit.models.families import onnx_core

_SETUP = "pip install 'bandsplit[onnx]', or onnxruntime alone"


class OnnxNetwork:
    """A model in onnxruntime, on the CPU.

    Attributes:
        name: name of its file.
        config: the model's; all its targets are computed, since they share one graph.
        device: always "cpu".
    """

    def __init__(self, path: Path | str, threads: int | None = None) -> None:
        """Load the model.

        Args:
            path: the file.
            threads: CPU threads that one call uses; by default OMP_NUM_THREADS, else one per usable core.

        Raises:
            ModelFileError: the file is missing, damaged, names other files, or `bandsplit export` did not write it.
            ConfigError: onnxruntime is not installed.
        """
        path = Path(path)
        data, self.config, _ = read_onnx(path)
        self._core = onnx_core(self.config)
        self.name, self.device = path.stem, "cpu"
        self._lock = threading.Lock()
        self._sessions: dict[int, Any] = {}
        self._data, self._path = data, path
        self._threads = threads or cpu_threads()
        self._pool = ThreadPoolExecutor(self._threads)
        self._check(path, self._session(min(self._threads, self._separable(1, self.config.channels))))

    @property
    def batch_size(self) -> int:
        """Best number of chunks to estimate at once: one for each thread."""
        return self._threads

    def estimate(self, batch: np.ndarray) -> np.ndarray:
        """Estimate chunks, float32 ``b c samples``: float32 ``b s c samples``. Threads may call it in parallel.

        Raises:
            MemoryError: the machine has too little memory.
            ModelFileError: the graph fails.
        """
        b, c, samples = batch.shape
        count = self._separable(b, c)
        parts = np.array_split(batch.reshape(count, -1, samples), min(self._threads, count))
        session = self._session(len(parts))
        if len(parts) == 1:
            estimates = self._estimate(session, parts[0])
        else:
            found = list(self._pool.map(lambda part: self._estimate(session, part), parts))
            estimates = np.concatenate(found)
        return estimates.reshape(b, -1, *estimates.shape[1:]).swapaxes(1, 2).reshape(b, -1, c, samples)

    def _separable(self, b: int, c: int) -> int:
        """Return the number of independent parts of a batch: chunks, or channels unless the network mixes them."""
        return b * c if self.config.any_channels else b

    def _estimate(self, session: Any, batch: np.ndarray) -> np.ndarray:
        """Map ``b c samples`` to ``b s c samples``."""
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
        """Return a session for ``calls`` parallel calls, which share the threads.

        One thread per channel is much faster than two on one: no thread waits, and the data stay in the caches.
        """
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
