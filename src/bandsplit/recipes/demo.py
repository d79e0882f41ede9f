"""The recipe of the demo."""

from __future__ import annotations

from bandsplit.recipes.recipe import Recipe


def demo_recipe(simo: Recipe) -> Recipe:
    """Make the recipe of a network that is small enough to learn in minutes on two cores; not in the paper.

    Dilated stacks replace the LSTMs: the network receives real and imaginary parts, and rectified convolutions find
    their magnitude immediately, while LSTMs spend hundreds of updates on a filter that ignores its input. Merged
    channels halve the work, and so does a bandwidth of 11 kHz. Some examples keep the stems of one song together: in
    real songs, note onsets and chords agree across stems; the other examples, random mixes, are faster to learn from.
    Estimates that must sum to the mixture, twice the learning rate, and more examples of one song cost 0.7, 0.3 and
    0.2 dB in short trials.
    """
    return simo.vary(
        "demo", "small and fast, for the demo; not in the paper",
        {
            "model.sample_rate_hz": 22050,
            "model.bands": [[100, 8], [200, 6], [500, 6], [1000, 3]],
            "model.stft.n_fft": 1024,
            "model.stft.hop_samples": 512,
            "model.n_features": 24,
            "model.n_blocks": 2,
            "model.time": {"kind": "dilated", "depth": 3},
            "model.band": {"kind": "dilated", "depth": 2},
            "model.stereo.kind": "merged",
            "model.mask.hidden_factor": 2,
            "training.excerpt_s": 1.0,
            "training.batch_size": 4,
            "training.global_batch": 4,
            "training.learning_rate": 0.015,
            "training.mixing.gain.low": 0.5,
            "training.mixing.same_song_probability": 0.3,
            "training.decay": {"kind": "cosine"},
            "training.examples_per_epoch": 560,
            "training.max_epochs": 12,
            "training.validate_every": 4,
        },
        parameters_m=None,
    )  # fmt: skip
