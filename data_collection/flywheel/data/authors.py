"""Authors by pseudonym: the same person is the same name in one installation, and nobody in any other."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from typing import TYPE_CHECKING

from flywheel.base.errors import BadInputError, DamagedError
from flywheel.base.files import sync_folder, write_synced
from flywheel.base.paths import private_folder

if TYPE_CHECKING:
    from pathlib import Path

KEY_FILE = ".author_key"
KEY_BYTES = 32
NAME_LENGTH = 16


def author_key(folder: Path) -> bytes:
    """The installation's key, made on first use (a private file in the datasets folder).

    Raises:
        BadInputError: it cannot be read or made.
        DamagedError: it is no key.
    """
    path = private_folder(folder) / KEY_FILE
    try:
        write_synced(path, secrets.token_hex(KEY_BYTES).encode())
        sync_folder(folder)
    except FileExistsError:
        pass
    except OSError as error:
        msg = f"{path}: cannot be written: {error.strerror}"
        raise BadInputError(msg) from error
    return _read_key(path)


def _read_key(path: Path) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        with os.fdopen(descriptor, "rb") as stream:
            key = bytes.fromhex(stream.read().decode("ascii", "replace"))
    except OSError as error:
        msg = f"{path}: cannot be read: {error.strerror}"
        raise BadInputError(msg) from error
    except ValueError as error:
        msg = f"{path}: is no key; remove it to have a new one (authors then get new pseudonyms)"
        raise DamagedError(msg) from error
    if len(key) != KEY_BYTES:
        msg = f"{path}: holds {len(key)} bytes instead of {KEY_BYTES}; remove it to have a new key"
        raise DamagedError(msg)
    return key


def pseudonym(email: str, key: bytes) -> str:
    """HMAC-SHA256 of the e-mail address (in lower case) under the installation's key, shortened."""
    return "author-" + hmac.new(key, email.strip().lower().encode(), hashlib.sha256).hexdigest()[:NAME_LENGTH]
