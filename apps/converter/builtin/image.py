"""Images to Markdown: the text recognised in them, and what the file says of itself."""

import re
import warnings
from importlib.metadata import version

import recognition
from converting import BadInput, Steps, Unusable, run

# No format that is a program (EPS) or names other files.
FORMATS = ["PNG", "JPEG", "TIFF", "GIF", "WEBP", "BMP", "PPM", "JPEG2000", "AVIF", "ICO"]
MOST_PIXELS = 100_000_000
# A fax or a scan of many pages is one TIFF file.
MOST_PAGES = 500

EXIF_PART, GPS_PART = 0x8769, 0x8825
DATE, DATE_TAKEN, MAKER, MODEL, SOFTWARE, DESCRIPTION, ARTIST, ORIENTATION = (
    0x0132, 0x9003, 0x010F, 0x0110, 0x0131, 0x010E, 0x013B, 0x0112,
)  # fmt: skip


def main():
    run(convert, check)


def check():
    found = recognition.installed()
    if not found:
        raise Unusable(f"Nothing here recognises text in pictures. {recognition.INSTALL}")
    return ", ".join([f"pillow {version('pillow')}", *found])


def convert(path, options, steps=None):
    from PIL import Image, UnidentifiedImageError

    # Pillow warns of what is too large, and refuses it only at twice the size.
    Image.MAX_IMAGE_PIXELS = MOST_PIXELS
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    Image.init()
    formats = [name for name in FORMATS if name in Image.OPEN]
    steps = steps or Steps()
    steps.part("Image processing: Reading", 0, 5)
    try:
        with Image.open(path, formats=formats) as image:
            check_size(image)
            return read(image, options, steps)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise BadInput(f"The image has more than {MOST_PIXELS} pixels, the most that are taken.") from None
    except UnidentifiedImageError:
        known = "PNG, JPEG, TIFF, GIF, WebP, BMP, AVIF, JPEG 2000"
        raise BadInput(f"The source is damaged or not an image of a known format ({known}).") from None


def check_size(image):
    if image.width * image.height > MOST_PIXELS:
        raise BadInput(f"The image has {image.width} × {image.height} pixels; at most {MOST_PIXELS} in all are taken.")


def read(image, options, steps):
    frames = number_of_frames(image)
    metadata = {
        "format": image.format,
        "width": image.width,
        "height": image.height,
        "mode": image.mode,
        "frames": frames,
        **exif(image),
    }
    recogniser = recognition.recogniser(options)
    texts = []
    # Frames of other formats are an animation or another size of the same picture.
    pages = min(frames, MOST_PAGES) if image.format == "TIFF" else 1
    report = steps.part("Image processing: Recognising text", 5, 99)
    for page in range(pages):
        texts.append(recogniser.text(pixels(image, page)))
        report((page + 1) / pages)
    if pages < frames and image.format == "TIFF":
        print(f"Only the first {MOST_PAGES} of {frames} pages were read.", flush=True)
    content = "\n\n".join(text for text in texts if text)
    words_found = len(re.findall(r"\w+", content))
    metadata |= {"recogniser": recogniser.name, "text_found": bool(content), "word_count": words_found}
    return content or described(metadata), metadata


def number_of_frames(image):
    try:
        return getattr(image, "n_frames", 1)
    except Exception as reason:  # what follows the first frame may be damaged in many ways
        print(f"Only the first frame can be read ({reason!r}).", flush=True)
        return 1


def pixels(image, page):
    from PIL import Image, ImageOps

    try:
        if page:
            image.seek(page)
            check_size(image)
        image.load()
        return ImageOps.exif_transpose(image)
    except (BadInput, MemoryError, Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise
    except Exception as reason:  # decoders meet damaged files with errors of every kind
        raise BadInput(f"The image is damaged and cannot be decoded: {reason}") from None


def described(metadata):
    """An image without text is still something: what it is, in a sentence or two."""
    size = f"{metadata['width']} × {metadata['height']} pixels"
    lines = [f"{metadata['format']} image, {size}. No text was recognised in it."]
    names = {"description": "Description", "taken": "Taken", "camera": "Camera", "artist": "Artist"}
    lines += [f"- {words}: {metadata[name]}" for name, words in names.items() if name in metadata]
    if "gps" in metadata:
        lines.append(f"- Place: {metadata['gps']['latitude']}, {metadata['gps']['longitude']}")
    return "\n".join([lines[0], "", *lines[1:]]).strip() + "\n"


def exif(image):
    """What the camera noted, as far as it is there and makes sense."""
    try:
        tags = image.getexif()
        more, gps = tags.get_ifd(EXIF_PART), tags.get_ifd(GPS_PART)
    except Exception as reason:  # it is not worth the image
        print(f"The image's EXIF data cannot be read ({reason!r}).", flush=True)
        return {}
    taken = words(more.get(DATE_TAKEN) or tags.get(DATE))
    date = re.fullmatch(r"(\d{4}):(\d\d):(\d\d)[ T](\d\d:\d\d:\d\d)", taken)
    maker, model = words(tags.get(MAKER)), words(tags.get(MODEL))
    found = {
        "taken": "{}-{}-{}T{}".format(*date.groups()) if date else taken,
        "camera": model if model.startswith(maker) else f"{maker} {model}",
        "software": words(tags.get(SOFTWARE)),
        "description": words(tags.get(DESCRIPTION)),
        "artist": words(tags.get(ARTIST)),
        "orientation": tags.get(ORIENTATION),
        "gps": place(gps),
    }
    return {name: value for name, value in found.items() if value}


def words(value):
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    text = "".join(letter if letter.isprintable() else " " for letter in str(value or ""))
    return " ".join(text.split())[:500]


def place(gps):
    """Degrees north and east of the three numbers and a letter for each; nothing when they are not right."""
    try:
        latitude, longitude = degrees(gps[2], gps[1]), degrees(gps[4], gps[3])
    except (KeyError, TypeError, ValueError, ZeroDivisionError, IndexError):
        return None
    if not (abs(latitude) <= 90 and abs(longitude) <= 180):
        return None
    return {"latitude": latitude, "longitude": longitude}


def degrees(numbers, letter):
    whole, minutes, seconds = (float(number) for number in numbers)
    return round((whole + minutes / 60 + seconds / 3600) * (-1 if words(letter) in ("S", "W") else 1), 6)


if __name__ == "__main__":
    main()
