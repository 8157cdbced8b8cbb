"""Rows of cells to Markdown tables."""

from converting import BadInput

# Rows are filled up to the longest one, which a source of a few bytes can make very long.
MOST_CELLS = 20_000_000


def table(rows):
    """A table whose head is the first row. Empty rows and empty columns are left out."""
    rows = filled_rows(rows)
    if not rows:
        return ""
    rows = without_empty_columns(rows)
    width = max(len(row) for row in rows)
    if width * len(rows) > MOST_CELLS:
        raise too_large(len(rows), width)
    lines = [line(row, width) for row in rows]
    return "\n".join([lines[0], line(["---"] * width, width), *lines[1:]]) + "\n"


def filled_rows(rows):
    found, cells = [], 0
    for row in map(trimmed, rows):
        if row:
            found.append(row)
            cells += len(row)
            if cells > MOST_CELLS:
                raise too_large(len(found), len(row))
    return found


def too_large(rows, columns):
    return BadInput(f"A table of {rows} rows and {columns} columns has more than {MOST_CELLS} cells.")


def without_empty_columns(rows):
    """A single cell far to the right would make every row as long as the sheet is wide."""
    filled = [False] * max(len(row) for row in rows)
    for row in rows:
        for place, text in enumerate(row):
            if text:
                filled[place] = True
    if all(filled):
        return rows
    return [[text for text, wanted in zip(row, filled, strict=False) if wanted] for row in rows]


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
