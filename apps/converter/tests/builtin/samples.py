"""Makes the documents and images that the tests convert, in the folder that is named."""

import os
import sys
import zipfile
import zlib

import openpyxl
import pptx
import pypdfium2
from PIL import Image, ImageDraw, ImageFont

LINES = ["Invoice number 20417", "The quick brown fox jumps over the lazy dog.", "Total 1,234.56 EUR"]
TYPES = '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"><Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/><Default Extension="xml" ContentType="application/xml"/><Override PartName="/word/document.xml" ContentType="application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"/></Types>'
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
RELS = f'<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="r1" Type="{OFFICE}/officeDocument" Target="word/document.xml"/></Relationships>'
WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
CORE = '<cp:coreProperties xmlns:cp="http://schemas.openxmlformats.org/package/2006/metadata/core-properties" xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>Minutes</dc:title><dc:creator>Ann Onym</dc:creator></cp:coreProperties>'


def word(name, body, **more):
    document = f'<?xml version="1.0"?><w:document xmlns:w="{WORD}" xmlns:r="{OFFICE}"><w:body>{body}</w:body></w:document>'
    write_zip(name, {"[Content_Types].xml": TYPES, "_rels/.rels": RELS, "word/document.xml": document, **more})


def write_zip(name, parts):
    with zipfile.ZipFile(name, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, text in parts.items():
            archive.writestr(path, text)


def documents():
    def paragraph(text, style=""):
        return f'<w:p>{style and f"<w:pPr><w:pStyle w:val={style!r}/></w:pPr>"}<w:r><w:t>{text}</w:t></w:r></w:p>'

    def cells(*texts):
        return "<w:tr>" + "".join(f"<w:tc>{paragraph(text)}</w:tc>" for text in texts) + "</w:tr>"

    styles = f'<w:styles xmlns:w="{WORD}"><w:style w:type="paragraph" w:styleId="Heading1"><w:name w:val="heading 1"/></w:style></w:styles>'
    part = RELS.replace("officeDocument\"", "styles\"").replace("word/document.xml", "styles.xml")
    body = paragraph("The meeting", "Heading1") + paragraph("All were there.")
    body += f"<w:tbl>{cells('Name', 'Vote')}{cells('Ann', 'yes')}</w:tbl>"
    word("minutes.docx", body, **{"word/styles.xml": styles, "word/_rels/document.xml.rels": part, "docProps/core.xml": CORE})

    show = pptx.Presentation()
    for title, text in (("Roadmap", "First the harbour"), ("Costs", "Then the bridge")):
        slide = show.slides.add_slide(show.slide_layouts[1])
        slide.shapes.title.text, slide.placeholders[1].text = title, text
    show.core_properties.title, show.core_properties.author = "The plan", "Ann Onym"
    show.save("plan.pptx")

    book = openpyxl.Workbook()
    book.properties.title = "Price list"
    book.active.title = "Fish"
    for row in (["Kind", "Price"], ["Cod | fresh", 7.5], [None, 2.0]):
        book.active.append(row)
    book.create_sheet("Ships").append(["Anna"])
    book.create_sheet("Nothing")
    book.save("prices.xlsx")

    write_zip(
        "book.epub",
        {
            "mimetype": "application/epub+zip",
            "META-INF/container.xml": '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles><rootfile full-path="OEBPS/content.opf"/></rootfiles></container>',
            "OEBPS/content.opf": '<package xmlns="http://www.idpf.org/2007/opf"><metadata xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>The harbour</dc:title><dc:creator>Ann Onym</dc:creator></metadata><manifest><item id="one" href="one.xhtml"/><item id="two" href="two.xhtml"/></manifest><spine><itemref idref="two"/><itemref idref="one"/></spine></package>',
            "OEBPS/one.xhtml": "<html><body><h2>Second chapter</h2><p>It ends.</p></body></html>",
            "OEBPS/two.xhtml": "<html><body><h2>First chapter</h2><p>It begins.</p></body></html>",
        },
    )


def odd_office():
    """Office files as programs write them: formulas without values, a stray cell, tables without a head, pictures."""
    book = openpyxl.Workbook()
    for row in (["Kind", "Sum"], ["Cod", "=SUM(C2:C9)"], ["Eel", 4]):
        book.active.append(row)
    book.save("formulas.xlsx")
    book = openpyxl.Workbook()
    for number in range(6000):
        book.active.append([f"row {number}", None, number])
    book.active["XFD1"] = "stray"
    book.save("stray.xlsx")

    drawing = "http://schemas.openxmlformats.org/drawingml/2006"
    shown = f'<w:p><w:r><w:drawing><wp:inline xmlns:wp="{drawing}/wordprocessingDrawing"><wp:docPr descr="a dog"/><a:graphic xmlns:a="{drawing}/main"><a:graphicData><pic:pic xmlns:pic="{drawing}/picture"><pic:blipFill><a:blip r:embed="p"/></pic:blipFill></pic:pic></a:graphicData></a:graphic></wp:inline></w:drawing></w:r></w:p>'
    relations = RELS.replace('"r1"', '"p"').replace("/officeDocument\"", "/image\"").replace("word/document.xml", "media/p.png")
    more = {"word/_rels/document.xml.rels": relations, "word/media/p.png": os.urandom(3 << 20)}
    row = "<w:tr>" + "".join(f"<w:tc><w:p><w:r><w:t>{text}</w:t></w:r></w:p></w:tc>" for text in ("a|b", "c")) + "</w:tr>"
    word("album.docx", f"<w:tbl>{row}</w:tbl>" + shown * 2000, **more)
    word("picture.docx", shown, **more)

    Image.new("RGB", (30, 30), "red").save("plain.png")
    show = pptx.Presentation()
    shapes = show.slides.add_slide(show.slide_layouts[6]).shapes
    shapes.add_picture("plain.png", 0, 0)
    show.save("picture.pptx")
    cells = shapes.add_table(2, 1, 0, 0, 9999, 9999).table
    cells.cell(0, 0).text, cells.cell(1, 0).text = "a|b", "c"
    show.save("table.pptx")


def images():
    picture = Image.new("RGB", (1000, 360), "white")
    font = ImageFont.load_default(40)
    for number, line in enumerate(LINES):
        ImageDraw.Draw(picture).text((30, 30 + 100 * number), line, fill="black", font=font)
    picture.save("text.png")
    # RapidOCR enlarges the first to many gigabytes, and shrinks the second to nothing.
    thin = [Image.new("RGB", size, "white") for size in ((1, 600), (3000, 2))]
    thin[0].save("high.png")
    thin[1].save("wide.png")
    strip = Image.new("RGB", (2400, 30), "white")
    ImageDraw.Draw(strip).text((3, 1), LINES[0], fill="black", font=ImageFont.load_default(24))
    strip.save("strip.png")
    pages = []
    for line in LINES[:2]:
        page = Image.new("L", (1000, 200), "white")
        ImageDraw.Draw(page).text((30, 60), line, fill="black", font=font)
        pages.append(page)
    pages[0].save("fax.tiff", save_all=True, append_images=pages[1:])
    long = Image.new("RGB", (700, 12000), "white")
    for number in range(3):
        ImageDraw.Draw(long).text((30, 500 + 5400 * number), LINES[number], fill="black", font=ImageFont.load_default(24))
    long.save("long.png")

    exif = Image.Exif()
    exif[0x010F], exif[0x0110], exif[0x0112] = "Canon", "Canon EOS 5D", 6
    exif.get_ifd(0x8769)[0x9003] = "2024:05:06 07:08:09"
    exif.get_ifd(0x8825).update({1: "N", 2: (52.0, 30.0, 0.0), 3: "W", 4: (13.0, 15.0, 36.0)})
    Image.new("RGB", (320, 240), "navy").save("photo.jpg", exif=exif)
    with open("text.png", "rb") as file:
        whole = file.read()
    with open("cut.png", "wb") as file:
        file.write(whole[: len(whole) // 2])
    # Sixteen gigapixels of one colour shrink to a few megabytes. The head alone tells how many there are.
    head = whole[12:16] + (131072).to_bytes(4, "big") * 2 + whole[24:29]
    with open("bomb.png", "wb") as file:
        file.write(whole[:12] + head + zlib.crc32(head).to_bytes(4, "big") + whole[33:])
    with open("program.png", "wb") as file:
        file.write(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) (r) file\n")
    return picture


def scans(picture):
    page = Image.new("RGB", (1654, 2339), "white")
    page.paste(picture, (100, 200))
    page.save("scan.pdf", resolution=200)
    both = pypdfium2.PdfDocument.new()
    for name in ("scan.pdf", "text.pdf"):
        both.import_pages(pypdfium2.PdfDocument(name))
    both.save("both.pdf")


def bombs():
    with zipfile.ZipFile("bomb.docx", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("[Content_Types].xml", TYPES)
        with archive.open("word/document.xml", "w", force_zip64=True) as part:
            for _ in range(512):
                part.write(bytes(4 << 20))
    # Its header says that there is little.
    with zipfile.ZipFile("lying.docx", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("[Content_Types].xml", TYPES)
        archive.writestr("word/document.xml", b" " * (256 << 20))
    with open("lying.docx", "r+b") as file:
        data = bytearray(file.read())
        place = data.rfind(b"PK\x01\x02")
        data[place + 24 : place + 28] = (1000).to_bytes(4, "little")
        file.seek(0)
        file.write(data)
    # Each part is within bounds, and all together are not.
    write_zip("wide.docx", {"[Content_Types].xml": TYPES} | {f"word/{number}.xml": bytes(4 << 20) for number in range(16)})
    with zipfile.ZipFile("inner.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x", bytes(64 << 20))
    with open("inner.zip", "rb") as file:
        inner = file.read()
    text = "<w:p><w:r><w:t>The outer text</w:t></w:r></w:p>"
    word("nested.docx", text, **{f"word/embeddings/{number}.zip": inner for number in range(10)})
    with zipfile.ZipFile("many.docx", "w") as archive:
        for number in range(100_000):
            archive.writestr(f"word/{number}.xml", "")
    words = ["a" * 20] + ["".join(f"&e{number};" for _ in range(20)) for number in range(9)]
    entities = "".join(f'<!ENTITY e{number} "{text}">' for number, text in enumerate(words))
    laughing = f"<!DOCTYPE x [{entities}]><x>&e9;</x>"
    write_zip("entities.docx", {"[Content_Types].xml": TYPES, "_rels/.rels": RELS, "word/document.xml": laughing})
    wide = f'<?xml version="1.0" encoding="utf-16"?>{laughing}'.encode("utf-16")
    write_zip("entities16.xlsx", {"[Content_Types].xml": TYPES, "xl/workbook.xml": wide})
    external = '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><x>&e;</x>'
    write_zip("external.pptx", {"[Content_Types].xml": TYPES, "ppt/presentation.xml": external})
    write_zip("outside.docx", {"[Content_Types].xml": TYPES, "word/document.xml": "", "word/../../x": ""})
    write_zip("plain.docx", {"letter.txt": "Dear Ann"})


def curious(secret, url):
    """Documents that name a file of this machine and a URL in every way that they can."""
    body = ""
    relations = RELS.split("<Relationship ")[0]
    for number, target in enumerate((f"file://{secret}", url, secret)):
        body += f'<w:p><w:hyperlink r:id="l{number}"><w:r><w:t>a link</w:t></w:r></w:hyperlink><w:r><w:drawing><wp:inline xmlns:wp="http://schemas.openxmlformats.org/drawingml/2006/wordprocessingDrawing"><wp:docPr descr="picture {number}"/><a:graphic xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main"><a:graphicData><pic:pic xmlns:pic="http://schemas.openxmlformats.org/drawingml/2006/picture"><pic:blipFill><a:blip r:link="i{number}"/></pic:blipFill></pic:pic></a:graphicData></a:graphic></wp:inline></w:drawing></w:r></w:p>'
        relations += f'<Relationship Id="i{number}" Type="{OFFICE}/image" Target="{target}" TargetMode="External"/>'
        relations += f'<Relationship Id="l{number}" Type="{OFFICE}/hyperlink" Target="{target}" TargetMode="External"/>'
    word("curious.docx", body, **{"word/_rels/document.xml.rels": relations + "</Relationships>"})
    named = "".join(
        f'<img src="{target}" alt="picture"><iframe src="{target}"></iframe><object data="{target}"></object>'
        f'<link rel="stylesheet" href="{target}"><a href="{target}">a link</a>'
        for target in (f"file://{secret}", url)
    )
    with open("curious.html", "w") as file:
        file.write(f"<html><body><p>Text</p>{named}</body></html>")


if __name__ == "__main__":
    os.chdir(sys.argv[1])
    made = {
        "documents": documents,
        "images": images,
        "odd office": odd_office,
        "scans": lambda: scans(images()),
        "bombs": bombs,
        "curious": lambda: curious(*sys.argv[3:]),
    }
    made[sys.argv[2]]()
