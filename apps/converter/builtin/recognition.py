"""Text in pictures: by tesseract where it is installed, else by RapidOCR, whose package carries its models."""

import io
import re
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version

from converting import Unusable

# More does not make letters easier to read, and costs memory and time.
MOST_PIXELS = 25_000_000
# RapidOCR shrinks a picture to 2000 pixels on its longer side. A long one, such as a screenshot of a whole page, is
# cut into bands first, or its letters would vanish.
LONGEST_SIDE = 2000
# RapidOCR enlarges a picture until its shorter side has 736 pixels, which makes a thin one enormous. The thinnest are
# lines without letters, and others are put on a canvas that is not as long.
LEAST_SIDE = 8
MOST_LONG = 100
CANVAS_LONG = 4
INSTALL = "Install tesseract, or the package rapidocr for the interpreter that the setting `python` names."

# What tesseract calls the languages that others call by two letters, where it is not the same for all of them.
TESSERACT_LANGUAGES = {
    "ar": "ara", "bg": "bul", "cs": "ces", "da": "dan", "de": "deu", "el": "ell", "en": "eng", "es": "spa",
    "et": "est", "fi": "fin", "fr": "fra", "he": "heb", "hi": "hin", "hr": "hrv", "hu": "hun", "it": "ita",
    "ja": "jpn", "ko": "kor", "lt": "lit", "lv": "lav", "nl": "nld", "no": "nor", "pl": "pol", "pt": "por",
    "ro": "ron", "ru": "rus", "sk": "slk", "sl": "slv", "sr": "srp", "sv": "swe", "tr": "tur", "uk": "ukr",
    "vi": "vie", "zh": "chi_sim",
}  # fmt: skip


def recogniser(options):
    """The recogniser for a job: `text(picture)` reads one, `name` says which it is."""
    language = str(options.get("language") or "en").lower()
    if shutil.which("tesseract"):
        known = tesseract_languages()
        wanted = TESSERACT_LANGUAGES.get(re.split("[-_]", language)[0], language)
        if wanted in known or not has_rapidocr():
            return Tesseract(wanted if wanted in known else next(iter(known), "eng"))
    if has_rapidocr():
        return RapidOcr()
    raise Unusable(f"Nothing here recognises text in pictures. {INSTALL}")


def installed():
    """What is installed, as words for a person; nothing when there is nothing."""
    found = []
    if shutil.which("tesseract"):
        found.append(f"tesseract {tesseract_version()}")
    if has_rapidocr():
        found.append(f"rapidocr {version('rapidocr')}")
    return found


def has_rapidocr():
    try:
        return bool(version("rapidocr"))
    except PackageNotFoundError:
        return False


def tesseract_says(argument):
    return subprocess.run(
        ["tesseract", argument], stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=20
    ).stdout


def tesseract_version():
    said = re.search(r"tesseract v?(\S+)", tesseract_says("--version"))
    return said.group(1) if said else "of an unknown version"


def tesseract_languages():
    """Its languages, English first; without the model that finds a page's orientation."""
    found = [line.strip() for line in tesseract_says("--list-langs").splitlines()[1:]]
    found = [language for language in found if language and language != "osd"]
    return dict.fromkeys(sorted(found, key=lambda language: language != "eng"))


class Tesseract:
    def __init__(self, language):
        self.language = language
        self.name = f"tesseract {tesseract_version()}"

    def text(self, picture):
        picture, png = readable(picture), io.BytesIO()
        if holds_no_letters(picture):
            return ""
        picture.save(png, "PNG", compress_level=1)
        command = ["tesseract", "stdin", "stdout", "-l", self.language]
        done = subprocess.run(command, input=png.getvalue(), capture_output=True)
        if done.returncode:
            said = done.stderr.decode("utf-8", "replace").strip()
            raise RuntimeError(f"tesseract ended with code {done.returncode}: {said[-300:]}")
        return tidy(done.stdout.decode("utf-8", "replace"))


class RapidOcr:
    def __init__(self):
        from rapidocr import RapidOCR

        self.engine = RapidOCR(params={"Global.log_level": "critical"})
        self.name = f"rapidocr {version('rapidocr')}"

    def text(self, picture):
        picture = readable(picture)
        if holds_no_letters(picture):
            return ""
        found = [self.engine(on_canvas(band)) for band in bands(picture)]
        return tidy("\n\n".join(one.to_markdown() for one in found if len(one)))


def readable(picture):
    """The picture in three colours on white, and no larger than helps."""
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        from PIL import Image

        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    picture = picture.convert("RGB")
    pixels = picture.width * picture.height
    if pixels > MOST_PIXELS:
        scale = (MOST_PIXELS / pixels) ** 0.5
        picture = picture.resize((max(1, int(picture.width * scale)), max(1, int(picture.height * scale))))
    return picture


def holds_no_letters(picture):
    shorter, longer = sorted(picture.size)
    return shorter < LEAST_SIDE or longer > MOST_LONG * shorter


def on_canvas(picture):
    """The picture with white beside or below it where it is thin."""
    if max(picture.size) <= CANVAS_LONG * min(picture.size):
        return picture
    from PIL import Image

    picture = picture.copy()
    # RapidOCR would do so itself, after the canvas had been made much larger.
    picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    least = max(picture.size) // CANVAS_LONG
    canvas = Image.new("RGB", (max(picture.width, least), max(picture.height, least)), "white")
    canvas.paste(picture)
    return canvas


def bands(picture):
    """Cuts a long picture across, where there is the least in the row, so that no line of text is cut in two."""
    height = max(picture.width, LONGEST_SIDE)
    if picture.height <= 1.25 * height:
        return [picture]
    import numpy

    unevenness = numpy.asarray(picture.convert("L"), dtype=numpy.float32).std(axis=1)
    cuts = [0]
    while picture.height - cuts[-1] > 1.25 * height:
        first = cuts[-1] + height * 3 // 4
        cuts.append(first + int(unevenness[first : cuts[-1] + height].argmin()) + 1)
    cuts.append(picture.height)
    return [picture.crop((0, top, picture.width, bottom)) for top, bottom in zip(cuts, cuts[1:], strict=False)]


def tidy(text):
    """Without the spaces that stand for a picture's layout, and with one empty line between paragraphs."""
    lines = [" ".join(line.split()) for line in text.replace("\f", "\n").splitlines()]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()
