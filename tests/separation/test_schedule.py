"""The schedule of a batch: longest songs first, a bounded number of attempts, second copies of slow songs."""

import random

import pytest

from bandsplit.separation.schedule import SLOW, End, Schedule


def test_the_longest_songs_come_first_and_equal_ones_in_their_order():
    schedule = Schedule([1, 3, 2, 3])
    assert [schedule.take(worker, 0) for worker in range(5)] == [1, 3, 2, 0, None]


def test_a_failed_song_is_taken_again_after_all_others_and_a_bounded_number_of_times():
    schedule, order, ends = Schedule([2, 1], attempts=3), [], []
    while not schedule.finished:
        song = schedule.take(0, 0)
        assert song is not None
        order.append(song)
        ends.append(schedule.end(0, 1, done=song == 1))
    assert order == [0, 1, 0, 0]
    assert ends == [End.AGAIN, End.DONE, End.AGAIN, End.FAILED]


def test_a_song_whose_worker_was_lost_is_taken_again_next():
    schedule = Schedule([3, 2, 1], attempts=2)
    assert schedule.take(0, 0) == 0
    assert schedule.end(0, 1, done=False, lost=True) is End.AGAIN
    assert [schedule.take(worker, 1) for worker in range(3)] == [0, 1, 2]
    assert schedule.end(0, 2, done=False, lost=True) is End.FAILED


def test_an_attempt_is_overdue_after_the_limit():
    schedule = Schedule([1, 1], limit_s=10)
    schedule.take(0, 0)
    schedule.take(1, 5)
    assert schedule.overdue(10) == []
    assert schedule.overdue(11) == [0]
    assert Schedule([1]).overdue(1e9) == []


def test_a_slow_song_gets_one_second_copy_and_whichever_ends_first_counts():
    schedule = Schedule([10, 10], attempts=2, copies=True)
    assert (schedule.take(0, 0), schedule.take(1, 0)) == (0, 1)
    assert schedule.end(0, 10, done=True) is End.DONE
    assert schedule.take(0, 10 * SLOW) is None
    assert schedule.take(0, 10 * SLOW + 1) == 1
    assert schedule.take(2, 99) is None
    assert schedule.end(0, 40, done=True) is End.DONE
    assert schedule.finished
    assert schedule.end(1, 50, done=False) is End.SETTLED


def test_a_song_whose_copies_fail_in_turn_ends():
    schedule = Schedule([1, 1], attempts=3, copies=True)
    schedule.take(0, 0)
    schedule.take(1, 0)
    schedule.end(0, 1, done=True)
    assert schedule.take(0, 100) == 1
    assert schedule.end(1, 101, done=False) is End.AGAIN
    assert schedule.take(1, 1000) == 1
    assert schedule.end(0, 1000, done=False) is End.AGAIN
    assert schedule.take(0, 9999) is None
    assert schedule.end(1, 9999, done=False) is End.FAILED
    assert schedule.finished


@pytest.mark.parametrize("seed", range(20))
def test_every_song_ends_once_whatever_workers_do(seed: int):
    draw, count = random.Random(seed), 50
    schedule = Schedule([draw.uniform(1, 9) for _ in range(count)], attempts=3, limit_s=30, copies=True)
    running: dict[int, int] = {}
    ended: list[int] = []
    starts = [0] * count
    now = 0.0
    while not schedule.finished:
        now += draw.expovariate(1)
        for worker in set(range(4)) - running.keys():
            if (song := schedule.take(worker, now)) is not None:
                running[worker] = song
                starts[song] += 1
        late = schedule.overdue(now)
        for worker in late or draw.sample(sorted(running), 1):
            end = schedule.end(worker, now, done=worker not in late and draw.random() < 0.6)
            song = running.pop(worker)
            ended += [song] if end in (End.DONE, End.FAILED) else []
    assert sorted(ended) == list(range(count))
    assert max(starts) <= 3
