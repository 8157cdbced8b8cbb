"""Why remote, why local. The words and sentences are those of the Rust crate `ingestion`."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from world import Both, Scripted, problem

import remote_jobs as rj

ENABLED = {"MORAG_REMOTE_CONVERSION_ENABLED": "true"}


def worker(content_type: str = "audio", live: bool = True) -> Any:
    return {"worker_id": "w", "content_types": [content_type], "last_seen": "", "live": live, "new": 1}


def queue(**further: Any) -> Any:
    return {"content_type": "audio", "paused": False, "waiting": 0, "running": 0, **further}


def decide(kind: str, workers: Any, queues: Any, within: float = 100.0) -> rj.Decision:
    given = (
        {"GET /remote-workers": {"workers": workers, "live_within_seconds": 120}} if isinstance(workers, list) else {}
    )
    if isinstance(workers, httpx.Response):
        given = {"GET /remote-workers": workers}
    given["GET /remote-jobs/statistics"] = {"queues": queues} if isinstance(queues, list) else queues
    settings = rj.Settings("http://h", "a.b", enabled=True, first_wait=0)
    decision: rj.Decision = Both(kind, settings, Scripted(given)).decide("audio", True, within)
    return decision


SLOW = {"run_time": {"conversions": 9, "median_seconds": 60.0, "p90_seconds": 90.0}}


@pytest.mark.parametrize(
    ("workers", "queues", "reason", "said"),
    [
        ([worker()], [], "worker_available", "1 live worker takes audio."),
        (
            [worker(), worker()],
            [queue(waiting=1)],
            "worker_available",
            "2 live workers take audio. 1 job waits before it.",
        ),
        ([worker()], [queue(waiting=3)], "worker_available", "1 live worker takes audio. 3 jobs wait before it."),
        ([], [], "no_live_worker", "No worker that takes audio has been seen in the last 120 s."),
        (
            [worker("video"), worker(live=False)],
            [],
            "no_live_worker",
            "No worker that takes audio has been seen in the last 120 s.",
        ),
        ([worker()], [queue(paused=True)], "queue_paused", "The queue of audio is paused."),
        ([worker()], [queue(**SLOW)], "worker_available", "1 live worker takes audio."),
        (
            [worker()],
            [queue(run_time={"median_seconds": 101.0})],
            "too_slow",
            "Half of the conversions of audio took longer than 101 s, and 100 s are left.",
        ),
        (
            [worker()],
            [queue(waiting=1, **SLOW)],
            "queue_too_long",
            "1 job is before it: about 60 s, then 60 s of its own, and 100 s are left.",
        ),
        (
            [worker()],
            [queue(waiting=1, running=1, **SLOW)],
            "queue_too_long",
            "2 jobs are before it: about 120 s, then 60 s of its own, and 100 s are left.",
        ),
        ([worker()] * 2, [queue(running=1, **SLOW)], "worker_available", "2 live workers take audio."),
        (
            [worker()],
            [queue(running=1, **SLOW)],
            "queue_too_long",
            "1 job is before it: about 60 s, then 60 s of its own, and 100 s are left.",
        ),
        (
            [worker()] * 2,
            [queue(waiting=1, **SLOW)],
            "worker_available",
            "2 live workers take audio. 1 job waits before it.",
        ),
        (None, [], "workers_unknown", "The server does not tell its workers, so the job is tried."),
        (
            httpx.Response(403, json={"message": "Forbidden"}),
            [],
            "workers_unknown",
            "The server does not tell its workers, so the job is tried.",
        ),
        (
            httpx.Response(405),
            httpx.Response(404),
            "workers_unknown",
            "The server does not tell its workers, so the job is tried.",
        ),
        ([worker()], httpx.Response(404), "worker_available", "1 live worker takes audio."),
    ],
)
def test_figures_decide(kind, workers, queues, reason, said):
    decision = decide(kind, workers, queues)
    assert (decision.reason.value, str(decision)) == (reason, said)
    assert decision.figures.deadline_seconds == 100
    assert bool(decision) == decision.remote == (decision.as_dict()["processing_method"] == "remote")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (httpx.Response(500), "unreachable"),
        (httpx.Response(429), "unreachable"),
        (httpx.Response(200, text="<html>"), "unreachable"),
        (httpx.Response(302, headers={"location": "/login"}), "unreachable"),
        (httpx.Response(401, json=problem(401, "unauthorized", "No such key.")), "unauthorized"),
        (httpx.Response(403, json=problem(403, "forbidden", "It lacks the scope ingest.")), "unauthorized"),
    ],
)
def test_a_control_plane_that_cannot_be_asked_is_a_reason(kind, answer, reason):
    for workers, queues in ((answer, []), ([worker()], answer)):
        decision = decide(kind, workers, queues)
        assert (decision.reason.value, decision.figures) == (reason, None)


def test_the_queue_is_asked_for_by_type_and_only_where_somebody_works_on_it(kind):
    for live, asked in ((True, ["/remote-workers", "/remote-jobs/statistics"]), (False, ["/remote-workers"])):
        transport = Scripted(
            {
                "GET /remote-workers": {"workers": [worker(live=live)], "live_within_seconds": 120},
                "GET /remote-jobs/statistics": {"queues": []},
            }
        )
        settings = rj.Settings("http://h", "a.b", enabled=True, first_wait=0)
        Both(kind, settings, transport).decide("audio")
        urls = [str(request.url) for request in transport.requests]
        assert urls == [f"http://h/api/v1{path}?content_type=audio" for path in asked]


def test_a_live_worker_may_be_among_those_that_were_left_out(kind):
    workers = httpx.Response(200, json={"workers": [], "live_within_seconds": 120, "more": True})
    decision = decide(kind, workers, [])
    assert (decision.reason.value, decision.figures.live_workers) == ("workers_unknown", None)


def test_a_question_that_came_too_soon_is_repeated(kind):
    answers = {
        "GET /remote-workers": [httpx.Response(429), {"workers": [worker()], "live_within_seconds": 120}],
        "GET /remote-jobs/statistics": {"queues": []},
    }
    settings = rj.Settings("http://h", "a.b", enabled=True, first_wait=0)
    assert Both(kind, settings, Scripted(answers)).decide("audio").reason is rj.Reason.WORKER_AVAILABLE


def test_figures_are_kept_as_json(kind):
    assert decide(kind, [worker()], [queue(waiting=1, running=2, **SLOW)], 1000.0).as_dict() == {
        "processing_method": "remote",
        "reason": "worker_available",
        "explanation": "1 live worker takes audio. 1 job waits before it.",
        "figures": {
            "live_workers": 1,
            "queue_depth": 1,
            "running": 2,
            "run_time_p50_seconds": 60.0,
            "run_time_p90_seconds": 90.0,
            "expected_wait_seconds": 180.0,
            "deadline_seconds": 1000,
            "paused": False,
        },
    }


def test_rules_decide_without_a_call(kind):
    transport = Scripted({})
    client = Both(kind, rj.Settings.from_env(ENABLED), transport)
    assert client.decide("audio", False).reason is rj.Reason.NOT_REQUESTED
    assert client.decide("document").reason is rj.Reason.TYPE_NOT_SUPPORTED
    assert client.decide("audio", True, 0).reason is rj.Reason.DEADLINE_EXHAUSTED
    assert transport.requests == []


def test_should_use_remote_follows_the_originals_rules():
    def reason(content_type: str, requested: bool, env: Any) -> str:
        with rj.RemoteJobs(rj.Settings.from_env(env)) as client:
            return client.should_use_remote(content_type, requested).reason.value

    assert reason("audio", False, ENABLED) == "not_requested"
    assert reason("audio", True, {}) == "not_enabled"
    assert reason("document", True, ENABLED) == "type_not_supported"
    for media in ("audio", "video", "youtube"):
        assert reason(media, True, ENABLED) == "allowed"
    assert reason("document", True, {**ENABLED, "MORAG_REMOTE_CONTENT_TYPES": "Document, x-own"}) == "allowed"
    assert reason("audio", True, {**ENABLED, "MORAG_REMOTE_CONTENT_TYPES": ","}) == "type_not_supported"


def test_settings_have_the_originals_names_and_defaults():
    settings = rj.Settings.from_env({"MORAG_API_KEY": " id.secret\n", "MORAG_REMOTE_TIMEOUT_AUDIO": "60"})
    assert settings.base_url == "http://localhost:8000" and settings.api_key == "id.secret" and not settings.enabled
    types = ("audio", "video", "document", "image", "web", "youtube", "x-own")
    assert [settings.timeout(content_type) for content_type in types] == [60, 3600, 600, 300, 600, 1800, 1800]
    assert rj.Settings.from_env({"MORAG_API_BASE_URL": "https://x/prod/"}).base_url == "https://x/prod/"
    for yes in ("true", "True", "1", "yes", "on"):
        assert rj.Settings.from_env({"MORAG_REMOTE_CONVERSION_ENABLED": yes}).enabled


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MORAG_REMOTE_CONVERSION_ENABLED", "maybe"),
        ("MORAG_REMOTE_CONTENT_TYPES", "audio,films"),
        ("MORAG_REMOTE_TIMEOUT_VIDEO", "soon"),
        ("MORAG_REMOTE_TIMEOUT_VIDEO", "0"),
        ("MORAG_REMOTE_TIMEOUT_VIDEO", "86401"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(name, value):
    with pytest.raises(rj.InvalidArgument, match=name):
        rj.Settings.from_env({name: value})


def test_the_environment_is_read_by_default(monkeypatch):
    monkeypatch.setenv("MORAG_API_BASE_URL", "http://elsewhere:1")
    with rj.RemoteJobs() as client:
        assert repr(client) == "RemoteJobs('http://elsewhere:1')"


@pytest.mark.parametrize(
    ("name", "head", "found"),
    [
        ("TALK.WAV", b"", "audio"),
        ("film.mkv", b"", "video"),
        ("paper.v2.pdf", b"", "document"),
        ("photo.JPeG", b"", "image"),
        ("file", b"%PDF-1.7", "document"),
        ("file", b"PK\x03\x04" + bytes(26) + b"[Content_Types].xml", "document"),
        ("file", b"  <!DOCTYPE HTML><p>", "document"),
        ("file", b"\xff\xfb\x90\x64", "audio"),
        ("file", b"\xff\xf1\x50\x80", "audio"),
        ("file", b"RIFF\0\0\0\0WAVEfmt ", "audio"),
        ("file", b"\0\0\0\x20ftypM4A ", "audio"),
        ("file", b"\0\0\0\x20ftypisom", "video"),
        ("file", b"RIFF\0\0\0\0AVI LIST", "video"),
        ("file", b"\0\0\0\x20ftypheic", "image"),
        ("file.dat", b"", None),
        ("file.dat", b"plain words", None),
        ("file.dat", b"\xff\xff\xff\xff", None),
        ("file.dat", b"PK\x03\x04" + bytes(26) + b"photos/1.raw", None),
    ],
)
def test_types_are_told_by_extension_or_first_bytes(tmp_path, name, head, found):
    path = tmp_path / name
    path.write_bytes(head)
    if found:
        assert rj.detect_content_type(str(path)) == found
    else:
        with pytest.raises(rj.InvalidArgument, match="content_type"):
            rj.detect_content_type(str(path))


def test_urls_are_pages_or_videos():
    for url, found in [
        ("https://www.youtube.com/watch?v=1", "youtube"),
        ("HTTPS://youtu.be/1", "youtube"),
        ("https://youtube.com.example.org/", "web"),
        ("https://notyoutube.com/", "web"),
        ("http://[::1]/", "web"),
    ]:
        assert rj.detect_content_type(url) == found, url
    for none in ("https://", "https://example.com/a b", "https://example.com/\n", "https://exa\tmple.com/"):
        with pytest.raises(rj.InvalidArgument):
            rj.detect_content_type(none)
