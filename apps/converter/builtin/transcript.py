"""What was said, and when, as Markdown: a line for each stretch of speech that begins with the time in brackets."""

from dataclasses import dataclass


@dataclass
class Segment:
    """A stretch of speech. Times are in seconds."""

    start: float
    end: float
    text: str


def clock(seconds):
    """A time as it is written before a line: 01:02, and from an hour on 01:02:03."""
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}" if hours else f"{minutes:02}:{seconds:02}"


def markdown(title, segments, chapters, timestamps=True):
    """A document with a section for each chapter, or with none. What was said before the first one stands first."""
    parts = [f"# {title}"]
    begins = [chapter["start_seconds"] for chapter in chapters]
    parts.append(lines([one for one in segments if not begins or one.start < begins[0]], timestamps))
    for index, chapter in enumerate(chapters):
        end = begins[index + 1] if index + 1 < len(begins) else float("inf")
        stamp = f" [{clock(begins[index])}]" if timestamps else ""
        parts.append(f"## {chapter['title']}{stamp}")
        parts.append(lines([one for one in segments if begins[index] <= one.start < end], timestamps))
    return "\n\n".join(part for part in parts if part) + "\n"


def lines(segments, timestamps):
    if not timestamps:
        return " ".join(one.text for one in segments)
    return "\n".join(f"[{clock(one.start)}] {one.text}" for one in segments)


def counts(segments):
    return {"segment_count": len(segments), "word_count": sum(len(one.text.split()) for one in segments)}
