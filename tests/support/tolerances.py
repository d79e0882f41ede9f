"""How far two ways to compute the same signal may differ on any kind of CPU."""

import numpy as np


def assert_same_signal(found: np.ndarray, expected: np.ndarray, source: np.ndarray, relative: float = 1e-5) -> None:
    """Compare to ``relative`` of the expected peak, and never finer than single precision at the level of the input.

    A network's estimate may be much smaller than its input: then the rounding of the input's level is what remains.
    """
    floor = 4 * np.finfo(np.float32).eps * np.abs(source).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=relative * np.abs(expected).max() + floor)
