"""Runs flows: with blocking calls, or on an event loop."""

from __future__ import annotations

import asyncio
import inspect
import ssl
import time
from functools import partial
from typing import Any, AsyncIterator, Awaitable, BinaryIO, Callable, Generator, Iterator, Optional, TypeVar

import httpx

from ._effects import Answer, Blocking, Effect, Flow, Foreign, Request, Sleep, Span
from ._secrets import hide_urls_in_logs, host_of
from .errors import FileUnusable, InvalidArgument, RemoteJobsError, TimedOut, Unreachable, Unreadable

CHUNK = 256 << 10
"""How many bytes are read at a time."""

CONNECT = 10.0
"""How many seconds a connection may take to come about."""

_T = TypeVar("_T")


class _Clock:
    """How long a request has taken, where that is limited."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._until = None if request.limit is None else time.monotonic() + request.limit

    def check(self) -> None:
        """Raises TimedOut when it has taken too long."""
        if self._until is not None and time.monotonic() > self._until:
            raise TimedOut(f"{host_of(self._request.url)} took longer than {self._request.limit:.0f} s.")


class _FileStream(httpx.SyncByteStream, httpx.AsyncByteStream):
    """Sends a stretch of a file, a piece at a time."""

    def __init__(self, span: Span, request: Request) -> None:
        self._span = span
        self._clock = _Clock(request)

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces():
            yield piece
            self._span.moved(len(piece))

    async def __aiter__(self) -> AsyncIterator[bytes]:
        pieces = self._pieces()
        try:
            # Opening the file blocks too, which the first piece does.
            while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
                yield piece
                self._span.moved(len(piece))
        finally:
            pieces.close()

    def _pieces(self) -> Generator[bytes, None, None]:
        file = _on_disk(self._open)
        with file:
            left = self._span.length
            while left:
                self._clock.check()
                piece = self._checked(_on_disk(partial(file.read, min(CHUNK, left))))
                left -= len(piece)
                yield piece

    def _open(self) -> BinaryIO:
        file = self._span.path.open("rb")
        file.seek(self._span.offset)
        return file

    def _checked(self, piece: bytes) -> bytes:
        if not piece:
            raise FileUnusable(f"{self._span.path} changed while it was sent; try again.")
        return piece


class _Body:
    """An answer's body as it arrives, within its limits."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._clock = _Clock(request)
        self._bytes = bytearray()

    def add(self, piece: bytes, status: int) -> None:
        """Keeps a piece."""
        self._bytes += piece
        if len(self._bytes) > self._request.most:
            host, most = host_of(self._request.url), self._request.most
            raise Unreadable(f"{host} answered {status} with more than {most} bytes.", status)
        self._clock.check()

    def answer(self, response: httpx.Response) -> Answer:
        """The whole answer."""
        return Answer(response.status_code, response.headers, bytes(self._bytes))


def _outgoing(request: Request) -> httpx.Request:
    silence = request.silence
    timeout = httpx.Timeout(silence, connect=min(CONNECT, silence))
    headers = dict(request.headers)
    length = request.body.length if isinstance(request.body, Span) else len(request.body)
    if length or request.method not in ("GET", "DELETE"):
        # A streamed body has no length of its own, and S3 takes none in chunks.
        headers["Content-Length"] = str(length)
    stream = _FileStream(request.body, request) if isinstance(request.body, Span) else httpx.ByteStream(request.body)
    try:
        url = httpx.URL(request.url)
        # Of a request with a stream of its own httpx makes no headers.
        headers["Host"] = url.netloc.decode()
        return httpx.Request(
            request.method, url, headers=headers, stream=stream, extensions={"timeout": timeout.as_dict()}
        )
    except (httpx.InvalidURL, ValueError):
        # The cause would show the URL or the key.
        raise InvalidArgument(
            f"The request to {host_of(request.url)} cannot be made; check the URL and the API key."
        ) from None


def _failure(error: Exception, request: Request) -> RemoteJobsError:
    host = host_of(request.url)
    if isinstance(error, httpx.TimeoutException) and not isinstance(error, httpx.ConnectTimeout):
        silence = f"{host} was silent for {request.silence:.0f} s"
        return TimedOut(f"{silence}; try again, and check the server if it stays so.")
    if isinstance(error, (httpx.UnsupportedProtocol, httpx.LocalProtocolError, httpx.InvalidURL)):
        return InvalidArgument(f"The request to {host or 'the server'} cannot be made; check the URL and the API key.")
    reason = "it did not answer in time" if isinstance(error, httpx.ConnectTimeout) else str(error)
    if isinstance(error.__context__, ssl.SSLError) or "CERTIFICATE_VERIFY_FAILED" in reason:
        advice = "check the address, and if the certificate is of its own making, name its issuer in SSL_CERT_FILE"
    else:
        advice = "check the address, the network and that the server runs"
    return Unreachable(f"Cannot reach {host}: {reason or 'the connection was closed'}; {advice}.")


def _on_disk(work: Callable[[], _T]) -> _T:
    try:
        return work()
    except OSError as error:
        raise FileUnusable(f"Cannot use the file {error.filename}: {error.strerror or error}.") from error


def _next(flow: Flow[Any], done: Any, failed: Optional[Exception]) -> Effect:
    return flow.send(done) if failed is None else flow.throw(failed)


class SyncDriver:
    """Runs flows with blocking calls."""

    def __init__(self, transport: Optional[httpx.BaseTransport]) -> None:
        hide_urls_in_logs()
        self.http = httpx.Client(transport=transport, follow_redirects=False)

    def run(self, flow: Flow[_T]) -> _T:
        """Runs a flow to its end."""
        done: Any = None
        failed: Optional[Exception] = None
        try:
            while True:
                effect = _next(flow, done, failed)
                done, failed = None, None
                try:
                    done = self._perform(effect)
                except Exception as error:
                    failed = error
        except StopIteration as end:
            result: _T = end.value
            return result
        finally:
            flow.close()

    def _perform(self, effect: Effect) -> Any:
        if isinstance(effect, Request):
            return self._send(effect)
        if isinstance(effect, Sleep):
            return time.sleep(effect.seconds)
        if isinstance(effect, Blocking):
            return _on_disk(effect.work)
        given = effect.function(*effect.arguments)
        return asyncio.run(_awaited(given)) if inspect.isawaitable(given) else given

    def _send(self, request: Request) -> Answer:
        try:
            body = _Body(request)
            response = self.http.send(_outgoing(request), stream=True, auth=None)
            try:
                for piece in response.iter_bytes():
                    body.add(piece, response.status_code)
            finally:
                response.close()
            return body.answer(response)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise _failure(error, request) from None


class AsyncDriver:
    """Runs flows on asyncio's event loop."""

    def __init__(self, transport: Optional[httpx.AsyncBaseTransport]) -> None:
        hide_urls_in_logs()
        self.http = httpx.AsyncClient(transport=transport, follow_redirects=False)

    async def run(self, flow: Flow[_T]) -> _T:
        """Runs a flow to its end."""
        done: Any = None
        failed: Optional[Exception] = None
        try:
            while True:
                effect = _next(flow, done, failed)
                done, failed = None, None
                try:
                    done = await self._perform(effect)
                except Exception as error:
                    failed = error
        except StopIteration as end:
            result: _T = end.value
            return result
        finally:
            flow.close()

    async def _perform(self, effect: Effect) -> Any:
        if isinstance(effect, Request):
            return await self._send(effect)
        if isinstance(effect, Sleep):
            return await asyncio.sleep(effect.seconds)
        if isinstance(effect, Blocking):
            return await asyncio.to_thread(_on_disk, effect.work)
        return await self._foreign(effect)

    async def _foreign(self, effect: Foreign) -> Any:
        if inspect.iscoroutinefunction(effect.function):
            return await effect.function(*effect.arguments)
        # A plain function may work for minutes.
        given = await asyncio.to_thread(effect.function, *effect.arguments)
        return await given if inspect.isawaitable(given) else given

    async def _send(self, request: Request) -> Answer:
        try:
            body = _Body(request)
            response = await self.http.send(_outgoing(request), stream=True, auth=None)
            try:
                async for piece in response.aiter_bytes():
                    body.add(piece, response.status_code)
            finally:
                await response.aclose()
            return body.answer(response)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise _failure(error, request) from None


async def _awaited(given: Awaitable[_T]) -> _T:
    return await given
