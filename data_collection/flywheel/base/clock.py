"""Time as this system writes it: UTC, ISO 8601 with offset, ids of whole seconds."""

from __future__ import annotations

from datetime import UTC, datetime

ID_FORMAT = "%Y%m%d_%H%M%S"


def now() -> datetime:
    """The present moment in UTC, with its offset."""
    return datetime.now(UTC)


def iso(moment: datetime) -> str:
    """`2025-11-04T12:00:00+00:00`; a naive moment is a bug and raises ValueError."""
    if moment.tzinfo is None:
        msg = f"naive datetime: {moment!r}"
        raise ValueError(msg)
    return moment.astimezone(UTC).isoformat(timespec="seconds")


def stamp(moment: datetime) -> str:
    """`20251104_120000`, the part after `v` or `run_` in ids."""
    return moment.astimezone(UTC).strftime(ID_FORMAT)


def parse_stamp(text: str) -> datetime:
    """The moment that `stamp` wrote; ValueError for anything else."""
    moment = datetime.strptime(text, ID_FORMAT).replace(tzinfo=UTC)
    if stamp(moment) != text:
        msg = f"{text!r}: expected digits as in 20251104_120000"
        raise ValueError(msg)
    return moment
