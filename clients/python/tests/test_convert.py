"""Every way a conversion can take, against a gateway and with a worker that does what the test says."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any, List

import httpx
import pytest
from world import Both, Doing, Gateway, Scripted, Worker, body_of, problem

import remote_jobs as rj


def kinds(events: List[Any]) -> List[str]:
    """The events' names, those of uploads and of the job's changes once in a row."""
    names = [type(event).__name__ for event in events]
    return [name for at, name in enumerate(names) if at == 0 or names[at - 1] != name]


def test_a_live_worker_converts_remotely(convert, client, worker, task_id, file):
    events: List[Any] = []

    def work(job):
        assert worker.source(job) == b"sound"
        assert job["task_options"] == {"language": "de"}
        worker.progress(job, 40, "Halfway")
        worker.complete(job, "# Remote")

    worker.announce()
    with worker.doing(work):
        outcome = convert(options={"language": "de"}, on_event=events.append)
    assert outcome.converted == rj.Converted("# Remote", {"pages": 2}, 1.5)
    assert (outcome.method, outcome.fallback, outcome.takeover) == (rj.Method.REMOTE, None, None)
    assert outcome.decision.reason is rj.Reason.WORKER_AVAILABLE
    assert outcome.decision.figures.live_workers == 1
    assert kinds(events) == ["Decided", "Uploading", "Created", "Remote"]
    assert events[-1].job.status == "completed" and events[-1].job.job_id == outcome.remote_job_id
    assert client.status(outcome.remote_job_id).ingestion_task_id == task_id


def test_no_key_travels_to_the_object_store(convert, client, worker):
    worker.announce()
    with worker.doing(lambda job: worker.complete(job, "# Remote")):
        convert()
    stored = [request for request in client.requests if not request.url.path.startswith("/api/")]
    called = [request for request in client.requests if request.url.path.startswith("/api/")]
    assert [request.method for request in stored] == ["PUT", "GET"]
    assert not any("authorization" in request.headers for request in stored)
    assert all(request.headers["authorization"].startswith("Bearer ") for request in called)


def test_without_a_live_worker_only_the_question_is_asked(convert, client, gateway, task_id):
    events: List[Any] = []
    outcome = convert(on_event=events.append)
    assert outcome.converted.content == "# Local" and outcome.method is rj.Method.LOCAL
    assert (outcome.decision.reason, outcome.takeover) == (rj.Reason.NO_LIVE_WORKER, rj.Takeover.NO_JOB)
    assert outcome.decision.figures.live_workers == 0
    assert [request.method for request in client.requests] == ["GET"] * 2, "for earlier jobs and for workers"
    assert kinds(events) == ["Decided", "Local"]
    assert gateway.jobs_of(task_id) == []


def test_what_is_not_asked_for_touches_nothing(convert, client):
    outcome = convert(requested=False)
    assert outcome.decision.reason is rj.Reason.NOT_REQUESTED and outcome.takeover is None
    assert client.requests == []


def test_a_failure_of_the_worker_is_followed_by_the_local_conversion(convert, client, worker):
    events: List[Any] = []
    worker.announce()
    with worker.doing(lambda job: worker.fail(job, "no speech in it")):
        outcome = convert(on_event=events.append)
    assert outcome.converted.content == "# Local"
    assert outcome.fallback.reason is rj.FallbackReason.FAILED
    assert outcome.fallback.explanation == "The remote conversion failed: no speech in it"
    assert outcome.takeover is rj.Takeover.CONFIRMED
    assert kinds(events) == ["Decided", "Uploading", "Created", "Remote", "FallingBack", "Local"]
    # It is remembered that the caller has continued, so nobody can run the job again.
    assert client.cancel(outcome.remote_job_id, takeover=True).continued_by == "local"


def test_a_refusal_is_followed_by_the_local_conversion(convert, worker, gateway, task_id):
    worker.announce()
    outcome = convert(webhook_url="http://10.0.0.1/not-admitted")
    assert outcome.fallback.reason is rj.FallbackReason.REFUSED
    assert outcome.fallback.error.status == 422 and outcome.fallback.error.errors[0].field == "webhook_url"
    assert outcome.takeover is rj.Takeover.NO_JOB and outcome.converted.content == "# Local"
    assert gateway.jobs_of(task_id) == []


def resumable(client: Both, content_type: str, task_id: str, file: Path, **named: Any) -> str:
    """The job that an earlier run of the task has created, as `convert` does."""
    uploaded = client.upload(file, idempotency_key=rj.idempotency_key(task_id))
    return client.create(uploaded.source_file_path, content_type, task_id=task_id, **named).job_id


def test_a_late_job_is_cancelled_before_the_local_conversion(convert, client, gateway, content_type, task_id, file):
    job_id = resumable(client, content_type, task_id, file)
    seen = []

    def local(task):
        seen.append(gateway.call("GET", f"/remote-jobs/{job_id}/status")["status"])
        return rj.Converted("# Local", {"own": True})

    outcome = convert(local=local, deadline=time.time() - 1)
    assert outcome.fallback.reason is rj.FallbackReason.DEADLINE
    assert outcome.takeover is rj.Takeover.CONFIRMED
    assert outcome.converted == rj.Converted("# Local", {"own": True})
    assert seen == ["cancelled"]


def test_a_job_that_is_completed_in_the_race_wins(convert, client, worker, content_type, task_id, file):
    job_id = resumable(client, content_type, task_id, file)
    job = worker.take()
    events: List[Any] = []

    def on_event(event):
        events.append(event)
        if isinstance(event, rj.FallingBack):
            worker.complete(job, "# Remote")

    outcome = convert(deadline=time.time() - 1, on_event=on_event, local=lambda task: pytest.fail("local work began"))
    assert outcome.converted.content == "# Remote" and outcome.method is rj.Method.REMOTE
    assert outcome.decision.reason is rj.Reason.RESUMED and outcome.remote_job_id == job_id
    assert kinds(events) == ["Decided", "Created", "Remote", "FallingBack", "RemoteAfterAll"]


def test_of_every_race_one_result_continues(convert, client, worker, content_type, task_id, file):
    for number in range(12):
        race = f"{task_id} {number}"
        job_id = resumable(client, content_type, race, file)
        job = worker.take()
        start = threading.Barrier(2)

        def complete(job=job, start=start):
            start.wait(60)
            try:
                worker.complete(job, "# Remote")
            except httpx.HTTPStatusError as error:
                assert error.response.status_code == 409

        def on_event(event, start=start):
            if isinstance(event, rj.FallingBack):
                start.wait(60)

        with Doing(complete):
            outcome = convert(task_id=race, deadline=time.time() - 1, on_event=on_event)
        ended = client.status(job_id).status
        assert (outcome.method.value, ended) in {("remote", "completed"), ("local", "cancelled")}
        assert outcome.converted.content == ("# Remote" if outcome.method is rj.Method.REMOTE else "# Local")


def test_after_a_crash_the_same_job_is_waited_for(convert, client, worker, gateway, task_id):
    class Crash(BaseException):
        pass

    def crash(event):
        if isinstance(event, rj.Created):
            raise Crash

    worker.announce()
    with pytest.raises(Crash):
        convert(on_event=crash)
    [job_id] = gateway.jobs_of(task_id)
    before = len(client.requests)
    with worker.doing(lambda job: worker.complete(job, "# Remote")):
        outcome = convert()
    assert outcome.remote_job_id == job_id and outcome.decision.reason is rj.Reason.RESUMED
    assert not any(request.method == "PUT" for request in client.requests[before:])
    # And once more: it has ended, and its result is still there.
    assert convert(remote_job_id=job_id).converted.content == "# Remote"
    assert gateway.jobs_of(task_id) == [job_id]


def test_a_task_that_was_continued_locally_stays_local(convert, client, content_type, task_id, file):
    job_id = resumable(client, content_type, task_id, file)
    assert convert(deadline=time.time() - 1).remote_job_id == job_id
    again = convert()
    assert again.remote_job_id == job_id and again.converted.content == "# Local"
    assert (again.fallback.reason, again.takeover) == (rj.FallbackReason.CANCELLED, rj.Takeover.CONFIRMED)


def test_a_job_that_somebody_cancels_is_converted_locally(convert, worker, gateway):
    worker.announce()

    def cancel(event):
        if isinstance(event, rj.Created):
            gateway.call("POST", f"/remote-jobs/{event.job_id}/cancel", json={})

    outcome = convert(on_event=cancel)
    assert (outcome.fallback.reason, outcome.takeover) == (rj.FallbackReason.CANCELLED, rj.Takeover.CONFIRMED)


def test_a_job_that_somebody_deletes_is_converted_locally(convert, worker, gateway):
    worker.announce()

    def delete(event):
        if isinstance(event, rj.Created):
            gateway.call("POST", f"/remote-jobs/{event.job_id}/cancel", json={})
            gateway.call("DELETE", f"/remote-jobs/{event.job_id}")

    outcome = convert(on_event=delete)
    assert (outcome.fallback.reason, outcome.takeover) == (rj.FallbackReason.JOB_GONE, rj.Takeover.CONFIRMED)


def test_without_fallback_it_is_tried_whatever_speaks_against_it_and_its_failure_is_raised(convert, worker):
    with worker.doing(lambda job: worker.fail(job, "no speech in it")):
        with pytest.raises(rj.ConversionFailed, match="no speech in it") as caught:
            convert(fallback_to_local=False, local=lambda task: pytest.fail("local work began"))
    assert caught.value.fallback.reason is rj.FallbackReason.FAILED
    # No worker had been seen.
    assert caught.value.decision.reason in (rj.Reason.NO_FALLBACK, rj.Reason.WORKER_AVAILABLE)
    assert isinstance(caught.value.__cause__, rj.JobFailed) and caught.value.__cause__.job.job_id == caught.value.job_id


def test_without_fallback_a_late_job_is_cancelled_and_can_be_run_again(
    convert, client, gateway, content_type, task_id, file
):
    job_id = resumable(client, content_type, task_id, file, fallback_to_local=False)
    with pytest.raises(rj.ConversionFailed, match="not over in time") as caught:
        convert(fallback_to_local=False, deadline=time.time() - 1)
    assert caught.value.job_id == job_id and client.status(job_id).status == "cancelled"
    assert gateway.call("POST", f"/remote-jobs/{job_id}/retry", json={})["status"] == "pending"


def test_a_control_plane_that_is_away_is_no_obstacle(kind, tmp_path, file, content_type, request):
    gateway = Gateway(tmp_path / "data")
    request.addfinalizer(gateway.stop)
    client = Both(kind, gateway.settings(content_types=(content_type,)))
    Worker(gateway, content_type).announce()

    def stop(event):
        if isinstance(event, rj.Remote):
            gateway.stop()

    named = {"task_id": "t", "content_type": content_type, "local": lambda task: "# Local"}
    outcome = client.convert(file, on_event=stop, **named)
    assert outcome.converted.content == "# Local" and outcome.remote_job_id
    assert (outcome.fallback.reason, outcome.takeover) == (rj.FallbackReason.UNREACHABLE, rj.Takeover.UNCONFIRMED)
    # The next task is not even tried.
    outcome = client.convert(file, **{**named, "task_id": "another"})
    assert (outcome.decision.reason, outcome.takeover) == (rj.Reason.UNREACHABLE, rj.Takeover.UNCONFIRMED)
    assert outcome.decision.figures is None and "Cannot reach 127.0.0.1" in outcome.decision.explanation


def test_a_key_that_is_not_taken_is_a_reason(kind, gateway, file):
    client = Both(kind, gateway.settings(api_key="nobody.secret", content_types=("audio",)))
    outcome = client.convert(file, task_id="t", local=lambda task: "# Local")
    assert outcome.decision.reason is rj.Reason.UNAUTHORIZED and outcome.converted.content == "# Local"
    assert "secret" not in outcome.decision.explanation


def test_coroutine_functions_convert_locally_too(convert):
    async def local(task):
        return f"# {task.task_id}"

    assert convert(local=local, task_id="mine").converted.content == "# mine"


def test_what_the_local_conversion_raises_names_the_remote_failure(convert, worker):
    class Broken(Exception):
        pass

    def local(task):
        raise Broken("no disk")

    worker.announce()
    with worker.doing(lambda job: worker.fail(job, "no speech in it")):
        with pytest.raises(Broken, match="no disk") as caught:
            convert(local=local)
    assert isinstance(caught.value.__cause__, rj.JobFailed)
    assert "no speech in it" in str(caught.value.__cause__)


def test_a_local_conversion_must_give_a_document(convert):
    with pytest.raises(rj.InvalidArgument, match="gave a dict; give a Converted or a str"):
        convert(local=lambda task: {})


@pytest.mark.parametrize("content", [None, b""])
def test_what_is_wrong_with_the_source_is_said_before_anything_is_asked(convert, client, tmp_path, content):
    source = tmp_path / "talk.mp3"
    if content is not None:
        source.write_bytes(content)
    with pytest.raises(rj.FileUnusable, match=r"talk\.mp3"):
        convert(source=source)
    with pytest.raises(rj.InvalidArgument, match="web, youtube or x-"):
        convert(source="https://example.org/talk.mp3", content_type="audio")
    with pytest.raises(rj.InvalidArgument, match="%20"):
        convert(source="https://example.org/a talk", content_type="web")
    with pytest.raises(rj.InvalidArgument, match="task id"):
        convert(task_id="a\nb")
    assert client.requests == []


@pytest.mark.parametrize("content_type", ["web", "x-feed"])
def test_a_url_is_handed_on_without_an_upload(kind, gateway, content_type):
    settings = gateway.settings(content_types=(content_type,))
    client, worker = Both(kind, settings), Worker(gateway, content_type)
    worker.announce()
    with worker.doing(lambda job: worker.complete(job, f"# {worker.source(job).decode().strip()}")):
        # The control plane knows the scheme in small letters only.
        outcome = client.convert(
            "HTTPS://example.org/page",
            task_id=f"page {content_type} {kind}",
            content_type=content_type,
            local=lambda task: "# Local",
        )
    assert outcome.converted.content == "# https://example.org/page"


# What a real control plane does seldom, in answers that are laid ready.

WORKERS = {
    "workers": [{"worker_id": "w", "content_types": ["audio"], "last_seen": "", "live": True}],
    "live_within_seconds": 120,
}
UNREACHED = httpx.ConnectError("refused")
ASKED = {
    "GET /remote-jobs": {"jobs": []},
    "GET /remote-workers": WORKERS,
    "GET /remote-jobs/statistics": {"queues": []},
    "POST /remote-jobs/uploads": {"upload_id": "u", "source_file_path": "s3://u", "uploaded": True},
    "POST /remote-jobs": {"job_id": "j", "status": "pending", "created_at": ""},
    "POST /remote-jobs/j/cancel": {"job_id": "j", "status": "cancelled", "continued_by": "local"},
}


def scripted(kind: str, file: Path, answers: Any, **named: Any):
    settings = rj.Settings("http://h", "a.b", True, poll_interval=0, first_wait=0, patience=0)
    transport = Scripted({**ASKED, **answers})
    events: List[Any] = []
    named = {"local": lambda task: "# Local", "on_event": events.append, **named}
    outcome = Both(kind, settings, transport).convert(file, task_id="t", **named)
    return outcome, transport, events


def status(status: str, **further: Any):
    return {"job_id": "j", "status": status, "created_at": "", **further}


def response(status: int, **arguments: Any):
    return httpx.Response(status, **arguments)


COMPLETED = response(409, json=problem(409, "refused", "It is completed.", job_status="completed"))
REDIRECT = response(307, headers={"location": "/store/result?X-Amz-Signature=secret"})


def test_a_job_whose_limit_ran_out_is_converted_locally(kind, file):
    late = status("timeout", error_message="It waited 300 s for a worker.")
    outcome, transport, _ = scripted(kind, file, {"GET /remote-jobs/j/status": late})
    assert outcome.fallback.as_dict() == {
        "reason": "timeout",
        "explanation": "The remote job ran out of time: It waited 300 s for a worker.",
    }
    assert transport.calls()[-1] == "POST /remote-jobs/j/cancel"
    assert body_of(transport.requests[-1]) == {"takeover": True}


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (response(200, json={"content": " \n"}), "unusable_result"),
        (response(200, json=["no document"]), "unusable_result"),
        (response(404, text="<Error><Code>NoSuchKey</Code></Error>"), "result_unavailable"),
    ],
)
def test_a_completed_job_without_a_usable_result_is_converted_locally(kind, file, document, reason):
    answers = {
        "GET /remote-jobs/j/status": status("completed"),
        "GET /remote-jobs/j/result": REDIRECT,
        "GET /store/result": document,
    }
    outcome, transport, _ = scripted(kind, file, answers)
    assert outcome.fallback.reason.value == reason
    assert outcome.takeover is rj.Takeover.COMPLETED_UNUSABLE and outcome.converted.content == "# Local"
    # Nobody can take a completed job over.
    assert "POST /remote-jobs/j/cancel" not in transport.calls()


def test_a_result_that_came_first_and_cannot_be_used_is_told_as_the_reason(kind, file):
    answers = {
        "GET /remote-jobs/j/status": status("failed", error_message="first"),
        "POST /remote-jobs/j/cancel": COMPLETED,
        "GET /remote-jobs/j/result": REDIRECT,
        "GET /store/result": {"content": ""},
    }
    outcome, _, events = scripted(kind, file, answers)
    assert outcome.fallback.reason is rj.FallbackReason.UNUSABLE_RESULT
    assert [event.fallback.reason.value for event in events if isinstance(event, rj.FallingBack)] == [
        "failed",
        "unusable_result",
    ]


def failing(task):
    raise OSError("no disk")


@pytest.mark.parametrize("local", [lambda task: "# Local", failing])
def test_a_remote_result_that_is_there_after_the_local_work_wins(kind, file, local):
    answers = {
        "GET /remote-jobs/j/status": UNREACHED,
        # Away while the local conversion began, and back when it was over.
        "POST /remote-jobs/j/cancel": [UNREACHED] * 5 + [COMPLETED],
        "GET /remote-jobs/j/result": REDIRECT,
        "GET /store/result": {"content": "# Remote"},
    }
    outcome, _, events = scripted(kind, file, answers, local=local)
    assert outcome.method is rj.Method.REMOTE and outcome.converted.content == "# Remote"
    assert [type(event).__name__ for event in events][-3:] == ["FallingBack", "Local", "RemoteAfterAll"]


def test_a_creation_whose_answer_was_lost_is_ended_after_the_local_work_if_not_before(kind, file):
    answers = {
        "POST /remote-jobs": UNREACHED,
        # Away while the local conversion began, and back when it was over.
        "GET /remote-jobs": [{"jobs": []}, *[UNREACHED] * 5, {"jobs": [{"job_id": "j"}]}],
    }
    outcome, transport, _ = scripted(kind, file, answers)
    assert (outcome.takeover, outcome.remote_job_id) == (rj.Takeover.CONFIRMED, "j")
    assert outcome.converted.content == "# Local" and transport.calls()[-1] == "POST /remote-jobs/j/cancel"


def test_a_creation_whose_answer_was_lost_is_found_and_ended(kind, file):
    answers = {
        "POST /remote-jobs": UNREACHED,
        "GET /remote-jobs": [{"jobs": []}, {"jobs": [{"job_id": "j"}]}],
    }
    outcome, transport, _ = scripted(kind, file, answers)
    assert (outcome.fallback.reason, outcome.takeover) == (rj.FallbackReason.UNREACHABLE, rj.Takeover.CONFIRMED)
    assert outcome.remote_job_id == "j" and transport.calls()[-1] == "POST /remote-jobs/j/cancel"


def test_a_job_that_was_created_under_other_settings_is_the_tasks_job(kind, file):
    answers = {
        "POST /remote-jobs": response(422, json=problem(422, "idempotency-mismatch", "Another request.")),
        "GET /remote-jobs": [{"jobs": []}, {"jobs": [{"job_id": "j"}]}],
        "GET /remote-jobs/j/status": status("completed"),
        "GET /remote-jobs/j/result": REDIRECT,
        "GET /store/result": {"content": "# Remote", "metadata": None},
    }
    outcome, _, _ = scripted(kind, file, answers)
    assert outcome.converted == rj.Converted("# Remote") and outcome.remote_job_id == "j"


def test_a_file_that_the_store_does_not_take_is_converted_locally(kind, file):
    put = {"method": "PUT", "url": "http://h/store/u?X-Amz-Signature=secret", "headers": {}, "expires_in_seconds": 9}
    answers = {
        "POST /remote-jobs/uploads": {"upload_id": "u", "source_file_path": "s3://u", "uploaded": False, "put": put},
        "PUT /store/u": response(400, text="<Error><Code>BadDigest</Code></Error>"),
    }
    outcome, transport, _ = scripted(kind, file, answers)
    assert outcome.fallback.reason is rj.FallbackReason.UPLOAD_FAILED and "BadDigest" in outcome.fallback.explanation
    assert outcome.takeover is rj.Takeover.NO_JOB
    assert "secret" not in repr(outcome) + str(outcome.fallback)


def test_a_creation_is_the_same_every_time_the_task_is_run(kind, file):
    bodies = []
    for remote_timeout in (100, 200.5):
        _, transport, _ = scripted(
            kind,
            file,
            {"GET /remote-jobs/j/status": status("failed")},
            options={"b": 1, "a": None},
            remote_timeout=remote_timeout,
        )
        [created] = [
            request
            for request in transport.requests
            if request.url.path == "/api/v1/remote-jobs" and request.method == "POST"
        ]
        assert created.headers["idempotency-key"] == rj.idempotency_key("t")
        bodies.append(body_of(created))
    assert (
        bodies[0]
        == bodies[1]
        == {
            "source_file_path": "s3://u",
            "content_type": "audio",
            "task_options": {"b": 1, "a": None},
            "ingestion_task_id": "t",
            "timeout_seconds": 3600,
            "fallback_to_local": True,
        }
    )


class Clock:
    """A clock that moves only where the library waits."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.slept: List[float] = []
        for module in ("_drive", "_wait", "_convert", "client"):
            monkeypatch.setattr(f"remote_jobs.{module}.time", self)
        monkeypatch.setattr("remote_jobs._drive.asyncio.sleep", self.awaited)

    def monotonic(self) -> float:
        return self.now

    time = monotonic

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    async def awaited(self, seconds: float) -> None:
        self.sleep(seconds)


def on_the_clock(kind: str, answers: Any) -> Both:
    settings = rj.Settings("http://h", "a.b", True, content_types=("audio",))
    return Both(kind, settings, Scripted({**ASKED, **answers}))


def test_where_nothing_is_held_open_a_job_is_asked_for_every_ten_seconds(kind, monkeypatch, file):
    clock = Clock(monkeypatch)
    # A Lambda holds nothing open and says when to come again; an older server says nothing at all.
    pending = [status("pending"), status("pending", poll_again_in_seconds=3), status("processing")]
    client = on_the_clock(kind, {"GET /remote-jobs/j/status": [*pending, status("completed")]})
    assert client.wait("j").status == "completed"
    assert clock.slept == [10, 10]


def test_a_late_job_costs_what_the_timeout_says_and_no_more(kind, monkeypatch, file):
    clock = Clock(monkeypatch)
    client = on_the_clock(kind, {"GET /remote-jobs/j/status": status("processing")})
    outcome = client.convert(file, task_id="t", local=lambda task: "# Local")
    assert (outcome.fallback.reason, outcome.takeover) == (rj.FallbackReason.DEADLINE, rj.Takeover.CONFIRMED)
    assert clock.now == 1000 + 1800


def test_a_job_that_could_not_be_created_in_time_is_told_with_what_stood_in_its_way(kind, monkeypatch, file):
    Clock(monkeypatch)
    client = on_the_clock(kind, {"POST /remote-jobs": UNREACHED})
    outcome = client.convert(file, task_id="t", local=lambda task: "# Local", remote_timeout=0.5)
    assert outcome.fallback.reason is rj.FallbackReason.DEADLINE
    assert outcome.fallback.explanation.startswith("No remote job could be created in time: Cannot reach h")


def test_before_a_call_is_repeated_at_least_half_of_the_longest_wait_passes(kind, monkeypatch):
    clock = Clock(monkeypatch)
    monkeypatch.setattr("remote_jobs._api.random.uniform", lambda least, most: least)
    client = on_the_clock(kind, {"GET /remote-workers": UNREACHED})
    with pytest.raises(rj.Unreachable):
        client.workers()
    assert clock.slept == [0.25, 0.5, 1, 2]


def test_without_a_timeout_it_is_that_of_the_original(kind, monkeypatch, file):
    clock = Clock(monkeypatch)
    client = on_the_clock(kind, {"GET /remote-jobs/j/status": status("processing")})
    client.convert(file, task_id="t", local=lambda task: "# Local", remote_timeout=None)
    assert clock.now == 1000 + 1800


@pytest.mark.parametrize("given", ["60", True, float("nan"), float("inf")])
def test_a_span_that_is_no_number_of_seconds_is_refused(kind, given, file):
    client = on_the_clock(kind, {})
    for named in ({"remote_timeout": given}, {"deadline": given}):
        with pytest.raises(rj.InvalidArgument, match=f"{next(iter(named))} is .*; give a number of seconds"):
            client.convert(file, task_id="t", local=lambda task: "# Local", **named)
    with pytest.raises(rj.InvalidArgument, match="within is"):
        client.decide("audio", within=given)
    with pytest.raises(rj.InvalidArgument, match="timeout is"):
        client.wait("j", timeout=given)


def test_what_on_event_raises_is_logged_and_holds_nothing_up(convert, worker, caplog):
    worker.announce()

    def on_event(event):
        raise ConnectionError("the result backend is away")

    with worker.doing(lambda job: worker.complete(job, "# Remote")):
        outcome = convert(on_event=on_event)
    assert outcome.method is rj.Method.REMOTE
    told = [record.getMessage() for record in caplog.records if record.name == "remote_jobs"]
    # Once for each kind of event.
    names = ("Decided", "Uploading", "Created", "Remote")
    assert told == [f"on_event failed at {name}; the conversion goes on." for name in names]


def test_a_callback_that_nobody_would_await_is_refused(kind, file):
    async def callback(*_):
        pass

    class Callable:
        async def __call__(self, *_):
            pass

    client = on_the_clock(kind, {})
    for given in (callback, Callable()):
        with pytest.raises(rj.InvalidArgument, match="on_event must be a plain function"):
            client.convert(file, task_id="t", local=lambda task: "# Local", on_event=given)
        with pytest.raises(rj.InvalidArgument, match="progress must be a plain function"):
            client.upload(file, progress=given)
        with pytest.raises(rj.InvalidArgument, match="on_change must be a plain function"):
            client.wait("j", on_change=given)


def test_a_control_plane_that_was_away_for_a_while_is_waited_for(kind, monkeypatch, file):
    clock = Clock(monkeypatch)
    away = [UNREACHED, response(502, text="<html>"), response(503, headers={"retry-after": "40"})]
    client = on_the_clock(kind, {"GET /remote-jobs/j/status": [*away, status("completed")]})
    assert client.wait("j").status == "completed"
    assert 40 <= clock.now - 1000 <= 60


def test_a_control_plane_that_stays_away_is_given_up_after_five_minutes(kind, monkeypatch, file):
    clock = Clock(monkeypatch)
    client = on_the_clock(kind, {"GET /remote-jobs/j/status": [status("processing"), UNREACHED]})
    with pytest.raises(rj.Unreachable):
        client.wait("j")
    assert 300 <= clock.now - 1000 <= 320


def test_waiting_ends_when_the_caller_says_so(kind, monkeypatch):
    Clock(monkeypatch)
    client = on_the_clock(kind, {"GET /remote-jobs/j/status": status("processing", percentage=40)})
    with pytest.raises(rj.WaitTimedOut, match="it is processing") as caught:
        client.wait("j", timeout=60)
    assert caught.value.job.percentage == 40


def test_without_fallback_no_worker_is_no_obstacle(kind, file):
    answers = {
        "GET /remote-workers": {"workers": [], "live_within_seconds": 120},
        "GET /remote-jobs/j/status": status("completed"),
        "GET /remote-jobs/j/result": REDIRECT,
        "GET /store/result": {"content": "# Remote"},
    }
    outcome, _, _ = scripted(kind, file, answers, fallback_to_local=False)
    assert outcome.decision.reason is rj.Reason.NO_FALLBACK
    assert outcome.decision.explanation == (
        "Local conversion is not allowed for this task, so the remote one is tried although: "
        "No worker that takes audio has been seen in the last 120 s."
    )


@pytest.mark.parametrize("option", [float("nan"), object()])
def test_options_that_are_no_json_are_refused(kind, file, option):
    outcome, _, _ = scripted(kind, file, {}, options={"a": option})
    assert (outcome.fallback.reason, outcome.takeover) == (rj.FallbackReason.REFUSED, rj.Takeover.NO_JOB)
    assert "options cannot be written as JSON" in outcome.fallback.explanation


def test_an_outcome_can_be_stored_as_json(kind, file):
    outcome, _, _ = scripted(kind, file, {"GET /remote-jobs/j/status": status("failed")})
    stored = json.loads(json.dumps([outcome.decision.as_dict(), outcome.fallback.as_dict(), outcome.takeover]))
    assert stored[0]["processing_method"] == "remote" and stored[2] == "confirmed"
