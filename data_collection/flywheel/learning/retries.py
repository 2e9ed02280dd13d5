"""When a call that failed is tried again, and who waits until then."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dspy.utils.exceptions import LMError, LMRateLimitError, is_retryable_lm_error

if TYPE_CHECKING:
    from flywheel.learning.gate import Admission

RETRIES = 3
# A refusal spends nothing, and everybody waits as the provider asks: there is no use in giving up soon.
REFUSALS = 10


def pause_before_retry(error: LMError, attempt: int, retries: int, admission: Admission) -> float | None:
    """Seconds to wait before trying again after the failure of attempt 0, 1, ...; None: it has failed for good.

    A refusal (429), and whatever comes with a retry-after, is told to `admission`: the governor lets everybody wait,
    the caller too, so that the seconds are 0. Other passing failures wait 1, 2, 4 ... seconds, the caller alone.
    """
    refusal = isinstance(error, LMRateLimitError)
    if refusal or error.retry_after is not None:
        admission.refused(error.retry_after)
    most = max(retries, REFUSALS) if refusal and retries else retries
    if not is_retryable_lm_error(error) or attempt >= most:
        return None
    return 0.0 if admission.refusal is not None else float(2**attempt)
