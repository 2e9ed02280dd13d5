from __future__ import annotations

import stat
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from flywheel.serving.tick_log import append, read, thinned

if TYPE_CHECKING:
    from pathlib import Path


def tick(number: int, action: str = "hold", stage: int = 0, reason: str = "stage too young") -> dict[str, Any]:
    return {"at": number, "action": action, "reasons": [reason], "figures": {"stage": stage}}


TICKS = st.lists(
    st.builds(tick, st.integers(), st.sampled_from(["hold", "promote"]), st.integers(0, 3), st.sampled_from("ab")),
    max_size=80,
)


@given(TICKS, st.integers(1, 10))
def test_what_happened_and_the_latest_stay_in_their_order(ticks: list[dict[str, Any]], latest: int) -> None:
    kept = thinned(ticks, latest)
    rest = iter(ticks)
    assert all(any(item is other for other in rest) for item in kept)
    assert kept[-latest:] == ticks[-latest:]
    assert [item for item in kept if item["action"] != "hold"] == [item for item in ticks if item["action"] != "hold"]

    def edges(items: list[dict[str, Any]]) -> list[Any]:
        found = [(item["figures"]["stage"], item["reasons"]) for item in items]
        return [one for one, before in zip(found, [None, *found], strict=False) if one != before]

    assert edges(kept) == edges(ticks)


def test_dull_looks_are_halved() -> None:
    assert [item["at"] for item in thinned([tick(n) for n in range(12)], 2)] == [0, 1, 3, 5, 7, 9, 10, 11]


def test_a_long_log_stays_small_and_private(tmp_path: Path) -> None:
    path = tmp_path / "ticks.jsonl"
    for number in range(4_000):
        append(path, {**tick(number), "text": "x" * 400}, 1 << 20)
        assert path.stat().st_size <= 1 << 20
    found = [item["at"] for item in read(path)]
    assert found[0] == 0
    assert found[-500:] == list(range(3_500, 4_000))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_line_torn_by_a_crash_does_not_swallow_the_next(tmp_path: Path) -> None:
    path = tmp_path / "ticks.jsonl"
    append(path, tick(1))
    with path.open("ab") as stream:
        stream.write(b'{"at": 2, "act')
    append(path, tick(3))
    path.write_bytes(path.read_bytes() + b"7\n\xff\n")
    assert [item["at"] for item in read(path)] == [1, 3]
