"""Settings, by the names and defaults that the original's RemoteJobCreator reads."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Callable, Dict, List, Mapping, Optional, Tuple

from .errors import InvalidArgument

_CONTENT_TYPE = re.compile(r"audio|video|document|image|web|youtube|x-[a-z0-9-]{1,48}")
_TIMEOUTS: Mapping[str, int] = MappingProxyType(
    {"audio": 3600, "video": 3600, "document": 600, "image": 300, "web": 600, "youtube": 1800}
)
_OTHER_TIMEOUT = 1800
_LONGEST_TIMEOUT = 86_400
_TRUE = frozenset({"true", "1", "yes", "on"})
_FALSE = frozenset({"false", "0", "no", "off"})


@dataclass(frozen=True)
class Settings:
    """How this service uses the remote conversion. Spans are seconds."""

    base_url: str = "http://localhost:8000"
    """Where the control plane is: `MORAG_API_BASE_URL`."""
    api_key: Optional[str] = field(default=None, repr=False)
    """A key with the scope `ingest`: `MORAG_API_KEY`."""
    enabled: bool = False
    """Whether anything is converted remotely at all: `MORAG_REMOTE_CONVERSION_ENABLED`."""
    content_types: Tuple[str, ...] = ("audio", "video", "youtube")
    """What may be converted remotely: `MORAG_REMOTE_CONTENT_TYPES`."""
    timeouts: Mapping[str, int] = field(default_factory=dict)
    """How long one attempt may run, by content type where it is not the default: `MORAG_REMOTE_TIMEOUT_<TYPE>`."""
    poll_interval: float = 10.0
    """How often a job is asked for where the server holds no call open."""
    wait_seconds: int = 20
    """How long a server is asked to hold a call open until a job ends: 0 to 20."""
    questions: float = 5.0
    """How long the questions before an upload may take together."""
    patience: float = 300.0
    """How long a control plane that cannot be reached any more is waited for, once it has the job."""
    first_wait: float = 0.5
    """The longest wait before a failed call is repeated for the first time. It doubles with every try."""

    def __post_init__(self) -> None:
        for content_type in (*self.content_types, *self.timeouts):
            check_content_type(content_type)
        for content_type, seconds in self.timeouts.items():
            if not 1 <= seconds <= _LONGEST_TIMEOUT:
                raise InvalidArgument(f"The timeout of {content_type} must be 1 to {_LONGEST_TIMEOUT} seconds.")
        if not 0 <= self.wait_seconds <= 20:
            raise InvalidArgument("wait_seconds must be 0 to 20.")

    def timeout(self, content_type: str) -> int:
        """How long one attempt at such a job may run."""
        return self.timeouts.get(content_type, _TIMEOUTS.get(content_type, _OTHER_TIMEOUT))

    @classmethod
    def from_env(cls, environment: Optional[Mapping[str, str]] = None) -> Settings:
        """Reads the environment. A variable that is empty counts as absent.

        Raises InvalidArgument, which names the variable.
        """
        env = os.environ if environment is None else environment

        def get(name: str) -> Optional[str]:
            return env.get(name, "").strip() or None

        return cls(
            base_url=get("MORAG_API_BASE_URL") or cls.base_url,
            api_key=get("MORAG_API_KEY"),
            enabled=_switch("MORAG_REMOTE_CONVERSION_ENABLED", get("MORAG_REMOTE_CONVERSION_ENABLED")),
            content_types=_content_types(get("MORAG_REMOTE_CONTENT_TYPES"), cls.content_types),
            timeouts=_timeouts(get),
        )


def check_content_type(text: str) -> None:
    """Raises InvalidArgument for what is no content type."""
    if not _CONTENT_TYPE.fullmatch(text):
        raise InvalidArgument(
            f"{text!r} is not a content type: use audio, video, document, image, web, youtube, "
            "or x- followed by 1 to 48 of a-z, 0-9 and -."
        )


def _switch(name: str, text: Optional[str]) -> bool:
    word = (text or "false").lower()
    if word in _TRUE or word in _FALSE:
        return word in _TRUE
    raise InvalidArgument(f"{name} is {text!r}; set it to true or false.")


def _content_types(text: Optional[str], default: Tuple[str, ...]) -> Tuple[str, ...]:
    if text is None:
        return default
    names: List[str] = []
    for name in (name.strip().lower() for name in text.split(",")):
        if name and name not in names:
            _named("MORAG_REMOTE_CONTENT_TYPES", name)
            names.append(name)
    return tuple(names)


def _named(variable: str, content_type: str) -> None:
    try:
        check_content_type(content_type)
    except InvalidArgument as error:
        raise InvalidArgument(f"{variable}: {error}") from None


def _timeouts(get: Callable[[str], Optional[str]]) -> Dict[str, int]:
    timeouts: Dict[str, int] = {}
    for content_type in _TIMEOUTS:
        name = f"MORAG_REMOTE_TIMEOUT_{content_type.upper()}"
        text = get(name)
        if text is None:
            continue
        if not (text.isascii() and text.isdigit() and 1 <= int(text) <= _LONGEST_TIMEOUT):
            raise InvalidArgument(f"{name} is {text!r}; set it to 1 to {_LONGEST_TIMEOUT} seconds.")
        timeouts[content_type] = int(text)
    return timeouts
