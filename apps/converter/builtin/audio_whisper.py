"""Recorded speech to a Markdown transcript: ffmpeg decodes any audio, faster-whisper recognises a hundred languages.

The model is one that is on this machine already, for nothing is downloaded in a job: the folder, or the name, that
the variable MORAG_WHISPER_MODEL names, or else the best in the Hugging Face cache. It is run on CUDA where there is
a GPU that CTranslate2 can use, unless MORAG_WHISPER_DEVICE is `cpu`. The options are in speech.py.
"""

import os
import re
from functools import partial
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from sys import modules

import media
import speech
from converting import BadInput, Unusable, run
from transcript import Segment, counts

# The better first: a model that somebody put here is meant to be used.
MODELS = (
    "large-v3", "large-v3-turbo", "large-v2", "large-v1", "distil-large-v3.5", "distil-large-v3", "distil-large-v2",
    "medium", "small", "base", "tiny",
    "distil-medium.en", "medium.en", "distil-small.en", "small.en", "base.en", "tiny.en",
)  # fmt: skip

# By device, the faster that keep the quality first.
COMPUTE_TYPES = {"cuda": ("float16", "int8_float16", "float32"), "cpu": ("int8", "float32")}


def check():
    name, _ = model(None)
    import_module("faster_whisper")
    return f"faster-whisper {version('faster-whisper')}, model {name} on {device()}, {media.versions()}"


def model(wanted):
    """The name and folder of the model to use: the wanted one if it is here."""
    try:
        version("faster-whisper")
    except PackageNotFoundError:
        raise Unusable("The Python package faster-whisper is not installed.") from None
    named = os.environ.get("MORAG_WHISPER_MODEL", "").strip()
    if wanted and wanted != named and re.fullmatch(r"[\w.-]+", wanted):
        if folder := cached(wanted):
            return wanted, folder
        print(f"The model {wanted} that the job asks for is not on this machine.", flush=True)
    if named:
        folder = named if os.path.isdir(named) else cached(named)
        if folder and complete(folder):
            return os.path.basename(os.path.normpath(named)), folder
        raise Unusable(
            f"MORAG_WHISPER_MODEL names {named}, which is no folder with a model.bin and a tokenizer.json, and no "
            "model in the Hugging Face cache."
        )
    for name in MODELS:
        if folder := cached(name):
            return name, folder
    raise Unusable(
        "No Whisper model is on this machine. Download one, as `hf download Systran/faster-whisper-small` does, or "
        "name its folder in MORAG_WHISPER_MODEL."
    )


def cached(name):
    """The folder of a model in the Hugging Face cache, where it is there."""
    from faster_whisper.utils import download_model
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        folder = download_model(name, local_files_only=True)
    except (LocalEntryNotFoundError, HFValidationError, ValueError):
        return None
    return folder if complete(folder) else None


def complete(folder):
    # A tokenizer that is missing would be looked for on the network.
    return all(os.path.isfile(os.path.join(folder, name)) for name in ("model.bin", "tokenizer.json"))


def device():
    import ctranslate2

    wanted = os.environ.get("MORAG_WHISPER_DEVICE", "auto").strip().lower() or "auto"
    if wanted not in ("auto", "cpu", "cuda"):
        raise Unusable(f"MORAG_WHISPER_DEVICE must be auto, cpu or cuda, not {wanted}.")
    there = ctranslate2.get_cuda_device_count() > 0
    if wanted == "cuda" and not there:
        raise Unusable("MORAG_WHISPER_DEVICE is cuda, and CTranslate2 finds no GPU that it can use.")
    return "cuda" if there and wanted != "cpu" else "cpu"


def recognise(path, wanted, part):
    import ctranslate2
    from faster_whisper import WhisperModel

    part("Audio processing: Initializing", 0, 0)
    name, folder = model(wanted.model)
    where = device()
    possible = ctranslate2.get_supported_compute_types(where)
    kind = next((one for one in COMPUTE_TYPES[where] if one in possible), "default")
    whisper = WhisperModel(folder, device=where, compute_type=kind, cpu_threads=len(os.sched_getaffinity(0)))
    if wanted.language and wanted.language not in whisper.supported_languages:
        raise BadInput(f"The model {name} does not know the language {wanted.language!r}.")
    samples = decoded(path, part("Audio processing: Decoding", 1, 10))
    done = part("Audio processing: Transcribing", 10, 99)
    found, info = whisper.transcribe(samples, **arguments(wanted))
    segments = []
    for one in found:
        done(one.end / info.duration)
        if text := " ".join(one.text.split()):
            segments.append(Segment(one.start, one.end, text))
    return segments, {
        "duration_seconds": round(info.duration, 3),
        "language": info.language,
        "language_probability": round(float(info.language_probability), 3),
        **counts(segments),
        "recogniser": "faster-whisper",
        "recogniser_version": version("faster-whisper"),
        "model": name,
        "device": where,
        "compute_type": kind,
    }


def decoded(path, report):
    """The sound as faster-whisper takes it, which left to itself would decode whatever a file is, playlists too."""
    import numpy

    pcm = bytearray()
    for piece in media.Sound(path).pieces(report):
        pcm += piece
    samples = numpy.frombuffer(pcm, numpy.int16, len(pcm) // 2).astype(numpy.float32)
    samples /= 32768
    return samples


def arguments(wanted):
    """What `WhisperModel.transcribe` is given besides the sound."""
    return {
        "language": wanted.language,
        "task": wanted.task,
        "beam_size": wanted.beam_size,
        "vad_filter": wanted.vad_filter,
        "initial_prompt": wanted.initial_prompt,
        # Otherwise one mistake is repeated through the rest of a long recording.
        "condition_on_previous_text": False,
    }


if __name__ == "__main__":
    run(partial(speech.convert, modules[__name__]), check)
