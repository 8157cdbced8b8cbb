"""As celery_ingest, without a task that waits: it creates the job and ends, and a webhook continues.

    celery --app celery_webhook worker
    python celery_webhook.py 8090  # or any WSGI server: its application is `celery_webhook:webhook`

Settings beside those of celery_ingest and of the client: INGEST_WEBHOOK_URL, where the control plane reaches `webhook`,
and INGEST_DATABASE, an SQLite file that all processes of the service share (any database with a conditional update will
do).
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import threading
import time
from contextlib import closing
from typing import Any, Callable, Dict, Iterable, List, Optional, Tuple
from wsgiref.simple_server import make_server

from celery_ingest import OURS, app, client, complete, convert_locally

from remote_jobs import RemoteJobsError, WebhookError, idempotency_key, verify_webhook

FRESH = 60.0
"""For how many seconds the webhook secrets, or that they cannot be had, are remembered."""

STORING_AGAIN = 300
"""After how many seconds a task goes on whose document could not be stored."""

TABLE = """CREATE TABLE IF NOT EXISTS tasks (
    id TEXT PRIMARY KEY, file TEXT, content_type TEXT, options TEXT, deadline REAL, job TEXT,
    continued INTEGER DEFAULT 0
)"""


def database(statement: str, *values: Any) -> Tuple[List[Any], int]:
    """Runs one statement, durably. Gives its rows and how many it changed."""
    with closing(sqlite3.connect(os.environ["INGEST_DATABASE"], timeout=30, isolation_level=None)) as connection:
        connection.execute(TABLE)
        cursor = connection.execute(statement, values)
        return cursor.fetchall(), cursor.rowcount


@app.task(bind=True, name="start_ingestion")
def start_ingestion(
    self: Any, file_path: str, content_type: str, task_options: Optional[Dict[str, Any]] = None
) -> None:
    """Creates the remote job and ends; or, where it is converted locally, continues at once."""
    options, task_id = task_options or {}, self.request.id
    database(
        "INSERT OR IGNORE INTO tasks (id, file, content_type, options, deadline) VALUES (?, ?, ?, ?, ?)",
        task_id,
        file_path,
        content_type,
        json.dumps(options),
        time.time() + (options.get("remote_timeout") or 1800),
    )
    # Run again, it has no more time than at first.
    [(deadline,)], _ = database("SELECT deadline FROM tasks WHERE id = ?", task_id)
    left = max(0.0, deadline - time.time())
    if not client().decide(content_type, bool(options.get("remote")), left):
        continue_ingestion.delay(task_id)
        return
    # Whatever becomes of the upload, the job and the webhook, somebody looks after the task when its time is up.
    continue_ingestion.apply_async((task_id,), countdown=left)
    try:
        uploaded = client().upload(file_path, idempotency_key=idempotency_key(task_id))
        job = client().create(uploaded.source_file_path, content_type, task_id=task_id, **creation(options))
    except RemoteJobsError:
        # There may be a job all the same. `convert` finds and ends it before it converts locally.
        continue_ingestion.delay(task_id)
        return
    database("UPDATE tasks SET job = ? WHERE id = ?", job.job_id, task_id)


def creation(options: Dict[str, Any]) -> Dict[str, Any]:
    """The job's fields, which are the same for every run of a task."""
    return {
        "options": {name: value for name, value in options.items() if name not in OURS},
        "fallback_to_local": options.get("fallback_to_local") is not False,
        "webhook_url": os.environ["INGEST_WEBHOOK_URL"],
    }


@app.task(bind=True, name="continue_ingestion", max_retries=288)
def continue_ingestion(self: Any, task_id: str) -> Optional[Dict[str, Any]]:
    """Takes the remote result, or converts locally, and stores. However often it is called, one call stores."""
    [(file, content_type, options, deadline, job, continued)], _ = database(
        "SELECT file, content_type, options, deadline, job, continued FROM tasks WHERE id = ?", task_id
    )
    if continued:
        return None
    options = json.loads(options)
    # The webhook only says that it is worth asking: what the job is, is asked of the control plane.
    outcome = client().convert(
        file,
        task_id=task_id,
        content_type=content_type,
        local=convert_locally,
        requested=bool(options.get("remote")),
        deadline=deadline,
        remote_job_id=job,
        **creation(options),
    )
    _, first = database("UPDATE tasks SET continued = 1 WHERE id = ? AND continued = 0", task_id)
    if not first:
        return None
    try:
        # A service that must store even if it dies here keeps the document in that same row, and stores it from there.
        return complete(task_id, outcome, options)
    except Exception as error:
        # Nobody has stored it, so somebody may.
        database("UPDATE tasks SET continued = 0 WHERE id = ?", task_id)
        raise self.retry(exc=error, countdown=STORING_AGAIN)


class Secrets:
    """The webhook secrets. Anybody can call the webhook, so the control plane is asked for them seldom."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked: Optional[float] = None
        self._known: List[str] = []

    def get(self) -> List[str]:
        """The secrets; none where the control plane has not told them yet."""
        with self._lock:
            if self._asked is None or time.monotonic() - self._asked >= FRESH:
                try:
                    self._known = client().webhook_secrets()
                except RemoteJobsError:
                    # What was known is as good as before.
                    pass
                self._asked = time.monotonic()
            return self._known


SECRETS = Secrets()


def webhook(environ: Dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """A WSGI application. In FastAPI: `verify_webhook(request.headers, await request.body(), secrets)`."""

    def refuse(status: str, why: str) -> Iterable[bytes]:
        start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
        return [why.encode()]

    length = environ.get("CONTENT_LENGTH") or "0"
    if not (length.isascii() and length.isdigit() and len(length) < 20):
        return refuse("400 Bad Request", "The header Content-Length is no number of bytes.")
    body = environ["wsgi.input"].read(min(int(length), 1 << 20))
    secrets = SECRETS.get()
    if not secrets:
        # The control plane sends it again.
        return refuse("503 Service Unavailable", "The webhook secrets are not known at present.")
    try:
        message = verify_webhook(environ, body, secrets)
    except WebhookError as error:
        return refuse("400 Bad Request", str(error))
    if message.data.get("continued_by") == "local":
        # Somebody converts it locally and has cancelled the job for that.
        start_response("204 No Content", [])
        return []
    known, _ = database("SELECT id FROM tasks WHERE id = ?", message.data.get("ingestion_task_id"))
    if known:
        continue_ingestion.delay(known[0][0])
    start_response("204 No Content", [])
    return []


if __name__ == "__main__":
    with make_server("127.0.0.1", int(sys.argv[1]), webhook) as server:
        print(f"listening on http://127.0.0.1:{server.server_port}/", flush=True)
        server.serve_forever()
