"""The examples, with Celery's own eager mode in place of a broker."""

from __future__ import annotations

import io
import threading
from typing import Any, Dict, Iterator, List
from wsgiref.simple_server import WSGIRequestHandler, make_server

import celery_ingest
import celery_webhook
import httpx
import pytest
from world import Gateway

import remote_jobs as rj


@pytest.fixture
def environment(gateway: Gateway, content_type: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    celery_ingest.app.conf.task_always_eager = True
    client = rj.RemoteJobs(gateway.settings(content_types=(content_type,)))
    monkeypatch.setattr(celery_ingest, "client", lambda: client)
    monkeypatch.setattr(celery_webhook, "client", lambda: client)
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


class Quiet(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def webhook(environment: None, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The webhook's URL, and what reaches it."""
    seen: List[Any] = []
    stored: List[Any] = []
    ended = threading.Event()
    monkeypatch.setenv("INGEST_DATABASE", str(tmp_path / "tasks.db"))
    monkeypatch.setattr(celery_ingest, "store", lambda *given: stored.append(given) or 1)
    # Eagerly it would be called at once.
    monkeypatch.setattr(celery_webhook.continue_ingestion, "apply_async", lambda *_, **__: None)
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
    assert [given[:2] for given in stored] == [("# Remote", {"pages": 2, "processing_method": "remote"})]
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
    assert [given[0] for given in stored] == ["sound"] and seen == []
