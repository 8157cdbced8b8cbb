"""What a file is, by its extension; for extensions that say nothing, by its first bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Optional
from unicodedata import category
from urllib.parse import urlsplit

from .errors import FileUnusable, InvalidArgument

_HEAD = 64
"""How many bytes of a file's beginning are looked at."""

_EXTENSIONS = {
    "audio": "aac aif aiff amr flac m4a m4b mka mp2 mp3 oga ogg opus wav wma",
    "video": "3gp avi flv m2ts m4v mkv mov mp4 mpeg mpg mts ogv vob webm wmv",
    "document": (
        "adoc csv doc docm docx eml epub htm html ipynb json markdown md mobi odp ods odt org pdf ppt pptx rst rtf "
        "tex tsv txt xhtml xls xlsm xlsx xml"
    ),
    "image": "avif bmp gif heic heif jfif jp2 jpeg jpg png svg tif tiff webp",
}
_BY_EXTENSION = {extension: found for found, extensions in _EXTENSIONS.items() for extension in extensions.split()}

_YOUTUBE = ("youtube.com", "youtu.be")

_BEGINNINGS = (
    (b"%PDF-", "document"),
    (b"{\\rtf", "document"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "document"),
    (b"ID3", "audio"),
    (b"fLaC", "audio"),
    (b"OggS", "audio"),
    (b"#!AMR", "audio"),
    (b"\x1a\x45\xdf\xa3", "video"),
    (b"FLV\x01", "video"),
    (b"\x00\x00\x01\xba", "video"),
    (b"\x89PNG\r\n\x1a\n", "image"),
    (b"\xff\xd8\xff", "image"),
    (b"GIF87a", "image"),
    (b"GIF89a", "image"),
    (b"II*\0", "image"),
    (b"MM\0*", "image"),
)
"""How files begin that are of one type whatever follows."""


def detect_content_type(source: str) -> str:
    """The content type of a local file, or of what a URL leads to: a video of YouTube, or else a web page.

    Raises InvalidArgument when it cannot be told, and FileUnusable when the file cannot be read.
    """
    if is_url(source):
        return _of_url(source)
    path = Path(source)
    found = _BY_EXTENSION.get(path.suffix[1:].lower()) or _by_bytes(_head(path))
    if found is None:
        raise InvalidArgument(
            f"It cannot be told what {path} is; give its content_type: audio, video, document, image, or x-…."
        )
    return found


def is_url(source: str) -> bool:
    """Whether a source is a URL rather than a file."""
    return source[:8].lower().startswith(("http://", "https://"))


def with_small_scheme(url: str) -> str:
    """A URL as the control plane takes it, which knows its scheme in small letters only."""
    scheme, colon, rest = url.partition(":")
    return scheme.lower() + colon + rest


def _of_url(url: str) -> str:
    if any(character.isspace() or category(character) == "Cc" for character in url):
        raise InvalidArgument("A URL has no spaces and no control characters; write a space as %20.")
    try:
        host = (urlsplit(url).hostname or "").rstrip(".")
    except ValueError:
        host = ""
    if not host:
        raise InvalidArgument("This is no http or https URL with a host.")
    return "youtube" if any(f".{host}".endswith(f".{domain}") for domain in _YOUTUBE) else "web"


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_HEAD)
    except OSError as error:
        raise FileUnusable(f"Cannot use the file {path}: {error.strerror or error}.") from error


def _by_bytes(head: bytes) -> Optional[str]:
    for beginning, found in _BEGINNINGS:
        if head.startswith(beginning):
            return found
    return _by_container(head) or _by_zip(head) or _by_html(head) or ("audio" if _is_mpeg_audio(head) else None)


def _by_container(head: bytes) -> Optional[str]:
    """Containers that say a few bytes later what they contain."""
    outer, middle, inner = head[:4], head[4:8], head[8:12]
    if (outer, inner) in ((b"RIFF", b"WAVE"), (b"FORM", b"AIFF"), (b"FORM", b"AIFC")):
        return "audio"
    if outer == b"RIFF":
        return {b"AVI ": "video", b"WEBP": "image"}.get(inner)
    if middle != b"ftyp":
        return None
    brands = {b"M4A ": "audio", b"M4B ": "audio"}
    brands.update(dict.fromkeys((b"heic", b"heix", b"mif1", b"avif"), "image"))
    return brands.get(inner, "video") if len(inner) == 4 else None


def _by_zip(head: bytes) -> Optional[str]:
    """Office and e-book files are ZIP archives with a known first entry. Any other archive may hold anything."""
    known = (b"[Content_Types].xml", b"mimetype", b"_rels/")
    return "document" if head.startswith(b"PK\x03\x04") and head[30:].startswith(known) else None


def _by_html(head: bytes) -> Optional[str]:
    return "document" if head.strip().lower().startswith((b"<!doctype html", b"<html")) else None


def _is_mpeg_audio(head: bytes) -> bool:
    """An MPEG audio frame: eleven set bits, then a version, a layer and a bit rate that exist."""
    if len(head) < 3 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return False
    version, layer, bit_rate = head[1] >> 3 & 3, head[1] >> 1 & 3, head[2] >> 4
    return version != 1 and (layer != 0 or head[1] & 0xF6 == 0xF0) and bit_rate != 15
