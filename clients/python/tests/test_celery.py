"""The examples, with Celery's own eager mode in place of a broker."""

from __future__ import annotations

import http.client
import io
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List
from urllib.parse import urlsplit
from wsgiref.simple_server import WSGIRequestHandler, make_server

import celery_ingest
import celery_webhook
import httpx
import pytest
from world import ROOT, Gateway, Scripted

import remote_jobs as rj


@pytest.fixture
def environment(gateway: Gateway, content_type: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    celery_ingest.app.conf.task_always_eager = True
    client = rj.RemoteJobs(gateway.settings(content_types=(content_type,)))
    monkeypatch.setattr(celery_ingest, "client", lambda: client)
    monkeypatch.setattr(celery_webhook, "client", lambda: client)
    monkeypatch.setattr(celery_webhook, "SECRETS", celery_webhook.Secrets())
    yield
    client.close()


@pytest.fixture
def states(environment: None, monkeypatch: pytest.MonkeyPatch) -> List[Dict[str, Any]]:
    """What the task says of itself."""
    states: List[Dict[str, Any]] = []

    def update_state(task_id: Any = None, state: Any = None, meta: Any = None, **_: Any) -> None:
        assert state == "PROGRESS"
        states.append({**meta, "history": list(meta["history"])})

    monkeypatch.setattr(celery_ingest.enhanced_ingest_file_task, "update_state", update_state)
    return states


def ingest(file: Any, content_type: str, task_id: str, **options: Any) -> Dict[str, Any]:
    arguments = (str(file), content_type, options)
    return celery_ingest.enhanced_ingest_file_task.apply(arguments, task_id=task_id).get()


def stages(states: List[Dict[str, Any]]) -> List[Any]:
    return [(state["stage"], state["progress"]) for state in states]


def test_a_remote_ingestion_has_the_originals_stages_and_answer(states, worker, file, content_type, task_id, gateway):
    worker.announce()

    def work(job):
        # The converter is told what is its own.
        assert job["task_options"] == {"use_docling": True}
        worker.complete(job, "# Remote\n\nText")

    with worker.doing(work):
        answer = ingest(
            file, content_type, task_id, remote=True, use_docling=True, metadata={"own": 1}, document_id=None
        )
    assert answer == {
        "success": True,
        "chunks_stored": 2,
        "processing_time": 1.5,
        "metadata": {"pages": 2, "own": 1},
        "processing_method": "remote",
    }
    assert stages(states) == [
        ("initializing", 0.1),
        ("creating_remote_job", 0.2),
        ("waiting_for_remote_completion", 0.3),
        ("storing", 0.7),
        ("completed", 1.0),
    ]
    assert states[-1]["remote_job_id"] == gateway.jobs_of(task_id)[0]


def test_an_ingestion_that_falls_back_tells_why(states, worker, file, content_type, task_id):
    worker.announce()
    with worker.doing(lambda job: worker.fail(job, "no speech in it")):
        answer = ingest(file, content_type, task_id, remote=True, fallback_to_local=None)
    assert answer["processing_method"] == "local" and answer["success"]
    assert ("local_processing", 0.4) in stages(states)
    assert [entry["reason"] for entry in states[-1]["history"]] == ["worker_available", "failed"]


def test_a_local_ingestion_is_as_it_always_was(states, file, content_type, task_id, gateway):
    answer = ingest(file, content_type, task_id)
    assert answer["processing_method"] == "local" and answer["chunks_stored"] == 1
    assert stages(states) == [("initializing", 0.1), ("local_processing", 0.4), ("storing", 0.7), ("completed", 1.0)]
    assert gateway.jobs_of(task_id) == []


def test_without_fallback_the_task_fails(states, worker, file, content_type, task_id):
    with worker.doing(lambda job: worker.fail(job, "no speech in it")):
        with pytest.raises(rj.ConversionFailed, match="no speech in it"):
            ingest(file, content_type, task_id, remote=True, fallback_to_local=False)


def test_a_message_that_is_delivered_again_has_no_more_time(states, worker, file, content_type, task_id, gateway):
    worker.announce()
    named = {"task_id": task_id, "headers": {"asked_at": time.time() - 100}}
    task = celery_ingest.enhanced_ingest_file_task
    answer = task.apply((str(file), content_type, {"remote": True, "remote_timeout": 60}), **named).get()
    assert answer["processing_method"] == "local" and gateway.jobs_of(task_id) == []
    assert [entry["reason"] for entry in states[-1]["history"]] == ["deadline_exhausted"]


def test_the_message_of_a_task_says_when_it_was_asked_for(monkeypatch):
    sent: List[Any] = []
    monkeypatch.setattr(celery_ingest.Task, "apply_async", lambda *_, **options: sent.append(options["headers"]))
    before = time.time()
    celery_ingest.enhanced_ingest_file_task.delay("talk.mp3")
    celery_ingest.enhanced_ingest_file_task.apply_async(("talk.mp3",), headers={"asked_at": 5, "own": 1})
    assert before <= sent[0]["asked_at"] <= time.time() and sent[1] == {"asked_at": 5, "own": 1}


class Quiet(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def webhook(environment: None, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The webhook's URL, and what reaches it."""
    seen: List[Any] = []
    stored: List[Any] = []
    timers: List[Any] = []
    ended = threading.Event()
    monkeypatch.setenv("INGEST_DATABASE", str(tmp_path / "tasks.db"))
    monkeypatch.setattr(celery_ingest, "store", lambda *given: stored.append(given) or 1)
    # Eagerly it would be called at once.
    monkeypatch.setattr(celery_webhook.continue_ingestion, "apply_async", lambda *_, **timer: timers.append(timer))
    monkeypatch.setattr(
        celery_webhook.continue_ingestion, "delay", lambda task: celery_webhook.continue_ingestion(task)
    )

    def application(environ: Any, start_response: Any) -> Any:
        body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        seen.append(({name: environ[f"HTTP_{name}"] for name in SIGNED if f"HTTP_{name}" in environ}, body))
        environ["wsgi.input"] = io.BytesIO(body)
        answer = celery_webhook.webhook(environ, start_response)
        ended.set()
        return answer

    # What becomes of the timers is for those to see who ask.
    monkeypatch.setattr(celery_webhook, "timers", timers, raising=False)
    with make_server("127.0.0.1", 0, application, handler_class=Quiet) as server:
        monkeypatch.setenv("INGEST_WEBHOOK_URL", f"http://127.0.0.1:{server.server_port}/")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield seen, stored, ended
        server.shutdown()
        thread.join()


SIGNED = ("WEBHOOK_ID", "WEBHOOK_TIMESTAMP", "WEBHOOK_SIGNATURE")


def start(file: Any, content_type: str, task_id: str, **options: Any) -> None:
    celery_webhook.start_ingestion.apply((str(file), content_type, options), task_id=task_id).get()


def test_a_webhook_continues_an_ingestion_once(webhook, worker, file, content_type, task_id, monkeypatch):
    seen, stored, ended = webhook
    worker.announce()
    start(file, content_type, task_id, remote=True)
    # Started again after a crash it is the same job.
    start(file, content_type, task_id, remote=True)
    assert stored == []
    worker.complete(worker.take(), "# Remote")
    assert ended.wait(60)
    assert [given[:3] for given in stored] == [(task_id, "# Remote", {"pages": 2, "processing_method": "remote"})]
    # The same webhook again, the timer, and a forged one.
    url = celery_webhook.os.environ["INGEST_WEBHOOK_URL"]
    [(signed, body)] = seen
    headers = {name.replace("_", "-"): value for name, value in signed.items()}
    assert httpx.post(url, headers=headers, content=body, trust_env=False).status_code == 204
    assert celery_webhook.continue_ingestion(task_id) is None
    assert httpx.post(url, headers=headers, content=body + b" ", trust_env=False).status_code == 400
    assert len(stored) == 1


def test_what_is_not_converted_remotely_is_continued_at_once(webhook, file, content_type, task_id):
    seen, stored, _ = webhook
    start(file, content_type, task_id)
    assert [given[1] for given in stored] == ["sound"] and seen == []


@pytest.mark.parametrize("call", ["upload", "create"])
def test_an_upload_or_a_job_that_is_refused_ends_in_a_local_conversion(
    webhook, worker, file, content_type, task_id, monkeypatch, call
):
    _, stored, _ = webhook
    worker.announce()
    if call == "create":
        monkeypatch.setenv("INGEST_WEBHOOK_URL", "http://10.0.0.1/not-admitted")
    else:
        # The timer is there before anything is sent.
        def upload(*_: Any, **__: Any) -> None:
            assert [0 < timer["countdown"] <= 1800 for timer in celery_webhook.timers] == [True]
            raise rj.Unreachable("nobody is there")

        monkeypatch.setattr(celery_webhook.client(), "upload", upload)
        # Else the continuation would wait for the remote conversion.
        monkeypatch.setattr(celery_webhook.continue_ingestion, "delay", lambda task: continue_late(task))
    start(file, content_type, task_id, remote=True)
    assert [given[1] for given in stored] == ["sound"]


def continue_late(task_id: str) -> None:
    celery_webhook.database("UPDATE tasks SET deadline = 0 WHERE id = ?", task_id)
    celery_webhook.continue_ingestion(task_id)


def test_the_webhook_of_a_takeover_continues_nothing(webhook, worker, file, content_type, task_id, monkeypatch):
    seen, stored, ended = webhook
    worker.announce()
    begun: List[str] = []

    def local(task: rj.ConversionTask) -> str:
        begun.append(task.task_id)
        # The webhook of the takeover comes while the local conversion goes on.
        assert ended.wait(60)
        return "# Local"

    monkeypatch.setattr(celery_webhook, "convert_locally", local)
    start(file, content_type, task_id, remote=True)
    continue_late(task_id)
    assert begun == [task_id] and b"continued_by" in seen[0][1]
    assert [given[1] for given in stored] == ["# Local"]


def test_a_document_that_could_not_be_stored_is_stored_the_next_time(webhook, file, content_type, task_id, monkeypatch):
    _, stored, _ = webhook

    def store(*_: Any) -> int:
        raise ConnectionError("the vector database is away")

    with monkeypatch.context() as broken:
        broken.setattr(celery_ingest, "store", store)
        with pytest.raises(ConnectionError):
            start(file, content_type, task_id)
    assert celery_webhook.continue_ingestion(task_id)["success"] and len(stored) == 1
    assert celery_webhook.continue_ingestion(task_id) is None


def asked(secret: Any, times: int, **environ: Any) -> Any:
    """What the webhook answers to strangers, and what it asks the control plane for that."""
    transport = Scripted({"GET /webhook-secret": secret})
    client = rj.RemoteJobs(rj.Settings("http://h", "a.b", first_wait=0), transport=transport)
    answers: List[str] = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(celery_webhook, "client", lambda: client)
        patched.setattr(celery_webhook, "SECRETS", celery_webhook.Secrets())
        for _ in range(times):
            call = {"wsgi.input": io.BytesIO(b"{}"), "CONTENT_LENGTH": "2", **environ}
            b"".join(celery_webhook.webhook(call, lambda status, _: answers.append(status[:3])))
    return answers, len(transport.requests)


def test_strangers_make_the_webhook_ask_for_its_secret_once():
    secret = {"secret": "whsec_" + "A" * 40}
    assert asked(secret, 3) == (["400"] * 3, 1)
    assert asked(httpx.Response(401, text="no"), 3) == (["503"] * 3, 1)
    assert asked(secret, 1, CONTENT_LENGTH="x") == (["400"], 0)
    assert asked(secret, 1, CONTENT_LENGTH="9" * 5000) == (["400"], 0)


def test_secrets_that_are_no_longer_fresh_are_asked_for_again_and_kept_when_that_fails(monkeypatch):
    monkeypatch.setattr(celery_webhook, "FRESH", 0.0)
    secret = {"secret": "whsec_" + "A" * 40}
    assert asked([secret, httpx.Response(401, text="no")], 3) == (["400"] * 3, 3)


def test_the_command_of_the_webhooks_header_starts_it():
    example = ROOT / "clients/python/examples/celery_webhook.py"
    environment = {**os.environ, "PYTHONPATH": str(Path(rj.__file__).parents[1])}
    command = [sys.executable, str(example), "0"]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        try:
            assert server.stdout
            connection = http.client.HTTPConnection(urlsplit(server.stdout.readline().split()[-1]).netloc, timeout=60)
            connection.request("POST", "/", headers={"Content-Length": "x"})
            assert connection.getresponse().status == 400
            connection.close()
        finally:
            server.kill()
