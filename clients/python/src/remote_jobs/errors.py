"""Why a call came to nothing. Every message is a sentence that says what to do.

Each can be made of its message alone, so that they survive Celery's result backends and pickling.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Mapping, Optional, Tuple

if TYPE_CHECKING:
    from .decision import Decision, Fallback
    from .models import Job

NAMESPACE = "urn:remote-jobs:"
"""What comes before the kind's name in a problem's `type`."""

_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses that say "not now" rather than "no"."""

_PASSING_CODES = frozenset({"RequestTimeout", "ConditionalRequestConflict", "OperationAborted", "SlowDown"})
"""Codes by which an object store says "not now" under a status that means "no" elsewhere."""


class RemoteJobsError(Exception):
    """Any failure of this library. No secret is ever in its text."""

    status: Optional[int] = None
    """The HTTP status, where there was an answer."""

    retryable: bool = False
    """Whether the same call may succeed later."""

    retry_after: Optional[float] = None
    """How many seconds the server asks to wait before another try."""


class InvalidArgument(RemoteJobsError, ValueError):
    """What the caller gave, or a setting, cannot be used."""


class FileUnusable(RemoteJobsError):
    """A local file cannot be read, or changed while it was sent."""


class Unreachable(RemoteJobsError):
    """No connection, or one that broke before there was an answer."""

    retryable = True


class TimedOut(Unreachable):
    """The server was reached and then stayed silent for too long."""


class Answered(RemoteJobsError):
    """There was an answer, and it was not what was asked for."""

    def __init__(self, message: str, status: Optional[int] = None, retry_after: Optional[float] = None) -> None:
        super().__init__(message)
        self.status = status
        self.retryable = status in _PASSING
        self.retry_after = retry_after


@dataclass(frozen=True)
class FieldProblem:
    """What is wrong with one field of a request."""

    field: str
    message: str


class Refused(Answered):
    """The server understood the call and refused it, or failed and said so (RFC 9457)."""

    kind: str = ""
    """The last part of the problem's `type`, such as `refused` or `idempotency-mismatch`."""
    detail: str = ""
    """What is wrong and what to do about it, for a person."""
    job_status: Optional[str] = None
    """What the job is, for a call that its state does not admit."""
    request_id: Optional[str] = None
    """Finds the cause in the server's log."""
    errors: Tuple[FieldProblem, ...] = ()
    """The fields at fault, for 422."""


class NotAllowed(Refused):
    """401 or 403: no key, an unknown or revoked one, or one that lacks the scope. Ask an operator."""


class NotFound(Refused):
    """404: no such thing for this key's tenant."""


class Conflict(Refused):
    """409: the job's state does not admit the call; `job_status` says what it is."""


class Unreadable(Answered):
    """Something answered that does not speak this API: a proxy, a login page, another program."""


class TransferFailed(Answered):
    """The object store did not take or give a file."""

    def __init__(
        self,
        message: str,
        status: Optional[int] = None,
        code: Optional[str] = None,
        retry_after: Optional[float] = None,
    ) -> None:
        super().__init__(message, status, retry_after)
        self.code = code
        """The object store's own error code, such as `AccessDenied`."""
        self.retryable = self.retryable or code in _PASSING_CODES

    @property
    def expired(self) -> bool:
        """Whether the URL may have been refused for its age, so that a new one helps."""
        return self.status == 403 or self.code in ("ExpiredToken", "RequestExpired")


class Corrupt(RemoteJobsError):
    """The bytes are no result document."""


class JobFailed(RemoteJobsError):
    """The job ended without a result."""

    def __init__(self, message: str, job: Optional[Job] = None) -> None:
        super().__init__(message)
        self.job = job
        """What the job is."""


class WaitTimedOut(RemoteJobsError):
    """The job has not ended in the time that the caller gave it. It goes on."""

    retryable = True

    def __init__(self, message: str, job_id: str = "", job: Optional[Job] = None) -> None:
        super().__init__(message)
        self.job_id = job_id
        self.job = job
        """What the job was when it was last seen."""


class ConversionFailed(RemoteJobsError):
    """The remote conversion came to nothing, and falling back was not allowed or possible."""

    def __init__(
        self,
        message: str,
        decision: Optional[Decision] = None,
        fallback: Optional[Fallback] = None,
        job_id: Optional[str] = None,
    ) -> None:
        super().__init__(message)
        self.decision = decision
        """Why it was tried remotely."""
        self.fallback = fallback
        """What went wrong."""
        self.job_id = job_id
        """The remote job, if there is one."""


class WebhookError(RemoteJobsError):
    """A webhook that must not be acted upon. Answer it with 400 or 401, and do nothing."""


class ForgedWebhook(WebhookError):
    """It has no signature by any of the secrets."""


class StaleWebhook(WebhookError):
    """It was signed too long ago, or in the future: a replay, or a wrong clock."""


class MalformedWebhook(WebhookError):
    """Its headers or its body are not those of a webhook of this service."""


def refused(status: int, problem: Mapping[str, Any], retry_after: Optional[float]) -> Refused:
    """The exception of a problem."""
    kind = str(problem.get("type", "")).replace(NAMESPACE, "", 1)
    detail = str(problem.get("detail", ""))
    classes = {401: NotAllowed, 403: NotAllowed, 404: NotFound, 409: Conflict}
    error = classes.get(status, Refused)(f"{detail} ({status} {kind})", status, retry_after)
    error.kind, error.detail = kind, detail
    error.job_status, error.request_id = problem.get("job_status"), problem.get("request_id")
    fields = (field for field in problem.get("errors") or () if isinstance(field, Mapping))
    error.errors = tuple(FieldProblem(str(field.get("field", "")), str(field.get("message", ""))) for field in fields)
    return error
