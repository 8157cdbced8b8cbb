"""PDF to Markdown: pages with text by markitdown, pages without by recognising the text in their picture."""

import io
from importlib.metadata import version

import recognition
from converting import BadInput

# Few at a time, so that progress is told and memory does not grow with the number of pages.
PAGES_AT_A_TIME = 8
PASSWORD_WANTED = 4
DOTS_PER_INCH = 200
# Scanners and archives stamp a line on a picture of a page. With no more text than that it is still a picture.
STAMP = 40
PICTURE_SHARE = 0.5

TEXT, SCAN, EMPTY = "text", "scan", "empty"


def pdf(path, options, steps):
    with opened_pdf(path) as document:
        said = facts(document)
        content, more = Pages(document, options, steps).read()
    if not content:
        raise BadInput(f"The PDF's pages ({said['pages']}) hold no text, and none was recognised in their pictures.")
    return content, {"format": "pdf", **said, **more}


def facts_of_pdf(path):
    with opened_pdf(path) as document:
        return facts(document)


def opened_pdf(path):
    import pypdfium2

    try:
        document = pypdfium2.PdfDocument(path)
    except pypdfium2.PdfiumError as reason:
        if reason.err_code == PASSWORD_WANTED:
            raise BadInput("The PDF is protected by a password; remove the protection and submit it again.") from None
        raise BadInput(f"The PDF is damaged and cannot be read: {reason}") from None
    if not len(document):
        document.close()
        raise BadInput("The PDF is damaged and cannot be read: it has no pages.")
    return document


def facts(document):
    said = document.get_metadata_dict(skip_empty=True)
    return {"pages": len(document), "title": said.get("Title"), "author": said.get("Author")}


class Pages:
    def __init__(self, document, options, steps):
        self.document = document
        self.options = options
        self.report = steps.part("Document processing: Reading pages", 5, 99)
        self.recogniser = None
        self.recognised = 0

    def read(self):
        kinds = [self.kind_of(index) for index in range(len(self.document))]
        parts, done = [], 0
        while done < len(kinds):
            together = self.stretch(kinds, done)
            parts.append(self.part(kinds[done], together))
            done += len(together)
            self.report(done / len(kinds))
        facts = {"tool": f"markitdown {version('markitdown')}"}
        if self.recogniser:
            facts |= {"recognised_pages": self.recognised, "recogniser": self.recogniser.name}
        return "\n\n".join(part for part in parts if part), facts

    def stretch(self, kinds, first):
        """The pages from this one on that are read together."""
        last = first + 1
        if kinds[first] == TEXT:
            while last < len(kinds) and kinds[last] == TEXT and last - first < PAGES_AT_A_TIME:
                last += 1
        return range(first, last)

    def part(self, kind, indices):
        if kind == EMPTY:
            return ""
        if kind == TEXT:
            return self.markdown(indices)
        return self.recognise(indices[0]) or self.plain(indices[0])

    def kind_of(self, index):
        import pypdfium2.raw as raw

        try:
            page = self.document[index]
            text = "".join(plain_text(page).split())
            if len(text) > STAMP:
                return TEXT
            objects = list(page.get_objects(max_depth=3))
            pictures = [one for one in objects if one.type == raw.FPDF_PAGEOBJ_IMAGE]
            covered = sum(area(one.get_bounds()) for one in pictures)
            if text and covered < PICTURE_SHARE * page.get_width() * page.get_height():
                return TEXT
            return SCAN if objects else EMPTY
        except Exception as reason:  # a page may be damaged in ways that only show here
            raise BadInput(f"The PDF is damaged: its page {index + 1} cannot be read ({reason}).") from None

    def markdown(self, indices):
        import pypdfium2
        from markitdown import StreamInfo
        from markitdown.converters import PdfConverter

        try:
            some = io.BytesIO()
            with pypdfium2.PdfDocument.new() as copy:
                copy.import_pages(self.document, list(indices))
                copy.save(some)
            some.seek(0)
            found = PdfConverter().convert(some, StreamInfo(extension=".pdf")).markdown
        except MemoryError:
            raise
        except Exception as reason:  # pdfminer fails on unusual files with errors of every kind
            pages = f"{indices[0] + 1} to {indices[-1] + 1}"
            print(f"markitdown cannot read pages {pages} ({reason!r}); their plain text is taken.", flush=True)
            found = ""
        # A page begins with a form feed, which means nothing in Markdown.
        found = found.replace("\f", "\n\n").strip()
        return found or "\n\n".join(self.plain(index) for index in indices)

    def plain(self, index):
        return plain_text(self.document[index]).replace("\r\n", "\n").strip()

    def recognise(self, index):
        self.recogniser = self.recogniser or recognition.recogniser(self.options)
        page = self.document[index]
        inches = page.get_width() * page.get_height() / 72**2
        scale = min(DOTS_PER_INCH, (recognition.MOST_PIXELS / max(inches, 1)) ** 0.5) / 72
        self.recognised += 1
        return self.recogniser.text(page.render(scale=scale).to_pil())


def plain_text(page):
    return page.get_textpage().get_text_bounded()


def area(bounds):
    left, bottom, right, top = bounds
    return abs(right - left) * abs(top - bottom)
