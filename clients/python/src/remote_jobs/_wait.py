"""Waiting for a job, and for no longer than there is time."""

from __future__ import annotations

import random
import time
from dataclasses import replace
from typing import Any, Callable, Optional, TypeVar

from ._api import Api, is_denied
from ._effects import Effect, Flow, Request, Sleep
from .errors import NotFound, RemoteJobsError, WaitTimedOut
from .models import Job

_LIVELY = 1.0
"""How many seconds lie between two calls at least: a server that is about to stop holds no call open."""

_LONGEST_WAIT = 15.0
"""How many seconds lie between two calls to a server that is away at most."""

_T = TypeVar("_T")


class OutOfTime(RemoteJobsError):
    """The time that a flow had is over."""


def before(until: Optional[float], flow: Flow[_T]) -> Flow[_T]:
    """Runs a flow until a moment (of the monotonic clock) at most.

    Then OutOfTime is raised in it, and whatever it does to tidy up is done. Without a moment there is no limit.
    """
    if until is None:
        return (yield from flow)
    done: Any = None
    failed: Optional[Exception] = None
    over = False
    try:
        while True:
            effect = flow.send(done) if failed is None else flow.throw(failed)
            done, failed = None, None
            left = until - time.monotonic()
            if left <= 0 and not over:
                over, failed = True, OutOfTime("There is no time left for it.")
                continue
            try:
                done = yield effect if over else _cut(effect, left)
                if isinstance(effect, Sleep) and effect.seconds > left and not over:
                    # Said where it waits, which knows what for.
                    over, failed = True, OutOfTime("There is no time left for it.")
            except Exception as error:
                failed = error
    except StopIteration as end:
        result: _T = end.value
        return result
    finally:
        flow.close()


def _cut(effect: Effect, left: float) -> Effect:
    """An effect that takes no longer than is left."""
    if isinstance(effect, Sleep):
        return Sleep(min(effect.seconds, left))
    if isinstance(effect, Request):
        limit = left if effect.limit is None else min(effect.limit, left)
        return replace(effect, limit=limit, silence=min(effect.silence, left))
    return effect


def wait(
    api: Api,
    job_id: str,
    until: Optional[float],
    on_change: Optional[Callable[[Job], None]],
    deadline: Optional[float] = None,
) -> Flow[Job]:
    """Waits until a job has ended, and tells every change, the first status included.

    A server that is away is waited for as long as the settings say. Raises WaitTimedOut at `until`, or as soon as the
    job was looked at once after `deadline`. Both are moments of the monotonic clock.
    """
    watch = _Watch(on_change)
    try:
        return (yield from before(until, _follow(api, job_id, until if deadline is None else deadline, watch)))
    except OutOfTime:
        status = f"it is {watch.last.status}" if watch.last else "its status is not known"
        raise WaitTimedOut(f"Remote job {job_id} has not ended in time; {status}.", job_id, watch.last) from None


class _Watch:
    def __init__(self, tell: Optional[Callable[[Job], None]]) -> None:
        self._tell = tell
        self.last: Optional[Job] = None

    def note(self, job: Job) -> None:
        differs = self.last is None or _shown(self.last) != _shown(job)
        self.last = job
        if differs and self._tell:
            self._tell(job)


def _shown(job: Job) -> Any:
    return (job.status, job.percentage, job.progress_message, job.error_message, len(job.attempts))


def _follow(api: Api, job_id: str, until: Optional[float], watch: _Watch) -> Flow[Job]:
    failed = 0
    failing_since = 0.0
    while True:
        asked = time.monotonic()
        # The first status is told at once, in any case.
        held = api.settings.wait_seconds if watch.last else 0
        if until is not None:
            held = min(held, max(0, int(until - asked)))
        try:
            job = yield from api.job(job_id, held)
        except RemoteJobsError as error:
            failing_since = failing_since if failed else asked
            failed += 1
            # What answers in a strange way, as a proxy does whose server is away, may still come to itself.
            lost = isinstance(error, (NotFound, OutOfTime)) or is_denied(error)
            if lost or time.monotonic() - failing_since >= api.settings.patience:
                raise
            bound = min(api.settings.first_wait * 2.0 ** min(failed, 9), _LONGEST_WAIT)
            yield Sleep(max(error.retry_after or 0.0, random.uniform(bound / 2, bound)))
            continue
        failed = 0
        first = watch.last is None
        watch.note(job)
        if job.ended:
            return job
        if until is not None and time.monotonic() >= until:
            raise OutOfTime("The job has not ended in time.")
        if not first or not api.settings.wait_seconds:
            yield Sleep(_pause(api, job, time.monotonic() - asked))


def _pause(api: Api, job: Job, took: float) -> float:
    """How long to wait before the next call, after one that took so many seconds."""
    every, again = api.settings.poll_interval, job.poll_again_in_seconds
    if again == 0:
        return max(0.0, min(_LIVELY, every) - took)
    # This server holds no call open, and may say when to come again.
    return max(every, again or 0.0)
