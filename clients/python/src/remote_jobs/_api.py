"""One flow for each call of the API. Each is tried once, unless it says otherwise."""

from __future__ import annotations

import json
import random
import re
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any, Callable, Dict, List, Mapping, Optional, TypeVar
from urllib.parse import quote, urlencode, urljoin, urlsplit

from ._effects import CALL, STALL, Answer, Flow, Request, Sleep
from ._secrets import host_of
from .errors import Corrupt, InvalidArgument, NotAllowed, RemoteJobsError, TransferFailed, Unreadable, refused
from .models import Converted, Job, Worker, Workers
from .settings import Settings

JOBS = "/api/v1/remote-jobs"
WORKERS = "/api/v1/remote-workers"

LONG_CALL = 300.0
"""How many seconds a call may take that makes the server read a whole object."""

MOST_RESULT = 1 << 30
"""The largest result document that is read into memory, in bytes."""

TRIES = 5
"""How often a call is tried, within four to eight seconds."""

PATIENT_TRIES = 7
"""How often a transfer's piece and its calls are tried, within a quarter to half a minute."""

_LONGEST_WAIT = 30.0
_LONGEST_ASKED = 600.0
"""The longest wait, in seconds, that a server may ask for before it is given up on."""

_MOST_SHOWN = 120

_T = TypeVar("_T")


class Api:
    """The calls, under one base URL and key."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.base = _base_url(settings.base_url)
        self._authorization = _authorization(settings.api_key)

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Optional[Mapping[str, Any]] = None,
        body: Optional[Mapping[str, Any]] = None,
        idempotency_key: Optional[str] = None,
        limit: float = CALL,
    ) -> Flow[Dict[str, Any]]:
        """A call that is answered by a JSON object."""
        answer = yield self._request(method, path, query, body, idempotency_key, limit)
        if not answer.ok:
            raise self._refusal(answer)
        return self._object(answer)

    def job(self, job_id: str, wait_seconds: int = 0) -> Flow[Job]:
        """Where a job stands: once it has ended, else after `wait_seconds`."""
        query = {"wait_seconds": wait_seconds} if wait_seconds else None
        path = f"{JOBS}/{_segment(job_id)}/status"
        answer = yield from self.call("GET", path, query=query, limit=CALL + wait_seconds)
        return self._fitting(Job.of, answer)

    def create(self, request: Mapping[str, Any], idempotency_key: Optional[str]) -> Flow[Job]:
        """A new job, or the one that the same request created under this key."""
        limit = LONG_CALL
        answer = yield from self.call("POST", JOBS, body=request, idempotency_key=idempotency_key, limit=limit)
        return self._fitting(Job.of, answer)

    def cancel(self, job_id: str, takeover: bool) -> Flow[Job]:
        """Ends a job."""
        path = f"{JOBS}/{_segment(job_id)}/cancel"
        answer = yield from self.call("POST", path, body={"takeover": takeover})
        return self._fitting(Job.of, answer)

    def jobs_of_task(self, task_id: str, content_type: str) -> Flow[List[str]]:
        """The id of the newest job of a task, if there is one."""
        query = {"ingestion_task_id": task_id, "content_type": content_type, "limit": 1}
        answer = yield from self.call("GET", JOBS, query=query)
        return self._fitting(lambda answer: [str(job["job_id"]) for job in answer["jobs"]], answer)

    def workers(self, content_type: Optional[str], limit: float = CALL) -> Flow[Workers]:
        """The workers that polled lately."""
        query = {"content_type": content_type} if content_type else None
        answer = yield from self.call("GET", WORKERS, query=query, limit=limit)
        return self._fitting(
            lambda answer: Workers(
                tuple(Worker.of(worker) for worker in answer["workers"]),
                float(answer["live_within_seconds"]),
                bool(answer.get("more")),
            ),
            answer,
        )

    def queues(self, content_type: str, limit: float = CALL) -> Flow[List[Mapping[str, Any]]]:
        """What waits and runs of a content type. An older server tells of the others as well."""
        query = {"content_type": content_type}
        answer = yield from self.call("GET", f"{JOBS}/statistics", query=query, limit=limit)
        return self._fitting(lambda answer: [dict(queue) for queue in answer["queues"]], answer)

    def result(self, job_id: str) -> Flow[Converted]:
        """What a job became, by the redirect that the API answers, which is followed without the key."""
        answer = yield self._request("GET", f"{JOBS}/{_segment(job_id)}/result", None, None, None, CALL)
        if answer.status >= 400:
            raise self._refusal(answer)
        target = urljoin(f"{self.base}/", answer.headers.get("location", ""))
        if answer.status != 307 or urlsplit(target).scheme not in ("http", "https"):
            raise Unreadable(f"{self.host} answered {answer.status} with no redirect to a file.", answer.status)
        document: Answer = yield Request("GET", target, {}, silence=STALL, limit=None, most=MOST_RESULT)
        if not document.ok:
            raise not_transferred(document, host_of(target))
        return _document(document.body)

    def retrying(self, make: Callable[[], Flow[_T]], tries: int = TRIES) -> Flow[_T]:
        """Repeats a call until it succeeds, fails for good, or its tries are spent."""
        failed = 0
        while True:
            try:
                return (yield from make())
            except RemoteJobsError as error:
                failed += 1
                yield from self.pause(error, failed, tries)

    def pause(self, error: RemoteJobsError, failed: int, tries: int) -> Flow[None]:
        """Waits after the `failed`-th failure in a row, or raises it when there is no use in another try."""
        asked = error.retry_after or 0.0
        if failed >= tries or not error.retryable or asked > _LONGEST_ASKED:
            raise error
        bound = min(self.settings.first_wait * 2.0 ** (failed - 1), _LONGEST_WAIT)
        try:
            yield Sleep(asked + random.uniform(bound / 2, bound))
        except RemoteJobsError as out_of_time:
            # Whoever has no more time is told what it was spent on.
            raise out_of_time from error

    @property
    def host(self) -> str:
        """Host and port of the control plane."""
        return host_of(self.base)

    def unfit(self, what: str) -> Unreadable:
        """An answer that cannot be used."""
        return Unreadable(f"{self.host} answered with {what}; check that it is a remote-jobs server.", 200)

    def _request(
        self,
        method: str,
        path: str,
        query: Optional[Mapping[str, Any]],
        body: Optional[Mapping[str, Any]],
        idempotency_key: Optional[str],
        limit: float,
    ) -> Request:
        headers = dict(self._authorization)
        headers["Accept"] = "application/json"
        if body is not None:
            headers["Content-Type"] = "application/json"
        if idempotency_key is not None:
            headers["Idempotency-Key"] = idempotency_key
        url = f"{self.base}{path}" + (f"?{urlencode(query)}" if query else "")
        return Request(method, url, headers, _written(body), silence=limit, limit=limit)

    def _refusal(self, answer: Answer) -> RemoteJobsError:
        after = retry_after(answer)
        if answer.status < 400:
            reason = f"a redirect to {_shown(answer.headers.get('location', 'nowhere').split('?')[0])}"
        else:
            problem = _json(answer.body)
            if isinstance(problem, dict) and isinstance(problem.get("detail"), str) and "type" in problem:
                return refused(answer.status, problem, after)
            reason = _describe(answer.body)
        return Unreadable(
            f"{self.host} answered {answer.status} with {reason}; check that the API URL leads to the remote-jobs "
            "server, and that it runs.",
            answer.status,
            after,
        )

    def _object(self, answer: Answer) -> Dict[str, Any]:
        found = _json(answer.body)
        if not isinstance(found, dict):
            raise Unreadable(
                f"{self.host} answered {answer.status} with {_describe(answer.body)}; check that the API URL leads to "
                "the remote-jobs server.",
                answer.status,
            )
        return found

    def _fitting(self, read: Callable[[Dict[str, Any]], _T], answer: Dict[str, Any]) -> _T:
        try:
            return read(answer)
        except (KeyError, TypeError, ValueError, AttributeError):
            # The cause may quote the answer, which may hold a secret.
            raise self.unfit("JSON that does not fit") from None


def is_denied(error: RemoteJobsError) -> bool:
    """Whether the key is what a call failed by.

    API Gateway answers 403 in words of its own to paths that it does not know.
    """
    return isinstance(error, NotAllowed) or (isinstance(error, Unreadable) and error.status == 401)


def is_no(error: RemoteJobsError) -> bool:
    """Whether the server says "no" rather than "not now"."""
    return error.status is not None and 400 <= error.status < 500 and not error.retryable


def not_transferred(answer: Answer, host: str) -> TransferFailed:
    """The exception that an object store's answer is."""
    code = _xml_element(answer.body, "Code")
    said = code or f"with {_describe(answer.body)}"
    message = f"The transfer with {host} failed: it answered {answer.status} {said}."
    return TransferFailed(message, answer.status, code, retry_after(answer))


def retry_after(answer: Answer) -> Optional[float]:
    """`Retry-After` in seconds, from seconds or a date."""
    text = answer.headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        return max(0.0, (parsedate_to_datetime(text) - datetime.now(timezone.utc)).total_seconds())
    except (TypeError, ValueError, IndexError):
        return None


def _document(body: bytes) -> Converted:
    found = _json(body)
    content = found.get("content") if isinstance(found, dict) else None
    if not isinstance(found, dict) or not isinstance(content, str):
        raise Corrupt("The job's result is no result document.")
    metadata, took = found.get("metadata"), found.get("processing_time")
    return Converted(
        content,
        metadata if isinstance(metadata, dict) else {},
        float(took) if isinstance(took, (int, float)) else 0.0,
    )


def _base_url(text: str) -> str:
    text = text.strip()
    try:
        parts = urlsplit(text)
        named = bool(parts.hostname)
        _ = parts.port
    except ValueError:
        raise InvalidArgument("The API URL is no URL; use one like http://localhost:8000.") from None
    if parts.username or parts.password:
        # Not shown: what stands there is a password.
        raise InvalidArgument("The API URL must not carry a user name or password.")
    if parts.scheme not in ("http", "https") or not named or parts.query or parts.fragment:
        raise InvalidArgument(f"{text!r} is not an API URL; use one like http://localhost:8000.")
    return text.rstrip("/")


def _authorization(key: Optional[str]) -> Dict[str, str]:
    key = (key or "").strip()
    if not key:
        return {}
    if not key.isascii() or not key.isprintable():
        raise InvalidArgument("The API key has a character that no key has; copy it again, without a line break.")
    return {"Authorization": f"Bearer {key}"}


def _segment(job_id: str) -> str:
    # URL parsers take these for steps through the path, escaped or not. No id is one, so neither is this.
    return "%252E" if job_id in (".", "..") else quote(job_id, safe="-_.~")


def _written(body: Optional[Mapping[str, Any]]) -> bytes:
    try:
        return b"" if body is None else json.dumps(body, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise InvalidArgument(f"The task's options cannot be written as JSON: {error}.") from None


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None


def _describe(body: bytes) -> str:
    """What a body is, in a few words."""
    text = body[:65536].decode(errors="replace").strip()
    if not text:
        return "an empty body"
    code = _xml_element(body, "Code")
    if code:
        return f"an object store's error, {code}"
    if "<html" in text[:512].lower() or text.lower().startswith("<!doctype html"):
        return "an HTML page"
    found = _json(body)
    if isinstance(found, dict) and isinstance(found.get("message"), str):
        return f"the message {_shown(found['message'])!r}"
    return "something that is not JSON" if found is None else "JSON of another form"


def _xml_element(body: bytes, name: str) -> Optional[str]:
    found = re.search(rf"<{name}>(.*?)</", body[:65536].decode(errors="replace"), re.DOTALL)
    return _shown(found.group(1).strip()) or None if found else None


def _shown(text: str) -> str:
    """A stranger's text, cut and without what could move a terminal's cursor."""
    return "".join(character if character.isprintable() else " " for character in text)[:_MOST_SHOWN]
