"""Exit codes are a contract with cron and make: scripts test for these numbers."""

from __future__ import annotations

import pytest

from flywheel.base import errors


def test_exit_codes_are_the_documented_ones() -> None:
    assert (errors.OK, errors.NO, errors.USAGE, errors.BUG, errors.INTERRUPTED) == (0, 1, 2, 3, 130)


@pytest.mark.parametrize(
    "kind", [errors.BadInputError, errors.ModelError, errors.LockedError, errors.DamagedError], ids=lambda k: k.__name__
)
def test_every_error_of_the_users_ends_at_the_one_boundary(kind: type[Exception]) -> None:
    assert issubclass(kind, errors.FlywheelError)
    assert not issubclass(errors.FlywheelError, OSError | ValueError)
