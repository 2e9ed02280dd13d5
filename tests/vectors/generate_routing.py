"""Writes routing.json: unit ids with the bucket and the variant that any implementation must find for them."""

# ruff: noqa: RUF001 - ids are hostile on purpose
from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
CASES = 10_000
LONGEST = 1 << 20
SALT = "3f9c51d2-extract_reqs_v1"
# One candidate: from the first bucket on. Several: as they come to lie when 5 / 5 % grew, and one was withdrawn.
SHARE = 12.5
ARMS: list[dict[str, Any]] = [
    {"variant": "candidate", "traffic_percent": 12.5, "buckets": [[0, 500], [1000, 1750]]},
    {"variant": "candidate_2", "traffic_percent": 30, "buckets": [[500, 1000], [1750, 3250], [9000, 10000]]},
    {"variant": "withdrawn", "traffic_percent": 7.01, "buckets": [[3250, 3251], [4000, 4700]]},
]
HOSTILE = [
    "", " ", "0", "-1", "null", "user:1", ":", "\x00", "a\x00b", "\n", "\r\n", "\t", "\x7f", "\\", '"', "'; --", "%00",
    "../../etc/passwd", "é", "e\u0301", "\ufeffbom", "\u200b", "\u202eabc", "שלום", "مرحبا", "日本語", "ß", "İ", "ﬁ",
    "😀", "👩‍👩‍👧‍👦", "🇩🇪", "\U0010ffff", "\uffff", "\ue000", "\ud800", "\udfff", "a\ud800", "\udc00\ud800", "x\udc80y",
    "None", "NaN", "true", "1e400", "a" * 255, "b" * 4096, "𝔘𝔫𝔦", "Z͑ͫ̓ͪ̂ͫ", "\u2028\u2029",
]  # fmt: skip
GENERATED = [
    ("a", LONGEST), ("a", LONGEST + 1), ("a", LONGEST - 1), ("é", LONGEST // 2), ("é", LONGEST // 2 + 1),
    ("😀", LONGEST // 4), ("😀", LONGEST // 4 + 1), ("\x00", LONGEST),
]  # fmt: skip
MASK = 0xFFFFFFFF


def _mix(block: int) -> int:
    block = block * 0xCC9E2D51 & MASK
    block = (block << 15 | block >> 17) & MASK
    return block * 0x1B873593 & MASK


def murmur3_x86_32(data: bytes) -> int:
    """Austin Appleby's murmur3, 32 bits for x86, seed 0, written from its description."""
    state = 0
    whole = len(data) // 4 * 4
    for start in range(0, whole, 4):
        state ^= _mix(int.from_bytes(data[start : start + 4], "little"))
        state = (state << 13 | state >> 19) & MASK
        state = state * 5 + 0xE6546B64 & MASK
    if whole < len(data):
        state ^= _mix(int.from_bytes(data[whole:], "little"))
    state ^= len(data)
    state = (state ^ state >> 16) * 0x85EBCA6B & MASK
    state = (state ^ state >> 13) * 0xC2B2AE35 & MASK
    return state ^ state >> 16


def bucket(salt: str, unit: str) -> int | None:
    """The contract, word for word."""
    try:
        encoded = unit.encode()
    except UnicodeEncodeError:
        return None
    return murmur3_x86_32(salt.encode() + b":" + encoded) % 10_000 if len(encoded) <= LONGEST else None


def variants(place: int | None) -> list[str]:
    """Who serves a unit in that bucket, with one candidate and with several."""
    if place is None:
        return ["baseline", "baseline"]
    one = "candidate" if place < SHARE * 100 else "baseline"
    for arm in ARMS:
        for low, high in arm["buckets"]:
            if low <= place < high:
                return [one, str(arm["variant"])]
    return [one, "baseline"]


def unit_ids() -> list[str]:
    """The hostile ones, then what services use: numbers, uuids, mail addresses, and random text of any script."""
    chance = random.Random(20261123)
    ids = dict.fromkeys(HOSTILE)
    while len(ids) < CASES:
        ids[f"user-{len(ids)}"] = None
        ids[f"{chance.getrandbits(128):032x}"] = None
        ids[f"p{chance.randrange(10**6)}@example.org"] = None
        ids["".join(chr(chance.randrange(0x20, 0xD800)) for _ in range(chance.randrange(1, 8)))] = None
    return list(ids)[:CASES]


def vectors() -> dict[str, object]:
    """The file's content; megabyte ids are given as a text and how often it is repeated."""
    places = {unit: bucket(SALT, unit) for unit in unit_ids()}
    long = [(text, times, bucket(SALT, text * times)) for text, times in GENERATED]
    return {
        "algorithm": 'murmur3_x86_32("<salt>:<unit_id>" in UTF-8, seed 0) % 10000',
        "salt": SALT,
        "share": SHARE,
        "arms": ARMS,
        "cases": [[unit, place, *variants(place)] for unit, place in places.items()],
        "generated": [[text, times, place, *variants(place)] for text, times, place in long],
    }


def text() -> str:
    """One case a line, in ASCII, so that any JSON reader and any diff can cope."""
    value = vectors()
    lines = [f" {json.dumps(key)}: {json.dumps(value[key])}" for key in ("algorithm", "salt", "share", "arms")]
    for key in ("cases", "generated"):
        items = value[key]
        assert isinstance(items, list)
        lines.append(f" {json.dumps(key)}: [\n  " + ",\n  ".join(map(json.dumps, items)) + "\n ]")
    return "{\n" + ",\n".join(lines) + "\n}\n"


if __name__ == "__main__":
    (HERE / "routing.json").write_text(text(), encoding="ascii")
