"""As celery_ingest, without a task that waits: it creates the job and ends, and a webhook continues.

    celery --app celery_webhook worker
    python -m wsgiref.simple_server  # or any WSGI server: its application is `celery_webhook:webhook`

Settings beside those of the client: INGEST_WEBHOOK_URL, where the control plane reaches `webhook`, and INGEST_DATABASE,
an SQLite file that all processes of the service share (any database with a conditional update will do).
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from contextlib import closing
from typing import Any, Callable, Dict, Iterable, List, Optional, Tuple

from celery_ingest import OURS, app, client, complete, convert_locally

from remote_jobs import WebhookError, idempotency_key, verify_webhook

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
    within = options.get("remote_timeout") or 1800
    database(
        "INSERT OR IGNORE INTO tasks (id, file, content_type, options, deadline) VALUES (?, ?, ?, ?, ?)",
        task_id,
        file_path,
        content_type,
        json.dumps(options),
        time.time() + within,
    )
    decision = client().decide(content_type, bool(options.get("remote")), within)
    if not decision:
        continue_ingestion.delay(task_id)
        return
    uploaded = client().upload(file_path, idempotency_key=idempotency_key(task_id))
    job = client().create(uploaded.source_file_path, content_type, task_id=task_id, **creation(options))
    database("UPDATE tasks SET job = ? WHERE id = ?", job.job_id, task_id)
    # Whatever becomes of the webhook, somebody looks after the job when its time is up.
    continue_ingestion.apply_async((task_id,), countdown=within)


def creation(options: Dict[str, Any]) -> Dict[str, Any]:
    """The job's fields, which are the same for every run of a task."""
    return {
        "options": {name: value for name, value in options.items() if name not in OURS},
        "fallback_to_local": options.get("fallback_to_local") is not False,
        "webhook_url": os.environ["INGEST_WEBHOOK_URL"],
    }


@app.task(name="continue_ingestion")
def continue_ingestion(task_id: str) -> Optional[Dict[str, Any]]:
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
    # A service that must store even if it dies just here keeps the document in that same row, and stores it from there.
    return complete(outcome, options) if first else None


def webhook(environ: Dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """A WSGI application. In FastAPI: `verify_webhook(request.headers, await request.body(), secrets)`."""
    body = environ["wsgi.input"].read(min(int(environ.get("CONTENT_LENGTH") or 0), 1 << 20))
    try:
        message = verify_webhook(environ, body, client().webhook_secrets())
    except WebhookError as error:
        start_response("400 Bad Request", [("Content-Type", "text/plain")])
        return [str(error).encode()]
    known, _ = database("SELECT id FROM tasks WHERE id = ?", message.data.get("ingestion_task_id"))
    if known:
        continue_ingestion.delay(known[0][0])
    start_response("204 No Content", [])
    return []
