"""Where a unit falls: the hash that decides who meets the candidate, alike in every language.

bucket(salt, unit) = murmur3_x86_32("<salt>:<unit>" in UTF-8, seed 0) % buckets. It is Unleash's and flagd's hash, so
an implementation exists wherever an adapter is written; tests/vectors/routing.json proves one right.
"""

from __future__ import annotations

import mmh3

BUCKETS = 10_000
PER_PERCENT = BUCKETS // 100
LONGEST_UNIT = 1 << 20

_digest = mmh3.mmh3_32_uintdigest
_content = mmh3.mmh3_x64_128_digest


def content_digest(content: bytes) -> str:
    """32 hexadecimal digits that tell contents apart, if nobody seeks two alike: murmur3_x64_128."""
    return _content(content).hex()


def salted(salt: str) -> bytes:
    """The part of the key that all units of an experiment share; UnicodeEncodeError on a lone surrogate."""
    return f"{salt}:".encode()


def position(prefix: bytes, unit_id: object, buckets: int = BUCKETS) -> int | None:
    """The unit's bucket in 0 .. `buckets` - 1 behind a `salted` prefix.

    None, which means baseline, for an id that is no str, cannot be encoded (mmh3 itself would crash the process on a
    lone surrogate) or exceeds 1 MiB of UTF-8.
    """
    if not isinstance(unit_id, str) or len(unit_id) > LONGEST_UNIT:
        return None
    try:
        # Called on the type: a subclass of str must not bring an encoding of its own.
        unit = str.encode(unit_id)
    except UnicodeEncodeError:
        return None
    if len(unit) > LONGEST_UNIT:
        return None
    return int(_digest(prefix + unit) % buckets)


def bucket(salt: str, unit_id: object, buckets: int = BUCKETS) -> int | None:
    """The unit's bucket in 0 .. `buckets` - 1, or None (baseline) for an id, or a salt, that cannot be hashed."""
    try:
        prefix = salted(salt)
    except UnicodeEncodeError:
        return None
    return position(prefix, unit_id, buckets)


def threshold(percent: float) -> int:
    """The number of buckets that `percent` of the traffic takes: candidate if and only if bucket < threshold.

    Raises:
        ValueError: not within 0 .. 100, or finer than a hundredth of a percent.
    """
    limit = round(percent * PER_PERCENT) if 0 <= percent <= 100 else -1
    if limit < 0 or abs(percent * PER_PERCENT - limit) > 1e-6:
        msg = f"{percent!r}: a share must be within 0 and 100 percent, in steps of 0.01"
        raise ValueError(msg)
    return limit
