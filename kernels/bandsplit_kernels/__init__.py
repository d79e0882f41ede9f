"""The shared library of bandsplit's CPU kernels, which bandsplit loads itself."""

from pathlib import Path

LIBRARY = next(Path(__file__).parent.glob("*bandsplit_kernels.*"), None)
"""The file of the library."""
