"""A converter of one's own: every table of a PDF as a Markdown table, by the library pdfplumber.

A PDF without tables is refused for good, for this converter has nothing to say of it, and no other is asked after it.
"""

import json
import sys
from importlib.metadata import version

BAD_INPUT = 65


def main():
    if sys.argv[1:] == ["--check"]:
        # One line that says what is here. When the package is missing, this fails, and the converter is not used.
        print(f"pdfplumber {version('pdfplumber')}")
        return
    source, output = sys.argv[1:]
    content, metadata = tables(source)
    with open(output, "w", encoding="utf-8") as file:
        json.dump({"content": content, "metadata": metadata}, file, ensure_ascii=False)


def tables(source):
    import pdfplumber

    parts, found = [], 0
    try:
        with pdfplumber.open(source) as pdf:
            pages = len(pdf.pages)
            for page in pdf.pages:
                for table in page.extract_tables():
                    found += 1
                    parts.append(f"## Table {found}, page {page.page_number}\n\n{markdown(table)}")
                # Any line of this kind moves the job's progress.
                print(f"Processing progress: Reading tables ({100 * page.page_number // pages}%)", flush=True)
                page.close()
    except Exception as reason:
        refuse(f"The PDF cannot be read: {reason!r}")
    if not found:
        refuse("The PDF holds no tables.")
    return "\n".join(parts), {"pages": pages, "tables": found}


def refuse(sentence):
    """Ends with the code that says: no further attempt at this source can work. Any other code is tried again."""
    print(sentence, file=sys.stderr)
    sys.exit(BAD_INPUT)


def markdown(rows):
    def text(cell):
        return " ".join((cell or "").replace("|", "\\|").split())

    lines = ["| " + " | ".join(text(cell) for cell in row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + " --- |" * len(rows[0]), *lines[1:]]) + "\n"


if __name__ == "__main__":
    main()
