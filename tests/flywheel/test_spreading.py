from __future__ import annotations

import pytest

from flywheel.learning.spreading import helpful_workers


@pytest.mark.parametrize(
    ("count", "threads", "cap", "latency", "cores", "workers"),
    [
        (5, 8, 32, 2.0, 2, 5),  # a hosted model: as many as signatures
        (5, 8, 32, 0.2, 2, 5),
        (5, 8, 32, 0.02, 2, 2),  # answers at once: one a core
        (5, 8, 32, 0.0, 2, 2),
        (5, 8, 3, 2.0, 2, 3),  # never more than calls may be under way
        (1, 8, 32, 2.0, 64, 1),
        (30, 8, 100, 0.2, 4, 10),
        (5, 1, 32, 0.0, 1, 1),
    ],
)
def test_as_many_workers_as_signatures_latency_cap_and_cores_allow(
    count: int, threads: int, cap: int, latency: float, cores: int, workers: int
) -> None:
    assert helpful_workers(count, threads, cap, latency, cores) == workers
