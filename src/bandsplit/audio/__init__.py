"""audio: TODO."""
