from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest
from world import Both, Gateway, Receiver, Worker

_numbers = itertools.count()


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    gateway = Gateway(tmp_path_factory.mktemp("gateway") / "data")
    yield gateway
    gateway.stop()


@pytest.fixture(params=["sync", "async"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def content_type() -> str:
    """A type of the test's own, so that it shares no queue and no worker with another."""
    return f"x-test-{next(_numbers)}"


@pytest.fixture
def worker(gateway: Gateway, content_type: str) -> Worker:
    return Worker(gateway, content_type)


@pytest.fixture
def client(gateway: Gateway, kind: str, content_type: str) -> Both:
    return Both(kind, gateway.settings(content_types=(content_type,)))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "Vortrag 1.mp3"
    path.write_bytes(b"sound")
    return path


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.stop()


@pytest.fixture
def convert(client: Both, content_type: str, file: Path, request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Converts the file under a task id of the test's own; locally it would be `# Local`."""

    def convert(**named: Any) -> Any:
        given = {"task_id": task_id_of(request), "content_type": content_type, "local": lambda task: "# Local"}
        given["remote_timeout"] = 50
        return client.convert(named.pop("source", file), **{**given, **named})

    return convert


@pytest.fixture
def task_id(request: pytest.FixtureRequest) -> str:
    return task_id_of(request)


def task_id_of(request: pytest.FixtureRequest) -> str:
    return f"task of {request.node.name}"
