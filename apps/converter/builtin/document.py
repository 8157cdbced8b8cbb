"""Documents to Markdown: plain text as it is, HTML and PDF by markitdown."""

import io
import os
import re
from importlib.metadata import version

from charset_normalizer import from_bytes
from markitdown import MarkItDown, StreamInfo
from pdfminer.pdfdocument import PDFDocument
from pdfminer.pdfpage import PDFPage
from pdfminer.pdfparser import PDFParser
from pdfminer.utils import decode_text

from converting import BadInput, progress, run

TEXT_EXTENSIONS = {".txt", ".md", ".markdown", ".text", ".log", ".csv", ".tsv", ".rst"}
HTML_EXTENSIONS = {".html", ".htm", ".xhtml"}
BYTE_ORDER_MARKS = {
    # The longer ones first: UTF-32 begins as UTF-16 does.
    b"\xff\xfe\0\0": "utf-32",
    b"\0\0\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}


def main():
    run(convert, check)


def check():
    MarkItDown(enable_plugins=False)
    return f"markitdown {version('markitdown')}, pdfminer.six {version('pdfminer.six')}"


def convert(path, _options):
    progress("Document processing: Reading", 0)
    with open(path, "rb") as file:
        data = file.read()
    kind = kind_of(data, os.path.splitext(path)[1].lower())
    progress("Document processing: Converting", 10)
    return {"pdf": pdf, "html": html, "text": text}[kind](data)


def kind_of(data, extension):
    """What the bytes are. A name tells text from HTML only; nothing is taken for a PDF that does not begin as one."""
    if b"%PDF-" in data[:1024]:
        return "pdf"
    if not any(data.startswith(mark) for mark in BYTE_ORDER_MARKS) and b"\0" in data[:65536]:
        raise BadInput(f"The source ({extension or 'no extension'}) is neither text nor HTML nor PDF.")
    if extension in HTML_EXTENSIONS:
        return "html"
    looks_like_html = re.match(rb"(\xef\xbb\xbf)?\s*(<\?xml[^>]*>\s*)?(<!doctype html|<html)", data[:1024], re.I)
    return "html" if looks_like_html and extension not in TEXT_EXTENSIONS else "text"


def text(data):
    """Text exactly as it is, once it is decoded."""
    encoding = encoding_of(data)
    content = data.decode(encoding)
    heading = re.search(r"^#[ \t]+(.+?)[ \t]*#*[ \t]*$", content, re.M)
    return content, {"format": "text", "encoding": encoding, **titled(heading and heading.group(1))}


def encoding_of(data):
    for mark, encoding in BYTE_ORDER_MARKS.items():
        if data.startswith(mark):
            return encoding
    try:
        data.decode("utf-8")
        return "utf-8"
    except UnicodeDecodeError:
        guesses = from_bytes(data)
        if not guesses:
            raise BadInput("The source is not text in any encoding that could be recognised.") from None
        best = guesses.best()
        # A short text fits many encodings equally well, and this one is by far the most frequent.
        common = next((guess for guess in guesses if guess.encoding == "cp1252"), best)
        return common.encoding if common.chaos <= best.chaos else best.encoding


def html(data):
    declared = re.search(rb"""<meta[^>]{0,200}charset\s*=\s*["']?([\w-]+)""", data[:4096], re.I)
    encoding = None if declared else encoding_of(data)
    result = markitdown(data, ".html", "text/html", encoding)
    return result.markdown, {"format": "html", **titled(result.title)}


def pdf(data):
    try:
        document = PDFDocument(PDFParser(io.BytesIO(data)))
        pages = sum(1 for _ in PDFPage.create_pages(document))
    except Exception as reason:  # pdfminer fails on damaged files with errors of every kind
        raise BadInput(f"The PDF cannot be read, or it asks for a password: {reason!r}") from reason
    progress(f"Document processing: Converting {pages} pages", 20)
    result = markitdown(data, ".pdf", "application/pdf", None)
    if not result.markdown.strip():
        raise BadInput(f"The PDF's {pages} pages hold no text: it is probably a scan, which needs character recognition.")
    titles = (decode_text(info["Title"]) for info in document.info if isinstance(info.get("Title"), bytes))
    # pdfminer marks the beginning of a page by a form feed, which means nothing in Markdown.
    return result.markdown.replace("\f", ""), {"format": "pdf", "pages": pages, **titled(next(titles, None))}


def markitdown(data, extension, mimetype, charset):
    converter = MarkItDown(enable_plugins=False)
    info = StreamInfo(extension=extension, mimetype=mimetype, charset=charset)
    return converter.convert_stream(io.BytesIO(data), stream_info=info)


def titled(title):
    title = " ".join((title or "").split())
    return {"title": title} if title else {}


if __name__ == "__main__":
    main()
