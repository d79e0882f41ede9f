"""The CPU kernels of the distribution ``bandsplit-kernels``: one shared library, loaded by ctypes, for NumPy arrays.

``kernels/src`` explains how they work.
"""

from __future__ import annotations

import ctypes
import logging
import weakref
from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias, get_args

import numpy as np

from bandsplit.core.errors import ConfigError
from bandsplit.core.extras import install
from bandsplit.core.settings import kernels_setting

KernelPrecision: TypeAlias = Literal["fp32", "bf16", "int8"]
"""Precision of products: single; bfloat16; 8-bit integers with a scale for each row of inputs and of weights."""

Activation: TypeAlias = Literal["none", "prelu", "tanh"]
"""What follows a linear layer."""

INTERFACE = 3
"""Number of the library's functions as they are called here; another library has another number."""

NOT_INSTALLED = "not installed"
"""Reason of a search that found no library."""

_PACKAGE = "bandsplit_kernels"
_PRECISIONS = get_args(KernelPrecision)
_ACTIVATIONS = get_args(Activation)
_ROWS = 6  # of a tile
_NO_MEMORY = 1
_NOT_FINITE = 2

_INT, _LONGS, _POINTER = ctypes.c_int, ctypes.POINTER(ctypes.c_int64), ctypes.c_void_p
_ARGUMENTS = {
    "bandsplit_sets": [],
    "bandsplit_set_name": [_INT],
    "bandsplit_set_runs": [_INT],
    "bandsplit_set_has": [_INT, _INT],
    "bandsplit_lstm_pack": [*[_INT] * 6, ctypes.c_float, *[_POINTER] * 4],
    "bandsplit_free": [_POINTER],
    "bandsplit_lstm_run": [_POINTER, _POINTER, _POINTER, _LONGS, _LONGS, ctypes.c_int64, ctypes.c_int64, _INT],
    "bandsplit_stack_pack": [_INT, _INT, _INT, _INT, _POINTER, _POINTER],
    "bandsplit_stack_run": [_POINTER, _POINTER, _POINTER, ctypes.c_int64, _INT, ctypes.c_int64, _INT],
    "bandsplit_stack_multiply": [_POINTER, _POINTER, _POINTER],
    "bandsplit_dots": [_INT, _INT, ctypes.c_int64],
}


class UnfitWeightsError(ValueError):
    """Weights that the kernels do not compute, for their values, sizes or precision; PyTorch does."""


class Kernels(NamedTuple):
    """The library, with one of its instruction sets."""

    library: ctypes.CDLL
    number: int
    name: str

    def has(self, precision: KernelPrecision) -> bool:
        """Return whether the instruction set has products of this precision."""
        return bool(self.library.bandsplit_set_has(self.number, _PRECISIONS.index(precision)))

    @property
    def precisions(self) -> list[KernelPrecision]:
        """The precisions of its products."""
        return [precision for precision in _PRECISIONS if self.has(precision)]

    @property
    def is_quick(self) -> bool:
        """Whether linear layers are quicker than PyTorch's: with AVX2 they gain too little, by measurement."""
        return self.name.startswith("avx512")

    def beside(self, precision: KernelPrecision) -> KernelPrecision:
        """Return the precision of linear layers beside LSTMs in ``precision``: bfloat16 beside integers, else single.

        They cost less than the LSTMs, and rounding shows more in their outputs.
        """
        return "bf16" if precision == "int8" and self.has("bf16") else "fp32"

    def multiply(self, inputs: np.ndarray, weights: np.ndarray, precision: KernelPrecision) -> np.ndarray:
        """Multiply ``(r n)`` by ``(c n)`` as the layers do: their plain sums ``(r c)``, floats or integers."""
        padded = np.pad(weights, ((0, -len(weights) % 64), (0, 0)))  # to a multiple of the columns of a block
        stack = PackedStack(self, [Dense(padded[None], np.zeros((1, len(padded))), precision)])
        rows = _floats(np.pad(inputs, ((0, -len(inputs) % _ROWS), (0, 0))))
        sums = np.empty((len(rows), len(padded)), np.int32 if precision == "int8" else np.float32)
        for row in range(0, len(rows), _ROWS):
            stack.multiply(rows[row : row + _ROWS], sums[row : row + _ROWS])
        return sums[: len(inputs), : len(weights)]

    def dots(self, precision: KernelPrecision, repeats: int) -> float:
        """Multiply registers ``repeats`` times; return the number of operations."""
        return self.library.bandsplit_dots(self.number, _PRECISIONS.index(precision), repeats)


class Search(NamedTuple):
    """The kernels, or the reason why the search found nothing."""

    kernels: Kernels | None
    reason: str
    broken: bool = False
    """Whether a library is installed that cannot be used."""


def describe_problem(precision: KernelPrecision) -> str | None:
    """Return why there are no kernels for a precision here; None if there are."""
    kernels, reason, _ = search_kernels()
    if kernels is None:
        fix = f"; {install('kernels')}" if reason == NOT_INSTALLED else ""
        return f"needs the CPU kernels ({reason}{fix})"
    if precision not in kernels.precisions:
        return f"has no products in {precision}: the kernels' set {kernels.name} has {', '.join(kernels.precisions)}"
    return None


def fits(n: int, m: int, groups: int) -> bool:
    """Return whether the kernels have layers of ``n`` features in ``groups`` and ``m`` hidden ones per direction."""
    return n % (16 * groups) == 0 and m % 16 == 0


@lru_cache
def search_kernels() -> Search:
    """Load the library with the instruction set that ``BANDSPLIT_KERNELS`` names, or the best one of this CPU.

    A library that cannot be used, such as one of another version, is logged as a warning.

    Raises:
        ConfigError: the setting names no instruction set of the library, or one that this CPU lacks.
    """
    wanted = kernels_setting()
    if wanted == "off":
        return Search(None, "off (BANDSPLIT_KERNELS)")
    library, reason, broken = _load()
    if library is None:
        if broken:
            logging.getLogger("bandsplit").warning("CPU kernels are not used: %s", reason)
        return Search(None, reason, broken)
    runs = [kernels for kernels in instruction_sets(library) if library.bandsplit_set_runs(kernels.number)]
    if wanted is None:
        return Search(runs[-1], "the best of this CPU") if runs else Search(None, "this CPU lacks AVX2")
    for kernels in runs:
        if kernels.name == wanted:
            return Search(kernels, "by BANDSPLIT_KERNELS")
    legal = ", ".join(kernels.name for kernels in runs)
    raise ConfigError(f"BANDSPLIT_KERNELS: {wanted!r} does not run here; legal on this CPU: {legal or 'none'}; off")


def instruction_sets(library: ctypes.CDLL) -> list[Kernels]:
    """List the instruction sets of a library, the best one last, including those that this CPU lacks."""
    names = [library.bandsplit_set_name(number).decode() for number in range(library.bandsplit_sets())]
    return [Kernels(library, number, name) for number, name in enumerate(names)]


def load_library(path: Path) -> ctypes.CDLL:
    """Load a library and declare its functions.

    Raises:
        OSError: it is no library for this machine.
        ConfigError: it is of another version.
    """
    library = ctypes.CDLL(str(path))
    try:
        found = library.bandsplit_interface()
    except AttributeError:
        found = None
    if found != INTERFACE:
        raise ConfigError(f"{path}: has interface {found}, and this bandsplit needs {INTERFACE}; install both again")
    for name, arguments in _ARGUMENTS.items():
        getattr(library, name).argtypes = arguments
    library.bandsplit_set_name.restype = ctypes.c_char_p
    library.bandsplit_dots.restype = ctypes.c_double
    return library


def _load() -> tuple[ctypes.CDLL | None, str, bool]:
    """Return the installed library, or else the reason, and whether one is broken."""
    spec = find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        return None, NOT_INSTALLED, False
    files = [file for folder in spec.submodule_search_locations for file in Path(folder).glob(f"*{_PACKAGE}.*")]
    if not files:
        return None, f"{_PACKAGE} is installed without its library", True
    try:
        return load_library(files[0]), "", False
    except OSError as error:
        return None, f"{files[0]} cannot be loaded: {error}", True
    except ConfigError as error:
        return None, str(error), True


class PackedRecurrent:
    """The weights of a bidirectional LSTM or GRU between a normalisation and a linear layer, packed for the kernels."""

    def __init__(
        self,
        kernels: Kernels,
        weight: np.ndarray,
        project: np.ndarray,
        bias: np.ndarray,
        *,
        gru: bool = False,
        groups: int,
        eps: float,
        precision: KernelPrecision = "fp32",
    ) -> None:
        """Pack weights of the gates ``(d 4m n+m+1)``, of the linear layer ``(d n m)``, and its bias ``(n)``.

        The rows of the gates are those of input, forget and output gate and of the candidate; in a GRU those of reset
        and update gate and of the candidate's parts of input and of last output, of which each has zeros for the other.
        The columns are those of the input, of the last output and the bias. The normalisation has no gain and bias:
        they are part of the weights.

        Raises:
            UnfitWeightsError: a weight is not finite or above 1e30, or the kernels lack this size or precision.
            ValueError: shapes do not match.
        """
        weight, project, bias = _floats(weight), _floats(project), _floats(bias)
        _, n, m = project.shape
        _require(weight.shape == (2, 4 * m, n + m + 1) and len(project) == 2 and bias.shape == (n,), "weights")
        self._library, self._packed = kernels.library, _POINTER()
        arguments = kernels.number, _PRECISIONS.index(precision), int(gru), n, m, groups, eps
        pointers = weight.ctypes.data, project.ctypes.data, bias.ctypes.data, ctypes.byref(self._packed)
        _check(self._library.bandsplit_lstm_pack(*arguments, *pointers))
        _free_with(self, self._library, self._packed)
        self.n = n

    def along(self, x: np.ndarray, y: np.ndarray, axis: Literal["time", "band"], heads: int, threads: int) -> None:
        """Write ``x`` plus the layer's output to ``y``, both contiguous, float32 ``(b c k t (h n))``.

        Sequences run along one axis; a NaN or an infinity in one makes all of its output NaN. Threads share them, and
        their number changes no bit. Any number of threads may call this at once.

        Raises:
            ValueError: the arrays are not as described.
        """
        _require(x.ndim == 5 and x.shape[-1] == heads * self.n and y.shape == x.shape, "shapes")
        _require(_is_plain(x) and _is_plain(y) and not np.shares_memory(x, y), "arrays")
        b, c, k, t, n = x.shape
        if axis == "time":
            counts, strides, steps, stride = (b * c * k, 1, heads), (t * n, 0, self.n), t, n
        else:
            counts, strides, steps, stride = (b * c, t, heads), (k * t * n, n, self.n), k, t * n
        of_three = ctypes.c_int64 * 3
        run = self._library.bandsplit_lstm_run
        arrays = self._packed, x.ctypes.data, y.ctypes.data, of_three(*counts), of_three(*strides)
        _check(run(*arrays, steps, stride, threads))


class Dense(NamedTuple):
    """A linear layer of a stack: weights ``(set out in)``, bias ``(set out)``, and an activation."""

    weight: np.ndarray
    bias: np.ndarray
    precision: KernelPrecision = "fp32"
    activation: Activation = "none"
    slope: np.ndarray | None = None
    """Of each output, below zero, in "prelu"."""


class _Weights(ctypes.Structure):
    """The same for the library."""

    _fields_ = [
        *((name, _INT) for name in ("inputs", "outputs", "precision", "activation")),
        *((name, _POINTER) for name in ("weight", "bias", "slope")),
    ]


class PackedStack:
    """Linear layers one after another, packed for the kernels; each set of rows has weights of its own."""

    def __init__(self, kernels: Kernels, layers: Sequence[Dense], *, mixes: bool = False) -> None:
        """Pack layers, each for the outputs of the last one.

        With ``mixes`` they are a block that transforms, averages and concatenates channels: the layer of each channel,
        that of the mean of their outputs, and both parts of the last one, of the mean (no activation) and of each.

        Raises:
            UnfitWeightsError: a weight is not finite or above 1e30, or the kernels lack this size or precision.
            ValueError: shapes do not match.
        """
        sets = len(layers[0].weight)
        outputs, inputs = zip(*(one.weight.shape[1:] for one in layers), strict=True)
        if mixes:  # the library keeps what it mixes in buffers of the last layer's inputs and of its outputs
            chained = len(layers) == 4 and inputs[1:] == (outputs[0], outputs[1], outputs[0])
            _require(chained and outputs[2] == outputs[3] == inputs[0], "layers that mix")
        else:
            _require(inputs[1:] == outputs[:-1], "layers")
        arrays, weights = [], (_Weights * len(layers))()  # arrays are kept until they are packed
        for one, given in zip(layers, weights, strict=True):
            weight, bias = _floats(one.weight), _floats(one.bias)
            slope = None if one.slope is None else _floats(one.slope)
            given.outputs, given.inputs = weight.shape[1:]
            slopes = (given.outputs,) if one.activation == "prelu" else None
            _require(len(weight) == sets and bias.shape == (sets, given.outputs), "weights")
            _require((None if slope is None else slope.shape) == slopes, "slopes")
            given.precision = _PRECISIONS.index(one.precision)
            given.activation = _ACTIVATIONS.index(one.activation)
            given.weight, given.bias = weight.ctypes.data, bias.ctypes.data
            given.slope = None if slope is None else slope.ctypes.data
            arrays.append((weight, bias, slope))
        self._library, self._packed = kernels.library, _POINTER()
        sizes = kernels.number, sets, len(layers), int(mixes)
        _check(self._library.bandsplit_stack_pack(*sizes, weights, ctypes.byref(self._packed)))
        _free_with(self, self._library, self._packed)
        self.sets, self.n_in, self.n_out, self._mixes = sets, inputs[0], outputs[-1], mixes
        self._sums = _ROWS, outputs[0]

    def multiply(self, rows: np.ndarray, sums: np.ndarray) -> None:
        """Write the plain sums of six rows with the first weights, whose number is a multiple of 64.

        Raises:
            ValueError: the arrays have other shapes.
        """
        _require(rows.shape == (_ROWS, self.n_in) and _is_plain(rows), "rows")
        _require(sums.shape == self._sums and self._sums[1] % 64 == 0, "sums")
        _require(sums.itemsize == 4 and sums.flags.c_contiguous, "sums")
        _check(self._library.bandsplit_stack_multiply(self._packed, rows.ctypes.data, sums.ctypes.data))

    def apply(self, x: np.ndarray, threads: int, y: np.ndarray | None = None) -> np.ndarray:
        """Map contiguous, float32 ``(g c l n)`` to ``(g c l m)``; set g modulo their number serves group g.

        There is one channel, but for a stack that mixes, which has the residual inside. The outputs are written to
        ``y`` if it is given, which shares no memory with ``x``. Any number of threads may call this at once.

        Raises:
            ValueError: the arrays are not as described.
        """
        _require(x.ndim == 4 and x.shape[-1] == self.n_in and (self._mixes or x.shape[1] == 1), "shapes")
        groups, channels, rows, _ = x.shape
        if y is None:
            y = np.empty((groups, channels, rows, self.n_out), np.float32)
        _require(y.shape == (groups, channels, rows, self.n_out), "shapes")
        _require(_is_plain(x) and _is_plain(y) and not np.shares_memory(x, y), "arrays")
        run = self._library.bandsplit_stack_run
        _check(run(self._packed, x.ctypes.data, y.ctypes.data, groups, channels, rows, threads))
        return y


def _floats(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array, np.float32)


def _is_plain(array: np.ndarray) -> bool:
    return array.dtype == np.float32 and array.flags.c_contiguous


def _require(fit: bool, what: str) -> None:
    """Raise an error unless arguments fit: the library trusts them, and ``python -O`` leaves assertions out."""
    if not fit:
        raise ValueError(f"kernels: {what} do not fit")


def _free_with(owner: object, library: ctypes.CDLL, packed: ctypes.c_void_p) -> None:
    """Free packed weights with their owner, but not at exit, when other threads may still compute with them."""
    weakref.finalize(owner, library.bandsplit_free, packed).atexit = False


def _check(problem: int) -> None:
    if problem == _NO_MEMORY:
        raise MemoryError
    if problem:
        refused = "weights are not finite, or above 1e30", "sizes or precision: not in the kernels"
        raise UnfitWeightsError(refused[problem != _NOT_FINITE])
