"""A file of state read into the one type that also writes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from flywheel.base.errors import DamagedError
from flywheel.base.files import read_json_object

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic import BaseModel

    M = TypeVar("M", bound=BaseModel)


def read_record(model: type[M], path: Path, expected: str, advice: str = "") -> M:
    """The model that the JSON object in `path` holds; `expected` says in words what it should be.

    Raises:
        BadInputError: the file cannot be read.
        DamagedError: it is not whole; the message names the first value that is wrong, then the `advice`.
    """
    from pydantic import ValidationError

    try:
        return model.model_validate(read_json_object(path, expected))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        msg = f"{path}: {where}: {first['msg']}{advice and f'; {advice}'}"
        raise DamagedError(msg) from error
