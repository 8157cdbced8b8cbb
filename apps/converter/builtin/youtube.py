"""A video's address to Markdown: its subtitles, or else what is said in it, by yt-dlp.

The source is a text file whose first line is the address. Subtitles that somebody wrote are taken before automatic
ones; without any the sound is downloaded and recognised. The proxy of this program, which the environment names,
decides which hosts are reached.

Besides the options in speech.py, of which `language` chooses the subtitles too, it honours

- `use_subtitles`: whether subtitles are taken; true unless said otherwise.
- `automatic_subtitles`: whether automatic ones are; true unless said otherwise.
- `max_duration_seconds`: refuse videos that last longer; 12 hours unless said otherwise.
"""

import json
import os
import re
import subprocess
import sys
from collections import deque
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlsplit

import speech
import subtitles
import transcript
from converting import BadInput, FarAway, Steps, TryAgain, run
from speech import option
from video import within

MOST_BYTES = 4 << 30
LONGEST = 12 * 3600

# What yt-dlp reports of a download, for the line to be read again here.
TEMPLATE = (
    "download:downloaded %(progress.downloaded_bytes|0)d "
    "of %(progress.total_bytes,progress.total_bytes_estimate|0)d"
)

# What yt-dlp says of videos that no further attempt will get.
LASTING = re.compile(
    r"Unsupported URL|is not a valid URL|Video unavailable|not available|Private video|has been removed|"
    r"been terminated|members-only|copyright|confirm your age|DRM protected|HTTP Error 4(04|10)|No video formats|"
    r"Requested format is not|has not made this video|setting .(networks|youtube_hosts)",
    re.I,
)

# What it says of hosts that are not there, or cannot serve, at the moment. A proxy that is not there is not of them.
PASSING = re.compile(
    r"HTTP Error (5\d\d|408|425|429)|Tunnel connection failed: 5\d\d|Connection (refused|reset|aborted)|timed out|"
    r"Name or service not known|name resolution|No address associated|unreachable|CERTIFICATE_VERIFY_FAILED|"
    r"certificate verify failed|Remote end closed|IncompleteRead|EOF occurred",
    re.I,
)


def check():
    return f"yt-dlp {version('yt-dlp')}, {speech.usable()[1]}"


def convert(path, options):
    wanted = speech.Wanted.of(options)
    use_subtitles = option(options, bool, True, "use_subtitles")
    use_automatic = option(options, bool, True, "automatic_subtitles")
    longest = option(options, int, LONGEST, "max_duration_seconds")
    url = read_url(path)
    steps = Steps()
    steps.part("YouTube processing: Looking for the video", 0, 0)
    info = look(url)
    if (info.get("duration") or 0) > longest:
        raise BadInput(f"The video lasts {info['duration']:.0f} s, and at most {longest} s are taken.")
    segments, heard = [], {}
    if use_subtitles:
        steps.part("YouTube processing: Reading subtitles", 5, 5)
        segments, heard = written(info, wanted, use_automatic)
    if not segments:
        segments, heard = spoken(info, wanted, steps)
    if not segments:
        raise BadInput("The video has no subtitles that can be used, and no speech was recognised in it.")
    known = facts(info)
    title = known.get("title", "Transcript")
    return transcript.markdown(title, segments, known.get("chapters", []), wanted.timestamps), {**heard, **known}


def read_url(path):
    """The address in the source, once it is one of the web."""
    with open(path, encoding="utf-8-sig", errors="replace") as file:
        url = next((line.strip() for line in file.read(65536).splitlines() if line.strip()), "")
    try:
        parts = urlsplit(url)
        fine = parts.scheme in ("http", "https") and parts.hostname and not parts.username and not re.search(r"\s", url)
    except ValueError:
        fine = False
    if not fine:
        raise BadInput(f"The source must be a text file with the address of a video, https://…, not {url[:100]!r}.")
    return url


def command(*arguments):
    """yt-dlp, without anything that a file on this machine or a page could add to it: it downloads, and no more."""
    # The proxy is left to the environment: its token would be seen among the arguments.
    return [
        sys.executable, "-P", "-m", "yt_dlp",
        "--ignore-config", "--no-plugin-dirs", "--no-exec", "--no-cookies", "--no-cookies-from-browser",
        "--no-cache-dir", "--no-remote-components", "--js-runtimes", "node", "--js-runtimes", "bun",
        "--no-playlist", "--playlist-items", "1:2", "--color", "never", "--no-mtime",
        "--socket-timeout", "30", "--retries", "5", "--extractor-retries", "2",
        # Its ffmpeg would open whatever a playlist names. It is left nothing to do, and not found.
        "--fixup", "never", "--downloader", "native", "--ffmpeg-location", os.devnull,
        *arguments,
    ]  # fmt: skip


def call(*arguments, on_line=None):
    """Runs yt-dlp; what it printed, or the error for what it said."""
    said, printed = deque(maxlen=20), []
    environment = {**os.environ, "YTDLP_NO_PLUGINS": "1"}
    with (
        open("yt-dlp.log", "w+b") as log,
        subprocess.Popen(
            command(*arguments), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, env=environment
        ) as process,
    ):
        for line in process.stdout:
            line = line.decode("utf-8", "replace")
            if on_line:
                on_line(line)
            else:
                printed.append(line)
        process.wait()
        log.seek(0)
        said.extend(line.decode("utf-8", "replace").strip() for line in log)
    if process.returncode:
        raise failure(said, process.returncode)
    return "".join(printed)


def failure(said, code):
    errors = [line for line in said if line.startswith("ERROR")] or list(said)[-3:]
    text = " ".join(errors) or f"it ended with {code} and said nothing"
    if code < 0:
        return TryAgain(f"yt-dlp was ended by signal {-code}: {text}")
    if LASTING.search(text):
        kind = BadInput
    elif PASSING.search(text) and not re.search(r"Unable to connect to proxy|407 Proxy", text, re.I):
        kind = FarAway
    else:
        kind = TryAgain
    return kind(f"yt-dlp cannot get the video: {text}")


def look(url):
    """What yt-dlp knows of the one video at the address."""
    info = json.loads(call("--dump-single-json", "--", url))
    if info.get("_type") == "playlist":
        entries = [entry for entry in info.get("entries") or [] if entry]
        if len(entries) != 1:
            raise BadInput(f"{url} is the address of {len(entries) or 'no'} videos, and a job takes one.")
        info = entries[0]
    if info.get("is_live") or info.get("live_status") in ("is_live", "is_upcoming", "post_live"):
        raise BadInput("The video is a live broadcast that has not ended.")
    with open("info.json", "w", encoding="utf-8") as file:
        json.dump(info, file)
    return info


def written(info, wanted, use_automatic):
    """The subtitles and what is known of them; nothing when there are none that fit."""
    for kind, flag, tracks in (
        ("manual", "--write-subs", info.get("subtitles")),
        ("automatic", "--write-auto-subs", info.get("automatic_captions") if use_automatic else None),
    ):
        language = choose(readable(tracks), wanted.language, info.get("language"), kind == "automatic")
        if not language:
            continue
        call(
            "--load-info-json", "info.json", "--skip-download", flag, "--sub-langs", re.escape(language),
            "--sub-format", "vtt/srt", "--output", "subtitles",
        )  # fmt: skip
        segments = []
        for file in sorted(Path().glob("subtitles.*")):
            if file.suffix in (".vtt", ".srt"):
                segments = subtitles.parse(file.read_text("utf-8", "replace"), rolling=kind == "automatic")
            file.unlink()
        if segments:
            known = {"subtitles": kind, "language": language.removesuffix("-orig")}
            return segments, {**known, **transcript.counts(segments)}
    return [], {}


def readable(tracks):
    """The languages of tracks that subtitles.py reads."""
    return [
        language
        for language, formats in (tracks or {}).items()
        if language != "live_chat" and any(one.get("ext") in ("vtt", "srt") for one in formats)
    ]


def choose(languages, wanted, original, automatic):
    """The track in the wanted language; when none is wanted, in the video's own."""
    primary = wanted or speech.code(original or "")
    if primary:
        fitting = [one for one in languages if speech.code(one) == primary]
    elif automatic:
        # Most of them are translations of what was recognised. YouTube marks that itself by this ending.
        fitting = [one for one in languages if one.endswith("-orig")] or (languages if len(languages) == 1 else [])
    else:
        fitting = [one for one in languages if speech.code(one) == "en"] or languages
    return min(fitting, key=lambda one: (not one.endswith("-orig"), len(one)), default=None)


def spoken(info, wanted, steps):
    """What is said in the video's sound, which is downloaded."""
    done = steps.part("YouTube processing: Downloading", 5, 40)

    def on_line(line):
        found = re.match(r"downloaded (\d+) of (\d+)", line)
        if not found:
            print(line.rstrip(), flush=True)
        elif int(found[2]):
            done(int(found[1]) / int(found[2]))

    call(
        "--load-info-json", "info.json", "--no-simulate", "--format", "ba[abr<=130]/ba/b",
        "--max-filesize", str(MOST_BYTES), "--newline", "--progress", "--progress-template", TEMPLATE,
        "--output", "sound.%(ext)s", on_line=on_line,
    )  # fmt: skip
    files = [file for file in Path().glob("sound.*") if file.suffix not in (".part", ".ytdl")]
    if not files:
        raise BadInput(f"yt-dlp downloaded nothing: the video may have more than {MOST_BYTES >> 30} GiB.")
    recogniser, _ = speech.usable()
    segments, heard = recogniser.recognise(str(files[0]), wanted, within(steps, 40, 99))
    files[0].unlink()
    return segments, {"subtitles": "none", **heard}


def facts(info):
    """What is known of the video."""
    names = {
        "title": "title", "url": "webpage_url", "video_id": "id", "channel": "channel", "channel_url": "channel_url",
        "duration_seconds": "duration",
    }  # fmt: skip
    known = {ours: info[theirs] for ours, theirs in names.items() if info.get(theirs)}
    if "channel" not in known and info.get("uploader"):
        known["channel"] = info["uploader"]
    if re.fullmatch(r"\d{8}", info.get("upload_date") or ""):
        date = info["upload_date"]
        known["upload_date"] = f"{date[:4]}-{date[4:6]}-{date[6:]}"
    if info.get("description"):
        known["description"] = info["description"][:5000]
    if info.get("chapters"):
        known["chapters"] = [
            {
                "start_seconds": one["start_time"],
                "end_seconds": one.get("end_time"),
                "title": " ".join((one.get("title") or f"Chapter {number}").split()),
            }
            for number, one in enumerate(info["chapters"], 1)
        ]
    if "title" in known:
        known["title"] = " ".join(known["title"].split())
    return known


if __name__ == "__main__":
    run(convert, check)
