"""Progress and time left of a job over all its stages."""

import pytest

from bandsplit.serve.job import Progress
from bandsplit.serve.timing import Price, Timing

PRICE = Price(separate_s=30, listen_s=2)
"""With the copies of three signals a song of two minutes takes 60 s and 12 s."""
REPORTS = [  # stage, seconds done, seconds in all, time; part of the job, time left
    ("load", 0, 1, 0, 0, 72),
    ("decode", 60, 120, 8, 0, 72),
    ("separate", 0, 120, 10, 0, 72),
    ("separate", 60, 120, 30, 30 / 72, 20 + 12),  # a little faster than its price
    ("separate", 120, 120, 50, 60 / 72, 12),
    ("write", 120, 120, 50, 60 / 72, 12),
    ("listen", 0, 720, 52, 60 / 72, 12),
    ("listen", 180, 720, 54, 63 / 72, 6),
    ("listen", 720, 720, 60, 1, 0),
]


def test_progress_runs_once_over_all_stages():
    timing = Timing(PRICE, about_s=120, signals=3)
    for stage, done_s, total_s, now_s, share, left_s in REPORTS:
        progress = timing.follow(stage, done_s, total_s, now_s)
        assert progress.stage == stage
        assert (progress.share, progress.left_s) == (pytest.approx(share), pytest.approx(left_s)), (stage, done_s)


def test_the_length_that_only_decoding_finds_counts_from_then_on():
    timing = Timing(PRICE, about_s=None, signals=3)
    assert timing.follow("decode", 60, 60, 0).left_s is None
    assert timing.follow("separate", 0, 120, 5).left_s == pytest.approx(72)


def test_without_a_price_the_pace_of_the_stage_is_what_is_known():
    timing = Timing(None, about_s=120, signals=3)
    assert timing.follow("load", 0, 1, 0) == Progress(stage="load", share=0)
    assert timing.follow("separate", 0, 120, 10) == Progress(stage="separate", share=0)
    assert timing.follow("separate", 60, 120, 30) == Progress(stage="separate", share=0.45, left_s=20)
    assert timing.follow("write", 120, 120, 50) == Progress(stage="write", share=0.9)
    assert timing.follow("listen", 0, 720, 50) == Progress(stage="listen", share=0.9)
    assert timing.follow("listen", 720, 720, 60) == Progress(stage="listen", share=1, left_s=0)
