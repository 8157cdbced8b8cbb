"""Why remote, why local: the rules, the figures they look at, and the words for what went wrong."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Dict, Mapping, Optional, Sequence, Tuple

from .settings import Settings

if TYPE_CHECKING:
    from .models import Workers


class Method(str, Enum):
    """Where a document is converted."""

    REMOTE = "remote"
    LOCAL = "local"


class Reason(str, Enum):
    """Why it is converted there."""

    NOT_REQUESTED = "not_requested"
    NOT_ENABLED = "not_enabled"
    TYPE_NOT_SUPPORTED = "type_not_supported"
    ALLOWED = "allowed"
    DEADLINE_EXHAUSTED = "deadline_exhausted"
    UNAUTHORIZED = "unauthorized"
    UNREACHABLE = "unreachable"
    NO_LIVE_WORKER = "no_live_worker"
    QUEUE_PAUSED = "queue_paused"
    TOO_SLOW = "too_slow"
    QUEUE_TOO_LONG = "queue_too_long"
    WORKERS_UNKNOWN = "workers_unknown"
    WORKER_AVAILABLE = "worker_available"
    NO_FALLBACK = "no_fallback"
    RESUMED = "resumed"


_REMOTE = frozenset(
    {Reason.ALLOWED, Reason.WORKERS_UNKNOWN, Reason.WORKER_AVAILABLE, Reason.NO_FALLBACK, Reason.RESUMED}
)


class FallbackReason(str, Enum):
    """Why a remote conversion came to nothing."""

    REFUSED = "refused"
    UNAUTHORIZED = "unauthorized"
    UNREACHABLE = "unreachable"
    UPLOAD_FAILED = "upload_failed"
    FAILED = "failed"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
    DEADLINE = "deadline"
    JOB_GONE = "job_gone"
    UNUSABLE_RESULT = "unusable_result"
    RESULT_UNAVAILABLE = "result_unavailable"


class Takeover(str, Enum):
    """What became of the remote job before local work continued."""

    NO_JOB = "no_job"
    CONFIRMED = "confirmed"
    COMPLETED_UNUSABLE = "completed_unusable"
    UNCONFIRMED = "unconfirmed"


@dataclass(frozen=True)
class Figures:
    """What a decision looked at. None is what the server does not tell."""

    deadline_seconds: int
    """How much time is left."""
    live_workers: Optional[int] = None
    queue_depth: Optional[int] = None
    """How many jobs wait."""
    running: Optional[int] = None
    run_time_p50_seconds: Optional[float] = None
    run_time_p90_seconds: Optional[float] = None
    expected_wait_seconds: Optional[float] = None
    paused: Optional[bool] = None


@dataclass(frozen=True)
class Decision:
    """Where to convert, and why. It is true when that is remotely."""

    reason: Reason
    explanation: str
    figures: Optional[Figures] = None

    @property
    def method(self) -> Method:
        """Where to convert."""
        return Method.REMOTE if self.reason in _REMOTE else Method.LOCAL

    @property
    def remote(self) -> bool:
        """Whether to convert remotely."""
        return self.method is Method.REMOTE

    def __bool__(self) -> bool:
        return self.remote

    def as_dict(self) -> Dict[str, Any]:
        """What can be stored as JSON; the Rust crate `ingestion` writes the same."""
        return {
            "processing_method": self.method.value,
            "reason": self.reason.value,
            "explanation": self.explanation,
            "figures": None if self.figures is None else asdict(self.figures),
        }

    def __str__(self) -> str:
        return self.explanation


@dataclass(frozen=True)
class Fallback:
    """Why a remote conversion came to nothing."""

    reason: FallbackReason
    explanation: str
    error: Optional[Exception] = None

    def as_dict(self) -> Dict[str, str]:
        """What can be stored as JSON."""
        return {"reason": self.reason.value, "explanation": self.explanation}

    def __str__(self) -> str:
        return self.explanation


def by_rules(settings: Settings, content_type: str, requested: bool) -> Decision:
    """Whether a remote conversion may be tried. Nobody is asked."""
    if not requested:
        return Decision(Reason.NOT_REQUESTED, "Remote conversion was not asked for.")
    if not settings.enabled:
        return Decision(
            Reason.NOT_ENABLED,
            "Remote conversion was asked for, but is not enabled here; "
            "set MORAG_REMOTE_CONVERSION_ENABLED=true to enable it.",
        )
    if content_type not in settings.content_types:
        return Decision(
            Reason.TYPE_NOT_SUPPORTED,
            f"Remote conversion is not set up for {content_type}; "
            f"MORAG_REMOTE_CONTENT_TYPES has {', '.join(settings.content_types) or 'none'}.",
        )
    return Decision(Reason.ALLOWED, f"Remote conversion was asked for and is allowed for {content_type}.")


def by_figures(
    content_type: str, within: float, workers: Optional[Workers], queues: Optional[Sequence[Mapping[str, Any]]]
) -> Decision:
    """What the server's answers come to. `workers` and `queues` are None where they were not told."""
    live = None if workers is None else live_workers(workers, content_type)
    figures = _figures(content_type, within, live, queues)
    reason, explanation = _verdict(content_type, within, workers, figures)
    return Decision(reason, explanation, figures)


def live_workers(workers: Workers, content_type: str) -> Optional[int]:
    """How many live workers take a type; None when there may be some among those that were left out of the answer."""
    live = len(workers.live(content_type))
    return live if live or not workers.more else None


def _verdict(content_type: str, within: float, workers: Optional[Workers], figures: Figures) -> Tuple[Reason, str]:
    if workers is not None and figures.live_workers == 0:
        seconds = workers.live_within_seconds
        return Reason.NO_LIVE_WORKER, f"No worker that takes {content_type} has been seen in the last {seconds:g} s."
    if figures.paused:
        return Reason.QUEUE_PAUSED, f"The queue of {content_type} is paused."
    median, wait = figures.run_time_p50_seconds, figures.expected_wait_seconds
    if median is not None and median > within:
        half = f"Half of the conversions of {content_type} took longer than {median:.0f} s"
        return Reason.TOO_SLOW, f"{half}, and {within:.0f} s are left."
    if median is not None and wait is not None and wait + median > within:
        before = f"{_jobs_ahead(figures)}: about {wait:.0f} s"
        return Reason.QUEUE_TOO_LONG, f"{before}, then {median:.0f} s of its own, and {within:.0f} s are left."
    if figures.live_workers is None:
        return Reason.WORKERS_UNKNOWN, "The server does not tell its workers, so the job is tried."
    takes = "live worker takes" if figures.live_workers == 1 else "live workers take"
    waiting = f" {_jobs_before(figures.queue_depth)}." if figures.queue_depth else ""
    return Reason.WORKER_AVAILABLE, f"{figures.live_workers} {takes} {content_type}.{waiting}"


def _jobs_before(waiting: Optional[int]) -> str:
    return "1 job waits before it" if waiting == 1 else f"{waiting or 0} jobs wait before it"


def _ahead(waiting: int, running: int, workers: Optional[int]) -> int:
    """How many jobs must end before a worker is free: all that wait, and as many that run as leave no worker free."""
    return waiting + max(0, running + 1 - max(1, workers or 1))


def _jobs_ahead(figures: Figures) -> str:
    ahead = _ahead(figures.queue_depth or 0, figures.running or 0, figures.live_workers)
    return "1 job is before it" if ahead == 1 else f"{ahead} jobs are before it"


def _figures(
    content_type: str,
    within: float,
    workers: Optional[int],
    queues: Optional[Sequence[Mapping[str, Any]]],
) -> Figures:
    if queues is None:
        return Figures(deadline_seconds=int(within), live_workers=workers)
    # A queue without jobs is not among the queues.
    queue: Mapping[str, Any] = next((queue for queue in queues if queue.get("content_type") == content_type), {})
    times: Mapping[str, Any] = queue.get("run_time") or {}
    median: Optional[float] = times.get("median_seconds")
    waiting, running = int(queue.get("waiting") or 0), int(queue.get("running") or 0)
    ahead = _ahead(waiting, running, workers)
    return Figures(
        deadline_seconds=int(within),
        live_workers=workers,
        queue_depth=waiting,
        running=running,
        run_time_p50_seconds=median,
        run_time_p90_seconds=times.get("p90_seconds"),
        expected_wait_seconds=None if median is None else ahead * median / max(1, workers or 1),
        paused=bool(queue.get("paused")),
    )
