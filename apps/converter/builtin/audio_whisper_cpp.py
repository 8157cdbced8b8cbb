"""Recorded speech to a Markdown transcript: ffmpeg decodes any audio, the program of whisper.cpp recognises it.

The model is the ggml file that the variable MORAG_WHISPER_CPP_MODEL names. The program is `whisper-cli`, or what
MORAG_WHISPER_CPP names; it uses the GPU when it was built for it. The options are in speech.py; those of them that
choose a model are not honoured, for there is just the one.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import wave
from collections import deque
from functools import partial

import media
import speech
from converting import BadInput, Unusable, run
from transcript import Segment, counts

# What the program is called: today, in packages, and before 2025.
NAMES = ("whisper-cli", "whisper-cpp", "whisper.cpp")


def check():
    name = os.path.basename(model())
    return f"{os.path.basename(program())} of whisper.cpp, model {name}, {media.versions()}"


def model():
    path = os.environ.get("MORAG_WHISPER_CPP_MODEL", "").strip()
    if not path:
        raise Unusable("MORAG_WHISPER_CPP_MODEL does not name a model of whisper.cpp, such as ggml-small.bin.")
    if not os.path.isfile(path):
        raise Unusable(f"MORAG_WHISPER_CPP_MODEL names {path}, which is no file.")
    return os.path.abspath(path)


def program():
    named = os.environ.get("MORAG_WHISPER_CPP", "").strip()
    # Beside the interpreter is where pip puts programs.
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), os.path.dirname(sys.executable)])
    for name in [named] if named else NAMES:
        if found := shutil.which(name, path=path):
            return found
    raise Unusable(f"The program {named or NAMES[0]} of whisper.cpp is not installed, or not on the PATH.")


def recognise(path, wanted, part, track=0):
    part("Audio processing: Initializing", 0, 0)
    weights, command = model(), program()
    seconds = write_sound(media.Sound(path, track), "speech.wav", part("Audio processing: Decoding", 1, 10))
    done = part("Audio processing: Transcribing", 10, 99)
    said = listen([command, *arguments(weights, wanted, "speech.wav", "speech")], done)
    with open("speech.json", encoding="utf-8", errors="replace") as file:
        result = json.load(file)
    segments = []
    for one in result["transcription"]:
        times = one["offsets"]
        if text := " ".join(one["text"].split()):
            segments.append(Segment(times["from"] / 1000, times["to"] / 1000, text))
    return segments, {
        "duration_seconds": round(seconds, 3),
        "language": result["result"]["language"],
        **counts(segments),
        "recogniser": "whisper.cpp",
        "model": os.path.basename(weights),
        "device": "gpu" if any(re.search(r"using (CUDA|ROCm|Metal|MTL|Vulkan|SYCL)", line) for line in said) else "cpu",
    }


def write_sound(sound, target, report):
    """Writes the sound as the file that whisper.cpp reads. How long it is, in seconds."""
    with wave.open(target, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(media.RATE)
        for piece in sound.pieces(report):
            file.writeframesraw(piece)
    return sound.seconds


def arguments(weights, wanted, sound, output):
    """What the program is given. It writes `output` with `.json` at its end."""
    return [
        "--model", weights,
        "--file", sound,
        "--language", wanted.language or "auto",
        "--threads", str(len(os.sched_getaffinity(0))),
        "--beam-size", str(wanted.beam_size),
        "--output-json",
        "--output-file", output,
        "--print-progress",
        *(["--translate"] if wanted.task == "translate" else []),
        *(["--prompt", wanted.initial_prompt] if wanted.initial_prompt else []),
    ]  # fmt: skip


def listen(command, report):
    """Runs the program. What it said last."""
    said = deque(maxlen=200)
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        for line in process.stderr:
            line = line.decode("utf-8", "replace").strip()
            said.append(line)
            if found := re.search(r"progress =\s*(\d+)%", line):
                report(int(found.group(1)) / 100)
            if re.match(r"error: unknown language", line):
                process.kill()
                raise BadInput(f"whisper.cpp does not know the language: {line}")
    if process.returncode:
        end = " ".join(list(said)[-5:])
        raise RuntimeError(f"{os.path.basename(command[0])} ended with {process.returncode}: {end}")
    return said


if __name__ == "__main__":
    run(partial(speech.convert, sys.modules[__name__]), check)
