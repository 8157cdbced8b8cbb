"""The two clients: `RemoteJobs` with blocking calls, `AsyncRemoteJobs` for asyncio. They differ in nothing else."""

from __future__ import annotations

import inspect
import logging
import math
import time
from os import PathLike, fspath
from pathlib import Path
from types import TracebackType
from typing import Any, Awaitable, Callable, Dict, List, Mapping, Optional, Set, Type, Union
from uuid import uuid4

import httpx

from . import _convert, _wait
from ._api import Api
from ._drive import AsyncDriver, SyncDriver
from ._effects import Flow
from ._upload import OnProgress, upload
from .decision import Decision, by_rules
from .detect import detect_content_type
from .errors import InvalidArgument
from .models import ConversionTask, Converted, Event, Job, Outcome, Uploaded, Workers
from .settings import Settings, check_content_type

Source = Union[str, "PathLike[str]"]
"""A path, or for `web` and `youtube` a URL."""

LocalResult = Union[Converted, str]
LocalConversion = Callable[[ConversionTask], Union[LocalResult, Awaitable[LocalResult]]]
"""Converts on this machine; a plain or a coroutine function. What it raises goes to whoever called `convert`."""

REMOTE_TIMEOUT = 1800.0
"""How many seconds a remote conversion may take altogether, as in the original."""

_LOG = logging.getLogger("remote_jobs")


class _Client:
    """What both clients have in common: the flows."""

    def __init__(self, settings: Optional[Settings]) -> None:
        self._settings = settings or Settings.from_env()
        self._api = Api(self._settings)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._api.base!r})"

    @property
    def settings(self) -> Settings:
        """The settings."""
        return self._settings

    def should_use_remote(self, content_type: str, requested: bool = True) -> Decision:
        """What the rules alone say: nobody is asked anything. The decision is true when it is for a remote one."""
        return by_rules(self._settings, content_type, requested)

    def _upload(
        self, path: Source, name: Optional[str], key: Optional[str], progress: Optional[OnProgress]
    ) -> Flow[Uploaded]:
        file = Path(path)
        _check_plain("progress", progress)
        return upload(self._api, file, name or file.name, key or str(uuid4()), progress)

    def _create(
        self,
        source_file_path: str,
        content_type: str,
        task_id: str,
        options: Optional[Mapping[str, Any]],
        fallback_to_local: bool,
        further: Mapping[str, Any],
    ) -> Flow[Job]:
        task = _task(task_id, source_file_path, content_type, options)
        request = _convert.job_request(self._api, source_file_path, task, fallback_to_local, further)
        key = _convert.idempotency_key(task_id)
        return self._api.retrying(lambda: self._api.create(request, key))

    def _wait(self, job_id: str, timeout: Optional[float], on_change: Optional[Callable[[Job], None]]) -> Flow[Job]:
        _check_plain("on_change", on_change)
        until = None if timeout is None else time.monotonic() + _seconds("timeout", timeout)
        return _wait.wait(self._api, job_id, until, on_change)

    def _decide(self, content_type: str, requested: bool, within: Optional[float]) -> Flow[Decision]:
        left = REMOTE_TIMEOUT if within is None else _seconds("within", within)
        return _convert.decide(self._api, content_type, requested, left)

    def _status(self, job_id: str, wait_seconds: int) -> Flow[Job]:
        return self._api.retrying(lambda: self._api.job(job_id, wait_seconds))

    def _result(self, job_id: str) -> Flow[Converted]:
        return self._api.retrying(lambda: self._api.result(job_id))

    def _cancel(self, job_id: str, takeover: bool) -> Flow[Job]:
        return self._api.retrying(lambda: self._api.cancel(job_id, takeover))

    def _workers(self, content_type: Optional[str]) -> Flow[Workers]:
        return self._api.retrying(lambda: self._api.workers(content_type))

    def _secret(self) -> Flow[Dict[str, Any]]:
        return self._api.retrying(lambda: self._api.call("GET", "/api/v1/webhook-secret"))

    def _convert(
        self,
        source: Source,
        task_id: str,
        content_type: Optional[str],
        options: Optional[Mapping[str, Any]],
        local: LocalConversion,
        requested: bool,
        fallback_to_local: bool,
        remote_timeout: Optional[float],
        deadline: Optional[float],
        remote_job_id: Optional[str],
        on_event: Optional[Callable[[Event], None]],
        further: Mapping[str, Any],
    ) -> Flow[Outcome]:
        text = fspath(source)
        task = _task(task_id, text, content_type or detect_content_type(text), options)
        _check_plain("on_event", on_event)
        left = REMOTE_TIMEOUT if remote_timeout is None else _seconds("remote_timeout", remote_timeout)
        if deadline is not None:
            left = _seconds("deadline", deadline) - time.time()
        plan = _convert.Plan(
            task=task,
            local=local,
            tell=_Teller(on_event) if on_event else (lambda event: None),
            requested=requested,
            fallback_to_local=fallback_to_local,
            until=time.monotonic() + left,
            further=further,
            remote_job_id=remote_job_id,
        )
        return _convert.convert(self._api, plan)


class _Teller:
    """Calls an `on_event`, of which nothing may hold a conversion up: it has a remote job that must come to an end."""

    def __init__(self, on_event: Callable[[Event], None]) -> None:
        self._on_event = on_event
        self._logged: Set[str] = set()

    def __call__(self, event: Event) -> None:
        try:
            self._on_event(event)
        except Exception:
            kind = type(event).__name__
            # Some events are told often, and what ails one ails the next.
            if kind not in self._logged:
                self._logged.add(kind)
                _LOG.warning("on_event failed at %s; the conversion goes on.", kind, exc_info=True)


def _check_plain(name: str, callback: Optional[Callable[..., Any]]) -> None:
    """Raises InvalidArgument for a coroutine function, which nobody would await."""
    if inspect.iscoroutinefunction(callback) or inspect.iscoroutinefunction(getattr(callback, "__call__", None)):
        raise InvalidArgument(f"{name} must be a plain function, not a coroutine function; let it start a task.")


def _seconds(name: str, given: Any) -> float:
    """A span or moment as a number. Raises InvalidArgument, which names the argument."""
    if isinstance(given, bool) or not isinstance(given, (int, float)) or not math.isfinite(given):
        raise InvalidArgument(f"{name} is {given!r}; give a number of seconds.")
    return float(given)


def _task(task_id: str, source: str, content_type: str, options: Optional[Mapping[str, Any]]) -> ConversionTask:
    _convert.check_task_id(task_id)
    check_content_type(content_type)
    return ConversionTask(task_id, source, content_type, dict(options or {}))


def _secrets_of(answer: Mapping[str, Any]) -> List[str]:
    return [secret for secret in (answer.get("secret"), answer.get("previous")) if isinstance(secret, str)]


class RemoteJobs(_Client):
    """Talks to the control plane with blocking calls, from any thread. By default it has the environment's settings."""

    def __init__(self, settings: Optional[Settings] = None, *, transport: Optional[httpx.BaseTransport] = None) -> None:
        super().__init__(settings)
        self._driver = SyncDriver(transport)

    def __enter__(self) -> RemoteJobs:
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes its connections."""
        self._driver.http.close()

    def decide(
        self, content_type: str, requested: bool = True, within: Optional[float] = REMOTE_TIMEOUT
    ) -> Decision:
        """Where to convert what must be there within so many seconds, and why.

        The rules come first. Then the control plane is asked for its workers and queues, for 5 seconds at most. Nothing
        is uploaded, and nothing raised: a control plane that cannot be asked is a reason too.
        """
        return self._driver.run(self._decide(content_type, requested, within))

    def convert(
        self,
        path_or_url: Source,
        *,
        task_id: str,
        local: LocalConversion,
        content_type: Optional[str] = None,
        options: Optional[Mapping[str, Any]] = None,
        requested: bool = True,
        fallback_to_local: bool = True,
        remote_timeout: Optional[float] = REMOTE_TIMEOUT,
        deadline: Optional[float] = None,
        remote_job_id: Optional[str] = None,
        on_event: Optional[Callable[[Event], None]] = None,
        total_timeout_seconds: Optional[int] = None,
        priority: Optional[str] = None,
        webhook_url: Optional[str] = None,
    ) -> Outcome:
        """Converts a document remotely where that helps, and by `local` where it must.

        `local` is a plain function, or a coroutine function that gets an event loop of its own.
        It is given the task, and gives a Converted or a str. Before it is called for a task that was tried remotely,
        the remote job is cancelled; when the remote result comes first, it is used and `local` is not called. When the
        control plane cannot be reached for that, the local conversion is made all the same and the cancellation tried
        once more at its end. If that fails too, the outcome's `takeover` is `unconfirmed`: the remote job may be
        completed, so whatever continues a task must do so by one conditional write.

        Under one `task_id` there is one upload and one remote job, however often this is called: after a crash it goes
        on where it was. `remote_timeout` (without one 1800 s) begins with each call; `deadline`, in seconds since 1970,
        does not.
        `remote_job_id` is what an earlier run was told by Created, where the caller remembers it.

        Falling back has a bound: `local` is called at the latest 30 seconds after the deadline, or after the call if
        that is later. So long the questions (5 s), a look at the job of an earlier run (5 s), its end (10 s) and the
        arrival of a result that is there when time is up (10 s) may take.

        `on_event` is a plain function that is told everything on the way. What it raises is logged, no more.

        Raises what `local` raises, with the remote failure as its `__cause__`; ConversionFailed when the remote
        conversion came to nothing and `fallback_to_local` is false; FileUnusable when there is no such file.
        """
        further = {
            "total_timeout_seconds": total_timeout_seconds,
            "priority": priority,
            "webhook_url": webhook_url,
        }
        flow = self._convert(
            path_or_url,
            task_id,
            content_type,
            options,
            local,
            requested,
            fallback_to_local,
            remote_timeout,
            deadline,
            remote_job_id,
            on_event,
            further,
        )
        return self._driver.run(flow)

    def upload(
        self,
        path: Source,
        *,
        name: Optional[str] = None,
        idempotency_key: Optional[str] = None,
        progress: Optional[OnProgress] = None,
    ) -> Uploaded:
        """Uploads a file as a source, in one request or in parts as the server says. Memory does not grow with it.

        Under the same key the same file ends at the same place, and nothing is sent when it is there already;
        `idempotency_key(task_id)` is what `convert` uses.
        """
        return self._driver.run(self._upload(path, name, idempotency_key, progress))

    def create(
        self,
        source_file_path: str,
        content_type: str,
        *,
        task_id: str,
        options: Optional[Mapping[str, Any]] = None,
        fallback_to_local: bool = True,
        total_timeout_seconds: Optional[int] = None,
        priority: Optional[str] = None,
        webhook_url: Optional[str] = None,
    ) -> Job:
        """Creates a job of an upload or a URL. For the same task and request it is the same job."""
        further = {
            "total_timeout_seconds": total_timeout_seconds,
            "priority": priority,
            "webhook_url": webhook_url,
        }
        flow = self._create(source_file_path, content_type, task_id, options, fallback_to_local, further)
        return self._driver.run(flow)

    def status(self, job_id: str, *, wait_seconds: int = 0) -> Job:
        """Where a job stands: once it has ended, else after `wait_seconds` (0 to 20)."""
        return self._driver.run(self._status(job_id, wait_seconds))

    def wait(
        self,
        job_id: str,
        *,
        timeout: Optional[float] = None,
        on_change: Optional[Callable[[Job], None]] = None,
    ) -> Job:
        """Waits until a job has ended, however it ended, and tells every change.

        Raises WaitTimedOut after `timeout` seconds; the job goes on.
        """
        return self._driver.run(self._wait(job_id, timeout, on_change))

    def result(self, job_id: str) -> Converted:
        """What a completed job became. Raises Conflict while there is no result."""
        return self._driver.run(self._result(job_id))

    def cancel(self, job_id: str, *, takeover: bool = False) -> Job:
        """Ends a job. With `takeover` it is remembered that the caller converts locally.

        Raises Conflict for a job that is completed: then its result is to be used.
        """
        return self._driver.run(self._cancel(job_id, takeover))

    def workers(self, content_type: Optional[str] = None) -> Workers:
        """The workers that polled lately. Raises NotFound from a server that does not tell them."""
        return self._driver.run(self._workers(content_type))

    def webhook_secrets(self) -> List[str]:
        """What the tenant's webhooks are signed with at present, for `verify_webhook`."""
        return _secrets_of(self._driver.run(self._secret()))


class AsyncRemoteJobs(_Client):
    """Talks to the control plane on asyncio's event loop. By default it has the environment's settings."""

    def __init__(
        self, settings: Optional[Settings] = None, *, transport: Optional[httpx.AsyncBaseTransport] = None
    ) -> None:
        super().__init__(settings)
        self._driver = AsyncDriver(transport)

    async def __aenter__(self) -> AsyncRemoteJobs:
        return self

    async def __aexit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes its connections."""
        await self._driver.http.aclose()

    async def decide(
        self, content_type: str, requested: bool = True, within: Optional[float] = REMOTE_TIMEOUT
    ) -> Decision:
        """Where to convert what must be there within so many seconds, and why.

        The rules come first. Then the control plane is asked for its workers and queues, for 5 seconds at most. Nothing
        is uploaded, and nothing raised: a control plane that cannot be asked is a reason too.
        """
        return await self._driver.run(self._decide(content_type, requested, within))

    async def convert(
        self,
        path_or_url: Source,
        *,
        task_id: str,
        local: LocalConversion,
        content_type: Optional[str] = None,
        options: Optional[Mapping[str, Any]] = None,
        requested: bool = True,
        fallback_to_local: bool = True,
        remote_timeout: Optional[float] = REMOTE_TIMEOUT,
        deadline: Optional[float] = None,
        remote_job_id: Optional[str] = None,
        on_event: Optional[Callable[[Event], None]] = None,
        total_timeout_seconds: Optional[int] = None,
        priority: Optional[str] = None,
        webhook_url: Optional[str] = None,
    ) -> Outcome:
        """Converts a document remotely where that helps, and by `local` where it must.

        `local` is a coroutine function, or a plain function that is called on a thread.
        It is given the task, and gives a Converted or a str. Before it is called for a task that was tried remotely,
        the remote job is cancelled; when the remote result comes first, it is used and `local` is not called. When the
        control plane cannot be reached for that, the local conversion is made all the same and the cancellation tried
        once more at its end. If that fails too, the outcome's `takeover` is `unconfirmed`: the remote job may be
        completed, so whatever continues a task must do so by one conditional write.

        Under one `task_id` there is one upload and one remote job, however often this is called: after a crash it goes
        on where it was. `remote_timeout` (without one 1800 s) begins with each call; `deadline`, in seconds since 1970,
        does not.
        `remote_job_id` is what an earlier run was told by Created, where the caller remembers it.

        Falling back has a bound: `local` is called at the latest 30 seconds after the deadline, or after the call if
        that is later. So long the questions (5 s), a look at the job of an earlier run (5 s), its end (10 s) and the
        arrival of a result that is there when time is up (10 s) may take.

        `on_event` is a plain function that is told everything on the way. What it raises is logged, no more.

        Raises what `local` raises, with the remote failure as its `__cause__`; ConversionFailed when the remote
        conversion came to nothing and `fallback_to_local` is false; FileUnusable when there is no such file.
        """
        further = {
            "total_timeout_seconds": total_timeout_seconds,
            "priority": priority,
            "webhook_url": webhook_url,
        }
        flow = self._convert(
            path_or_url,
            task_id,
            content_type,
            options,
            local,
            requested,
            fallback_to_local,
            remote_timeout,
            deadline,
            remote_job_id,
            on_event,
            further,
        )
        return await self._driver.run(flow)

    async def upload(
        self,
        path: Source,
        *,
        name: Optional[str] = None,
        idempotency_key: Optional[str] = None,
        progress: Optional[OnProgress] = None,
    ) -> Uploaded:
        """Uploads a file as a source, in one request or in parts as the server says. Memory does not grow with it.

        Under the same key the same file ends at the same place, and nothing is sent when it is there already;
        `idempotency_key(task_id)` is what `convert` uses.
        """
        return await self._driver.run(self._upload(path, name, idempotency_key, progress))

    async def create(
        self,
        source_file_path: str,
        content_type: str,
        *,
        task_id: str,
        options: Optional[Mapping[str, Any]] = None,
        fallback_to_local: bool = True,
        total_timeout_seconds: Optional[int] = None,
        priority: Optional[str] = None,
        webhook_url: Optional[str] = None,
    ) -> Job:
        """Creates a job of an upload or a URL. For the same task and request it is the same job."""
        further = {
            "total_timeout_seconds": total_timeout_seconds,
            "priority": priority,
            "webhook_url": webhook_url,
        }
        flow = self._create(source_file_path, content_type, task_id, options, fallback_to_local, further)
        return await self._driver.run(flow)

    async def status(self, job_id: str, *, wait_seconds: int = 0) -> Job:
        """Where a job stands: once it has ended, else after `wait_seconds` (0 to 20)."""
        return await self._driver.run(self._status(job_id, wait_seconds))

    async def wait(
        self,
        job_id: str,
        *,
        timeout: Optional[float] = None,
        on_change: Optional[Callable[[Job], None]] = None,
    ) -> Job:
        """Waits until a job has ended, however it ended, and tells every change.

        Raises WaitTimedOut after `timeout` seconds; the job goes on.
        """
        return await self._driver.run(self._wait(job_id, timeout, on_change))

    async def result(self, job_id: str) -> Converted:
        """What a completed job became. Raises Conflict while there is no result."""
        return await self._driver.run(self._result(job_id))

    async def cancel(self, job_id: str, *, takeover: bool = False) -> Job:
        """Ends a job. With `takeover` it is remembered that the caller converts locally.

        Raises Conflict for a job that is completed: then its result is to be used.
        """
        return await self._driver.run(self._cancel(job_id, takeover))

    async def workers(self, content_type: Optional[str] = None) -> Workers:
        """The workers that polled lately. Raises NotFound from a server that does not tell them."""
        return await self._driver.run(self._workers(content_type))

    async def webhook_secrets(self) -> List[str]:
        """What the tenant's webhooks are signed with at present, for `verify_webhook`."""
        return _secrets_of(await self._driver.run(self._secret()))
