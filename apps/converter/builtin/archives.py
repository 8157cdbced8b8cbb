"""Looks at ZIP archives, which Office files and e-books are, before any library opens them.

What an archive says about its contents is the archive's own word, so each entry is also unpacked once, into nothing,
and counted. Archives inside an archive are never opened.
"""

import mmap
import zipfile
from xml.parsers import expat

from converting import BadInput

MOST_ENTRIES = 10_000
MOST_BYTES = 2 << 30
# What libraries hold as a tree, at many times its size. Sheets are read row by row, so they may be larger.
MOST_TREE_BYTES = 128 << 20
MOST_SHEET_BYTES = 1 << 30
# Text and sheets shrink to a twentieth, at best to a sixtieth; what shrinks more, and is large, is made to overwhelm.
MOST_RATIO = 200
RATIO_COUNTS_FROM = 32 << 20

# Every entry that a library could list begins so.
ENTRY = b"PK\x01\x02"
XML_ENDINGS = (".xml", ".rels", ".opf", ".ncx", ".xhtml", ".html", ".htm", ".vml", ".svg")
PIECE = 1 << 16


def open_checked(path):
    """The archive, opened, and what it is: docx, pptx, xlsx or epub. Everything that it holds has been counted."""
    check_number_of_entries(path)
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError) as reason:
        raise BadInput(f"The source is damaged: it begins as a ZIP archive and is none ({reason}).") from None
    try:
        kind = kind_of(archive.namelist())
        check_what_is_declared(archive, kind)
        for entry in archive.infolist():
            unpack(archive, entry)
    except BaseException:
        archive.close()
        raise
    return archive, kind


def check_number_of_entries(path):
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        entries, place = 0, data.find(ENTRY)
        while place >= 0:
            entries += 1
            if entries > MOST_ENTRIES:
                raise BadInput(f"The archive holds more than {MOST_ENTRIES} entries, the most that are taken.")
            place = data.find(ENTRY, place + len(ENTRY))


def kind_of(names):
    if "[Content_Types].xml" in names:
        if "xl/workbook.bin" in names:
            raise BadInput("The source is a binary workbook (XLSB), which is not taken; save it as XLSX.")
        for folder, kind in (("word/", "docx"), ("ppt/", "pptx"), ("xl/", "xlsx")):
            if any(name.startswith(folder) for name in names):
                return kind
    if "META-INF/container.xml" in names:
        return "epub"
    raise BadInput("The source is a ZIP archive but none of DOCX, PPTX, XLSX and EPUB; submit what is in it.")


def check_what_is_declared(archive, kind):
    total = trees = packed = 0
    for entry in archive.infolist():
        parts = entry.filename.split("/")
        if entry.filename.startswith("/") or ".." in parts or "\\" in entry.filename:
            raise BadInput(f"The archive has an entry whose name leads out of it: {entry.filename[:100]!r}.")
        if entry.flag_bits & 1:
            raise BadInput("The source is protected by a password; remove the protection and submit it again.")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise BadInput("The archive is packed in a way that no document of its kind is.")
        total += entry.file_size
        packed += entry.compress_size
        if entry.filename.lower().endswith(XML_ENDINGS):
            trees += entry.file_size
        if entry.file_size > RATIO_COUNTS_FROM and entry.file_size > MOST_RATIO * max(entry.compress_size, 1):
            raise too_dense(entry.file_size, entry.compress_size)
    if total > MOST_BYTES:
        raise BadInput(f"The archive unpacks to {total} bytes; at most {MOST_BYTES} are taken.")
    if total > RATIO_COUNTS_FROM and total > MOST_RATIO * max(packed, 1):
        raise too_dense(total, packed)
    most = MOST_SHEET_BYTES if kind == "xlsx" else MOST_TREE_BYTES
    if trees > most:
        raise BadInput(f"The text parts of the archive unpack to {trees} bytes; at most {most} are taken.")


def too_dense(size, packed):
    return BadInput(
        f"The archive unpacks {packed} bytes to {size}, over {MOST_RATIO} times as many: a decompression bomb."
    )


def unpack(archive, entry):
    """Unpacks an entry into nothing. The reader stops at the declared size, and refuses an entry that has more."""
    guard = DeclarationGuard() if entry.filename.lower().endswith(XML_ENDINGS) else None
    try:
        with archive.open(entry) as stream:
            while piece := stream.read(PIECE):
                if guard:
                    guard.look_at(piece)
    except BadInput:
        raise
    except Exception as reason:  # zlib's, zipfile's and struct's errors of many kinds
        name = entry.filename[:100]
        raise BadInput(f"The source is damaged: its part {name!r} cannot be unpacked ({reason}).") from None


class DeclarationGuard:
    """Refuses XML that declares entities, which can multiply without end and name files. No document needs them."""

    def __init__(self):
        self.parser = expat.ParserCreate()
        self.parser.EntityDeclHandler = self.on_entity
        self.parser.StartElementHandler = self.on_element
        self.within_head = True

    def on_entity(self, *_):
        raise BadInput("The source's XML declares entities, as no document of its kind does: an attack.")

    def on_element(self, *_):
        # Declarations come before the first element.
        self.within_head = False

    def look_at(self, piece):
        if self.within_head:
            try:
                self.parser.Parse(piece, False)
            except expat.ExpatError:
                # Whether it is readable is for the library to say; until here it declared nothing.
                self.within_head = False
