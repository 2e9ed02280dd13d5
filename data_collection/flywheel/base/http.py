"""The one door to requests: a JSON document posted to a URL that is itself a secret."""

from __future__ import annotations

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
