"""Whether to believe a webhook of the control plane, by the rules of Standard Webhooks."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from datetime import datetime, timezone
from typing import Any, Iterable, List, Mapping, Optional, Union

from .errors import ForgedWebhook, InvalidArgument, MalformedWebhook, StaleWebhook
from .models import WebhookMessage

TOLERANCE = 300.0
"""How many seconds the time of a message may be from this machine's, into the past and into the future."""

_PREFIX = "whsec_"
_SHORTEST_SECRET = 24
"""In bytes. A shorter one could be guessed."""
_MOST_SIGNATURES = 16
"""There is one signature for each secret in use."""


def verify_webhook(
    headers: Mapping[str, str],
    body: bytes,
    secrets: Union[str, Iterable[str]],
    tolerance: float = TOLERANCE,
    *,
    now: Optional[float] = None,
) -> WebhookMessage:
    """The message of a webhook, if it is what the control plane sent.

    `body` is the bytes as they came, before anything reads them as JSON. `secrets` is one secret or several, of which
    any may have signed. Any mapping of headers will do, also a WSGI environment's `HTTP_…`.

    Raises ForgedWebhook, StaleWebhook or MalformedWebhook, which are all WebhookErrors; InvalidArgument for a secret
    that cannot be one. That a message comes a second time is for the caller to notice, by its `id`.
    """
    keys = [_key(secret) for secret in ((secrets,) if isinstance(secrets, str) else secrets)]
    if not keys:
        raise InvalidArgument("No webhook secret is given; GET /api/v1/webhook-secret tells it.")
    if not isinstance(body, (bytes, bytearray)):
        raise InvalidArgument("The body of a webhook must be given as the bytes that came.")
    known = {name.lower().replace("_", "-"): value for name, value in headers.items() if isinstance(name, str)}
    message_id = _header(known, "webhook-id")
    text = _header(known, "webhook-timestamp")
    signatures = _header(known, "webhook-signature")
    if not text.isascii() or not text.isdigit() or len(text) > 11:
        raise MalformedWebhook("The header webhook-timestamp is no number of seconds.")
    _check_signatures(keys, f"{message_id}.{text}.".encode() + bytes(body), signatures)
    # Only what is signed is worth a word about its age.
    age = (time.time() if now is None else now) - int(text)
    if abs(age) > tolerance:
        when = f"{age:.0f} s ago" if age > 0 else f"{-age:.0f} s in the future"
        raise StaleWebhook(f"The webhook was signed {when}; check this machine's clock, or it is a replay.")
    return WebhookMessage(message_id, datetime.fromtimestamp(int(text), timezone.utc), _event(bytes(body)))


def _check_signatures(keys: List[bytes], signed: bytes, signatures: str) -> None:
    good = False
    for key in keys:
        expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest())
        for signature in signatures.split(" ")[:_MOST_SIGNATURES]:
            version, _, given = signature.partition(",")
            # Every one is compared, so that the time it takes says nothing.
            good |= version == "v1" and hmac.compare_digest(expected, given.encode(errors="replace"))
    if not good:
        raise ForgedWebhook(
            "The webhook's signature is by none of the known secrets; check them with the control plane's."
        )


def _key(secret: str) -> bytes:
    text = secret.strip()
    try:
        key = base64.b64decode(text[len(_PREFIX) :] if text.startswith(_PREFIX) else text, validate=True)
    except ValueError:
        key = b""
    if len(key) < _SHORTEST_SECRET:
        # Not shown: it is a secret, only spelled wrongly.
        raise InvalidArgument(f"This is no webhook secret: it is {_PREFIX} and at least 24 bytes in base64.")
    return key


def _header(headers: Mapping[str, Any], name: str) -> str:
    value = headers.get(name) or headers.get(f"http-{name}")
    if not isinstance(value, str) or not value:
        raise MalformedWebhook(f"The header {name} is missing.")
    return value


def _event(body: bytes) -> Mapping[str, Any]:
    try:
        event = json.loads(body)
    except ValueError:
        raise MalformedWebhook("The webhook's body is no JSON.") from None
    if not isinstance(event, dict) or not isinstance(event.get("type"), str) or not isinstance(event.get("data"), dict):
        raise MalformedWebhook("The webhook's body is no event: it lacks `type` or `data`.")
    return event
