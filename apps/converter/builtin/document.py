"""Documents to Markdown: plain text as it is; HTML, PDF, Office files and e-books by markitdown; or all by docling."""

import codecs
import os
import re
from importlib.metadata import PackageNotFoundError, version

import recognition
from converting import BadInput, Steps, run
from document_office import OLD_OFFICE, archive, facts_of, refuse_old_office
from document_pdf import facts_of_pdf, pdf
from tables import table

TEXT_EXTENSIONS = {".txt", ".md", ".markdown", ".text", ".log", ".rst"}
TABLE_EXTENSIONS = {".csv", ".tsv"}
HTML_EXTENSIONS = {".html", ".htm", ".xhtml"}
# What is never text, whatever a file of such a name holds.
OTHER_EXTENSIONS = {".pdf", ".docx", ".docm", ".pptx", ".pptm", ".xlsx", ".xlsm", ".epub"}
BYTE_ORDER_MARKS = {
    # The longer ones first: UTF-32 begins as UTF-16 does.
    b"\xff\xfe\0\0": "utf-32",
    b"\0\0\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}
HEAD = 65536
MOST_TEXT = 256 << 20
# A file that was cut off has one character that cannot be decoded, and one with a mark that is no text has many.
MOST_DAMAGE = 0.01
# In languages of the Latin alphabet most letters are those of ASCII.
MOST_ACCENTS = 0.35
# Signs and currencies stand beside words, not within them; quotation marks and dashes may.
SIGN_WITHIN_WORD = re.compile("[a-zA-Z][¡-©«¬®-³¶¸¹»-¿×÷€‚ƒ„†‡ˆ‰‹•˜™›][a-zA-Z]")
# A page becomes a tree of many times its size.
MOST_HTML = 64 << 20
# What docling reads better than the usual tools do.
DOCLING_KINDS = ("pdf", "archive", "html")


def main():
    run(convert, check)


def check():
    tools = [f"{name} {version(name)}" for name in ("markitdown", "pypdfium2", "openpyxl")]
    if has_docling():
        tools.append(f"docling {version('docling')}")
    return ", ".join(tools + (recognition.installed() or ["nothing to recognise text in scans"]))


def convert(path, options, steps=None):
    steps = steps or Steps()
    steps.part("Document processing: Reading", 0, 2)
    kind = kind_of(path)
    content, metadata = None, {}
    if options.get("use_docling") is True and kind in DOCLING_KINDS:
        if has_docling():
            content, metadata = by_docling(path, kind, steps)
        else:
            print("The job asks for docling, which is not installed here; the usual tools are taken.", flush=True)
    if content is None:
        content, metadata = READERS[kind](path, options, steps)
    return content, described(content, metadata)


def described(content, metadata):
    """With the words counted, and without what is not known."""
    for name in ("title", "author"):
        metadata[name] = " ".join((metadata.get(name) or "").split())
    metadata["word_count"] = len(re.findall(r"\w+", content))
    return {name: value for name, value in metadata.items() if value not in (None, "")}


def kind_of(path):
    """What the bytes are. A name tells text, tables and HTML apart only."""
    extension = os.path.splitext(path)[1].lower()
    with open(path, "rb") as file:
        head = file.read(HEAD)
    if not head.strip():
        raise BadInput("The source is empty." if not head else "The source holds no text.")
    # Other bytes may precede the mark of a PDF, but a text may also be about it.
    named_text = extension in TEXT_EXTENSIONS | TABLE_EXTENSIONS | HTML_EXTENSIONS
    if head.startswith(b"%PDF-") or (b"%PDF-" in head[:1024] and not named_text):
        return "pdf"
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "archive"
    if head.startswith(OLD_OFFICE):
        return "old office"
    if not any(head.startswith(mark) for mark in BYTE_ORDER_MARKS) and b"\0" in head:
        raise BadInput(
            f"The source ({extension or 'no extension'}) is none of PDF, DOCX, PPTX, XLSX, EPUB, HTML and plain text."
        )
    if extension in HTML_EXTENSIONS:
        return "html"
    if extension in TABLE_EXTENSIONS:
        return "table"
    looks_like_html = re.match(rb"(\xef\xbb\xbf)?\s*(<\?xml[^>]*>\s*)?(<!doctype html|<html)", head[:1024], re.I)
    if looks_like_html and extension not in TEXT_EXTENSIONS:
        return "html"
    if head.startswith(b"{\\rtf"):
        raise BadInput("The source is RTF, which is not taken; save it as DOCX.")
    if extension in OTHER_EXTENSIONS:
        raise BadInput(f"The source is named {extension} but holds plain text; submit it under a name in .txt.")
    return "text"


def read(path, most):
    size = os.path.getsize(path)
    if size > most:
        raise BadInput(f"The source has {size} bytes; of its kind at most {most} are taken.")
    with open(path, "rb") as file:
        return file.read()


def text(path, _options, _steps):
    """Text exactly as it is, once it is decoded."""
    content, encoding = decoded(read(path, MOST_TEXT))
    return content, {"format": "text", "encoding": encoding, "title": heading(content)}


def heading(content):
    found = re.search(r"^#[ \t]+(.+?)[ \t]*#*[ \t]*$", content, re.M)
    return found and found.group(1)


def decoded(data):
    """Text without the mark of its encoding, and the encoding."""
    encoding = encoding_of(data)
    content = data.decode(encoding, "replace").removeprefix("\ufeff")
    if content.count("\ufffd") > 1 + MOST_DAMAGE * len(content):
        raise BadInput(f"The source is damaged: it begins as text in {encoding.upper()} and is none.")
    return content, encoding


def encoding_of(data):
    for mark, encoding in BYTE_ORDER_MARKS.items():
        if data.startswith(mark):
            return encoding
    try:
        data.decode("utf-8")
        return "utf-8"
    except UnicodeDecodeError:
        return guessed(data)


def guessed(data):
    """The encoding of text that is not in UTF-8: that of Windows in the West, unless another is clearly better."""
    from charset_normalizer import from_bytes

    guesses = from_bytes(data)
    best = guesses.best()
    if not looks_western(data):
        if not best:
            raise BadInput("The source is not text in any encoding that could be recognised.")
        return best.encoding
    # A short text fits many encodings equally well, and only one in which a language is recognised is better.
    if not best or not best.coherence:
        return "cp1252"
    western = next((guess for guess in guesses if guess.encoding == "cp1252"), None)
    if western and best.chaos >= western.chaos and best.coherence <= western.coherence:
        return "cp1252"
    return best.encoding


def looks_western(data):
    try:
        text = data.decode("cp1252")
    except UnicodeDecodeError:
        return False
    letters = [letter for letter in text[:HEAD] if letter.isalpha()]
    accents = sum(not letter.isascii() for letter in letters)
    # Two more, for a text may be a single word.
    return accents <= 2 + MOST_ACCENTS * len(letters) and not SIGN_WITHIN_WORD.search(text[:HEAD])


def separated(path, _options, _steps):
    """A table whose separator is found out: commas, semicolons, tabs or bars."""
    import csv

    content, encoding = decoded(read(path, MOST_TEXT))
    lines = content.splitlines(keepends=True)
    csv.field_size_limit(MOST_TEXT)
    try:
        dialect = csv.Sniffer().sniff("".join(lines[:50])[:HEAD], ",;\t|")
    except csv.Error:
        dialect = csv.excel_tab if path.lower().endswith(".tsv") else csv.excel
    try:
        rows = list(csv.reader(lines, dialect))
    except csv.Error as reason:
        raise BadInput(f"The table cannot be read: {reason}.") from None
    return table(rows), {"format": "csv", "encoding": encoding, "rows": len(rows)}


def html(path, _options, steps):
    from bs4 import BeautifulSoup, SoupStrainer

    steps.part("Document processing: Converting", 10, 99)
    data = read(path, MOST_HTML)
    encoding = html_encoding(data)
    content, title = html_to_markdown(data, encoding)
    metas = BeautifulSoup(data[:HEAD], "html.parser", from_encoding=encoding, parse_only=SoupStrainer("meta"))
    author = metas.find("meta", attrs={"name": re.compile("^author$", re.I)})
    return content, {
        "format": "html",
        "title": title,
        "author": author and author.get("content"),
        "tool": f"markitdown {version('markitdown')}",
    }


def html_encoding(data, said=None):
    """The encoding of a page: a mark at its beginning, what was said of it, what it says itself, what it looks like."""
    if marked := next((known for mark, known in BYTE_ORDER_MARKS.items() if data.startswith(mark)), None):
        return marked
    declared = re.search(rb"""<meta[^>]{0,200}charset\s*=\s*["']?([\w-]+)""", data[:4096], re.I)
    for name in (said, declared and declared.group(1).decode("ascii", "replace")):
        try:
            known = codecs.lookup(name or "").name
        except LookupError:
            continue
        # Pages that say Latin-1 mean the larger set of Windows, and one that could be read to find its encoding is
        # not in UTF-16, whatever it says.
        known = {"iso8859-1": "cp1252", "ascii": "cp1252"}.get(known, known)
        if not known.startswith(("utf-16", "utf-32")):
            return known
    return encoding_of(data)


def html_to_markdown(data, encoding):
    """The page's body and title. Nothing that it names is fetched or opened."""
    import io

    from markitdown import StreamInfo
    from markitdown.converters import HtmlConverter

    result = HtmlConverter().convert(io.BytesIO(data), StreamInfo(extension=".html", charset=encoding))
    return result.markdown, result.title


def has_docling():
    try:
        return bool(version("docling"))
    except PackageNotFoundError:
        return False


def by_docling(path, kind, steps):
    """Layout, tables and scans by docling's models, which must be on this machine: it has no network here."""
    from docling.document_converter import DocumentConverter
    from docling.exceptions import ConversionError

    facts = {}
    if kind == "archive":
        kind, facts = facts_of(path)
        if kind == "epub":
            return None, {}
    elif kind == "pdf":
        facts = facts_of_pdf(path)
    steps.part("Document processing: Converting by docling", 5, 99)
    try:
        document = DocumentConverter().convert(path).document
    except ConversionError as reason:
        raise BadInput(f"The {kind.upper()} is damaged or protected, and docling cannot read it: {reason}") from None
    content = document.export_to_markdown()
    # What docling calls the name of a document is that of the file, which is a temporary one.
    facts["title"] = facts.get("title") or heading(content)
    return content, {"format": kind, **facts, "tool": f"docling {version('docling')}"}


READERS = {
    "pdf": pdf,
    "archive": lambda path, _options, steps: archive(path, steps),
    "old office": lambda path, _options, _steps: refuse_old_office(path),
    "html": html,
    "table": separated,
    "text": text,
}

if __name__ == "__main__":
    main()
