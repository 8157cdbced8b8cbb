"""Reads subtitles, WebVTT and SubRip, as the speech that they are."""

import html
import re

from transcript import Segment

TIMES = re.compile(r"\s*(?:(\d+):)?(\d{1,2}):(\d{2})[.,](\d{1,3})\s+-->\s+(?:(\d+):)?(\d{1,2}):(\d{2})[.,](\d{1,3})")


def parse(text, rolling=False):
    """The cues in their order. Automatic captions are `rolling`: a cue repeats the lines that are still shown."""
    segments, shown = [], []
    for block in re.split(r"\n[ \t]*\n", text.lstrip("\ufeff").replace("\r\n", "\n").replace("\r", "\n")):
        rows = block.split("\n")
        timed = next((index for index, row in enumerate(rows[:2]) if TIMES.match(row)), None)
        if timed is None:
            continue
        start, end = times(rows[timed])
        spoken = [row for row in map(plain, rows[timed + 1 :]) if row]
        fresh = spoken[repeated(shown, spoken) :] if rolling else spoken
        shown = spoken or shown
        if fresh:
            segments.append(Segment(start, end, " ".join(fresh)))
    return segments


def times(row):
    parts = [int(part or 0) for part in TIMES.match(row).groups()]
    return tuple(
        hours * 3600 + minutes * 60 + seconds + thousandths / 1000
        for hours, minutes, seconds, thousandths in (parts[:4], parts[4:])
    )


def plain(row):
    """A line without its tags of style, speaker and karaoke times, and without SubRip's places on the screen."""
    row = re.sub(r"<[^>]*>|\{\\[^}]*\}", "", row)
    return " ".join(html.unescape(row).split())


def repeated(shown, spoken):
    """How many lines at the beginning of the one are those at the end of the other."""
    most = min(len(shown), len(spoken))
    return next((count for count in range(most, 0, -1) if shown[-count:] == spoken[:count]), 0)
