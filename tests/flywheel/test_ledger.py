from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from flywheel.base.errors import DamagedError
from flywheel.learning.ledger import BudgetExhausted, DeadlinePassed, Ledger, Limits, Totals, read_calls, totals_of

if TYPE_CHECKING:
    from pathlib import Path

ANSWERED: dict[str, Any] = {
    "model": "m", "input_tokens": 10, "output_tokens": 2, "cached": False,
    "cost_usd": 0.5, "latency_ms": 12.0, "error": None,
}  # fmt: skip
CACHED = {**ANSWERED, "input_tokens": 0, "output_tokens": 0, "cached": True, "cost_usd": 0.0, "latency_ms": None}
FAILED = {**ANSWERED, "cost_usd": None, "error": "LMServerError 500"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "calls.jsonl"


def test_totals_count_cached_and_failed_calls_apart(path: Path) -> None:
    with Ledger(path) as ledger:
        account = ledger.account("s")
        for facts in (ANSWERED, ANSWERED, CACHED, FAILED):
            account.record(**facts)
        assert ledger.totals() == Totals(3, 1, 1, 20, 4, 1.0)
        assert ledger.totals().tokens == 24


def test_an_unknown_price_makes_the_cost_unknown(path: Path) -> None:
    with Ledger(path) as ledger:
        account = ledger.account("s")
        account.record(**ANSWERED)
        account.record(**{**ANSWERED, "cost_usd": None})
        assert ledger.totals().cost_usd is None


def test_a_line_has_the_documented_keys(path: Path) -> None:
    with Ledger(path) as ledger, ledger.account("s").stage("evaluate") as account:
        account.record(**ANSWERED)
    line = json.loads(path.read_text())
    assert list(line) == [
        "time", "stage", "signature", "model", "input_tokens", "output_tokens", "cached", "cost_usd", "latency_ms",
        "error", "key", "prompt_cache_read", "prompt_cache_write",
    ]  # fmt: skip
    assert (line["stage"], line["signature"]) == ("evaluate", "s")
    assert path.stat().st_mode & 0o777 == 0o600


def test_stages_hold_in_threads_and_end(path: Path) -> None:
    with Ledger(path) as ledger:
        account = ledger.account("s")
        with account.stage("optimize"), ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _: account.record(**ANSWERED), range(200)))
        account.record(**ANSWERED)
        ledger.account("other").record(**ANSWERED)
        assert account.totals("optimize").calls == 200
        assert account.totals().calls == 201
        assert ledger.totals().calls == 202
    calls = list(read_calls(path))
    assert len(calls) == 202
    assert totals_of(calls, signature="s", stage="optimize").calls == 200


def test_a_torn_last_line_is_left_out_and_a_damaged_one_is_not(path: Path) -> None:
    assert list(read_calls(path)) == []
    with Ledger(path) as ledger:
        ledger.account("s").record(**ANSWERED)
    whole = path.read_text()
    path.write_text(whole + whole[:30])
    assert len(list(read_calls(path))) == 1
    path.write_text("{}\n" + whole)
    with pytest.raises(DamagedError, match="line 1"):
        list(read_calls(path))


@pytest.mark.parametrize("threads", [1, 8])
def test_never_more_than_max_calls_start(path: Path, threads: int) -> None:
    with Ledger(path, Limits(max_calls=5)) as ledger:
        account = ledger.account("s")

        def call(_: int) -> None:
            try:
                with ledger.admitted():
                    time.sleep(0.005)
                    account.record(**ANSWERED)
            except BudgetExhausted:
                stopped.append(1)

        stopped: list[int] = []
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(call, range(20)))
        assert ledger.totals().calls == 5
        assert len(stopped) == 15


def test_calls_that_turn_out_cached_do_not_use_up_the_limit(path: Path) -> None:
    with Ledger(path, Limits(max_calls=2)) as ledger:
        account = ledger.account("s")
        gate = threading.Event()

        def cached(_: int) -> None:
            with ledger.admitted():
                gate.wait(5)
                account.record(**CACHED)

        with ThreadPoolExecutor(4) as pool:
            outcomes = pool.map(cached, range(12))
            gate.set()
            list(outcomes)
        assert ledger.totals() == Totals(cached_calls=12)


def test_spent_money_and_time_stop_the_run_past_any_except_exception(path: Path) -> None:
    with Ledger(path, Limits(max_cost_usd=1.0)) as ledger:
        account = ledger.account("s")
        for _ in range(2):
            with ledger.admitted():
                account.record(**ANSWERED)
        with pytest.raises(BudgetExhausted, match=r"1\.0000 of 1\.0000 USD"), ledger.admitted():
            pass
    with Ledger(path, Limits(deadline=time.monotonic() - 1)) as late, pytest.raises(DeadlinePassed), late.admitted():
        pass
    assert not issubclass(BudgetExhausted, Exception)
    assert not issubclass(DeadlinePassed, Exception)
