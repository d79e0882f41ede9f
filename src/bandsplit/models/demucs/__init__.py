"""Demucs, four families of the lineage: HT Demucs (v4), Hybrid Demucs (v3), time-domain Demucs (v3) and Demucs v2."""
