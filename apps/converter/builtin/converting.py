"""What the built-in converters share: their arguments, progress lines, and how they end."""

import argparse
import json
import math
import sys
import traceback

# The exit code for a source that no further attempt will convert.
BAD_INPUT = 65
# The exit code for a source that names what cannot be had now, far from this machine.
FAR_AWAY = 75


class BadInput(Exception):
    """The source cannot be converted, however often it is tried. The text says why."""


class TryAgain(Exception):
    """The source was not converted this time, and another attempt may. The text says why."""


class FarAway(TryAgain):
    """What the source names elsewhere cannot be had now, and nothing is wrong here. The text says why."""


class Unusable(Exception):
    """Something that the converter needs is not on this machine. The text says what, and where to get it."""


def progress(message, percentage):
    """Says how far the conversion is, 0 to 100."""
    print(f"Processing progress: {message} ({int(percentage)}%)", flush=True)


class Steps:
    """Progress of work that has several parts: a part is given its stretch of the whole, and never goes back."""

    def __init__(self):
        self.said = None

    def part(self, message, first, last):
        """A function that takes how much of the part is done, 0 to 1, and says so when it makes a difference."""

        def report(share):
            percentage = int(first + (last - first) * min(max(share, 0), 1))
            if self.said is None or percentage > self.said:
                self.said = percentage
                progress(message, percentage)

        report(0)
        return report


def run(convert, check):
    """Runs `convert(input, options) -> (content, metadata)` and writes the result, or only `check() -> versions`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--check", action="store_true", help="only see whether everything needed is installed")
    parser.add_argument("--input", help="the source file")
    parser.add_argument("--output", help="where the result goes, as JSON")
    parser.add_argument("--options", help="the job's options, a JSON file")
    arguments = parser.parse_args()
    if arguments.check:
        try:
            print(check())
        except Unusable as reason:
            sys.exit(str(reason))
        except ModuleNotFoundError as reason:
            sys.exit(f"The Python package {reason.name} is not installed.")
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
    except FarAway as reason:
        print(reason, file=sys.stderr, flush=True)
        sys.exit(FAR_AWAY)
    except (TryAgain, Unusable) as reason:
        sys.exit(str(reason))
    except Exception as reason:
        traceback.print_exc()
        # A log is read from its end: there a sentence belongs.
        sys.exit(f"The conversion failed: {reason!r}")
    # Libraries find halves of characters in damaged sources, which UTF-8 does not know.
    with open(arguments.output, "w", encoding="utf-8", errors="replace", newline="") as output:
        document = {"content": content, "metadata": finite(metadata)}
        json.dump(document, output, ensure_ascii=False, allow_nan=False)


def finite(value):
    """The value with nothing in place of numbers that JSON does not know, such as NaN."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: finite(one) for name, one in value.items()}
    return [finite(one) for one in value] if isinstance(value, (list, tuple)) else value


def read_options(path):
    """The job's options, an object."""
    if not path:
        return {}
    with open(path, encoding="utf-8") as file:
        options = json.load(file)
    return options if isinstance(options, dict) else {}
