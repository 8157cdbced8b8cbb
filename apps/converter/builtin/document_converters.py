"""The converters of markitdown for DOCX and PPTX, with whole tables, and without pictures, as a result has none."""

import io
import re
from itertools import zip_longest

from tables import table

# What stands for a picture: its description, where it has one.
PICTURE = r"\[Picture: [^\]]*\]"
SLIDE = "<!-- Slide number: [0-9]+ -->"
FILE_NAME = re.compile(r"[^/\\]*\.(png|jpe?g|gif|bmp|tiff?|webp|svg|emf|wmf|ico)", re.I)


def picture(description):
    """A picture's place holder; nothing when all that is said of it is the name of a file."""
    words = " ".join(re.sub(r"[\[\]]", " ", description or "").split())
    return "" if FILE_NAME.fullmatch(words) else words and f"[Picture: {words}]"


def docx_converter():
    import mammoth
    from bs4 import BeautifulSoup
    from bs4.element import NavigableString
    from markitdown.converter_utils.docx.pre_process import pre_process_docx
    from markitdown.converters import DocxConverter, HtmlConverter

    def without_its_bytes(image):
        words = picture(image.alt_text)
        return [mammoth.html.text(words)] if words else []

    class Docx(DocxConverter):
        def convert(self, file_stream, stream_info, **_options):
            prepared = pre_process_docx(file_stream)
            html = mammoth.convert_to_html(prepared, style_map="u => u", convert_image=without_its_bytes).value
            soup = BeautifulSoup(html, "html.parser")
            for text in soup.find_all(string=lambda text: "|" in text):
                if text.find_parent("td") or text.find_parent("th"):
                    text.replace_with(NavigableString(text.replace("|", "\\|")))
            page = io.BytesIO(str(soup).encode("utf-8", "replace"))
            html_info = stream_info.copy_and_update(extension=".html", charset="utf-8")
            # Most tables have no row that is marked as their head, and the first one is it.
            return HtmlConverter().convert(page, html_info, table_infer_header=True)

    return Docx()


def pptx_converter():
    from markitdown.converters import PptxConverter

    class Pptx(PptxConverter):
        def _convert_picture_to_markdown(self, shape, **_options):
            words = picture(shape._element._nvXxPr.cNvPr.get("descr"))
            return f"\n{words}\n" if words else ""

        def _convert_table_to_markdown(self, shown, **_options):
            return "\n" + table([cell.text for cell in row.cells] for row in shown.rows)

        def _convert_chart_to_markdown(self, chart):
            try:
                titled = chart.has_title and chart.chart_title.has_text_frame
                title = f": {chart.chart_title.text_frame.text}" if titled else ""
                names = [category.label for category in chart.plots[0].categories]
                series = [[one.name, *one.values] for one in chart.series]
            except Exception as reason:  # charts of unusual kinds have no categories or no values
                print(f"A chart cannot be read ({reason!r}).", flush=True)
                return "\n\n[unsupported chart]\n\n"
            found = table(zip_longest(["Category", *names], *series))
            return f"\n\n### Chart{title}\n\n{found}"

    return Pptx()
