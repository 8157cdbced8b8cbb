"""Rows of cells to Markdown tables."""

from converting import BadInput

# Rows are filled up to the longest one, which a source of a few bytes can make very long.
MOST_CELLS = 20_000_000


def table(rows):
    """A table whose head is the first row. Empty rows and empty columns at the end are left out."""
    rows = [row for row in (trimmed(row) for row in rows) if row]
    if not rows:
        return ""
    width = max(len(row) for row in rows)
    if width * len(rows) > MOST_CELLS:
        raise BadInput(f"A table of {len(rows)} rows and {width} columns has more than {MOST_CELLS} cells.")
    lines = [line(row, width) for row in rows]
    return "\n".join([lines[0], line(["---"] * width, width), *lines[1:]]) + "\n"


def trimmed(row):
    cells = [cell(value) for value in row]
    while cells and not cells[-1]:
        cells.pop()
    return cells


def cell(value):
    if value is None:
        return ""
    return " ".join(str(value).replace("\\", "\\\\").replace("|", "\\|").split())


def line(cells, width):
    return "| " + " | ".join(cells + [""] * (width - len(cells))) + " |"
