"""Places for the workers of a Ray cluster: as many as are asked for fit on its machines."""

import pytest

from bandsplit.separation.ray_workers import share_of, usual_count

UNITS = 10_000  # of a CPU or GPU, as Ray counts


def places(nodes: list[dict[str, float]], share: tuple[float, float]) -> int:
    """Count the workers that find a place, as Ray gives them away: each needs its share of one GPU of one machine."""
    cpus, gpus = (round(value * UNITS) for value in share)
    found = 0
    for node in nodes:
        on_cpus = round(node.get("CPU", 0) * UNITS) // cpus if cpus else 10**9
        on_gpus = int(node.get("GPU", 0)) * (UNITS // gpus) if gpus else 10**9
        found += min(on_cpus, on_gpus)
    return found


@pytest.mark.parametrize(
    "nodes",
    [
        [{"CPU": 16, "GPU": 2}],
        [{"CPU": 4}],
        [{"CPU": 2}],
        [{"CPU": 3}, {"CPU": 3}, {"CPU": 3}],
        [{"CPU": 64}, {"CPU": 2}],
        [{"CPU": 1}, {"CPU": 1}],
        [{}, {"CPU": 8, "GPU": 1}, {"CPU": 32, "GPU": 4}],
        [{"CPU": 64}, {"CPU": 2, "GPU": 8}],
        [{"memory": 1e9}, {"CPU": 4}, {"CPU": 4}, {"CPU": 4}],
    ],
)
def test_every_worker_finds_a_place(nodes: list[dict[str, float]]):
    for count in (usual_count(nodes), *range(1, 41)):
        share = share_of(nodes, count)
        assert places(nodes, share) >= count, (count, share)
        assert all(value in (0, int(value)) or value < 1 for value in share)


def test_the_usual_workers_have_a_gpu_or_a_machine_each():
    assert usual_count([{"CPU": 8, "GPU": 2}, {"CPU": 8, "GPU": 1}, {"CPU": 64}]) == 3
    assert share_of([{"CPU": 8, "GPU": 2}, {"CPU": 8, "GPU": 1}, {"CPU": 64}], 3) == (4, 1)
    assert usual_count([{}, {"CPU": 8}, {"CPU": 6}]) == 2 and share_of([{}, {"CPU": 8}, {"CPU": 6}], 2) == (6, 0)
    assert usual_count([{}]) == 1
    assert share_of([{"CPU": 16, "GPU": 2}], 3) == (4, 0.5)
