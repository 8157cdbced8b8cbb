"""Runs a processor of MoRAG's Python packages as a converter, the way its own remote converter calls them."""

import asyncio
import importlib
import importlib.util
import inspect
import json
import math
import sys

# The content type, its package, the class, its method, and whether that takes a URL, which the source file then holds.
PROCESSORS = {
    "audio": ("morag_audio", "AudioProcessor", "process_audio", False),
    "video": ("morag_video", "VideoProcessor", "process_video", False),
    "document": ("morag_document", "DocumentProcessor", "process_document", False),
    "image": ("morag_image", "ImageProcessor", "process_image", False),
    "web": ("morag_web", "WebProcessor", "process_url", True),
    "youtube": ("morag_youtube", "YouTubeProcessor", "process_youtube_video", True),
}


def main():
    content_type, *rest = sys.argv[1:]
    package, name, method, takes_url = PROCESSORS[content_type]
    if rest == ["--check"]:
        found = importlib.util.find_spec(package)
        if not found:
            sys.exit(f"The Python package {package} is not installed.")
        print(f"{package} at {found.origin}")
        return
    source, output, options = rest
    process = getattr(getattr(importlib.import_module(package), name)(), method)
    result = asyncio.run(awaited(process, source_of(source, takes_url), options_of(options)))
    if not result.success:
        # Whether another attempt would fail too is not known of these, so it is tried again.
        sys.exit(result.error_message or f"{name} failed and did not say why.")
    with open(output, "w", encoding="utf-8") as file:
        document = {"content": result.text_content, "metadata": finite(result.metadata or {})}
        # What JSON does not know, such as a date or a path, becomes text.
        json.dump(document, file, ensure_ascii=False, default=str, allow_nan=False)


def finite(value):
    """The value with nothing in place of NaN and infinities, which JSON does not know."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: finite(one) for name, one in value.items()}
    return [finite(one) for one in value] if isinstance(value, (list, tuple)) else value


async def awaited(process, source, options):
    result = process(source, options)
    return await result if inspect.isawaitable(result) else result


def source_of(path, takes_url):
    if not takes_url:
        return path
    with open(path, encoding="utf-8") as file:
        return file.read().strip()


def options_of(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


if __name__ == "__main__":
    main()
