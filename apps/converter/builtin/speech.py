"""Speech to a transcript, by a recogniser that is a module of its own.

A recogniser has `check()`, which says its version or raises `Unusable`, and
`recognise(path, wanted, part, track=0) -> (segments, metadata)`, where `part(message, first, last)` begins a part of
the work, in per cent of it, and returns what is told the share of it that is done.

Options of a job that are honoured:

- `language`: a code such as `en`, `de-AT`; `auto` or nothing leaves it to the recogniser. Of several audio tracks that
  of the language is taken, or else the default one, and the next where nobody speaks in it.
- `include_timestamps`: whether each line begins with its time; true unless said otherwise.
- `model`, also `model_size` or `audio_model_size`: a Whisper model by its name, such as `large-v3`. It is used when it
  is on this machine; otherwise the machine's own is. The metadata says which it was.
- `task`: `transcribe`, or `translate` for an English text whatever was spoken (Whisper only).
- `beam_size`: how many candidates Whisper follows, 1 to 20; 5 unless said otherwise.
- `vad_filter`: whether faster-whisper skips what is no speech; true unless said otherwise.
- `initial_prompt`: a text that tells Whisper names and style.
"""

from dataclasses import dataclass
from importlib import import_module

import media
import transcript
from converting import BadInput, Steps, Unusable, progress

# The better first.
RECOGNISERS = ("audio_whisper", "audio_whisper_cpp", "audio_pocketsphinx")


@dataclass
class Wanted:
    """What a job asks for."""

    language: str | None
    timestamps: bool
    model: str | None
    task: str
    beam_size: int
    vad_filter: bool
    initial_prompt: str | None

    @classmethod
    def of(cls, options):
        language = option(options, str, None, "language")
        task = option(options, str, "transcribe", "task")
        if task not in ("transcribe", "translate"):
            raise BadInput(f"The option `task` must be `transcribe` or `translate`, not {task!r}.")
        beam_size = option(options, int, 5, "beam_size")
        if not 1 <= beam_size <= 20:
            raise BadInput(f"The option `beam_size` must be from 1 to 20, not {beam_size}.")
        return cls(
            language=code(language) if language else None,
            timestamps=option(options, bool, True, "include_timestamps"),
            model=option(options, str, None, "model", "model_size", "audio_model_size"),
            task=task,
            beam_size=beam_size,
            vad_filter=option(options, bool, True, "vad_filter"),
            initial_prompt=option(options, str, None, "initial_prompt"),
        )


def option(options, kind, default, *names):
    """The first of the named options that is given, which must be of its kind."""
    for name in names:
        value = options.get(name)
        if value is None or value == "":
            continue
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            words = {str: "a text", int: "a whole number", bool: "true or false"}
            raise BadInput(f"The option `{name}` must be {words[kind]}, not {value!r}.")
        return value
    return default


def code(language):
    """`en` of `en_US`, `EN-us`, or `english`; None of `auto`."""
    first = language.strip().lower().replace("_", "-").split("-")[0]
    return {"auto": None, "english": "en", "german": "de", "deutsch": "de"}.get(first, first)


def usable():
    """The best recogniser that is usable here, and what it says of itself."""
    reasons = []
    for name in RECOGNISERS:
        try:
            recogniser = import_module(name)
            return recogniser, recogniser.check()
        except (Unusable, ImportError) as reason:
            reasons.append(f"{name}: {reason}")
    raise Unusable("No recogniser of speech is usable here. " + " ".join(reasons))


def heard(recogniser, path, wanted, part, facts):
    """What is said in the first track, in the order of preference, in which anything is."""
    for track in facts.preferred(wanted.language):
        segments, known = recogniser.recognise(path, wanted, part, track.index)
        if segments:
            break
    facts.sound = track.known
    return segments, {**known, "audio_track": track.index + 1} if len(facts.tracks) > 1 else known


def convert(recogniser, path, options):
    """A recording as a document and its metadata."""
    wanted = Wanted.of(options)
    facts = media.look(path)
    if not facts.sound:
        raise BadInput("The source has no sound.")
    segments, known = heard(recogniser, path, wanted, Steps().part, facts)
    metadata = {**facts.metadata(), **known}
    if not segments:
        raise BadInput(f"No speech was recognised in {metadata.get('duration_seconds', 0):.1f} s of sound.")
    title = facts.tags.get("title", "Transcript")
    progress("Audio processing: Writing", 99)
    return transcript.markdown(title, segments, facts.chapters, wanted.timestamps), metadata
