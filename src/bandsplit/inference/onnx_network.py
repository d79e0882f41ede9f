"""Networks that onnxruntime computes from the .onnx files of `bandsplit export`: NumPy around it, no PyTorch."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np

from bandsplit.errors import ConfigError, ModelFileError
from bandsplit.models.card import read_onnx
from bandsplit.settings import cpu_threads
from bandsplit.spectral_numpy import istft, stft

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
            threads: CPU threads that one call uses; by default what OMP_NUM_THREADS says, else one per usable core.

        Raises:
            ModelFileError: the file is missing, damaged, names other files, or is not one of `bandsplit export`.
            ConfigError: onnxruntime is not installed.
        """
        path = Path(path)
        data, self.config, _ = read_onnx(path)
        self.name, self.device = path.stem, "cpu"
        runtime = _import_runtime()
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads or cpu_threads()
        options.inter_op_num_threads = 1
        options.log_severity_level = 4  # errors come as exceptions; the log would repeat them on stderr
        try:
            self._session = runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises classes of its own, which share no base
            reason = str(error).splitlines()[0]
            raise ModelFileError(
                f"{path}: onnxruntime {runtime.__version__} cannot load it ({reason}); the file is damaged, or needs a "
                f"newer onnxruntime: copy or export it again, or pip install -U onnxruntime"
            ) from None
        self._check(path)

    def estimate(self, batch: np.ndarray) -> np.ndarray:
        """Estimate chunks, float32 ``b c samples``: float32 ``b s c samples``. Threads may call it at once.

        Raises:
            MemoryError: the machine does not hold them.
        """
        spec = stft(batch, self.config.stft)
        parts = np.stack([spec.real, spec.imag], axis=-1)
        try:
            (estimates,) = self._session.run(["estimates"], {"mixture": parts})
        except Exception as error:
            if "allocate memory" in str(error) or "bad_alloc" in str(error) or "bad allocation" in str(error):
                raise MemoryError from None
            raise
        return istft(np.ascontiguousarray(estimates).view(np.complex64)[..., 0], self.config.stft, batch.shape[-1])

    def _check(self, path: Path) -> None:
        """Make sure that the graph takes and gives what the configuration says."""
        config = self.config
        bins = config.stft.n_fft // 2 + 1
        channels = None if config.stereo.kind == "independent" else config.channels
        expected = {"mixture": [None, channels, bins, None, 2]}
        expected["estimates"] = [None, len(config.targets), *expected["mixture"][1:]]
        found = {
            value.name: [size if isinstance(size, int) else None for size in value.shape]
            for value in (*self._session.get_inputs(), *self._session.get_outputs())
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
