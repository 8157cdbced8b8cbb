"""Runs the gateway, a converter and the ingestion service on this machine, as `make demo` and `make serve` do.

The demo submits a recording and a document, shows what happens to them, and fails unless what was said and what was
written are in the results. Then it has a few documents and the recording ingested, and fails unless a search by words of
the recording finds it before the others. With --serve the programs run until Ctrl-C.
"""

import argparse
import contextlib
import difflib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import requests

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAMS = ROOT / "target" / "debug"
SPEECH = sorted((ROOT / "tests/data/speech").glob("*.wav"))
SAID = (
    "and mister john dashwood had then leisure to consider how much there might be prudently in his power to do for them "
    "he was not an ill disposed young man"
)
DOCUMENTS = sorted((ROOT / "tests/data/documents").iterdir())
DOCUMENT = ROOT / "tests/data/documents/minutes.md"
# Words that were said, some of which are in other documents, too.
SEARCHED = "leisure to consider how much might be prudently in his power"
LEAST_WORDS_HEARD = 0.6
CONTENT_TYPES = "audio,video,document"
# The ingestion service's port less the gateway's: 8080 beside 8000.
PORTS_APART = 80


class Failed(Exception):
    """Something that the demo shows did not work."""


def step(text):
    print(f"\n== {text}", flush=True)


def check_port(port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise Failed(
                f"port {port} of 127.0.0.1 cannot be used ({error.strerror}); choose another: make demo PORT={port + 1}"
            ) from error


@contextlib.contextmanager
def running(name, command, log, **environment):
    """A program that is stopped with SIGTERM at the end, and killed if that does not help."""
    with open(log, "wb") as output:
        process = subprocess.Popen(
            [str(part) for part in command], stdout=output, stderr=output, env={**os.environ, **environment}
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(40)
        except subprocess.TimeoutExpired:
            process.kill()
            print(f"{name} had to be killed; its log is {log}", file=sys.stderr)


def wait_until_up(name, url, process, log):
    for _ in range(300):
        if process.poll() is not None:
            raise Failed(f"{name} stopped:\n{log.read_text()}")
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=2):
                return
        except OSError:
            time.sleep(0.1)
    raise Failed(f"{url} did not answer within 30 s; {name}'s log is {log}")


class System:
    """A gateway, a converter and an ingestion service that run in one folder."""

    def __init__(self, folder, port):
        self.url = f"http://127.0.0.1:{port}"
        self.ingest_url = f"http://127.0.0.1:{port + PORTS_APART}"
        self.folder = folder
        self.admin_key_file = folder / "data" / "admin-key"
        self.gateway_log = folder / "gateway.log"
        self.converter_log = folder / "converter.log"
        self.ingest_log = folder / "ingest.log"
        self.stack = contextlib.ExitStack()

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            gateway = stack.enter_context(
                running(
                    "the gateway",
                    [PROGRAMS / "gateway", "--listen", self.url.removeprefix("http://"), "--data-dir", self.folder / "data"],
                    self.gateway_log,
                    # The ingestion service, which it tells of ended jobs, is on this machine.
                    MORAG_WEBHOOK_NETWORKS="127.0.0.0/8",
                )
            )
            wait_until_up("the gateway", self.url, gateway, self.gateway_log)
            converter = stack.enter_context(
                running(
                    "the converter",
                    [PROGRAMS / "remote-converter", "--worker-id", "demo-worker", "--content-types", CONTENT_TYPES],
                    self.converter_log,
                    MORAG_API_BASE_URL=self.url,
                    MORAG_API_KEY=self.key("worker"),
                    MORAG_TEMP_DIR=str(self.folder / "converter"),
                    MORAG_CONVERTER_PYTHON=sys.executable,
                )
            )
            ingest = stack.enter_context(
                running(
                    "the ingestion service",
                    [
                        *(PROGRAMS / "ingest", "--listen", self.ingest_url.removeprefix("http://")),
                        *("--data-dir", self.folder / "ingest"),
                    ],
                    self.ingest_log,
                    MORAG_API_BASE_URL=self.url,
                    MORAG_API_KEY=self.key("ingest"),
                    MORAG_REMOTE_CONVERSION_ENABLED="true",
                    MORAG_REMOTE_CONTENT_TYPES=CONTENT_TYPES,
                    MORAG_INGEST_WEBHOOK_URL=f"{self.ingest_url}/api/v1/webhooks/remote-jobs",
                    MORAG_CONVERTER_PYTHON=sys.executable,
                )
            )
            wait_until_up("the ingestion service", self.ingest_url, ingest, self.ingest_log)
            self.processes = {"gateway": gateway, "converter": converter, "ingestion service": ingest}
            self.stack = stack.pop_all()
        return self

    def __exit__(self, *error):
        self.stack.close()

    def key(self, scope):
        """A program's own key, which may do what its scope says and nothing else."""
        file = self.folder / f"{scope}-key"
        if not file.exists():
            made = json.loads(self.command("--json", "keys", "create", f"demo {scope}", "--scope", scope))
            file.touch(0o600)
            file.write_text(made["api_key"] + "\n")
        return file.read_text().strip()

    def command(self, *arguments, show=False):
        command = [str(PROGRAMS / "remote-jobs"), *map(str, arguments)]
        environment = {**os.environ, "MORAG_API_BASE_URL": self.url, "MORAG_API_KEY": self.admin_key_file.read_text().strip()}
        done = subprocess.run(command, env=environment, stdout=None if show else subprocess.PIPE, text=True)
        if done.returncode != 0:
            raise Failed(f"{' '.join(command)} ended with exit code {done.returncode}; logs: {self.folder}")
        return done.stdout


def mp3_of(clips, folder):
    """The clips one after the other, as the kind of file that people have."""
    import imageio_ffmpeg

    mp3 = folder / "dashwood.mp3"
    inputs = [argument for clip in clips for argument in ("-i", str(clip))]
    join = ["-filter_complex", f"concat=n={len(clips)}:v=0:a=1", "-b:a", "64k"]
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *inputs, *join, str(mp3)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return mp3


def share_of_words_heard(transcript):
    said = SAID.split()
    heard = re.findall(r"[a-z']+", transcript.lower())
    blocks = difflib.SequenceMatcher(None, said, heard, autojunk=False).get_matching_blocks()
    return sum(block.size for block in blocks) / len(said)


def asked(answer):
    """What the ingestion service answered, as JSON."""
    if not answer.ok:
        raise Failed(f"{answer.request.method} {answer.url} was answered {answer.status_code}: {answer.text}")
    return answer.json()


def ingested(system, file):
    """Has a file ingested as a Python service would, Markdown here and anything else remotely, and shows how it went."""
    with file.open("rb") as content:
        form = {"remote": file.suffix != ".md", "document_id": file.name}
        accepted = asked(requests.post(f"{system.ingest_url}/api/v1/ingest/file", files={"file": content}, data=form))
    for _ in range(1200):
        task = asked(requests.get(f"{system.ingest_url}/api/v1/tasks/{accepted['task_id']}"))
        if task["status"] in ("SUCCESS", "FAILURE"):
            break
        time.sleep(0.1)
    if task["status"] != "SUCCESS":
        raise Failed(f"{file.name} was not ingested: {json.dumps(task, indent=2)}")
    result = task["result"]
    print(f"{file.name}: {result['chunks_stored']} chunk(s), converted {result['processing_method']}ly")
    print("  " + task["decision"]["explanation"])


def ingest_and_search(system, recording):
    step("Ingesting documents and the recording")
    for file in (*DOCUMENTS, recording):
        ingested(system, file)
    step(f'Searching for "{SEARCHED}"')
    hits = asked(requests.get(f"{system.ingest_url}/api/v1/search", params={"q": SEARCHED}))["results"]
    for hit in hits:
        print(f"{hit['score']:6.2f}  {hit['document_id']:<20}  {' '.join(hit['content'].split())[:80]}")
    if not hits or hits[0]["document_id"] != recording.name:
        raise Failed(f"the recording is not what was found first; found were {[hit['document_id'] for hit in hits]}")


def demo(system):
    recording = mp3_of(SPEECH, system.folder)
    convert(system, recording)
    ingest_and_search(system, recording)


def convert(system, recording):
    results = system.folder / "results"
    results.mkdir()
    files = (recording, DOCUMENT)
    step(f"Submitting {recording.name} and {DOCUMENT.name}")
    jobs = {file: system.command("--quiet", "submit", file, "--task-id", "demo").strip() for file in files}
    step("Watching what becomes of them")
    system.command("watch", *jobs.values(), show=True)
    texts = {}
    for file, job in jobs.items():
        result = results / f"{file.stem}.md"
        system.command("result", job, "--out", result)
        texts[file] = result.read_text()
        step(f"The result of {file.name}")
        print(texts[file])
    step("What happened to each job")
    for job in jobs.values():
        system.command("status", job, show=True)
        print()
    heard = share_of_words_heard(texts[recording])
    unchanged = texts[DOCUMENT].strip() == DOCUMENT.read_text().strip()
    step(f"{heard:.0%} of the recording's words were recognised; the document is {'unchanged' if unchanged else 'CHANGED'}")
    if heard < LEAST_WORDS_HEARD:
        raise Failed(f"fewer than {LEAST_WORDS_HEARD:.0%} of the words were recognised; said was: {SAID}")
    if not unchanged:
        raise Failed(f"the document's text is not what was submitted: {DOCUMENT}")


def serve(system):
    print(f"""
The gateway listens on {system.url} (try {system.url}/docs), and a converter takes {CONTENT_TYPES} jobs.
The ingestion service listens on {system.ingest_url}. In another terminal:

  export MORAG_API_BASE_URL={system.url} MORAG_API_KEY=$(cat {system.admin_key_file.relative_to(ROOT)})
  target/debug/remote-jobs submit --wait tests/data/documents/minutes.md
  curl -F file=@tests/data/documents/minutes.md {system.ingest_url}/api/v1/ingest/file
  curl '{system.ingest_url}/api/v1/search?q=mooring+fees'

Logs: {system.folder.relative_to(ROOT)}/*.log. Stop with Ctrl-C.""", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        while all(process.poll() is None for process in system.processes.values()):
            time.sleep(0.5)
        stopped = [name for name, process in system.processes.items() if process.poll() is not None]
        raise Failed(f"the {stopped[0]} stopped; its log is in {system.folder}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--serve", action="store_true")
    arguments = parser.parse_args()
    # SIGTERM ends what was started as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = ROOT / ".demo" / ("serve" if arguments.serve else "demo")
    if not arguments.serve:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        check_port(arguments.port)
        check_port(arguments.port + PORTS_APART)
        step(f"Starting the gateway, a converter and the ingestion service on 127.0.0.1:{arguments.port} and the port {PORTS_APART} above")
        with System(folder, arguments.port) as system:
            (serve if arguments.serve else demo)(system)
            step("Stopping what was started")
    except Failed as failure:
        print(f"\nfailed: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
