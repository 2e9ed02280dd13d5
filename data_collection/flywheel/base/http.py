"""The one door to requests: JSON documents posted to, and fetched from, a URL that may itself be a secret."""

from __future__ import annotations

import json
import time
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from flywheel.base.clock import now
from flywheel.base.retry import DeliveryError, Patience, TransientError, retrying

if TYPE_CHECKING:
    from collections.abc import Mapping

    import requests

TEMPORARY = frozenset({408, 425, 429, 500, 502, 503, 504})


def post_json(url: str, body: object, headers: Mapping[str, str], patience: Patience) -> None:
    """Post `body` as JSON until it is taken (2xx). Redirects are refused: they would carry the content elsewhere.

    Raises:
        DeliveryError: it was not taken; the message says why and never holds the URL, a header or an answer's text.
    """
    retrying(lambda: _post(url, body, headers, patience.timeout), patience)


def _post(url: str, body: object, headers: Mapping[str, str], timeout: float) -> None:
    import requests

    try:
        response = requests.post(
            url,
            json=body,
            headers=dict(headers),
            timeout=timeout,
            allow_redirects=False,
            stream=True,  # the answer's body is not read, so that it cannot hold us up
            auth=_no_netrc,
        )
    except (requests.ConnectionError, requests.Timeout) as error:
        # requests' messages name the URL.
        msg = f"no answer ({type(error).__name__})"
        raise TransientError(msg) from None
    except requests.RequestException as error:
        msg = f"cannot be sent ({type(error).__name__})"
        raise DeliveryError(msg) from None
    with response:
        _judge(response)


def get_json(url: str, parameters: Mapping[str, str], headers: Mapping[str, str], seconds: float, largest: int) -> Any:
    """The JSON value at `url`, within so many seconds and of at most so many bytes; redirects are refused.

    Raises:
        DeliveryError: no answer in time, another status than 2xx, too large, or no JSON; the message never holds the
            URL, a header or an answer's text. One TransientError, a subclass, may be different at the next attempt.
    """
    import requests
    import urllib3

    deadline = time.monotonic() + seconds
    try:
        with requests.get(
            url,
            params=parameters,
            headers=dict(headers),
            timeout=seconds,
            allow_redirects=False,
            stream=True,
            auth=_no_netrc,
        ) as response:
            _judge(response)
            content = _body(response, deadline, largest)
    except (requests.ConnectionError, requests.Timeout, urllib3.exceptions.HTTPError) as error:
        msg = f"no answer ({type(error).__name__})"
        raise TransientError(msg) from None
    except requests.RequestException as error:
        msg = f"cannot be asked ({type(error).__name__})"
        raise DeliveryError(msg) from None
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        msg = "answered with something that is no JSON"
        raise DeliveryError(msg) from None


def _body(response: requests.Response, deadline: float, largest: int) -> bytes:
    """The answer's body; a server that sends a byte now and then does not hold us up for ever."""
    parts: list[bytes] = []
    size = 0
    # Not iter_content, which waits until a part is full, however slowly it fills.
    while part := response.raw.read1(64 << 10, decode_content=True):
        parts.append(part)
        size += len(part)
        if size > largest:
            msg = f"answered with more than {largest >> 20} MiB"
            raise DeliveryError(msg)
        if time.monotonic() > deadline:
            raise TransientError("the answer took too long")
    return b"".join(parts)


def _no_netrc(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Stands where requests would otherwise look for a password in ~/.netrc."""
    return request


def _judge(response: Any) -> None:
    status: int = response.status_code
    if 200 <= status < 300:
        return
    if 300 <= status < 400:
        msg = f"answered {status}: redirects are refused"
        raise DeliveryError(msg)
    msg = f"answered {status}"
    if status in TEMPORARY:
        raise TransientError(msg, seconds_asked(response.headers.get("Retry-After")))
    raise DeliveryError(msg)


def seconds_asked(header: str | None) -> float | None:
    """The pause that a Retry-After header asks for, in seconds; None without one that can be understood."""
    if header is None:
        return None
    if header.strip().isdecimal():
        return float(header)
    try:
        moment = parsedate_to_datetime(header)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - now()).total_seconds())
