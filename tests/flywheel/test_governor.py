from __future__ import annotations

import contextlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from flywheel.learning.governor import Caps, Governor
from flywheel.learning.limits import BudgetExhausted, DeadlinePassed, RunEnded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Meter:
    """Counts who is within at once, and waits for a number of them."""

    def __init__(self) -> None:
        self.most = self._within = 0
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def within(self) -> Iterator[None]:
        with self._changed:
            self._within += 1
            self.most = max(self.most, self._within)
            self._changed.notify_all()
        yield
        with self._changed:
            self._within -= 1

    def wait_for(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.most >= count, 10)


def in_threads(count: int, work: Callable[[int], None]) -> None:
    with ThreadPoolExecutor(count) as pool:
        list(pool.map(work, range(count)))


def test_never_more_than_the_cap_are_under_way() -> None:
    governor, meter = Governor(Caps(concurrency=3)), Meter()

    def call(_: int) -> None:
        for _ in range(5):
            with governor.admitted(), meter.within():
                if meter.most < 3:
                    meter.wait_for(3)

    in_threads(12, call)
    assert meter.most == 3
    assert governor.under_way == 0


def test_whoever_waits_is_served_in_order_of_arrival() -> None:
    governor, served = Governor(Caps(concurrency=1)), []
    arrived = threading.Semaphore(0)

    def call(number: int) -> None:
        with governor.admitted():
            served.append(number)

    with ThreadPoolExecutor(20) as pool:
        with governor.admitted():
            for number in range(20):
                pool.submit(call, number)
                while len(governor._queue) <= number:
                    arrived.acquire(timeout=0.001)
        pool.shutdown()
    assert served == list(range(20))


def test_a_stop_is_told_to_everybody_who_waits() -> None:
    governor, stops = Governor(Caps(max_calls=1)), []

    def call(_: int) -> None:
        try:
            with governor.admitted() as admission:
                admission.spent(1, None)
        except BudgetExhausted as stop:
            stops.append(str(stop))

    in_threads(8, call)
    assert stops == ["1 of 1 calls are spent"] * 7


def test_what_is_kept_back_is_for_its_holders_finishing_alone() -> None:
    governor = Governor(Caps(max_calls=10))
    governor.keep_back("a", 3)
    governor.keep_back("b", 2)
    spent = {"search": 0, "a": 0, "b": 0}

    def spend(holder: str, *, finishing: bool) -> None:
        with contextlib.suppress(BudgetExhausted):
            while True:
                with governor.admitted(holder, finishing=finishing) as admission:
                    admission.spent(1, None)
                spent[holder if finishing else "search"] += 1

    spend("a", finishing=False)
    assert spent["search"] == 5
    with pytest.raises(BudgetExhausted, match="5 of 10 calls are spent, and 5 are kept back"), governor.admitted("b"):
        pass
    in_threads(2, lambda number: spend("ab"[number], finishing=True))
    assert spent == {"search": 5, "a": 3, "b": 2}


def test_what_is_freed_is_everybodys() -> None:
    governor = Governor(Caps(max_calls=2, max_cost_usd=1.0))
    governor.keep_back("a", 2, 1.0)
    with pytest.raises(BudgetExhausted), governor.admitted("b"):
        pass
    governor.keep_back("a", 0, 0.0)
    with governor.admitted("b") as admission:
        admission.spent(1, 0.1)


def test_calls_under_way_are_expected_to_cost_what_the_dearest_did() -> None:
    governor, meter = Governor(Caps(max_cost_usd=1.0)), Meter()
    with governor.admitted() as admission:
        admission.spent(1, 0.3)
    spent = []

    def call(_: int) -> None:
        with contextlib.suppress(BudgetExhausted), governor.admitted() as admission, meter.within():
            admission.spent(1, 0.3)
            spent.append(governor._purse.cost_usd)

    in_threads(8, call)
    assert meter.most <= 2
    assert len(spent) == 2, "a third would overspend"


def test_calls_that_came_before_count() -> None:
    with pytest.raises(BudgetExhausted), Governor(Caps(max_calls=5), calls=5).admitted():
        pass


def test_a_deadline_ends_the_waiting() -> None:
    governor = Governor(Caps(concurrency=1))
    with governor.admitted():
        begun = time.monotonic()
        with pytest.raises(DeadlinePassed), governor.admitted(deadline=begun + 0.05):
            pass
        assert not governor._queue
    with governor.admitted(deadline=time.monotonic() + 60):
        pass


def test_closing_sends_away_who_waits_and_who_comes() -> None:
    governor, stops = Governor(Caps(concurrency=1)), []

    def call() -> None:
        try:
            with governor.admitted():
                pass
        except RunEnded:
            stops.append(1)

    with governor.admitted():
        threads = [threading.Thread(target=call) for _ in range(3)]
        for thread in threads:
            thread.start()
        governor.close()
        for thread in threads:
            thread.join(10)
    call()
    assert len(stops) == 4


def test_one_refusal_pauses_everybody_as_long_as_it_asks() -> None:
    told: list[str] = []
    governor = Governor(Caps(), tell=told.append)
    with governor.admitted() as admission:
        admission.refused(1.2)
    begun, waits = time.monotonic(), []

    def call(_: int) -> None:
        with governor.admitted() as admission:
            waits.append(time.monotonic() - begun)
            admission.spent(1, None)

    in_threads(2, call)
    assert min(waits) >= 1.15
    assert told == ["the provider turns calls away; all of them pause for 1 s"]


def test_an_interrupted_wait_leaves_no_trace() -> None:
    governor = Governor(Caps(concurrency=1))
    with governor.admitted() as held:
        with pytest.raises(RunEnded, match="gone"):
            governor.enter("x", gone=lambda: True)
        assert not governor._queue
    assert held.calls == 0
    with governor.admitted():
        assert governor.under_way == 1
