"""Recipes of TFC-TDF UNets: KUIELab's of the Sound Demixing Challenge 2023, and MDX23C.

Source: docs/tfc-tdf.md#recipes; TFC-TDF-UNet v3 report.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from bandsplit.data.examples.mixing import UMX_LIKE
from bandsplit.recipes.recipe import TWO_CORES, Recipe, apply_changes

RATE_HZ = 44100
_UPDATES_PER_EPOCH = 1000


def tfc_tdf_recipes() -> list[Recipe]:
    """Make the recipes, parents before children."""
    a = _label_noise()
    b = a.vary(
        "kuielab-b", "KUIELab's model B of SDX23: loss against bleeding",
        {"training.loss": {"kind": "masked-mse", "quantile": 0.93, "coarse": False}, "training.max_epochs": 150,
         "training.patience": 150},
        parameters_m=a.parameters_m,
    )  # fmt: skip
    return [a, b, *_clean_data(a), _mdx23c(a), _mini(a)]


def _lengths(hop_samples: int, excerpt_frames: int, chunk_frames: int) -> dict[str, Any]:
    """Return the settings that depend on the hop: a signal of n frames has n - 1 hops."""
    excerpt_s = (excerpt_frames - 1) * hop_samples / RATE_HZ
    chunk_s = (chunk_frames - 1) * hop_samples / RATE_HZ
    return {
        "model.stft.hop_samples": hop_samples,
        "model.plan": {"kind": "folded", "chunk_s": chunk_s, "overlaps": 8},
        "training.excerpt_s": excerpt_s,
        "training.chunks": {"kind": "overlap-add", "chunk_s": excerpt_s, "hop_s": excerpt_s},
    }


def _label_noise() -> Recipe:
    """Make model A: 100,000 updates, examples whose error is large count as mislabelled."""
    start = Recipe(
        "kuielab-a", "KUIELab's model A of SDX23: loss against mislabelled stems", parameters_m=30.12, shared=True,
        unknown={
            "training.mixing.activity": "its authors draw a stem again if its mean |x| is below 0.01; about that level "
            "is the limit of segments here",
            "training.patience": "their choice of a checkpoint is not known; this recipe keeps the best on validation "
            "songs, of all epochs",
            "training.chunks": "their validation is not known; chunks of the length of excerpts, without overlap",
            "training.examples_per_epoch": "they count updates, not epochs; 1000 updates, as in "
            "Music-Source-Separation-Training",
        },
    )  # fmt: skip
    settings = {
        "model.family": "tfc_tdf",
        "model.targets": ["vocals", "drums", "bass", "other"],
        "model.stft.n_fft": 8192,
        "model.n_features": 64,
        "model.growth": 64,
        **_lengths(1024, 256, 1024),
        "training.loss": {"kind": "masked-mse", "quantile": 0.4, "coarse": True},
        "training.learning_rate": 1e-4,
        "training.learning_rate_rule": "none",
        "training.decay": {"kind": "constant"},
        "training.average": {"decay": 0.999},
        "training.precision": "fp16",
        "training.clip_norm": None,
        "training.batch_size": 6,
        "training.global_batch": 6,
        "training.examples_per_epoch": 6 * _UPDATES_PER_EPOCH,
        "training.max_epochs": 100,
        "training.patience": 100,
        "training.mixing": {
            "activity": {"quantile": 0.0, "floor": 0.0125, "pieces": 1},
            "pairing": "free",
            "gain": {"kind": "linear", "low": 1.0, "high": 1.0},
            "drop": "none",
            "peak_normalise": False,
        },
    }
    return dataclasses.replace(start, settings=apply_changes(start.settings, settings))


def _clean_data(a: Recipe) -> list[Recipe]:
    """Make the three models C, for clean stems; their authors trained them on the test songs of MUSDB18-HQ, too."""
    first = a.vary(
        "kuielab-c1", "KUIELab's model 1 of SDX23 C; its authors trained on the test songs too",
        {
            "model.n_features": 128,
            **_lengths(2048, 128, 1024),
            "training.loss": {"kind": "mse-waveform"},
            "training.average": None,
            **_batches(8, 5e-5, 1200),
            "training.mixing.activity": None,
            "training.mixing.augment": {
                "pitch_probability": 0.8, "pitch_semitones": [-2, 2],
                "tempo_probability": 0.8, "tempo_factor": [0.8, 1.2],
            },
        },
        unknown={
            "training.optimizer": "not stated for this model; Adam, as for model A",
            "training.precision": "not stated for this model; float16, as for model A",
            "training.mixing": "whether quiet stems are drawn again, and gains, are not known: neither here",
            "training.mixing.augment": "its authors drew from 25 copies, of five pitches and five tempos; here both "
            "are drawn uniformly from the same ranges, and left alone as often",
            **{path: a.unknown[path] for path in a.unknown if path != "training.mixing.activity"},
        },
        parameters_m=45.81,
    )  # fmt: skip
    second = first.vary(
        "kuielab-c2", "KUIELab's model 2 of SDX23 C; its authors trained on the test songs too",
        {"model.n_features": 256, **_batches(8, 3e-5, 700)}, parameters_m=89.71,
    )  # fmt: skip
    third = first.vary(
        "kuielab-c3", "KUIELab's model 3 of SDX23 C, vocals; its authors trained on the test songs too",
        {"model.stft.n_fft": 12288, "model.targets": ["vocals"], **_batches(8, 5e-5, 1000)},
        parameters_m=45.81,
    )  # fmt: skip
    return [first, second, third]


def _batches(batch: int, learning_rate: float, thousand_updates: int) -> dict[str, Any]:
    return {
        "training.learning_rate": learning_rate,
        "training.batch_size": batch,
        "training.global_batch": batch,
        "training.examples_per_epoch": batch * _UPDATES_PER_EPOCH,
        "training.max_epochs": thousand_updates,
        "training.patience": thousand_updates,
    }


def _mdx23c(a: Recipe) -> Recipe:
    """Make the larger network of Music-Source-Separation-Training."""
    return a.vary(
        "mdx23c", "MDX23C of Music-Source-Separation-Training, four targets",
        {
            "model.targets": ["vocals", "bass", "drums", "other"],
            "model.n_features": 128,
            "model.growth": 128,
            **_lengths(1024, 256, 256),
            **_batches(6, 9e-5, 200),
            "training.loss": {"kind": "masked-mse", "quantile": 0.95, "coarse": True},
            "training.average": None,
            "training.decay": {"kind": "plateau", "factor": 0.95, "patience": 2},
            "training.mixing.gain": {"kind": "linear", "low": 0.5, "high": 1.5},
            "training.mixing.swap_probability": 0.5,
        },
        unknown={
            "training.loss": "the quantile is not known; one of those of the software's loss",
            "training.decay": "the schedule is that of the software's other families",
            "training.average": "not known; none, which early versions of the software had",
            "training.mixing": "not known; the software's other families have these gains and swapped channels, and "
            "mix stems of one type besides, which this recipe does not",
            "training.max_epochs": "not known; the published weights are of epoch 168",
            **{path: a.unknown[path] for path in ("training.patience", "training.chunks")},
        },
        parameters_m=111.99,
    )  # fmt: skip


def _mini(a: Recipe) -> Recipe:
    """Make a counterpart that learns in minutes on two cores, from songs at 16 kHz.

    In a trial of 600 updates on 12 synthetic songs, the mean uSDR of three others rose from -5.0 dB, that of the
    mixture, to 2.8, 4.0 and 4.4 dB after 200, 400 and 600; it took 6 minutes of one core that was shared.
    """
    samples = 31 * 256
    return a.vary(
        "mini-tfc-tdf", "mini: TFC-TDF UNet v3",
        {
            **TWO_CORES,
            "model.stft": {"n_fft": 1024, "hop_samples": 256},
            "model.n_bins": 512,
            "model.n_features": 16,
            "model.growth": 8,
            "model.n_scales": 3,
            "model.n_blocks": 1,
            "model.plan": {"kind": "folded", "chunk_s": samples / 16000, "overlaps": 2},
            "training.excerpt_s": samples / 16000,
            "training.chunks": {"kind": "overlap-add", "chunk_s": samples / 16000, "hop_s": samples / 16000},
            "training.loss": {"kind": "mse-waveform"},
            "training.learning_rate": 2e-3,
            "training.average": None,
            "training.precision": "fp32",
            "training.clip_norm": 5.0,
            **{f"training.mixing.{field}": value for field, value in UMX_LIKE.items()},
            "training.examples_per_epoch": 320,
            "training.max_epochs": 6,
            "training.patience": 6,
        },
        counterpart="kuielab-a", unknown={},
    )  # fmt: skip
