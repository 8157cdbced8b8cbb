"""Sound and facts out of media files: ffmpeg decodes, PyAV looks, and neither opens anything but the file itself."""

import os
import re
import subprocess
import threading
from collections import deque
from dataclasses import dataclass, field

import av
import imageio_ffmpeg

from converting import BadInput

RATE = 16000
BYTES_PER_SECOND = RATE * 2

# Containers and streams of sound and pictures, and nothing that can name another file or a URL, as a playlist does.
FORMATS = (
    "aac,ac3,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,dts,eac3,flac,flv,gsm,"
    "matroska,webm,mov,mp4,m4a,3gp,3g2,mp3,mpc,mpc8,mpeg,mpegts,mxf,ogg,rm,tta,w64,wav,wtv,wv"
)
PROTOCOLS = "file,pipe"
UNKNOWN = "unknown"
# Languages as containers have them whose two letters do not begin the three.
LANGUAGES = {
    "ger": "de", "spa": "es", "chi": "zh", "zho": "zh", "por": "pt", "jpn": "ja", "pol": "pl", "dut": "nl", "nld": "nl",
    "swe": "sv", "tur": "tr", "ukr": "uk", "cze": "cs", "ces": "cs", "gre": "el", "dan": "da", "bul": "bg", "est": "et",
    "ind": "id", "ice": "is", "isl": "is", "gle": "ga", "slv": "sl", "slo": "sk", "slk": "sk", "rum": "ro", "per": "fa",
    "mac": "mk", "mkd": "mk", "baq": "eu", "wel": "cy", "bos": "bs", "mal": "ml", "mar": "mr", "kaz": "kk", "may": "ms",
    "msa": "ms", "alb": "sq", "arm": "hy", "geo": "ka", "bur": "my", "und": "",
}  # fmt: skip
# Of a tag's text more is no title.
LONGEST_TAG = 500


def versions():
    ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
    first = subprocess.run([ffmpeg, "-version"], check=True, capture_output=True, text=True, timeout=20).stdout
    return f"{' '.join(first.split()[:3])}, PyAV {av.__version__}"


@dataclass
class Track:
    """An audio stream: its place among those, its language as options name it, and what is known of it."""

    index: int
    language: str
    default: bool
    known: dict


@dataclass
class Facts:
    """What a file's headers say of it. Times are in seconds. `sound` is that of one of the tracks."""

    duration: float | None = None
    format: str = ""
    tags: dict = field(default_factory=dict)
    tracks: list = field(default_factory=list)
    sound: dict = field(default_factory=dict)
    picture: dict = field(default_factory=dict)
    chapters: list = field(default_factory=list)

    def preferred(self, language):
        """The tracks, the first to be tried first: of the language that is wanted, or else what players play."""

        def order(one):
            return not language or one.language != language, not one.default, one.index

        return sorted(self.tracks, key=order)

    def metadata(self):
        """All of it, as a result's metadata says it."""
        known = {name: self.tags[name] for name in ("title", "artist", "album", "genre", "date") if name in self.tags}
        if self.duration:
            known["duration_seconds"] = round(self.duration, 3)
        if self.chapters:
            known["chapters"] = self.chapters
        return {"format": self.format, **known, **self.sound, **self.picture}


def look(path):
    """Reads the headers of a file that is sound, or pictures, or both."""
    with opened(path) as container:
        facts = Facts(format=container.format.name, tags=cleaned(container.metadata), chapters=chapters(container))
        if container.duration:
            facts.duration = container.duration / av.time_base
        for stream in container.streams:
            # Where the container has no tags, as in Ogg, the stream has them.
            facts.tags = {**(cleaned(stream.metadata) if stream.type == "audio" else {}), **facts.tags}
        facts.tracks = [track(*one) for one in enumerate(container.streams.audio)]
        facts.sound = next((one.known for one in facts.preferred(None)), {})
        if moving := pictures(container):
            facts.picture = picture(moving)
    if not (facts.sound or facts.picture):
        raise BadInput("The source holds neither sound nor moving pictures.")
    return facts


def opened(path):
    options = {"protocol_whitelist": PROTOCOLS, "format_whitelist": FORMATS}
    try:
        return av.open("file:" + os.path.abspath(path), options=options, metadata_errors="replace")
    except (av.FFmpegError, ValueError) as reason:
        kind = reason.strerror if isinstance(reason, av.FFmpegError) else str(reason)
        raise BadInput(
            f"The source is no sound or video that ffmpeg can decode here ({kind}): it may be damaged, or of another "
            "type, such as a playlist, which is not followed."
        ) from None


def pictures(container):
    """The stream of moving pictures; a cover image is none."""
    cover = av.stream.Disposition.attached_pic
    return next((one for one in container.streams.video if not one.disposition & cover), None)


def track(index, stream):
    language = (stream.metadata.get("language") or "").lower()
    default = bool(stream.disposition & av.stream.Disposition.default)
    return Track(index, LANGUAGES.get(language, language[:2]), default, sound(stream))


def sound(stream):
    known = {"audio_codec": codec(stream)}
    if codec(stream) != UNKNOWN:
        known |= {"sample_rate": stream.sample_rate, "channels": stream.channels}
    return {name: value for name, value in known.items() if value}


def picture(stream):
    known = {"video_codec": codec(stream)}
    if codec(stream) != UNKNOWN:
        known |= {"width": stream.width, "height": stream.height, "resolution": f"{stream.width}x{stream.height}"}
    if stream.average_rate:
        known["frame_rate"] = round(float(stream.average_rate), 3)
    return known


def codec(stream):
    """The name of the format, whichever decoder is used for it."""
    return stream.codec_context.codec.canonical_name if stream.codec_context else UNKNOWN


def chapters(container):
    return [
        {
            "start_seconds": round(float(one["start"] * one["time_base"]), 3),
            "end_seconds": round(float(one["end"] * one["time_base"]), 3),
            "title": cleaned(one["metadata"]).get("title", f"Chapter {number}"),
        }
        for number, one in enumerate(container.chapters(), 1)
    ]


def cleaned(tags):
    """Tags in lower case with their text on one line."""
    lines = {name.lower(): " ".join(text.split())[:LONGEST_TAG] for name, text in tags.items()}
    return {name: text for name, text in lines.items() if text}


def keyframes(path, report):
    """When each picture is shown that can be decoded alone, in seconds. `report` gets the share that was read."""
    times = []
    with opened(path) as container:
        stream = pictures(container)
        whole = os.path.getsize(path)
        try:
            for packet in container.demux(stream):
                if packet.is_keyframe and packet.pts is not None:
                    times.append(round(float(packet.pts * packet.time_base), 3))
                if packet.pos:
                    report(packet.pos / whole)
        except av.FFmpegError as reason:
            print(f"The pictures are damaged after {len(times)} keyframes: {reason.strerror}", flush=True)
    return times


class Sound:
    """One of the source's audio streams as 16-bit samples at 16 kHz in one channel."""

    def __init__(self, path, track=0):
        command = [
            imageio_ffmpeg.get_ffmpeg_exe(),
            "-hide_banner", "-nostdin", "-nostats", "-loglevel", "info",
            "-protocol_whitelist", PROTOCOLS, "-format_whitelist", FORMATS,
            "-i", "file:" + os.path.abspath(path),
            "-map", f"0:a:{track}", "-vn", "-sn", "-dn", "-map_metadata", "-1",
            "-ac", "1", "-ar", str(RATE), "-f", "s16le", "pipe:1",
        ]  # fmt: skip
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self.duration = None
        self.read = 0
        self.last_lines = deque(maxlen=5)
        self.listener = threading.Thread(target=self.listen, daemon=True)
        self.listener.start()

    @property
    def seconds(self):
        return self.read / BYTES_PER_SECOND

    def listen(self):
        """Notes the duration that ffmpeg announces before the first sample, and what it says last."""
        for line in self.process.stderr:
            line = line.decode("utf-8", "replace").strip()
            announced = re.match(r"Duration: (\d+):(\d+):(\d+(?:\.\d+)?)", line)
            if announced and self.duration is None:
                hours, minutes, seconds = (float(part) for part in announced.groups())
                self.duration = hours * 3600 + minutes * 60 + seconds
            if line:
                self.last_lines.append(line)

    def frames(self, size):
        """Yields frames of `size` bytes; the last one may be shorter."""
        while frame := self.process.stdout.read(size):
            self.read += len(frame)
            yield frame

    def pieces(self, report):
        """Yields all of it in pieces of a few seconds. `report` gets the share that was decoded."""
        for piece in self.frames(10 * BYTES_PER_SECOND):
            if self.duration:
                report(self.seconds / self.duration)
            yield piece
        self.finish()

    def finish(self):
        code = self.process.wait()
        self.listener.join()
        said = " ".join(self.last_lines)
        if code < 0:
            raise RuntimeError(f"ffmpeg was ended by signal {-code}: {said}")
        if not (code or self.read):
            raise BadInput("The source holds no sound: its audio stream is empty.")
        if code:
            raise BadInput(f"ffmpeg cannot decode the source as sound: {said}")
