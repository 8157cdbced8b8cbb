"""Office files and e-books to Markdown: DOCX, PPTX and EPUB by markitdown, sheets by openpyxl row by row."""

import mmap
import posixpath
import re
from contextlib import ExitStack, contextmanager
from datetime import datetime
from importlib.metadata import version

import archives
from converting import BadInput
from document_converters import PICTURE, SLIDE, docx_converter, pptx_converter
from tables import table

OLD_OFFICE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
# The name of the stream that holds an encrypted Office file, in UTF-16.
ENCRYPTED = "EncryptedPackage".encode("utf-16-le")
# Fonts of e-books are often obfuscated by one of these. Whatever else is encrypted is text that cannot be read.
FONT_OBFUSCATION = ("http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC")
MOST_ROWS = 1_048_576
FORMULA = re.compile(rb"<(\w+:)?f[ />]")

CORE = "{http://purl.org/dc/elements/1.1/}"
PROPERTIES = "{http://schemas.openxmlformats.org/officeDocument/2006/extended-properties}"
ENCRYPTION = "{http://www.w3.org/2001/04/xmlenc#}"
CONTAINER = "{urn:oasis:names:tc:opendocument:xmlns:container}"


def refuse_old_office(path):
    """Says what a file of the format before 2007 is; an encrypted new one is packed in the same way."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data.find(ENCRYPTED) >= 0:
            raise BadInput("The source is protected by a password; remove the protection and submit it again.")
    raise BadInput("The source is of the Office format before 2007 (DOC, XLS, PPT); save it in the newer one.")


def archive(path, steps):
    steps.part("Document processing: Checking the archive", 2, 10)
    opened, kind = archives.open_checked(path)
    with opened, damage_told(kind):
        facts = FACTS[kind](opened)
        if kind == "xlsx":
            content, more = workbook(path, has_formulas(opened), steps)
        else:
            content, more = by_markitdown(path, kind, steps), slides(opened, kind)
    return content, {"format": kind, **facts, **more}


def facts_of(path):
    """What an archive is, and what it says of itself."""
    opened, kind = archives.open_checked(path)
    with opened, damage_told(kind):
        return kind, FACTS[kind](opened)


@contextmanager
def damage_told(kind):
    try:
        yield
    except (BadInput, MemoryError, ImportError):
        raise
    except Exception as reason:  # the libraries meet damaged files with errors of every kind
        if isinstance(reason, OSError) and reason.errno:
            # The disk's, and not one that a library raises for what it read.
            raise
        raise BadInput(f"The {kind.upper()} file is damaged and cannot be read: {reason!r}") from reason


def by_markitdown(path, kind, steps):
    from markitdown import StreamInfo
    from markitdown.converters import EpubConverter

    steps.part("Document processing: Converting", 10, 99)
    # The one that is wanted, instead of letting markitdown guess and try one after the other. None of them follows a
    # link or opens another file.
    converter = {"docx": docx_converter, "pptx": pptx_converter, "epub": EpubConverter}[kind]()
    with open(path, "rb") as file:
        content = converter.convert(file, StreamInfo(extension=f".{kind}")).markdown
    if kind != "epub" and not re.sub(f"{PICTURE}|{SLIDE}", "", content).strip():
        raise BadInput(
            f"The {kind.upper()} file holds no text besides its pictures, which are not read; "
            "save it as PDF or submit the pictures."
        )
    return content


def slides(opened, kind):
    tool = {"tool": f"markitdown {version('markitdown')}"}
    if kind != "pptx":
        return tool
    shown = tree(opened, "ppt/presentation.xml")
    count = 0 if shown is None else sum(1 for one in shown.iter() if one.tag.endswith("}sldId"))
    return {"slides": count, **tool}


def has_formulas(opened):
    """Whether a sheet has any, which is seldom so in those that programs write."""
    for name in opened.namelist():
        if name.startswith("xl/worksheets/"):
            with opened.open(name) as sheet:
                before = b""
                while piece := sheet.read(1 << 20):
                    if FORMULA.search(before + piece):
                        return True
                    before = piece[-100:]
    return False


def workbook(path, with_formulas, steps):
    """Every sheet under its name. A formula stands there with the value that was last calculated, or else itself."""
    import openpyxl

    report = steps.part("Document processing: Reading sheets", 10, 99)
    parts, uncalculated = [], []
    with ExitStack() as books:

        def sheets_with(data_only):
            book = openpyxl.load_workbook(path, read_only=True, data_only=data_only, keep_links=False)
            books.callback(book.close)
            return book.worksheets

        sheets = sheets_with(data_only=True)
        formulas = sheets_with(data_only=False) if with_formulas else [None] * len(sheets)
        for number, (sheet, other) in enumerate(zip(sheets, formulas, strict=True)):
            found = table(rows_with_formulas(sheet, other, uncalculated) if other else rows(sheet))
            if found:
                parts.append(f"## {sheet.title}\n\n{found}")
            report((number + 1) / len(sheets))
    if not parts:
        raise BadInput("The workbook holds no values.")
    facts = {"sheets": len(sheets), "sheet_names": [sheet.title for sheet in sheets]}
    if uncalculated:
        facts["uncalculated_formulas"] = len(uncalculated)
    return "\n".join(parts), {**facts, "tool": f"openpyxl {version('openpyxl')}"}


def rows(sheet, values_only=True):
    # What a sheet says about its size may be wrong, and rows would be filled up to it.
    sheet.reset_dimensions()
    for number, row in enumerate(sheet.iter_rows(values_only=values_only)):
        if number >= MOST_ROWS:
            raise BadInput(f"The sheet {sheet.title!r} has more than {MOST_ROWS} rows.")
        yield [shown(value) for value in row] if values_only else row


def rows_with_formulas(sheet, formulas, uncalculated):
    """The rows of a sheet, with the formulas that no program has calculated; their places are noted."""
    for values, written in zip(rows(sheet, values_only=False), rows(formulas, values_only=False), strict=True):
        cells = []
        for value, formula in zip(values, written, strict=True):
            # One that was calculated to an empty text is told as text.
            if value.value is None and formula.data_type == "f" and value.data_type == "n":
                text = getattr(formula.value, "text", formula.value)
                uncalculated.append(formula.coordinate)
                cells.append(f"={str(text or '').removeprefix('=')}")
            else:
                cells.append(shown(value.value))
        yield cells


def shown(value):
    """A value as a person writes it: a day without midnight, a whole number without a fraction."""
    if isinstance(value, datetime):
        return value.isoformat(" ").removesuffix(" 00:00:00")
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return int(value)
    return value


def office_facts(opened):
    core, app = tree(opened, "docProps/core.xml"), tree(opened, "docProps/app.xml")
    facts = {}
    if core is not None:
        facts |= {"title": core.findtext(f"{CORE}title"), "author": core.findtext(f"{CORE}creator")}
    pages = app.findtext(f"{PROPERTIES}Pages") if app is not None else None
    if pages and pages.isdigit():
        facts["pages"] = int(pages)
    return facts


def epub_facts(opened):
    protection = tree(opened, "META-INF/encryption.xml")
    if protection is not None:
        ways = {one.get("Algorithm") for one in protection.iter(f"{ENCRYPTION}EncryptionMethod")}
        if ways - set(FONT_OBFUSCATION):
            raise BadInput("The e-book is protected against copying, so its text cannot be read.")
    container = tree(opened, "META-INF/container.xml")
    place = container.find(f".//{CONTAINER}rootfile").get("full-path")
    package = tree(opened, posixpath.normpath(place))
    authors = [one.text for one in package.iter(f"{CORE}creator") if one.text]
    facts = {"title": next((one.text for one in package.iter(f"{CORE}title")), None), "author": ", ".join(authors)}
    facts["language"] = next((one.text for one in package.iter(f"{CORE}language")), None)
    return facts


def tree(opened, name):
    from defusedxml import ElementTree

    return ElementTree.fromstring(opened.read(name)) if name in opened.namelist() else None


FACTS = {"docx": office_facts, "pptx": office_facts, "xlsx": office_facts, "epub": epub_facts}
