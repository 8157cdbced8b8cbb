"""Web pages to Markdown: the main content with its links, by trafilatura. The source is a file that holds a URL."""

import codecs
import contextlib
import os
import re
import signal
import urllib.request
from importlib.metadata import version
from urllib.parse import urlsplit, urlunsplit

import document
import image
from converting import BadInput, FarAway, Steps, TryAgain, run

MOST_REDIRECTS = 10
MOST_BYTES = 100 << 20
CONNECT_SECONDS, SILENCE_SECONDS, MOST_SECONDS = 20, 60, 300
PIECE = 1 << 16
AGENT = "Mozilla/5.0 (compatible; remote-converter)"
ACCEPTED = "text/html,application/xhtml+xml,application/pdf;q=0.9,text/*;q=0.8,image/*;q=0.5,*/*;q=0.3"
# What is unpacked here. More is not asked for, and sent unasked it would pass for text.
PACKINGS = ("gzip", "deflate")
# An answer that may be another one in a while.
PASSING = (408, 425, 429)
LEAST_WORDS = 15
PROXY_SAYS = "remote-converter: "

PAGES = ("text/html", "application/xhtml+xml")
DOCUMENTS = {
    "application/pdf": ".pdf",
    "application/epub+zip": ".epub",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": ".docx",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": ".pptx",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": ".xlsx",
    "text/plain": ".txt",
    "text/markdown": ".md",
    "text/csv": ".csv",
}
# What bytes begin with that are no page, whatever their sender calls them.
ARCHIVES = (b"PK\x03\x04", b"PK\x05\x06", document.OLD_OFFICE)
IMAGES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*")


def main():
    run(convert, check)


def check():
    return f"trafilatura {version('trafilatura')}, requests {version('requests')}, markitdown {version('markitdown')}"


def convert(path, options):
    steps = Steps()
    url = read_url(path)
    answer = fetch(url, steps)
    metadata = {"url": without_login(answer.url), "content_type": answer.kind}
    if answer.url != url:
        metadata["requested_url"] = without_login(url)
    content, more = converted(answer, options, steps)
    return content, {**more, **metadata}


def read_url(path):
    with open(path, "rb") as file:
        text = file.read(1 << 16).decode("utf-8", "replace").removeprefix("\ufeff").strip()
    url = text.splitlines()[0].strip() if text else ""
    try:
        parts = urlsplit(url)
        right = parts.scheme.lower() in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        right = False
    if not right:
        raise BadInput(f"The source is not the URL of a page, which begins with http:// or https://: {url[:200]!r}.")
    return url


def without_login(url):
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def converted(answer, options, steps):
    if answer.data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"%PDF-"):
        return document.convert(stored(answer, ".pdf"), options, steps)
    if answer.data.startswith(ARCHIVES):
        return document.convert(stored(answer, ""), options, steps)
    if answer.data.startswith(IMAGES):
        return image.convert(stored(answer, ""), options, steps)
    if answer.kind in PAGES or (not answer.kind and answer.data.lstrip()[:1] == b"<"):
        return page(answer, steps)
    if answer.kind.startswith("image/") and answer.kind != "image/svg+xml":
        return image.convert(stored(answer, ""), options, steps)
    ending = DOCUMENTS.get(answer.kind)
    if ending:
        encoding = answer.kind.startswith("text/") and as_utf8(answer)
        content, metadata = document.convert(stored(answer, ending), options, steps)
        return content, {**metadata, "encoding": encoding} if encoding else metadata
    found = answer.kind or "something of no known type"
    raise BadInput(f"The URL leads to {found}, which is neither a page nor a document nor an image.")


def as_utf8(answer):
    """Turns text into UTF-8 by the encoding that its sender names, which is returned, if that is what it is in."""
    if answer.data.startswith((codecs.BOM_UTF8, *document.BYTE_ORDER_MARKS)):
        return None
    try:
        name = codecs.lookup(answer.charset or "").name
        # Senders that say Latin-1 mean the larger set of Windows.
        name = {"iso8859-1": "cp1252", "ascii": "cp1252"}.get(name, name)
        answer.data = answer.data.decode(name).encode("utf-8")
    except (LookupError, ValueError):
        return None
    return name


def stored(answer, ending):
    """The answer as a file in the work folder, for the scripts that take one."""
    path = os.path.join(os.environ.get("TMPDIR", "."), f"fetched{ending}")
    with open(path, "wb") as file:
        file.write(answer.data)
    return path


class Answer:
    def __init__(self, url, kind, charset, data):
        self.url, self.kind, self.charset, self.data = url, kind, charset, data


def fetch(url, steps):
    """Fetches through the proxy that the environment names, which looks at every hop, so also at each redirect."""
    import requests
    from requests import exceptions as wrong

    steps.part("Web processing: Fetching", 0, 5)
    session = requests.Session()
    # Nothing of this machine goes along: no login from ~/.netrc, and no exceptions from the proxy.
    session.trust_env = False
    proxies = urllib.request.getproxies()
    session.proxies = {scheme: proxies[scheme] for scheme in ("http", "https") if scheme in proxies}
    session.verify = os.environ.get("SSL_CERT_FILE") or True
    session.max_redirects = MOST_REDIRECTS
    session.headers.update({"User-Agent": AGENT, "Accept": ACCEPTED, "Accept-Encoding": ", ".join(PACKINGS)})
    timeouts = (CONNECT_SECONDS, SILENCE_SECONDS)
    try:
        with deadline(MOST_SECONDS), session.get(url, stream=True, timeout=timeouts) as response:
            check_status(response)
            check_packing(response)
            kind, charset = content_type(response.headers.get("Content-Type", ""))
            return Answer(response.url, kind, charset, body(response, steps))
    except requests.TooManyRedirects:
        raise BadInput(f"The page redirects more than {MOST_REDIRECTS} times.") from None
    except (wrong.InvalidSchema, wrong.InvalidURL, wrong.MissingSchema, UnicodeError) as reason:
        raise BadInput(f"The URL, or one that it redirects to, cannot be fetched: {reason}") from None
    except wrong.ProxyError as reason:
        raise refused_or_unreachable(url, reason) from None
    except wrong.ContentDecodingError as reason:
        raise BadInput(f"What {host(url)} sent cannot be unpacked: {inner(reason)}.") from None
    except wrong.ChunkedEncodingError as reason:
        raise FarAway(f"{host(url)} broke off while it sent the page: {inner(reason)}.") from None
    except requests.RequestException as reason:
        raise FarAway(f"{host(url)} cannot be reached: {inner(reason)}.") from None


@contextlib.contextmanager
def deadline(seconds):
    """Ends what is within after so long, wherever it waits: the timeouts of requests begin anew with each byte."""

    def too_long(*_):
        raise FarAway(f"The page was not there within {seconds} s.")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def check_packing(response):
    named = re.split(r"[,\s]+", response.headers.get("Content-Encoding", "").strip().lower())
    other = [name for name in named if name not in ("", "identity", "x-gzip", *PACKINGS)]
    if other:
        raise BadInput(f"{host(response.url)} sent the page packed as {other[0]}, for which it was not asked.")


def check_status(response):
    status = response.status_code
    if 200 <= status < 300:
        return
    # The proxy's own answers begin so; they say why better than their number does.
    start = next(response.iter_content(1024), b"").decode("utf-8", "replace")
    if start.startswith(PROXY_SAYS):
        message = start.removeprefix(PROXY_SAYS).strip()
    else:
        message = f"{without_login(response.url)} answered {status} {response.reason or ''}".strip() + "."
    if status >= 500 or status in PASSING:
        raise FarAway(message)
    raise BadInput(message)


def refused_or_unreachable(url, reason):
    """What the proxy said of a connection that it did not make."""
    said = re.search(r"Tunnel connection failed: (\d{3}) [^:']*(?:: ([^'\"]*))?", str(reason))
    if said and said.group(1) == "403":
        return BadInput(said.group(2) or f"{host(url)} is not at an address that this converter may reach.")
    # Without an answer it is the proxy itself that is not there, and that is on this machine.
    kind = FarAway if said else TryAgain
    return kind(said and said.group(2) or f"{host(url)} cannot be reached: {inner(reason)}.")


def host(url):
    return urlsplit(url).hostname


def inner(reason):
    """What went wrong, without the layers of libraries around it."""
    while True:
        within = [one for one in (getattr(reason, "reason", None), *reason.args) if isinstance(one, Exception)]
        if not within:
            break
        reason = within[0]
    texts = [one for one in reason.args if isinstance(one, str)]
    text = texts[-1] if texts else str(reason)
    return re.sub(r"^<[^>]*>: ", "", text).rstrip(".")[:300] or type(reason).__name__


def content_type(header):
    import email.message

    message = email.message.Message()
    message["Content-Type"] = header or "application/octet-stream"
    return (message.get_content_type() if header else ""), message.get_content_charset()


def body(response, steps):
    """The unpacked body, which may be larger than what was sent."""
    report = steps.part("Web processing: Fetching", 5, 40)
    announced = response.headers.get("Content-Length", "")
    total = int(announced) if announced.isdigit() else 0
    pieces, size = [], 0
    for piece in response.iter_content(PIECE):
        pieces.append(piece)
        size += len(piece)
        if size > MOST_BYTES:
            raise BadInput(f"The page has more than {MOST_BYTES} bytes, the most that are taken.")
        report(size / total if total else 0)
    return b"".join(pieces)


def page(answer, steps):
    import trafilatura

    steps.part("Web processing: Finding the main content", 40, 99)
    if len(answer.data) > document.MOST_HTML:
        raise BadInput(f"The page has {len(answer.data)} bytes; at most {document.MOST_HTML} are taken.")
    charset = document.html_encoding(answer.data, answer.charset)
    tree = parsed(answer.data.decode(charset, "replace"), answer.url)
    if tree is None:
        raise BadInput("The page is empty.")
    said = trafilatura.extract_metadata(tree, default_url=answer.url)
    content = trafilatura.extract(
        tree, url=answer.url, output_format="markdown", include_links=True, include_tables=True, include_images=True,
        include_formatting=True, include_comments=False,
    )  # fmt: skip
    tool = f"trafilatura {version('trafilatura')}"
    # Neither an index page nor a form has an article, so next to nothing is found, or a list that has lost its links:
    # the whole body is better.
    if words(content or "") < LEAST_WORDS or ("](" not in content and mostly_links(tree)):
        whole = body_as_markdown(tree)
        if len(whole) > len(content or ""):
            content, tool = whole, f"markitdown {version('markitdown')}"
    if not (content or "").strip():
        raise BadInput("The page holds no text; perhaps it is made by scripts, which are not run.")
    metadata = {"format": "html", "tool": tool, **facts(said)}
    return with_title(content, metadata.get("title")), document.described(content, metadata)


def parsed(text, url):
    """The page's tree with absolute links."""
    from lxml import etree, html

    # As bytes, since lxml refuses text that names an encoding.
    try:
        parser = html.HTMLParser(encoding="utf-8")
        tree = html.document_fromstring(text.encode("utf-8", "replace"), parser=parser, base_url=url)
    except (etree.ParserError, ValueError):
        return None
    tree.make_links_absolute(url, resolve_base_href=True, handle_failures="ignore")
    return tree


def words(text):
    return len(re.findall(r"\w+", text))


def mostly_links(tree):
    """Whether most of what stands in the page is links, menus and the like apart, which articles have too."""
    others = "script style noscript nav header footer aside".split()
    path = "//body//text()" + "".join(f"[not(ancestor::{name})]" for name in others)
    linked = sum(words(text) for text in tree.xpath(path + "[ancestor::a[@href]]"))
    return linked * 2 > sum(words(text) for text in tree.xpath(path))


def body_as_markdown(tree):
    from lxml import html

    content, _ = document.html_to_markdown(html.tostring(tree, encoding="utf-8"), "utf-8")
    return content


def facts(said):
    if said is None:
        return {}
    names = ("title", "author", "date", "description", "sitename", "language", "categories", "tags")
    found = {name: getattr(said, name, None) for name in names}
    return {name: value for name, value in found.items() if value}


def with_title(content, title):
    if not title or re.match(r"\s*# ", content):
        return content.strip() + "\n"
    return f"# {' '.join(title.split())}\n\n{content.strip()}\n"


if __name__ == "__main__":
    main()
