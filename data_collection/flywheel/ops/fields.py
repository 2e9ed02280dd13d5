"""Strict access to the keys of our own state files, for readers that must start fast: no pydantic, no defaults."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from flywheel.base.errors import DamagedError

if TYPE_CHECKING:
    from collections.abc import Iterator

LARGEST = 1e15
YEARS = range(1971, 3000)


class Fields:
    """A JSON object's keys by type; a missing key or another type raises DamagedError with the source and the key."""

    def __init__(self, value: Any, source: str) -> None:
        if not isinstance(value, dict):
            msg = f"{source}: expected a JSON object, found {type(value).__name__}"
            raise DamagedError(msg)
        self._value: dict[str, Any] = value
        self._source = source
        for key in value:
            self._refuse_surrogates(key, key)

    def raw(self, key: str) -> Any:
        """The key's value, whatever its type."""
        if key not in self._value:
            msg = f"{self._source}: key {key!r} is missing"
            raise DamagedError(msg)
        return self._value[key]

    def text(self, key: str) -> str:
        """A string that can be written as UTF-8."""
        value = self.raw(key)
        if not isinstance(value, str):
            self._refuse(key, "a text")
        self._refuse_surrogates(key, value)
        return str(value)

    def maybe_text(self, key: str) -> str | None:
        """A string or null."""
        return None if self.raw(key) is None else self.text(key)

    def flag(self, key: str) -> bool:
        """True or false."""
        value = self.raw(key)
        return value if isinstance(value, bool) else self._refuse(key, "true or false")

    def number(self, key: str) -> float:
        """A finite number of a size that can be reckoned with; true and false are none."""
        value = self.raw(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or not -LARGEST <= value <= LARGEST:
            self._refuse(key, "a number")
        number: float = value
        return number

    def maybe_number(self, key: str) -> float | None:
        """A number or null."""
        return None if self.raw(key) is None else self.number(key)

    def count(self, key: str) -> int:
        """A whole number."""
        value = self.number(key)
        return value if isinstance(value, int) else self._refuse(key, "a whole number")

    def moment(self, key: str) -> datetime:
        """A time of our age in ISO 8601; one without an offset is UTC."""
        text = self.text(key)
        try:
            found = datetime.fromisoformat(text)
        except ValueError:
            self._refuse(key, "a time in ISO 8601")
        if found.year not in YEARS:
            self._refuse(key, "a time of our age")
        return found.astimezone(UTC) if found.tzinfo is not None else found.replace(tzinfo=UTC)

    def maybe_moment(self, key: str) -> datetime | None:
        """A time or null."""
        return None if self.raw(key) is None else self.moment(key)

    def last_moment(self, key: str) -> datetime | None:
        """The last of a list of times; None where it is empty or, since older records have none, missing."""
        times = self._value.get(key, [])
        if not isinstance(times, list):
            self._refuse(key, "a list of times")
        return Fields({key: times[-1]}, self._source).moment(key) if times else None

    def inner(self, key: str) -> Fields:
        """The JSON object under the key."""
        return Fields(self.raw(key), f"{self._source}: {key}")

    def rows(self, key: str) -> tuple[dict[str, Any], ...]:
        """A list of JSON objects."""
        value = self.raw(key)
        if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
            self._refuse(key, "a list of objects")
        return tuple(value)

    def entries(self) -> Iterator[tuple[str, Fields]]:
        """Every key with the JSON object under it."""
        return ((key, self.inner(key)) for key in self._value)

    def names(self) -> tuple[str, ...]:
        """The keys."""
        return tuple(self._value)

    def _refuse_surrogates(self, key: str, text: str) -> None:
        try:
            text.encode()
        except UnicodeEncodeError:
            msg = f"{self._source}: {key!a}: not Unicode text"
            raise DamagedError(msg) from None

    def _refuse(self, key: str, expected: str) -> Any:
        msg = f"{self._source}: {key}: expected {expected}, found {self._value[key]!a:.80}"
        raise DamagedError(msg)
