"""Recorded speech to a Markdown transcript: ffmpeg decodes any audio, faster-whisper recognises a hundred languages.

The model is one that is on this machine already, for nothing is downloaded in a job: the folder, or the name, that
the variable MORAG_WHISPER_MODEL names, or else the best in the Hugging Face cache. It is run on CUDA where there is
a GPU that CTranslate2 can use, unless MORAG_WHISPER_DEVICE is `cpu`. A recording is recognised in stretches of an
hour, so that long ones take no more memory. The options are in speech.py.
"""

import ctypes
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

# What CTranslate2 opens when it first multiplies on a GPU, so in a job, and not when it counts the GPUs.
CUBLAS = "libcublas.so.12"

# Longer recordings are cut, at the quietest place within so much of the end of a stretch.
STRETCH_SECONDS = 3600
CUT_SECONDS = 30


def check():
    name, _ = model(None)
    import_module("faster_whisper")
    where, lacking = device()
    return f"faster-whisper {version('faster-whisper')}, model {name} on {where}{lacking}, {media.versions()}"


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
    """The device that is used, and what to add to its name where a GPU is there and of no use."""
    import ctranslate2

    wanted = os.environ.get("MORAG_WHISPER_DEVICE", "auto").strip().lower() or "auto"
    if wanted not in ("auto", "cpu", "cuda"):
        raise Unusable(f"MORAG_WHISPER_DEVICE must be auto, cpu or cuda, not {wanted}.")
    if wanted == "cpu":
        return "cpu", ""
    if not ctranslate2.get_cuda_device_count():
        if wanted == "cuda":
            raise Unusable("MORAG_WHISPER_DEVICE is cuda, and CTranslate2 finds no GPU that it can use.")
        return "cpu", ""
    try:
        ctypes.CDLL(CUBLAS)
    except OSError:
        lacking = f"the GPU needs {CUBLAS} of CUDA 12, which cannot be loaded: install it, or put it on LD_LIBRARY_PATH"
        if wanted == "cuda":
            raise Unusable(f"MORAG_WHISPER_DEVICE is cuda, and {lacking}.") from None
        return "cpu", f" ({lacking})"
    return "cuda", ""


def recognise(path, wanted, part, track=0):
    import ctranslate2
    from faster_whisper import WhisperModel

    part("Audio processing: Initializing", 0, 0)
    name, folder = model(wanted.model)
    where, lacking = device()
    if lacking:
        print(f"The CPU recognises: {lacking.strip(' ()')}.", flush=True)
    possible = ctranslate2.get_supported_compute_types(where)
    kind = next((one for one in COMPUTE_TYPES[where] if one in possible), "default")
    whisper = WhisperModel(folder, device=where, compute_type=kind, cpu_threads=len(os.sched_getaffinity(0)))
    if wanted.language and wanted.language not in whisper.supported_languages:
        raise BadInput(f"The model {name} does not know the language {wanted.language!r}.")
    sound = media.Sound(path, track)
    done = part("Audio processing: Transcribing", 1, 99)
    segments, start, said = [], 0.0, None
    for samples in stretches(sound):
        length = len(samples) / media.RATE
        # What the first speech was in, the rest is.
        language = said.language if segments else wanted.language
        found, info = whisper.transcribe(samples, **{**arguments(wanted), "language": language})
        said = said if segments else info
        for one in found:
            done((start + one.end) / max(sound.duration or 0, start + length))
            if text := " ".join(one.text.split()):
                segments.append(Segment(start + one.start, start + one.end, text))
        start += length
    return segments, {
        "duration_seconds": round(sound.seconds, 3),
        "language": said.language,
        "language_probability": round(float(said.language_probability), 3),
        **counts(segments),
        "recogniser": "faster-whisper",
        "recogniser_version": version("faster-whisper"),
        "model": name,
        "device": where,
        "compute_type": kind,
    }


def stretches(sound):
    """The sound as faster-whisper takes it, which left to itself would decode whatever a file is, playlists too."""
    import numpy

    def samples(pcm):
        return numpy.frombuffer(pcm, numpy.int16, len(pcm) // 2).astype(numpy.float32) / 32768

    pcm = bytearray()
    for piece in sound.pieces(lambda _: None):
        pcm += piece
        if len(pcm) >= STRETCH_SECONDS * media.BYTES_PER_SECOND:
            stretch = samples(pcm)
            cut = quietest(stretch)
            yield stretch[:cut]
            del pcm[: cut * 2]
    if pcm:
        yield samples(pcm)


def quietest(samples):
    """The sample before which to cut: the middle of the quietest half second near the end."""
    import numpy

    window = media.RATE // 2
    first = max(len(samples) - CUT_SECONDS * media.RATE, len(samples) // 2)
    windows = (len(samples) - first) // window
    if not windows:
        return len(samples)
    near = samples[first : first + windows * window].reshape(windows, window)
    return first + int(numpy.square(near).mean(axis=1).argmin()) * window + window // 2


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
