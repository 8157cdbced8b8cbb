"""What the calls answer and what a conversion gives. Unknown fields of an answer are ignored."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Dict, Mapping, Optional, Tuple, Type, TypeVar, Union

from .decision import Decision, Fallback, Method, Takeover

ENDED = frozenset({"completed", "failed", "timeout", "cancelled"})
"""The statuses of a job that will not change by itself any more."""

_T = TypeVar("_T")


def _known(kind: Type[_T], answer: Mapping[str, Any]) -> _T:
    """A dataclass of the fields of an answer that it has."""
    names = {known.name for known in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in answer.items() if name in names})


@dataclass(frozen=True)
class Attempt:
    """One attempt at a job."""

    attempt: int
    worker_id: str
    started_at: str
    outcome: str
    ended_at: Optional[str] = None
    error: Optional[str] = None


@dataclass(frozen=True)
class Job:
    """Where a job stands. Times are RFC 3339 in UTC, by the server's clock."""

    job_id: str
    status: str
    """`pending`, `processing`, `completed`, `failed`, `timeout` or `cancelled`."""
    created_at: str
    worker_id: Optional[str] = None
    started_at: Optional[str] = None
    completed_at: Optional[str] = None
    error_message: Optional[str] = None
    retry_count: int = 0
    estimated_completion: Optional[str] = None
    percentage: int = 0
    progress_message: Optional[str] = None
    updated_at: Optional[str] = None
    max_retries: int = 0
    timeout_at: Optional[str] = None
    attempts: Tuple[Attempt, ...] = ()
    next_attempt_at: Optional[str] = None
    ingestion_task_id: Optional[str] = None
    content_type: Optional[str] = None
    poll_again_in_seconds: Optional[float] = None
    continued_by: Optional[str] = None
    """`local` in the answer to a takeover."""

    @property
    def ended(self) -> bool:
        """Whether the job will not change by itself any more."""
        return self.status in ENDED

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> Job:
        """From the JSON of an answer."""
        attempts = tuple(_known(Attempt, attempt) for attempt in answer.get("attempts") or ())
        return _known(cls, {"created_at": "", **answer, "attempts": attempts})


@dataclass(frozen=True)
class Worker:
    """A worker that polled lately."""

    worker_id: str
    content_types: Tuple[str, ...]
    last_seen: str
    live: bool
    version: Optional[str] = None
    running_jobs: Tuple[str, ...] = ()

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> Worker:
        """From the JSON of an answer."""
        lists = {name: tuple(answer.get(name) or ()) for name in ("content_types", "running_jobs")}
        return _known(cls, {**answer, **lists})


@dataclass(frozen=True)
class Workers:
    """The workers that the control plane knows."""

    workers: Tuple[Worker, ...]
    live_within_seconds: float
    """How long ago a live worker was seen at most, unless it runs a job."""
    more: bool = False
    """Whether there are more workers than one answer holds."""

    def live(self, content_type: str) -> Tuple[Worker, ...]:
        """The live workers that take a content type."""
        return tuple(worker for worker in self.workers if worker.live and content_type in worker.content_types)


@dataclass(frozen=True)
class Uploaded:
    """A file that is in the object store."""

    source_file_path: str
    """What to name in the job."""
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class Converted:
    """A conversion: the Markdown, what is known about the source, and how many seconds it took."""

    content: str
    metadata: Dict[str, Any] = field(default_factory=dict)
    processing_time: float = 0.0


@dataclass(frozen=True)
class ConversionTask:
    """What is to be converted. It is handed to the local conversion."""

    task_id: str
    source: str
    """A path, or for `web` and `youtube` a URL."""
    content_type: str
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Outcome:
    """A finished conversion, and how it came about."""

    converted: Converted
    method: Method
    decision: Decision
    remote_job_id: Optional[str] = None
    fallback: Optional[Fallback] = None
    """Why it was converted locally although it was tried remotely."""
    takeover: Optional[Takeover] = None
    """What became of the remote job, if it was converted locally."""


@dataclass(frozen=True)
class Decided:
    """It was decided where to convert."""

    decision: Decision


@dataclass(frozen=True)
class Uploading:
    """So many bytes of the source are in the object store, of so many. Told often."""

    done: int
    total: int


@dataclass(frozen=True)
class Created:
    """The remote job exists."""

    job_id: str


@dataclass(frozen=True)
class Remote:
    """The remote job changed."""

    job: Job


@dataclass(frozen=True)
class FallingBack:
    """The remote conversion has come to nothing. Local work begins once the remote job is cancelled."""

    fallback: Fallback


@dataclass(frozen=True)
class RemoteAfterAll:
    """The remote job was completed before it could be cancelled, so that its result is used after all."""

    job_id: str


@dataclass(frozen=True)
class Local:
    """The local conversion begins."""


Event = Union[Decided, Uploading, Created, Remote, FallingBack, RemoteAfterAll, Local]
"""What `convert` tells its `on_event` while it goes on."""


@dataclass(frozen=True)
class WebhookMessage:
    """A verified webhook. Remember `id` for a while: the same event may come more than once."""

    id: str
    timestamp: datetime
    """When it was signed."""
    event: Mapping[str, Any]

    @property
    def type(self) -> str:
        """Such as `remote_job.completed`."""
        return str(self.event["type"])

    @property
    def data(self) -> Mapping[str, Any]:
        """What the event says about the job."""
        data: Mapping[str, Any] = self.event["data"]
        return data
