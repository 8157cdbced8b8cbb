"""Files on their way into the object store."""

from __future__ import annotations

import hashlib
import tracemalloc
from typing import Any, List, Tuple

import httpx
import pytest
from world import Both, Scripted, body_of, problem

import remote_jobs as rj

MIB = 1 << 20


def test_a_file_arrives_and_its_progress_is_told(client, file):
    told: List[Tuple[int, int]] = []
    uploaded = client.upload(file, progress=lambda done, total: told.append((done, total)))
    assert uploaded.size_bytes == 5 and uploaded.sha256 == hashlib.sha256(b"sound").hexdigest()
    assert told[0] == (0, 5) and told[-1] == (5, 5) and told == sorted(told)


def test_what_the_callback_raises_is_not_blamed_on_the_file(client, file):
    def progress(done: int, total: int) -> None:
        if done:
            raise ConnectionError("the result backend is away")

    with pytest.raises(ConnectionError, match="the result backend is away"):
        client.upload(file, progress=progress)


def test_under_the_same_key_nothing_is_sent_twice(client, file, task_id):
    key = rj.idempotency_key(task_id)
    first = client.upload(file, idempotency_key=key)
    assert client.upload(file, idempotency_key=key) == first
    assert [request.method for request in client.requests].count("PUT") == 1
    file.write_bytes(b"other")
    with pytest.raises(rj.Refused, match="Idempotency-Key") as caught:
        client.upload(file, idempotency_key=key)
    assert caught.value.status == 422 and not caught.value.retryable


def test_a_large_file_travels_in_parts_and_is_never_in_memory(client, worker, content_type, task_id, tmp_path):
    large = tmp_path / "film.mkv"
    # Parts that differ, else they could be mixed up unnoticed.
    with large.open("wb") as out:
        for part in range(65):
            out.write(bytes([part]) * MIB)
    tracemalloc.start()
    try:
        uploaded = client.upload(large)
        assert tracemalloc.get_traced_memory()[1] < 8 * MIB
    finally:
        tracemalloc.stop()
    assert len([request for request in client.requests if request.method == "PUT"]) > 1
    client.create(uploaded.source_file_path, content_type, task_id=task_id)
    job = worker.take()
    assert job["download"]["size_bytes"] == 65 * MIB
    assert hashlib.sha256(worker.source(job)).hexdigest() == uploaded.sha256


def put(path: str) -> Any:
    return {"method": "PUT", "url": f"http://h{path}?X-Amz-Signature=secret", "headers": {"host": "h", "x-amz-a": "b"}}


def whole(path: str = "/store/u") -> Any:
    return {"upload_id": "u", "source_file_path": "s3://u", "uploaded": False, "put": put(path)}


def scripted(kind: str, answers: Any) -> Tuple[Both, Scripted]:
    transport = Scripted(answers)
    return Both(kind, rj.Settings("http://h", "a.b", first_wait=0), transport), transport


def test_what_may_pass_is_tried_again_with_a_new_url(kind, file):
    client, transport = scripted(
        kind,
        {
            "POST /remote-jobs/uploads": [httpx.Response(503), whole("/store/1"), whole("/store/2"), whole("/store/3")],
            "PUT /store/1": httpx.Response(503, text="<Error><Code>SlowDown</Code></Error>"),
            "PUT /store/2": httpx.Response(403, text="<Error><Code>AccessDenied</Code></Error>"),
            "PUT /store/3": httpx.Response(200),
        },
    )
    told: List[int] = []
    assert client.upload(file, progress=lambda done, _: told.append(done)).source_file_path == "s3://u"
    sent = [request for request in transport.requests if request.method == "PUT"]
    assert [request.read() for request in sent] == [b"sound"] * 3
    assert all(request.headers["x-amz-a"] == "b" and request.headers["content-length"] == "5" for request in sent)
    assert not any("authorization" in request.headers for request in sent)
    assert told[-1] == 5 and max(told) == 5


def test_a_refusal_that_stays_is_believed(kind, file):
    denied = httpx.Response(403, text="<Error><Code>SignatureDoesNotMatch</Code></Error>")
    client, transport = scripted(kind, {"POST /remote-jobs/uploads": whole(), "PUT /store/u": denied})
    with pytest.raises(rj.TransferFailed, match="403 SignatureDoesNotMatch") as caught:
        client.upload(file)
    assert transport.calls().count("PUT /store/u") == 3 and "secret" not in str(caught.value)


def test_what_arrived_before_is_taken_for_arrived(kind, file):
    client, _ = scripted(kind, {"POST /remote-jobs/uploads": whole(), "PUT /store/u": httpx.Response(412)})
    assert client.upload(file).source_file_path == "s3://u"


def in_parts(**further: Any) -> Any:
    plan = {"multipart_upload_id": "m", "part_size_bytes": 2, "part_count": 3}
    return {
        "POST /remote-jobs/uploads": {
            "upload_id": "u",
            "source_file_path": "s3://u",
            "uploaded": False,
            "multipart": plan,
        },
        "POST /remote-jobs/uploads/u/parts": {"parts": [put("/store/1"), put("/store/2"), put("/store/3")]},
        "PUT /store/1": httpx.Response(200, headers={"etag": '"1"'}),
        "PUT /store/2": httpx.Response(200, headers={"etag": '"2"'}),
        "PUT /store/3": httpx.Response(200, headers={"etag": '"3"'}),
        "POST /remote-jobs/uploads/u/complete": {"source_file_path": "s3://u", "size_bytes": 5},
        "POST /remote-jobs/uploads/u/abort": {"aborted": True},
        **further,
    }


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_parts_are_announced_sent_and_put_together(kind, file):
    client, transport = scripted(kind, in_parts())
    client.upload(file)
    bodies = {call: body_of(request) for call, request in zip(transport.calls(), transport.requests) if "POST" in call}
    pieces = [b"so", b"un", b"d"]
    assert [request.read() for request in transport.requests if request.method == "PUT"] == pieces
    assert bodies["POST /remote-jobs/uploads/u/parts"]["parts"] == [
        {"part_number": number, "size_bytes": len(piece), "sha256": sha256(piece)}
        for number, piece in enumerate(pieces, 1)
    ]
    assert bodies["POST /remote-jobs/uploads/u/complete"] == {
        "source_file_path": "s3://u",
        "multipart_upload_id": "m",
        "parts": [
            {"part_number": number, "etag": f'"{number}"', "sha256": sha256(piece)}
            for number, piece in enumerate(pieces, 1)
        ],
    }


def test_a_part_that_broke_off_is_sent_again_and_no_other(kind, file):
    again = {"parts": [put("/store/2")]}
    three = in_parts()["POST /remote-jobs/uploads/u/parts"]
    client, transport = scripted(
        kind,
        in_parts(
            **{
                "POST /remote-jobs/uploads/u/parts": [three, again],
                "PUT /store/2": [httpx.ReadError("broke off"), httpx.Response(200, headers={"etag": '"2"'})],
            }
        ),
    )
    told: List[int] = []
    client.upload(file, progress=lambda done, _: told.append(done))
    assert [call for call in transport.calls() if "PUT" in call] == [f"PUT /store/{part}" for part in (1, 2, 2, 3)]
    assert told[-1] == 5 and max(told) == 5


def test_an_upload_in_parts_that_fails_is_given_up(kind, file):
    refused = httpx.Response(422, json=problem(422, "invalid", "A part is not right."))
    client, transport = scripted(kind, in_parts(**{"POST /remote-jobs/uploads/u/complete": refused}))
    with pytest.raises(rj.Refused, match="A part is not right"):
        client.upload(file)
    assert transport.calls()[-1] == "POST /remote-jobs/uploads/u/abort"


@pytest.mark.parametrize(("size", "count"), [(2, 2), (0, 3), ("2", 3)])
def test_parts_that_do_not_make_up_the_file_are_no_plan(kind, file, size, count):
    answers = in_parts()
    answers["POST /remote-jobs/uploads"]["multipart"].update(part_size_bytes=size, part_count=count)
    client, _ = scripted(kind, answers)
    with pytest.raises(rj.Unreadable, match="parts that do not make up the file"):
        client.upload(file)


def test_a_file_that_changes_meanwhile_is_said_to(kind, file):
    def progress(done: int, total: int) -> None:
        file.write_bytes(b"so")

    client, _ = scripted(kind, {"POST /remote-jobs/uploads": whole(), "PUT /store/u": httpx.Response(200)})
    with pytest.raises(rj.FileUnusable, match="changed"):
        client.upload(file, progress=progress)


def test_an_empty_file_can_be_uploaded(client, tmp_path):
    empty = tmp_path / "empty.txt"
    empty.touch()
    assert client.upload(empty).size_bytes == 0


def test_what_is_no_file_is_said_to_be_none(client, tmp_path):
    for path in (tmp_path, tmp_path / "missing.mp3"):
        with pytest.raises(rj.FileUnusable, match="no regular file"):
            client.upload(path)
    assert client.requests == []
