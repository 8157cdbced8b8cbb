"""A Celery task that ingests a file: remote conversion where that helps, local where it must, then storing.

    celery --app celery_ingest worker

It stands in for `enhanced_ingest_file_task` of the original with its RemoteJobCreator, under the same name, arguments,
stages and answer. `convert_locally` and `store` are the two places for a service's own code. CELERY_BROKER_URL and
CELERY_RESULT_BACKEND say where Celery's broker and results are.
"""

from __future__ import annotations

import os
import time
from functools import lru_cache
from typing import Any, Dict, List, Optional

from celery import Celery, Task

import remote_jobs

app = Celery("ingestion", broker=os.environ.get("CELERY_BROKER_URL"), backend=os.environ.get("CELERY_RESULT_BACKEND"))
# A task whose worker dies is run again under its own id, and goes on with the remote job that is there.
app.conf.update(task_acks_late=True, task_reject_on_worker_lost=True, task_track_started=True)
# Redis and SQS deliver a message again that is not acknowledged within so many seconds, also while its task still runs.
# That must be longer than a task (remote_timeout, then the local conversion, then storing) and than celery_webhook's
# timer, which is remote_timeout. RabbitMQ does so after its `consumer_timeout`, 30 minutes if nobody sets it.
app.conf.broker_transport_options = {"visibility_timeout": 12 * 3600}

OURS = {
    "remote",
    "remote_timeout",
    "fallback_to_local",
    "webhook_url",
    "document_id",
    "replace_existing",
    "metadata",
    "chunk_size",
    "chunk_overlap",
    "chunking_strategy",
    "store_in_vector_db",
    "source_type",
}
"""Options of the ingestion itself. The others are the converter's."""


def convert_locally(task: remote_jobs.ConversionTask) -> remote_jobs.Converted:
    """The service's own conversion goes here; it may be a coroutine function."""
    with open(task.source, encoding="utf-8", errors="replace") as file:
        return remote_jobs.Converted(file.read())


def store(task_id: str, content: str, metadata: Dict[str, Any], options: Dict[str, Any]) -> int:
    """Chunking, embedding and the vector database go here; gives the number of chunks.

    It may be called again for a task, even at the same time. So the chunks' ids must follow from the task's id and the
    chunks' numbers, and be written as an upsert.
    """
    return len(content.split("\n\n"))


@lru_cache(maxsize=None)
def client() -> remote_jobs.RemoteJobs:
    """One client for each worker process, made after it was forked."""
    return remote_jobs.RemoteJobs()


class Stages:
    """A task's progress, and why it goes the way it does."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._meta: Dict[str, Any] = {"history": []}

    def enter(self, stage: str, progress: float, **further: Any) -> None:
        self._meta.update(stage=stage, progress=progress, **further)
        self._task.update_state(state="PROGRESS", meta=dict(self._meta))

    def told(self, event: remote_jobs.Event) -> None:
        history: List[Dict[str, Any]] = self._meta["history"]
        if isinstance(event, remote_jobs.Decided):
            history.append(event.decision.as_dict())
            if event.decision.remote:
                self.enter("creating_remote_job", 0.2)
        elif isinstance(event, remote_jobs.Created):
            self.enter("waiting_for_remote_completion", 0.3, remote_job_id=event.job_id)
        elif isinstance(event, remote_jobs.FallingBack):
            history.append(event.fallback.as_dict())
        elif isinstance(event, remote_jobs.Local):
            self.enter("local_processing", 0.4)


class Asked(Task):
    """A task whose message says when it was asked for: delivered again, it has no more time than at first."""

    def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        options["headers"] = {"asked_at": time.time(), **(options.get("headers") or {})}
        return super().apply_async(args, kwargs, **options)


def deadline(task: Task, options: Dict[str, Any]) -> float:
    """When the remote conversion must be over, in seconds since 1970."""
    # Whoever sends the task by its name alone sends no time with it.
    asked_at = (task.request.headers or {}).get("asked_at") or time.time()
    return float(asked_at) + (options.get("remote_timeout") or 1800)


@app.task(bind=True, base=Asked, name="enhanced_ingest_file_task")
def enhanced_ingest_file_task(
    self: Task, file_path: str, content_type: Optional[str] = None, task_options: Optional[Dict[str, Any]] = None
) -> Dict[str, Any]:
    options = task_options or {}
    stages = Stages(self)
    stages.enter("initializing", 0.1)
    outcome = client().convert(
        file_path,
        task_id=self.request.id,
        content_type=content_type,
        options={name: value for name, value in options.items() if name not in OURS},
        local=convert_locally,
        requested=bool(options.get("remote")),
        fallback_to_local=options.get("fallback_to_local") is not False,
        deadline=deadline(self, options),
        on_event=stages.told,
    )
    stages.enter("storing", 0.7)
    answer = complete(self.request.id, outcome, options)
    stages.enter("completed", 1.0)
    return answer


def complete(task_id: str, outcome: remote_jobs.Outcome, options: Dict[str, Any]) -> Dict[str, Any]:
    """Stores what was converted, and says so as the original does."""
    method = outcome.method.value
    metadata = {**outcome.converted.metadata, **(options.get("metadata") or {})}
    stored = store(task_id, outcome.converted.content, {**metadata, "processing_method": method}, options)
    return {
        "success": True,
        "chunks_stored": stored,
        "processing_time": outcome.converted.processing_time,
        "metadata": metadata,
        "processing_method": method,
    }
