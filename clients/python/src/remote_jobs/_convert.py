"""A whole conversion: decided, tried remotely, and made locally when that comes to nothing."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, Mapping, Optional, TypeVar, Union

from ._api import PATIENT_TRIES, Api, is_denied, is_no
from ._effects import Blocking, Flow, Foreign
from ._upload import upload
from ._wait import OutOfTime, before, wait
from .decision import (
    Decision,
    Fallback,
    FallbackReason,
    Method,
    Reason,
    Takeover,
    by_figures,
    by_rules,
    live_workers,
)
from .detect import detect_content_type, is_url, with_small_scheme
from .errors import (
    Answered,
    Conflict,
    ConversionFailed,
    Corrupt,
    FileUnusable,
    InvalidArgument,
    JobFailed,
    NotFound,
    Refused,
    RemoteJobsError,
    TransferFailed,
    WaitTimedOut,
)
from .models import (
    ConversionTask,
    Converted,
    Created,
    Decided,
    Event,
    FallingBack,
    Job,
    Local,
    Outcome,
    Remote,
    RemoteAfterAll,
    Uploading,
)

_BY_RULES = frozenset({Reason.NOT_REQUESTED, Reason.NOT_ENABLED, Reason.TYPE_NOT_SUPPORTED})
"""What nobody was asked for, so that there is nothing to be said of a remote job."""

_COMPLETED = frozenset({FallbackReason.UNUSABLE_RESULT, FallbackReason.RESULT_UNAVAILABLE})
"""What is wrong with a job that is completed, which nobody can take over."""

_LONGEST_END = 10.0
"""How many seconds the remote job's end is waited for before local work begins without it."""

_FETCH = 10.0
"""How many seconds a result that is there when time is up may take to arrive. Local work waits for it."""

_THROTTLED_TRIES = 3
"""How often a question is asked that came too soon after others."""

_T = TypeVar("_T")


@dataclass(frozen=True)
class Plan:
    """One conversion that is asked for."""

    task: ConversionTask
    local: Callable[[ConversionTask], Any]
    tell: Callable[[Event], None]
    requested: bool
    fallback_to_local: bool
    until: float
    """When the remote conversion must be over, by the monotonic clock."""
    further: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of the job's creation."""
    remote_job_id: Optional[str] = None
    """The job of an earlier run, where the caller remembers it."""

    @property
    def left(self) -> float:
        """How many seconds are left for the remote conversion."""
        return self.until - time.monotonic()


@dataclass
class _Attempt:
    """What is known of the remote job."""

    job_id: Optional[str]
    may_exist: bool = False
    """Whether it may exist although it was not found: created by an earlier run, or by a creation without an answer."""
    asked: bool = False
    """Whether this run has asked for its creation."""


def idempotency_key(task_id: str) -> str:
    """The key under which a task's upload and its job are one upload and one job, however often they are asked for."""
    return "ingestion-" + hashlib.sha256(task_id.encode()).hexdigest()


def job_request(
    api: Api, source_file_path: str, task: ConversionTask, fallback_to_local: bool, further: Mapping[str, Any]
) -> Dict[str, Any]:
    """The body of a creation. Whatever follows from the clock would make another request of it under the same key."""
    request = {
        "source_file_path": source_file_path,
        "content_type": task.content_type,
        "task_options": dict(task.options),
        "ingestion_task_id": task.task_id,
        "timeout_seconds": api.settings.timeout(task.content_type),
        "fallback_to_local": fallback_to_local,
    }
    request.update({name: value for name, value in further.items() if value is not None})
    return request


def check_task_id(task_id: str) -> None:
    """Raises InvalidArgument for what the control plane would not take as a task's id."""
    if not 1 <= len(task_id) <= 255 or any(ord(character) < 32 or ord(character) == 127 for character in task_id):
        raise InvalidArgument("A task id must be 1 to 255 characters, none of them a control character.")


def decide(api: Api, content_type: str, requested: bool, within: float) -> Flow[Decision]:
    """Whether to convert remotely what must be there `within` so many seconds, and why."""
    decision = by_rules(api.settings, content_type, requested)
    if not decision.remote:
        return decision
    return (yield from _asking(api, _weigh(api, content_type, within)))


def convert(api: Api, plan: Plan) -> Flow[Outcome]:
    """Converts a document, remotely or locally, so that exactly one of the two results continues."""
    yield Blocking(lambda: _check_source(plan.task))
    attempt = _Attempt(plan.remote_job_id)
    decision = yield from _choose(api, plan, attempt)
    plan.tell(Decided(decision))
    if not decision.remote:
        return (yield from _locally(api, plan, decision, None, attempt, _unasked(decision, attempt)))
    ended = yield from _remotely(api, plan, attempt)
    if isinstance(ended, Converted):
        return Outcome(ended, Method.REMOTE, decision, attempt.job_id)
    return (yield from _fall_back(api, plan, decision, ended, attempt))


def _choose(api: Api, plan: Plan, attempt: _Attempt) -> Flow[Decision]:
    """Where to convert. A remote job that an earlier run of the task has created is noted in `attempt`."""
    decision = by_rules(api.settings, plan.task.content_type, plan.requested)
    if not decision.remote:
        attempt.job_id = None
        return decision
    if attempt.job_id is None:
        attempt.may_exist = True
        decision = yield from _asking(api, _resume_or_weigh(api, plan, attempt))
    if attempt.job_id is not None:
        return Decision(Reason.RESUMED, "A remote job of this task is there already.")
    if decision.remote or plan.fallback_to_local:
        return decision
    explanation = "Local conversion is not allowed for this task, so the remote one is tried although: "
    return Decision(Reason.NO_FALLBACK, explanation + decision.explanation, decision.figures)


def _unasked(decision: Decision, attempt: _Attempt) -> Optional[Takeover]:
    """What became of the remote job of a task that is not tried remotely."""
    if decision.reason in _BY_RULES:
        return None
    return Takeover.UNCONFIRMED if attempt.may_exist else Takeover.NO_JOB


def _resume_or_weigh(api: Api, plan: Plan, attempt: _Attempt) -> Flow[Decision]:
    attempt.job_id = yield from _told(api, lambda: _find(api, plan.task))
    attempt.may_exist = attempt.job_id is not None
    if attempt.may_exist:
        return by_rules(api.settings, plan.task.content_type, plan.requested)
    return (yield from _weigh(api, plan.task.content_type, plan.left))


def _find(api: Api, task: ConversionTask) -> Flow[Optional[str]]:
    """The id of the task's remote job, if there is one."""
    found = yield from api.jobs_of_task(task.task_id, task.content_type)
    return found[0] if found else None


def _weigh(api: Api, content_type: str, within: float) -> Flow[Decision]:
    if within <= 0:
        return Decision(Reason.DEADLINE_EXHAUSTED, "No time is left for a remote conversion.")
    workers = yield from _told(api, lambda: api.workers(content_type))
    # Where nobody works on it, it decides nothing how long the queue is.
    asks = workers is None or live_workers(workers, content_type) != 0
    queues = (yield from _told(api, lambda: api.queues(content_type))) if asks else None
    return by_figures(content_type, within, workers, queues)


def _asking(api: Api, questions: Flow[Decision]) -> Flow[Decision]:
    """Asks, but not for long: before an upload nothing is lost by converting locally."""
    try:
        return (yield from before(time.monotonic() + api.settings.questions, questions))
    except RemoteJobsError as error:
        if is_denied(error):
            return Decision(Reason.UNAUTHORIZED, f"The control plane does not take the API key: {error}")
        return Decision(Reason.UNREACHABLE, f"The control plane cannot be asked: {error}")


def _told(api: Api, question: Callable[[], Flow[_T]]) -> Flow[Optional[_T]]:
    """The answer, or None from a server that does not know the question. Only one that came too soon is repeated."""
    failed = 0
    while True:
        try:
            return (yield from question())
        except Answered as error:
            if is_no(error) and not is_denied(error):
                return None
            if error.status != 429:
                raise
            failed += 1
            yield from api.pause(error, failed, _THROTTLED_TRIES)


def _check_source(task: ConversionTask) -> None:
    """What is wrong with the source is said before anything is asked of anybody."""
    if is_url(task.source):
        detect_content_type(task.source)
        if task.content_type not in ("web", "youtube") and not task.content_type.startswith("x-"):
            raise InvalidArgument(
                f"A URL is converted as web, youtube or x-…, not as {task.content_type}; download the file first."
            )
        return
    with Path(task.source).open("rb") as file:
        if not file.read(1):
            raise FileUnusable(f"{task.source} is empty, so there is nothing to convert.")


def _remotely(api: Api, plan: Plan, attempt: _Attempt) -> Flow[Union[Converted, Fallback]]:
    until = plan.until
    if attempt.job_id is None:
        try:
            attempt.job_id = yield from before(until, _submit(api, plan, attempt))
        except RemoteJobsError as error:
            return _not_submitted(error, attempt)
    else:
        # A job of an earlier run is looked at once, however late it is.
        until = max(until, time.monotonic() + api.settings.questions)
    plan.tell(Created(attempt.job_id))
    try:
        job = yield from wait(api, attempt.job_id, until, lambda job: plan.tell(Remote(job)), plan.until)
    except RemoteJobsError as error:
        return _not_awaited(error)
    if job.status == "completed":
        return (yield from _fetch(api, plan, job.job_id))
    return _ended_without(job)


def _submit(api: Api, plan: Plan, attempt: _Attempt) -> Flow[str]:
    """Uploads and creates, and gives the job's id."""
    task, key = plan.task, idempotency_key(plan.task.task_id)
    source = task.source
    if is_url(source):
        source = with_small_scheme(source)
    else:
        path = Path(source)
        tell = plan.tell
        uploaded = yield from upload(api, path, path.name, key, lambda done, total: tell(Uploading(done, total)))
        source = uploaded.source_file_path
    request = job_request(api, source, task, plan.fallback_to_local, plan.further)
    # From here on there may be a job, whatever is answered.
    attempt.may_exist = attempt.asked = True
    try:
        job = yield from api.retrying(lambda: api.create(request, key))
        return job.job_id
    except Refused as error:
        # The settings were others when an earlier run created it. It is the task's job.
        found = (yield from _told(api, lambda: _find(api, task))) if error.kind == "idempotency-mismatch" else None
        if found is None:
            raise
        return found


def _not_submitted(error: RemoteJobsError, attempt: _Attempt) -> Fallback:
    """Why an upload or a creation came to nothing."""
    if isinstance(error, OutOfTime):
        why = f": {error.__cause__}" if error.__cause__ else "."
        return Fallback(FallbackReason.DEADLINE, f"No remote job could be created in time{why}", error)
    if is_denied(error):
        attempt.may_exist = False
        return Fallback(FallbackReason.UNAUTHORIZED, f"The control plane does not take the API key: {error}", error)
    if isinstance(error, (FileUnusable, TransferFailed)):
        return Fallback(FallbackReason.UPLOAD_FAILED, f"The file could not be uploaded: {error}", error)
    if isinstance(error, InvalidArgument) or is_no(error):
        attempt.may_exist = False
        return Fallback(FallbackReason.REFUSED, f"The control plane refused the job: {error}", error)
    return Fallback(FallbackReason.UNREACHABLE, f"The control plane cannot be reached: {error}", error)


def _not_awaited(error: RemoteJobsError) -> Fallback:
    """Why the end of a job was not waited for."""
    if isinstance(error, WaitTimedOut):
        return Fallback(FallbackReason.DEADLINE, "The remote job was not over in time.", error)
    if isinstance(error, NotFound):
        return Fallback(FallbackReason.JOB_GONE, "The remote job is not there any more.", error)
    if is_denied(error):
        return Fallback(FallbackReason.UNAUTHORIZED, f"The control plane does not take the API key: {error}", error)
    return Fallback(FallbackReason.UNREACHABLE, f"The control plane cannot be reached: {error}", error)


def _ended_without(job: Job) -> Fallback:
    said = job.error_message or "nobody says why"
    error = JobFailed(f"Remote job {job.job_id} ended as {job.status}: {said}", job)
    if job.status == "failed":
        return Fallback(FallbackReason.FAILED, f"The remote conversion failed: {said}", error)
    if job.status == "timeout":
        return Fallback(FallbackReason.TIMEOUT, f"The remote job ran out of time: {said}", error)
    return Fallback(FallbackReason.CANCELLED, "The remote job was cancelled.", error)


def _fetch(api: Api, plan: Plan, job_id: str) -> Flow[Union[Converted, Fallback]]:
    until = max(plan.until, time.monotonic() + _FETCH)
    try:
        converted = yield from before(until, api.retrying(lambda: api.result(job_id), PATIENT_TRIES))
        if not converted.content.strip():
            raise Corrupt("it has no content")
        return converted
    except Corrupt as error:
        return Fallback(FallbackReason.UNUSABLE_RESULT, f"The remote result cannot be used: {error}", error)
    except RemoteJobsError as error:
        return Fallback(FallbackReason.RESULT_UNAVAILABLE, f"The remote result cannot be fetched: {error}", error)


def _fall_back(api: Api, plan: Plan, decision: Decision, fallback: Fallback, attempt: _Attempt) -> Flow[Outcome]:
    """What is done when the remote conversion has come to nothing."""
    plan.tell(FallingBack(fallback))
    takeover = Takeover.COMPLETED_UNUSABLE
    if fallback.reason not in _COMPLETED:
        takeover = yield from _end(api, plan, attempt, _LONGEST_END)
        if takeover is Takeover.COMPLETED_UNUSABLE:
            ended = yield from _after_all(api, plan, attempt)
            if isinstance(ended, Converted):
                return Outcome(ended, Method.REMOTE, decision, attempt.job_id)
            fallback = ended
            plan.tell(FallingBack(fallback))
    if not plan.fallback_to_local:
        message = f"There is no conversion, and no falling back to a local one: {fallback.explanation}"
        raise ConversionFailed(message, decision, fallback, attempt.job_id) from fallback.error
    return (yield from _locally(api, plan, decision, fallback, attempt, takeover))


def _end(api: Api, plan: Plan, attempt: _Attempt, limit: float) -> Flow[Takeover]:
    """Ends the remote job, so that no result of it continues. One that is completed refuses that."""
    try:
        yield from before(time.monotonic() + limit, _cancel(api, plan, attempt))
    except Conflict as error:
        return Takeover.COMPLETED_UNUSABLE if error.job_status == "completed" else Takeover.CONFIRMED
    except NotFound:
        return Takeover.CONFIRMED
    except RemoteJobsError:
        return Takeover.UNCONFIRMED
    return Takeover.NO_JOB if attempt.job_id is None else Takeover.CONFIRMED


def _cancel(api: Api, plan: Plan, attempt: _Attempt) -> Flow[None]:
    if attempt.job_id is None and attempt.may_exist:
        attempt.job_id = yield from api.retrying(lambda: _told(api, lambda: _find(api, plan.task)))
    job_id = attempt.job_id
    if job_id is not None:
        yield from api.retrying(lambda: api.cancel(job_id, takeover=plan.fallback_to_local))


def _after_all(api: Api, plan: Plan, attempt: _Attempt) -> Flow[Union[Converted, Fallback]]:
    """The result of a job that was completed before it could be ended."""
    job_id = attempt.job_id or ""
    ended = yield from _fetch(api, plan, job_id)
    if isinstance(ended, Converted):
        plan.tell(RemoteAfterAll(job_id))
    return ended


def _locally(
    api: Api,
    plan: Plan,
    decision: Decision,
    fallback: Optional[Fallback],
    attempt: _Attempt,
    takeover: Optional[Takeover],
) -> Flow[Outcome]:
    plan.tell(Local())
    begun = time.monotonic()
    failure: Optional[Exception] = None
    try:
        converted = _local_result((yield Foreign(plan.local, (plan.task,))), begun)
    except Exception as error:
        failure = error
    if takeover is Takeover.UNCONFIRMED and (attempt.job_id is not None or attempt.asked):
        # The control plane may be back. A remote job that was faster still wins.
        takeover = yield from _end(api, plan, attempt, api.settings.questions)
        if takeover is Takeover.COMPLETED_UNUSABLE:
            ended = yield from _after_all(api, plan, attempt)
            if isinstance(ended, Converted):
                return Outcome(ended, Method.REMOTE, decision, attempt.job_id)
            fallback = ended
    if failure is not None:
        # Whoever reads of the local failure is told of the remote one.
        if fallback is not None and failure.__cause__ is None:
            failure.__cause__ = fallback.error
        raise failure
    return Outcome(converted, Method.LOCAL, decision, attempt.job_id, fallback, takeover)


def _local_result(given: Any, begun: float) -> Converted:
    if isinstance(given, str):
        return Converted(given, processing_time=time.monotonic() - begun)
    if isinstance(given, Converted):
        return given
    raise InvalidArgument(f"The local conversion gave a {type(given).__name__}; give a Converted or a str.")
