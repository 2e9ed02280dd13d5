from __future__ import annotations

from itertools import combinations, permutations, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.ops.exact_tests import MOST_PAIRS, drop_p, falling_p, holm

few = st.lists(st.integers(0, 3), max_size=6)
differences = st.lists(st.sampled_from([0.0, 0.1, -0.2, 0.3, 0.5, -0.5]), max_size=9)


@given(few)
def test_falls_are_counted_over_every_order(values: list[int]) -> None:
    def falls(order: tuple[int, ...]) -> int:
        return sum(later < earlier for earlier, later in combinations(order, 2))

    orders = list(permutations(values))
    expected = sum(falls(order) >= falls(tuple(values)) for order in orders) / len(orders)
    assert falling_p(values) == pytest.approx(expected)


@given(differences)
def test_drops_are_counted_over_every_sign(values: list[float]) -> None:
    sums = [sum(s * v for s, v in zip(signs, values, strict=True)) for signs in product((1, -1), repeat=len(values))]
    expected = sum(total >= sum(values) - 1e-9 for total in sums) / len(sums)
    assert drop_p(values) == pytest.approx(expected)


def test_the_known_small_cases() -> None:
    assert falling_p([5, 4, 3, 2, 1]) == pytest.approx(1 / 120)
    assert falling_p([1, 2, 3]) == 1.0
    assert falling_p([]) == falling_p([3]) == 1.0
    assert drop_p([0.1] * 20) == pytest.approx(2**-20)
    assert drop_p([0.0] * 20) == drop_p([]) == 1.0
    with pytest.raises(ValueError, match="25 pairs"):
        drop_p([0.1] * (MOST_PAIRS + 1))


@given(st.dictionaries(st.text(max_size=3), st.floats(0, 1), max_size=6), st.floats(0.001, 0.5))
def test_holm_lies_between_bonferroni_and_no_correction(p_values: dict[str, float], alpha: float) -> None:
    found = holm(p_values, alpha)
    assert {name for name, p in p_values.items() if p <= alpha / max(1, len(p_values))} <= found
    assert found <= {name for name, p in p_values.items() if p <= alpha}


def test_holm_steps_down() -> None:
    assert holm({"a": 0.004, "b": 0.006, "c": 0.5}, 0.01) == set()
    assert holm({"a": 0.003, "b": 0.005, "c": 0.5}, 0.01) == {"a", "b"}
