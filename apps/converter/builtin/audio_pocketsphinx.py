"""Recorded speech to a Markdown transcript: ffmpeg decodes any audio, pocketsphinx recognises English.

Of the options in speech.py it honours `language` (anything but English is refused) and `include_timestamps`.
"""

import re
from functools import partial
from importlib.metadata import version
from sys import modules

from pocketsphinx import Decoder, Vad, set_loglevel

import media
import speech
from converting import BadInput, run
from media import BYTES_PER_SECOND, RATE
from transcript import Segment, clock, counts

LANGUAGE = "en-us"

# Words are searched in stretches that begin and end in silence, so that none is cut in two. The recogniser adapts to
# the loudness of the whole stretch, which takes some seconds to be worth it, and its memory grows with the stretch.
SHORTEST_STRETCH = 8.0
LONGEST_STRETCH = 30.0
SILENCE = 0.3
# So long a speaker pauses between sentences rather than between words.
PAUSE = 0.4

# The second pass prunes less than by default. On two sample clips that raises the words found from 73 to 80 per cent
# and the time by a tenth; wider beams in the first pass cost three times as much and find no more.
SEARCH = {"samprate": RATE, "fwdflatbeam": 1e-80, "fwdflatwbeam": 1e-40, "bestpath": True}


def check():
    set_loglevel("FATAL")
    Decoder(**SEARCH)
    return f"pocketsphinx {version('pocketsphinx')}, {media.versions()}"


def recognise(path, wanted, part, track=0):
    if wanted.language not in (None, "en"):
        raise BadInput(f"The recogniser knows English only, and the job asks for the language {wanted.language!r}.")
    if wanted.task == "translate":
        raise BadInput("The recogniser does not translate, which the option `task` asks for.")
    part("Audio processing: Initializing", 0, 0)
    set_loglevel("FATAL")
    decoder = Decoder(**SEARCH)
    sound = media.Sound(path, track)
    done = part("Audio processing: Recognising", 1, 99)
    segments = []
    for start, pcm in stretches(sound):
        end = start + len(pcm) / BYTES_PER_SECOND
        segments += heard(decoder, pcm, start)
        if sound.duration:
            done(end / sound.duration)
        else:
            print(f"Audio processing: {clock(end)}", flush=True)
    sound.finish()
    return segments, {
        "duration_seconds": round(sound.seconds, 3),
        "language": LANGUAGE,
        **counts(segments),
        "recogniser": "pocketsphinx",
        "recogniser_version": version("pocketsphinx"),
        "model": LANGUAGE,
        "device": "cpu",
    }


def heard(decoder, pcm, start):
    """What is said in a stretch, which begins at `start` seconds, cut where the speaker pauses."""
    decoder.start_utt()
    decoder.process_raw(pcm, full_utt=True)
    decoder.end_utt()
    frame_seconds = 1 / decoder.config["frate"]
    segments, paused = [], True
    for word in decoder.seg() or []:
        begin, end = start + word.start_frame * frame_seconds, start + (word.end_frame + 1) * frame_seconds
        # Silence, noise and the bounds of the stretch are in brackets; a number in parentheses is of a pronunciation.
        if word.word[0] in "<[":
            paused = paused or end - begin >= PAUSE
            continue
        text = re.sub(r"\(\d+\)$", "", word.word)
        if paused:
            segments.append(Segment(begin, end, text))
        else:
            segments[-1].end = end
            segments[-1].text += " " + text
        paused = False
    return segments


def stretches(sound):
    """Yields (start in seconds, samples) of stretches of sound that hold speech, cut in the middle of silences."""
    vad = Vad(Vad.LOOSE, RATE)
    frame_seconds = vad.frame_bytes / BYTES_PER_SECOND
    start, frames, heard, silent = 0.0, [], False, 0
    for frame in sound.frames(vad.frame_bytes):
        frames.append(frame)
        spoken = vad.is_speech(frame.ljust(vad.frame_bytes, b"\0"))
        heard = heard or spoken
        silent = 0 if spoken else silent + 1
        length = len(frames) * frame_seconds
        paused = length >= SHORTEST_STRETCH and silent * frame_seconds >= SILENCE
        if not paused and length < LONGEST_STRETCH:
            continue
        keep = silent // 2 if paused else 0
        done = len(frames) - keep
        if heard:
            yield start, b"".join(frames[:done])
        start, frames, heard, silent = start + done * frame_seconds, frames[done:], False, keep
    if heard:
        yield start, b"".join(frames)


if __name__ == "__main__":
    run(partial(speech.convert, modules[__name__]), check)
