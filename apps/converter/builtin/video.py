"""Videos to Markdown: what is said in them, by the best recogniser that is here, under a heading for each chapter.

The metadata says what the headers say of sound, pictures and chapters, and when the pictures are that can be decoded
alone, the keyframes. A video in which nobody speaks is described instead: it is no failure.

Besides the options in speech.py it honours

- `extract_keyframes`: whether keyframes are looked for; true unless said otherwise.
- `max_keyframes`: how many of them are listed, evenly spread over all, 1 to 1000; 100 unless said otherwise.
"""

import media
import speech
import transcript
from converting import BadInput, Steps, run
from speech import option


def check():
    return speech.usable()[1]


def convert(path, options):
    wanted = speech.Wanted.of(options)
    most = option(options, int, 100, "max_keyframes")
    if not 1 <= most <= 1000:
        raise BadInput(f"The option `max_keyframes` must be from 1 to 1000, not {most}.")
    wants_keyframes = option(options, bool, True, "extract_keyframes")
    steps = Steps()
    steps.part("Video processing: Initializing", 0, 0)
    facts = media.look(path)
    metadata = facts.metadata()
    if facts.picture and wants_keyframes:
        times = media.keyframes(path, steps.part("Video processing: Looking for keyframes", 0, 10))
        metadata |= {"keyframe_count": len(times), "keyframes": spread(times, most)}
    segments = []
    if facts.sound:
        recogniser, _ = speech.usable()
        segments, heard = speech.heard(recogniser, path, wanted, within(steps, 10, 99), facts)
        # What was decoded of the sound may be shorter than the pictures are.
        metadata = {**heard, **metadata, **facts.sound}
    metadata["has_speech"] = bool(segments)
    title = facts.tags.get("title") or ("Transcript" if segments else "Video")
    content = transcript.markdown(title, segments, facts.chapters, wanted.timestamps)
    return content if segments else described(content, facts), metadata


def within(steps, first, last):
    """Parts of a stretch of the work, whose own shares of it are in per cent."""
    scale = (last - first) / 100
    return lambda message, start, end: steps.part(message, first + start * scale, first + end * scale)


def spread(times, most):
    """At most so many of the times, the first and the last among them."""
    if len(times) <= most or most == 1:
        return times[:most]
    return [times[round(index * (len(times) - 1) / (most - 1))] for index in range(most)]


def described(content, facts):
    """What there is to say of a video in which nobody speaks, between its title and its chapters."""
    known = []
    if facts.duration:
        known.append(f"lasts {transcript.clock(facts.duration)}")
    if "resolution" in facts.picture:
        known.append(f"has pictures of {facts.picture['resolution']} pixels")
    known.append("and has sound in which no speech was recognised" if facts.sound else "and has no sound")
    title, _, chapters = content.partition("\n")
    sentence = f"This video {', '.join(known)}."
    return f"{title}\n\n{sentence}\n{chapters}"


if __name__ == "__main__":
    run(convert, check)
