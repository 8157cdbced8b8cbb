"""What the built-in converters share: their arguments, progress lines, and how they end."""

import argparse
import json
import sys

# The exit code for a source that no further attempt will convert.
BAD_INPUT = 65


class BadInput(Exception):
    """The source cannot be converted, however often it is tried. The text says why."""


def progress(message, percentage):
    """Says how far the conversion is, 0 to 100."""
    print(f"Processing progress: {message} ({int(percentage)}%)", flush=True)


def run(convert, check):
    """Runs `convert(input, options) -> (content, metadata)` and writes the result, or only `check() -> versions`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--check", action="store_true", help="only see whether everything needed is installed")
    parser.add_argument("--input", help="the source file")
    parser.add_argument("--output", help="where the result goes, as JSON")
    parser.add_argument("--options", help="the job's options, a JSON file")
    arguments = parser.parse_args()
    if arguments.check:
        print(check())
        return
    if not (arguments.input and arguments.output):
        parser.error("--input and --output are needed")
    try:
        content, metadata = convert(arguments.input, read_options(arguments.options))
        if not content.strip():
            raise BadInput("The source holds no text.")
    except BadInput as reason:
        print(reason, file=sys.stderr, flush=True)
        sys.exit(BAD_INPUT)
    with open(arguments.output, "w", encoding="utf-8", newline="") as output:
        json.dump({"content": content, "metadata": metadata}, output, ensure_ascii=False)


def read_options(path):
    """The job's options, an object."""
    if not path:
        return {}
    with open(path, encoding="utf-8") as file:
        options = json.load(file)
    return options if isinstance(options, dict) else {}
