"""What the tests speak with: a gateway as a program of its own, a worker that does what a test says, a receiver of
webhooks, and a control plane of answers that a test lays ready."""

from __future__ import annotations

import asyncio
import http.server
import inspect
import json
import os
import queue
import re
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

import httpx

import remote_jobs

ROOT = Path(__file__).resolve().parents[3]
PATIENCE = 60.0
"""How long anything may take that is waited for. Nothing is meant to come near it."""


class Gateway:
    """A gateway in a folder of its own, on a free port of this machine."""

    def __init__(self, folder: Path) -> None:
        program = os.environ.get("MORAG_TEST_GATEWAY") or ROOT / "target/debug/gateway"
        settings = {name: value for name, value in os.environ.items() if not name.startswith(("MORAG_", "AWS_"))}
        settings["MORAG_WEBHOOK_NETWORKS"] = "127.0.0.0/8"
        self._process = subprocess.Popen(
            [str(program), "--data-dir", str(folder), "--listen", "127.0.0.1:0"],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            env=settings,
            text=True,
        )
        self.url = self._listening()
        self.key = (folder / "admin-key").read_text().strip()
        self.http = httpx.Client(
            base_url=self.url, headers={"Authorization": f"Bearer {self.key}"}, timeout=PATIENCE, trust_env=False
        )

    def _listening(self) -> str:
        assert self._process.stderr
        said = []
        for line in self._process.stderr:
            said.append(line)
            found = re.search(r"listening on (\S+)", line)
            if found:
                # What it says from now on must go somewhere, else it would stand still one day.
                self._reader = threading.Thread(target=self._process.stderr.read, daemon=True)
                self._reader.start()
                return found.group(1)
        raise AssertionError(f"the gateway did not start: {''.join(said)}")

    def settings(self, **changed: Any) -> remote_jobs.Settings:
        """Settings that are quick where a test waits."""
        quick: Dict[str, Any] = {"poll_interval": 0.05, "first_wait": 0.01, "patience": 0.2, "enabled": True}
        return remote_jobs.Settings(**{"base_url": self.url, "api_key": self.key, **quick, **changed})

    def call(self, method: str, path: str, **arguments: Any) -> Any:
        """A call that goes as asked."""
        answer = self.http.request(method, f"/api/v1{path}", **arguments)
        answer.raise_for_status()
        return answer.json()

    def jobs_of(self, task_id: str) -> List[str]:
        """The ids of a task's jobs."""
        answer = self.call("GET", "/remote-jobs", params={"ingestion_task_id": task_id})
        return [job["job_id"] for job in answer["jobs"]]

    def stop(self) -> None:
        """Kills it, as a power failure does. It may be dead already."""
        self.http.close()
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        assert self._process.stderr
        self._process.stderr.close()


class Worker:
    """A worker of one content type that speaks the protocol and does just what a test says."""

    def __init__(self, gateway: Gateway, content_type: str) -> None:
        self._gateway = gateway
        self._content_type = content_type

    def announce(self) -> None:
        """Asks for a job when there is none. It is known as a live worker from then on."""
        assert self._poll(0) is None

    def _poll(self, wait_seconds: int) -> Optional[Mapping[str, Any]]:
        body = {
            "worker_id": f"worker-of-{self._content_type}",
            "content_types": [self._content_type],
            "lease_seconds": 60,
            "wait_seconds": wait_seconds,
        }
        answer = self._gateway.call("POST", "/remote-jobs/poll", json=body)
        return answer if answer["job_id"] else None

    def take(self) -> Mapping[str, Any]:
        """The next job, which it waits for."""
        for _ in range(3):
            job = self._poll(20)
            if job:
                return job
        raise AssertionError("no job came")

    def source(self, job: Mapping[str, Any]) -> bytes:
        """The job's source."""
        return httpx.get(job["download"]["url"], trust_env=False).raise_for_status().content

    def progress(self, job: Mapping[str, Any], percentage: int, message: str) -> None:
        """Reports how far it is."""
        self._put(job, "progress", {"percentage": percentage, "message": message})

    def complete(self, job: Mapping[str, Any], content: str) -> None:
        """Hands the result in."""
        result = {"success": True, "content": content, "metadata": {"pages": 2}, "processing_time": 1.5}
        self._put(job, "result", result)

    def fail(self, job: Mapping[str, Any], message: str) -> None:
        """Gives up for good."""
        self._put(job, "result", {"success": False, "error_message": message, "retryable": False})

    def _put(self, job: Mapping[str, Any], verb: str, body: Mapping[str, Any]) -> None:
        headers = {"Lease-Token": job["lease_token"]}
        self._gateway.call("PUT", f"/remote-jobs/{job['job_id']}/{verb}", json=body, headers=headers)

    def doing(self, work: Callable[[Mapping[str, Any]], None]) -> Doing:
        """Takes the next job on a thread and does `work` with it."""
        return Doing(lambda: work(self.take()))


class Doing:
    """Something that goes on beside the test, and whose failure is the test's."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._failure: Optional[BaseException] = None
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            self._failure = error

    def __enter__(self) -> Doing:
        self._thread.start()
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        self._thread.join(PATIENCE)
        if kind is None:
            assert not self._thread.is_alive()
            if self._failure:
                raise self._failure


class Recording(httpx.HTTPTransport):
    """Passes requests on, and keeps them."""

    def __init__(self, requests: List[httpx.Request]) -> None:
        super().__init__(trust_env=False)
        self._requests = requests

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self._requests.append(request)
        return super().handle_request(request)


class AsyncRecording(httpx.AsyncHTTPTransport):
    """Passes requests on, and keeps them."""

    def __init__(self, requests: List[httpx.Request]) -> None:
        super().__init__(trust_env=False)
        self._requests = requests

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self._requests.append(request)
        return await super().handle_async_request(request)


class Scripted(httpx.MockTransport):
    """A control plane of answers that are laid ready by method and path. The last answer to each is repeated."""

    def __init__(self, answers: Mapping[str, Any]) -> None:
        super().__init__(self._answer)
        self._answers = {call: list(said) if isinstance(said, list) else [said] for call, said in answers.items()}
        self.requests: List[httpx.Request] = []

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        call = f"{request.method} {request.url.path.replace('/api/v1', '', 1)}"
        laid = self._answers.get(call)
        if laid is None:
            return httpx.Response(404, json=problem(404, "not-found", f"There is no {call}."))
        said = laid.pop(0) if len(laid) > 1 else laid[0]
        if isinstance(said, Exception):
            raise said
        if isinstance(said, httpx.Response):
            # A response can be read once.
            return httpx.Response(said.status_code, headers=said.headers, content=said.content)
        return httpx.Response(200, json=said)

    def calls(self) -> List[str]:
        """Methods and paths, in order."""
        return [f"{request.method} {request.url.path.replace('/api/v1', '', 1)}" for request in self.requests]


def problem(status: int, kind: str, detail: str, **further: Any) -> Dict[str, Any]:
    """A problem as the control plane writes it."""
    return {"type": f"urn:remote-jobs:{kind}", "title": kind, "status": status, "detail": detail, **further}


class Both:
    """The client of one kind, called as if it were the blocking one."""

    def __init__(self, kind: str, settings: remote_jobs.Settings, transport: Optional[Scripted] = None) -> None:
        self._kind = kind
        self._settings = settings
        self._transport = transport
        self.requests: List[httpx.Request] = []

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if self._kind == "sync":
            return lambda *args, **named: self._blocking(name, args, named)
        return lambda *args, **named: asyncio.run(self._awaited(name, args, named))

    def _blocking(self, name: str, args: Any, named: Any) -> Any:
        with remote_jobs.RemoteJobs(self._settings, transport=self._transport or Recording(self.requests)) as client:
            return getattr(client, name)(*args, **named)

    async def _awaited(self, name: str, args: Any, named: Any) -> Any:
        transport = self._transport or AsyncRecording(self.requests)
        async with remote_jobs.AsyncRemoteJobs(self._settings, transport=transport) as client:
            given = getattr(client, name)(*args, **named)
            return await given if inspect.isawaitable(given) else given


class Receiver:
    """Receives webhooks."""

    def __init__(self) -> None:
        received: queue.Queue[Tuple[Dict[str, str], bytes]] = queue.Queue()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                received.put((dict(self.headers), self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._received = received
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/ends"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def next(self) -> Tuple[Dict[str, str], bytes]:
        """Headers and body of the next webhook, which it waits for."""
        return self._received.get(timeout=PATIENCE)

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def body_of(request: httpx.Request) -> Any:
    """A request's JSON."""
    return json.loads(request.read())
