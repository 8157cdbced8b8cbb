"""Runs the gateway and a converter on this machine, as `make demo` and `make serve` do.

The demo submits a recording and a document, shows what happens to them, and fails unless what was said and what was
written are in the results. With --serve the two programs run until Ctrl-C.
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

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAMS = ROOT / "target" / "debug"
SPEECH = sorted((ROOT / "tests/data/speech").glob("*.wav"))
SAID = (
    "and mister john dashwood had then leisure to consider how much there might be prudently in his power to do for them "
    "he was not an ill disposed young man"
)
DOCUMENT = ROOT / "tests/data/documents/minutes.md"
LEAST_WORDS_HEARD = 0.6
CONTENT_TYPES = "audio,video,document"


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


def wait_until_up(url, process, log):
    for _ in range(300):
        if process.poll() is not None:
            raise Failed(f"the gateway stopped:\n{log.read_text()}")
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=2):
                return
        except OSError:
            time.sleep(0.1)
    raise Failed(f"{url} did not answer within 30 s; the gateway's log is {log}")


class System:
    """A gateway and a converter that run in one folder."""

    def __init__(self, folder, port):
        self.url = f"http://127.0.0.1:{port}"
        self.folder = folder
        self.admin_key_file = folder / "data" / "admin-key"
        self.gateway_log = folder / "gateway.log"
        self.converter_log = folder / "converter.log"
        self.stack = contextlib.ExitStack()

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            gateway = stack.enter_context(
                running(
                    "the gateway",
                    [PROGRAMS / "gateway", "--listen", self.url.removeprefix("http://"), "--data-dir", self.folder / "data"],
                    self.gateway_log,
                )
            )
            wait_until_up(self.url, gateway, self.gateway_log)
            converter = stack.enter_context(
                running(
                    "the converter",
                    [PROGRAMS / "remote-converter", "--worker-id", "demo-worker", "--content-types", CONTENT_TYPES],
                    self.converter_log,
                    MORAG_API_BASE_URL=self.url,
                    MORAG_API_KEY=self.worker_key(),
                    MORAG_TEMP_DIR=str(self.folder / "converter"),
                    MORAG_CONVERTER_PYTHON=sys.executable,
                )
            )
            self.processes = {"gateway": gateway, "converter": converter}
            self.stack = stack.pop_all()
        return self

    def __exit__(self, *error):
        self.stack.close()

    def worker_key(self):
        """The converter's own key, which may take jobs and nothing else."""
        file = self.folder / "worker-key"
        if not file.exists():
            made = json.loads(self.command("--json", "keys", "create", "demo converter", "--scope", "worker"))
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


def demo(system):
    recording = mp3_of(SPEECH, system.folder)
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
In another terminal:

  export MORAG_API_BASE_URL={system.url} MORAG_API_KEY=$(cat {system.admin_key_file.relative_to(ROOT)})
  target/debug/remote-jobs submit --wait tests/data/documents/minutes.md

Logs: {system.gateway_log.relative_to(ROOT)} and {system.converter_log.relative_to(ROOT)}. Stop with Ctrl-C.""", flush=True)
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
        step(f"Starting the gateway and a converter on 127.0.0.1:{arguments.port}")
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
