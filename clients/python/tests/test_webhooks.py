"""Whether to believe a webhook: those that a gateway sends, and those that somebody makes up."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import Any, Dict

import pytest

import remote_jobs as rj

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
OTHER = "whsec_" + base64.b64encode(bytes(32)).decode()
BODY = json.dumps({"type": "remote_job.completed", "data": {"job_id": "j", "status": "completed"}}).encode()


def signed(body: bytes = BODY, at: Any = None, secret: str = SECRET, message_id: str = "m") -> Dict[str, str]:
    at = str(int(time.time())) if at is None else str(at)
    key = base64.b64decode(secret.replace("whsec_", ""))
    digest = hmac.new(key, f"{message_id}.{at}.".encode() + body, hashlib.sha256).digest()
    signature = "v1," + base64.b64encode(digest).decode()
    return {"webhook-id": message_id, "webhook-timestamp": at, "webhook-signature": signature}


def test_what_a_gateway_sends_is_believed_also_after_the_secret_was_replaced(
    client, gateway, receiver, content_type, task_id, file
):
    before = client.webhook_secrets()
    uploaded = client.upload(file)
    job = client.create(uploaded.source_file_path, content_type, task_id=task_id, webhook_url=receiver.url)
    client.cancel(job.job_id, takeover=True)
    headers, body = receiver.next()
    message = rj.verify_webhook(headers, body, before)
    assert message.type == "remote_job.cancelled" and message.data["job_id"] == job.job_id
    assert message.data["continued_by"] == "local" and message.data["ingestion_task_id"] == task_id
    assert message.id.startswith(job.job_id) and message.timestamp.tzinfo
    gateway.call("POST", "/webhook-secret/rotate", json={})
    after = client.webhook_secrets()
    assert len(after) == 2 and after[0] not in before
    rj.verify_webhook(headers, body, after)
    with pytest.raises(rj.ForgedWebhook):
        rj.verify_webhook(headers, body, after[0])


def test_any_of_several_secrets_and_signatures_will_do():
    ours, theirs = signed(), signed(secret=OTHER)
    both = {**ours, "webhook-signature": f"v1a,xx {theirs['webhook-signature']} {ours['webhook-signature']}"}
    for headers in (ours, both):
        assert rj.verify_webhook(headers, BODY, [OTHER, SECRET]).id == "m"
    # Without its prefix it is the same secret.
    assert rj.verify_webhook(ours, BODY, SECRET.replace("whsec_", "")).data["job_id"] == "j"


def test_any_kind_of_headers_will_do():
    headers = signed()
    environ = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers.items()}
    for given in (environ, {name.title(): value for name, value in headers.items()}):
        assert rj.verify_webhook({**given, "wsgi.version": "1"}, BODY, SECRET).id == "m"


@pytest.mark.parametrize(
    ("changed", "body"),
    [
        ({}, BODY + b" "),
        ({"webhook-id": "n"}, BODY),
        ({"webhook-timestamp": str(int(time.time()) + 1)}, BODY),
        ({"webhook-signature": "v1,"}, BODY),
        ({"webhook-signature": "v2," + "A" * 44}, BODY),
        ({"webhook-signature": "ü"}, BODY),
        (signed(secret=OTHER), BODY),
        # The seventeenth is not looked at.
        ({"webhook-signature": "v1,x " * 16 + signed(at=5)["webhook-signature"], "webhook-timestamp": "5"}, BODY),
    ],
)
def test_what_somebody_made_up_is_refused(changed, body):
    with pytest.raises(rj.ForgedWebhook) as caught:
        rj.verify_webhook({**signed(), **changed}, body, SECRET)
    assert isinstance(caught.value, rj.WebhookError) and SECRET not in str(caught.value)


def test_what_was_signed_long_ago_or_in_the_future_is_refused():
    for seconds, words in ((-301, "301 s ago"), (301, "s in the future")):
        headers = signed(at=1_000_000 + seconds)
        with pytest.raises(rj.StaleWebhook, match=words):
            rj.verify_webhook(headers, BODY, SECRET, now=1_000_000.0)
    for seconds in (-300, 0, 300):
        rj.verify_webhook(signed(at=1_000_000 + seconds), BODY, SECRET, now=1_000_000.0)
    rj.verify_webhook(signed(at=1_000_000 - 400), BODY, SECRET, tolerance=400, now=1_000_000.0)


@pytest.mark.parametrize("missing", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_a_header_that_is_missing_is_named(missing):
    headers = signed()
    del headers[missing]
    with pytest.raises(rj.MalformedWebhook, match=missing):
        rj.verify_webhook(headers, BODY, SECRET)


@pytest.mark.parametrize("at", ["soon", "-1", "1.5", " 5", "٥", "9" * 12])
def test_a_time_that_is_none_is_refused(at):
    with pytest.raises(rj.MalformedWebhook, match="webhook-timestamp"):
        rj.verify_webhook(signed(at=at), BODY, SECRET)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"type": "x"}', b'{"type": 1, "data": {}}', b"\xff"])
def test_a_signed_body_that_is_no_event_is_refused(body):
    with pytest.raises(rj.MalformedWebhook, match="body"):
        rj.verify_webhook(signed(body), body, SECRET)


@pytest.mark.parametrize("secrets", ["", [], "whsec_", "whsec_c2hvcnQ=", "whsec_ü", [SECRET, "hunter2"]])
def test_a_secret_that_is_none_is_refused_and_not_shown(secrets):
    with pytest.raises(rj.InvalidArgument, match="secret") as caught:
        rj.verify_webhook(signed(), BODY, secrets)
    assert "hunter2" not in str(caught.value) and "c2hvcnQ" not in str(caught.value)


def test_the_body_must_be_what_came():
    with pytest.raises(rj.InvalidArgument, match="bytes"):
        rj.verify_webhook(signed(), BODY.decode(), SECRET)  # type: ignore[arg-type]
