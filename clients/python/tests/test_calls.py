"""Single calls, what they answer, and what goes wrong with them."""

from __future__ import annotations

import copy
import inspect
import logging
import pickle
from typing import Any

import httpx
import pytest
from world import Both, Scripted, problem

import remote_jobs as rj


def scripted(kind: str, answers: Any, **settings: Any) -> Both:
    return Both(kind, rj.Settings("http://h", "id.topsecret", **{"first_wait": 0, **settings}), Scripted(answers))


def test_workers_are_told_with_what_they_do(client, worker, content_type, gateway, task_id, file):
    worker.announce()
    uploaded = client.upload(file)
    job_id = client.create(uploaded.source_file_path, content_type, task_id=task_id).job_id
    worker.take()
    known = client.workers(content_type)
    [found] = known.live(content_type)
    assert found.worker_id == f"worker-of-{content_type}" and content_type in found.content_types
    assert found.running_jobs == (job_id,) and known.live_within_seconds > 0
    assert client.workers("x-nobody").workers == ()


def test_a_job_can_be_followed_to_its_end(client, worker, content_type, task_id, file):
    uploaded = client.upload(file, name="Talk.mp3")
    created = client.create(uploaded.source_file_path, content_type, task_id=task_id, options={"language": "de"})
    assert created.status == "pending"
    # The same request is the same job.
    again = client.create(uploaded.source_file_path, content_type, task_id=task_id, options={"language": "de"})
    assert again.job_id == created.job_id
    with pytest.raises(rj.Conflict, match=r"pending|no result") as caught:
        client.result(created.job_id)
    assert caught.value.job_status == "pending" and not caught.value.retryable
    changes = []
    with worker.doing(lambda job: worker.complete(job, "# Remote")):
        job = client.wait(created.job_id, on_change=changes.append)
    assert job.status == "completed" and job.ended and job.attempts[0].outcome == "completed"
    assert changes[0].job_id == job.job_id and changes[-1] == job
    assert client.result(job.job_id).content == "# Remote"
    with pytest.raises(rj.Conflict, match="completed"):
        client.cancel(job.job_id, takeover=True)
    assert client.status(job.job_id, wait_seconds=20).status == "completed"


def test_what_is_not_there_is_said_to_be_missing(client):
    for job_id in ("nothing", "..", "a/b?c#d"):
        with pytest.raises(rj.NotFound) as caught:
            client.status(job_id)
        assert caught.value.status == 404 and caught.value.kind == "not-found"


def test_a_key_that_is_unknown_is_told_from_one_that_may_not(kind, gateway):
    with pytest.raises(rj.NotAllowed) as caught:
        Both(kind, gateway.settings(api_key="nobody.secret")).workers()
    assert caught.value.status == 401
    made = gateway.call("POST", "/keys", json={"name": f"worker {kind}", "scopes": ["worker"]})
    with pytest.raises(rj.NotAllowed, match="ingest") as caught:
        Both(kind, gateway.settings(api_key=made["api_key"])).upload(__file__)
    assert caught.value.status == 403 and caught.value.request_id


@pytest.mark.parametrize(
    ("answer", "said", "retryable"),
    [
        (httpx.Response(502, text="<html><title>Bad"), "h answered 502 with an HTML page", True),
        (httpx.Response(403, json={"message": "Forbidden"}), "h answered 403 with the message 'Forbidden'", False),
        (httpx.Response(200, text="hello secret"), "h answered 200 with something that is not JSON", False),
        (httpx.Response(200, json={"odd": "secret"}), "JSON that does not fit", False),
        (httpx.Response(302, headers={"location": "http://x/?secret"}), "a redirect to http://x/;", False),
        (httpx.Response(404, text="<Error><Code>NoSuchKey</Code>"), "an object store's error, NoSuchKey", False),
        (httpx.Response(429, json=problem(429, "too-many-requests", "Later.")), "Later. (429 too-many-requests)", True),
    ],
)
def test_answers_that_are_none_are_described_and_not_quoted(kind, answer, said, retryable):
    with pytest.raises(rj.Answered) as caught:
        scripted(kind, {"GET /remote-jobs/j/status": answer}).status("j")
    assert said in str(caught.value) and "secret" not in str(caught.value)
    assert (caught.value.status, caught.value.retryable) == (answer.status_code, retryable)


@pytest.mark.parametrize(
    ("error", "kind_of_error", "said"),
    [
        (httpx.ConnectError("refused"), rj.Unreachable, "Cannot reach h: refused; check the address"),
        (httpx.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] x"), rj.Unreachable, "SSL_CERT_FILE"),
        (httpx.ReadTimeout(""), rj.TimedOut, "h was silent for 30 s"),
        (httpx.RemoteProtocolError(""), rj.Unreachable, "the connection was closed"),
    ],
)
def test_failures_below_http_say_what_to_look_at(kind, error, kind_of_error, said):
    with pytest.raises(kind_of_error) as caught:
        scripted(kind, {"GET /remote-jobs/j/status": error}).status("j")
    assert said in str(caught.value) and caught.value.retryable and caught.value.status is None


def test_a_call_that_may_pass_is_repeated_and_no_other(kind):
    busy = httpx.Response(503, headers={"retry-after": "0"})
    client = scripted(kind, {"GET /remote-jobs/j/status": [busy, busy, {"job_id": "j", "status": "pending"}]})
    assert client.status("j").status == "pending"
    transport = Scripted({"GET /remote-jobs/j/status": httpx.Response(503, headers={"retry-after": "100000"})})
    with pytest.raises(rj.Unreadable) as caught:
        Both(kind, rj.Settings("http://h"), transport).status("j")
    assert len(transport.requests) == 1 and caught.value.retry_after == 100000


def test_a_redirect_to_elsewhere_is_not_followed_with_the_key(kind):
    answers = {
        "GET /remote-jobs/j/result": httpx.Response(307, headers={"location": "https://store/r?X-Amz-Signature=s"}),
        "GET /r": {"content": "# There", "metadata": {}, "processing_time": 2},
    }
    client = scripted(kind, answers)
    assert client.result("j").processing_time == 2.0
    first, second = client._transport.requests
    assert "authorization" in first.headers and "authorization" not in second.headers
    assert second.url.host == "store"
    for odd in ("", "file:///etc/passwd"):
        answers["GET /remote-jobs/j/result"] = httpx.Response(307, headers={"location": odd} if odd else {})
        with pytest.raises((rj.Unreadable, rj.RemoteJobsError)):
            scripted(kind, {**answers, "GET /": httpx.Response(404)}).result("j")


def test_secrets_are_in_no_text_and_no_log(convert, client, worker, gateway, caplog):
    caplog.set_level(logging.DEBUG)
    worker.announce()
    with worker.doing(lambda job: worker.complete(job, "# Remote")):
        outcome = convert()
    key = gateway.key.partition(".")[2]
    settings = gateway.settings()
    made = rj.RemoteJobs(settings)
    shown = caplog.text + repr(outcome) + repr(settings) + str(settings) + repr(made) + str(vars(made._api).keys())
    made.close()
    assert "HTTP Request: PUT" in shown and "return_value=(b'HTTP/1.1', 307" in shown
    assert key not in shown and "X-Amz-Signature" not in shown


def test_errors_survive_result_backends():
    errors = [error for _, error in inspect.getmembers(rj, inspect.isclass) if issubclass(error, rj.RemoteJobsError)]
    assert len(errors) > 15
    for error in errors:
        assert str(error("What happened.")) == "What happened."
    failed = rj.ConversionFailed(
        "Why.", rj.Decision(rj.Reason.ALLOWED, "x"), rj.Fallback(rj.FallbackReason.FAILED, "y"), "j"
    )
    for restored in (pickle.loads(pickle.dumps(failed)), copy.copy(failed)):
        assert (restored.args, restored.decision, restored.job_id) == (("Why.",), failed.decision, "j")
    conflict = pickle.loads(pickle.dumps(rj.Conflict("It is completed.", 409)))
    assert conflict.status == 409


class Racing:
    """A clock that is a minute further at every look."""

    now = 0.0

    def monotonic(self) -> float:
        self.now += 60
        return self.now

    def sleep(self, seconds: float) -> None:
        pass


def test_a_server_that_drips_is_given_up(kind, monkeypatch):
    monkeypatch.setattr("remote_jobs._drive.time", Racing())
    client = scripted(kind, {"GET /remote-jobs/j/status": {"job_id": "j", "status": "pending"}})
    with pytest.raises(rj.TimedOut, match="took longer than 30 s"):
        client.status("j")


def test_an_answer_without_end_is_given_up(kind, monkeypatch):
    monkeypatch.setattr("remote_jobs._api.MOST_RESULT", 1000)
    answers = {
        "GET /remote-jobs/j/result": httpx.Response(307, headers={"location": "/r"}),
        "GET /r": httpx.Response(200, content=b" " * 1001),
    }
    with pytest.raises(rj.Unreadable, match="more than 1000 bytes"):
        scripted(kind, answers).result("j")


@pytest.mark.parametrize(
    "url", ["localhost:8000", "ftp://x", "", "http://", "http://x/?a=b", "http://x/#a", "http://[x"]
)
def test_what_is_no_api_url_is_refused(url):
    with pytest.raises(rj.InvalidArgument, match="http://localhost:8000"):
        rj.RemoteJobs(rj.Settings(url))


def test_a_password_in_the_url_is_refused_and_not_shown():
    with pytest.raises(rj.InvalidArgument, match="password") as caught:
        rj.RemoteJobs(rj.Settings("http://me:hunter2@x"))
    assert "hunter2" not in str(caught.value)
    with pytest.raises(rj.InvalidArgument, match="API key") as caught:
        rj.RemoteJobs(rj.Settings("http://x", "hunter2\nx"))
    assert "hunter2" not in str(caught.value)
