"""Keeping keys and presigned URLs out of messages and logs."""

from __future__ import annotations

import logging
import re
from urllib.parse import urlsplit

_SIGNED_QUERY = re.compile(r"\?[^\s\"'<>]*X-Amz-[^\s\"'<>]*", re.IGNORECASE)
_LOGGERS = ("httpx", "httpcore.http11", "httpcore.http2")


class _HideUrls(logging.Filter):
    """Cuts the query of presigned URLs, which is a secret, out of what HTTP libraries log."""

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        shown = _SIGNED_QUERY.sub("?…", message)
        if shown != message:
            record.msg, record.args = shown, ()
        return True


_hide_urls = _HideUrls()


def hide_urls_in_logs() -> None:
    """Sees to it that no presigned URL is logged, by httpx (each request's URL) or httpcore (a redirect's target)."""
    for name in _LOGGERS:
        # Adding a filter that is there already changes nothing.
        logging.getLogger(name).addFilter(_hide_urls)


def host_of(url: str) -> str:
    """Host and port of a URL, for messages."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
        return f"{parts.hostname or ''}{port}"
    except ValueError:
        return ""
