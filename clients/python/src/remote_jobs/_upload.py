"""A file's way into the object store. Memory does not grow with the file."""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

from ._api import JOBS, LONG_CALL, PATIENT_TRIES, Api, not_transferred
from ._drive import CHUNK
from ._effects import STALL, Answer, Blocking, Flow, Request, Span
from ._secrets import host_of
from .errors import FileUnusable, RemoteJobsError, TransferFailed
from .models import Uploaded

OnProgress = Callable[[int, int], None]
"""Told how many bytes are done, of how many."""

_BATCH = 16
"""How many parts are hashed and signed at a time: few enough that no URL grows old before its turn."""

_NEW_URLS = 2
"""How many new URLs are tried in a row before a refusal is believed."""

_MOST_ANSWER = 64 << 10

_Part = Tuple[int, int, int, str]
"""A part's number, offset, length and SHA-256."""


def upload(api: Api, path: Path, name: str, idempotency_key: str, progress: Optional[OnProgress]) -> Flow[Uploaded]:
    """Uploads a file. Under the same key it ends at the same place, and sends nothing when the bytes are there.

    The file is read twice or three times: to hash it, and to send it.
    """
    size, sha256 = yield Blocking(lambda: _hash_file(path))
    meter = _Meter(size, progress)
    meter.add(0)
    request = {"filename": name, "size_bytes": size, "sha256": sha256}
    tries = _Tries(api)
    while True:
        # Asked anew before every try: the answer has a fresh URL, or says that the bytes arrived after all.
        way = yield from api.retrying(
            lambda: api.call("POST", f"{JOBS}/uploads", body=request, idempotency_key=idempotency_key), PATIENT_TRIES
        )
        if not way.get("uploaded"):
            if isinstance(way.get("multipart"), dict):
                yield from _in_parts(api, path, meter, way)
            else:
                try:
                    yield from _whole(api, path, meter, way)
                except RemoteJobsError as error:
                    yield from tries.again(error)
                    continue
        meter.end()
        return Uploaded(_text(api, way, "source_file_path"), size, sha256)


class _Meter:
    """Adds up what went out."""

    def __init__(self, size: int, progress: Optional[OnProgress]) -> None:
        self.size = size
        self._done = 0
        self._progress = progress

    def add(self, count: int) -> None:
        self._done += count
        if self._progress:
            self._progress(min(self._done, self.size), self.size)

    def take_back(self, count: int) -> None:
        self._done -= count

    def end(self) -> None:
        self.add(self.size - self._done)


class _Tries:
    """The failures in a row of one piece of an upload."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._failed = 0
        self._refused = 0

    def again(self, error: RemoteJobsError) -> Flow[None]:
        """Waits for the next try, or raises the error when there is no use in one."""
        if isinstance(error, TransferFailed) and error.expired:
            self._refused += 1
            if self._refused > _NEW_URLS:
                raise error
            return
        self._failed += 1
        yield from self._api.pause(error, self._failed, PATIENT_TRIES)


def _whole(api: Api, path: Path, meter: _Meter, way: Mapping[str, Any]) -> Flow[None]:
    try:
        yield from _send(api, path, 0, meter.size, meter, way.get("put"))
    except TransferFailed as error:
        # The URL admits only the first arrival of just these bytes, so they are there.
        if error.status != 412:
            raise


def _in_parts(api: Api, path: Path, meter: _Meter, way: Mapping[str, Any]) -> Flow[None]:
    plan = way["multipart"]
    target = {
        "source_file_path": _text(api, way, "source_file_path"),
        "multipart_upload_id": _text(api, plan, "multipart_upload_id"),
    }
    where = f"{JOBS}/uploads/{_text(api, way, 'upload_id')}"
    spans = _spans(api, meter.size, plan)
    try:
        parts: List[Dict[str, Any]] = []
        for begin in range(0, len(spans), _BATCH):
            parts += yield from _batch(api, path, meter, where, target, spans[begin : begin + _BATCH])
        body = {**target, "parts": parts}
        yield from api.retrying(
            lambda: api.call("POST", f"{where}/complete", body=body, limit=LONG_CALL), PATIENT_TRIES
        )
    except Exception as failed:
        # The parts that arrived would be stored, and paid for, until the store's own cleaning.
        try:
            yield from api.call("POST", f"{where}/abort", body=target)
        except RemoteJobsError:
            pass
        raise failed


def _spans(api: Api, size: int, plan: Mapping[str, Any]) -> List[Tuple[int, int, int]]:
    length, count = plan.get("part_size_bytes"), plan.get("part_count")
    if not isinstance(length, int) or length < 1 or count != -(-size // length):
        raise api.unfit("parts that do not make up the file")
    return [(number, offset, min(length, size - offset)) for number, offset in enumerate(range(0, size, length), 1)]


def _batch(
    api: Api,
    path: Path,
    meter: _Meter,
    where: str,
    target: Mapping[str, str],
    spans: List[Tuple[int, int, int]],
) -> Flow[List[Dict[str, Any]]]:
    """Hashes parts, asks for their URLs and sends them."""
    parts: List[_Part] = []
    for number, offset, length in spans:
        sha256 = yield Blocking(partial(_hash_span, path, offset, length))
        parts.append((number, offset, length, sha256))
    ways = yield from _signed(api, where, target, parts)
    uploaded: List[Dict[str, Any]] = []
    for part, way in zip(parts, ways):
        etag = yield from _part(api, path, meter, where, target, part, way)
        uploaded.append({"part_number": part[0], "etag": etag, "sha256": part[3]})
    return uploaded


def _part(
    api: Api, path: Path, meter: _Meter, where: str, target: Mapping[str, str], part: _Part, way: Mapping[str, Any]
) -> Flow[str]:
    """Sends one part, with a new URL for every try, and gives its ETag."""
    tries = _Tries(api)
    _, offset, length, _ = part
    while True:
        try:
            answer = yield from _send(api, path, offset, length, meter, way)
            return _text(api, answer.headers, "etag")
        except RemoteJobsError as error:
            yield from tries.again(error)
        way = (yield from _signed(api, where, target, [part]))[0]


def _signed(api: Api, where: str, target: Mapping[str, str], parts: List[_Part]) -> Flow[List[Mapping[str, Any]]]:
    asked = [{"part_number": number, "size_bytes": length, "sha256": sha256} for number, _, length, sha256 in parts]
    body = {**target, "parts": asked}
    answer = yield from api.retrying(lambda: api.call("POST", f"{where}/parts", body=body), PATIENT_TRIES)
    signed = answer.get("parts")
    if not isinstance(signed, list) or len(signed) != len(parts):
        raise api.unfit("another number of URLs than were asked for")
    return signed


def _send(api: Api, path: Path, offset: int, length: int, meter: _Meter, way: Any) -> Flow[Answer]:
    """Sends a stretch of the file once, as a presigned request says and without the API key."""
    if not isinstance(way, dict) or not isinstance(way.get("headers"), dict):
        raise api.unfit("an upload without a way to send it")
    url = _text(api, way, "url")
    # The host follows from the URL, and a second one would be refused.
    headers = {name: value for name, value in way["headers"].items() if name.lower() not in ("host", "content-length")}
    sent = 0

    def moved(count: int) -> None:
        nonlocal sent
        sent += count
        meter.add(count)

    request = Request(
        _text(api, way, "method"),
        url,
        headers,
        Span(path, offset, length, moved),
        silence=STALL,
        limit=None,
        most=_MOST_ANSWER,
    )
    try:
        answer: Answer = yield request
        if answer.ok:
            return answer
        raise not_transferred(answer, host_of(url))
    except RemoteJobsError:
        # What was counted of a failed try is taken back.
        meter.take_back(sent)
        # A file that changed cannot be sent, however often it is tried.
        yield Blocking(lambda: _check_size(path, meter.size))
        raise


def _text(api: Api, answer: Mapping[str, Any], name: str) -> str:
    value = answer.get(name)
    if not isinstance(value, str) or not value:
        raise api.unfit(f"no {name}")
    return value


def _hash_file(path: Path) -> Tuple[int, str]:
    if not path.is_file():
        raise FileUnusable(f"Cannot use the file {path}: it does not exist or is no regular file.")
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while piece := file.read(CHUNK):
            digest.update(piece)
            size += len(piece)
    return size, digest.hexdigest()


def _hash_span(path: Path, offset: int, length: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        file.seek(offset)
        while length:
            piece = file.read(min(CHUNK, length))
            if not piece:
                raise _changed(path)
            digest.update(piece)
            length -= len(piece)
    return digest.hexdigest()


def _check_size(path: Path, size: int) -> None:
    if path.stat().st_size != size:
        raise _changed(path)


def _changed(path: Path) -> FileUnusable:
    return FileUnusable(f"{path} changed meanwhile; try it again.")
