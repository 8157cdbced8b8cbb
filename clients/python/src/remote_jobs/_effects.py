"""What the library's flows ask of whoever runs them.

Every flow (a call, an upload, a whole conversion) is a generator that yields effects and is sent what came of them. It
is written once; `_drive.py` runs it with blocking calls or on an event loop.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Generator, Mapping, Optional, Tuple, TypeVar, Union

import httpx

STALL = 60.0
"""How many seconds a transfer may stand still."""

CALL = 30.0
"""How many seconds a call may take that does not wait for anything."""

MOST_JSON = 64 << 20
"""The most bytes of an API answer that are kept in memory."""


@dataclass(frozen=True)
class Span:
    """A stretch of a file, in bytes. `moved` is told how many bytes went out since it was last told."""

    path: Path
    offset: int
    length: int
    moved: Callable[[int], None]


@dataclass(frozen=True)
class Request:
    """One HTTP request. It follows no redirect."""

    method: str
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    body: Union[bytes, Span] = b""
    silence: float = CALL
    """How many seconds may pass without a byte."""
    limit: Optional[float] = CALL
    """How many seconds the whole answer may take; no limit for a transfer."""
    most: int = MOST_JSON
    """The most bytes of an answer's body."""


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: httpx.Headers = field(repr=False)
    body: bytes = field(repr=False)

    @property
    def ok(self) -> bool:
        """Whether it is a 2xx."""
        return 200 <= self.status < 300


@dataclass(frozen=True)
class Sleep:
    """Wait so many seconds."""

    seconds: float


@dataclass(frozen=True)
class Blocking:
    """Work with the disk, which must not hold an event loop up."""

    work: Callable[[], Any]


@dataclass(frozen=True)
class Foreign:
    """The caller's own function, which may be a coroutine function."""

    function: Callable[..., Any]
    arguments: Tuple[Any, ...] = ()


Effect = Union[Request, Sleep, Blocking, Foreign]

_T = TypeVar("_T")

Flow = Generator[Effect, Any, _T]
"""Yields effects, and returns a `_T` in the end. What goes wrong with an effect is raised at its `yield`."""
