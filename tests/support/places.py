"""Folders and files of the project that tests read."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "bandsplit"
CHECKPOINT = ROOT / "tests" / "golden" / "data" / "bass.ckpt"
"""A small checkpoint that the authors' code wrote."""
