"""Figures: what people draw, made into bytes that anybody can look at later.

A figure is known by the name of its type, so nothing is imported that its own package has not imported. Drawing happens at once, in the
thread that asks for it: on the next line the figure may be changed or closed. Pages load nothing from the network.
"""

from __future__ import annotations

import importlib
import io
import json
import re
import threading
from base64 import b64decode
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from holdfast.errors import InvalidName
from holdfast.events import FigureSaved
from holdfast.frozen import Frozen
from holdfast.identity import check_name

#: Bytes that a figure may take.
MOST: Final = 64 * 1024 * 1024
#: Parts that a display path may have, and characters in all: object stores take keys of 1,024 bytes.
PARTS, LENGTH = 8, 512
#: Seconds that a figure waits for others that are being drawn, by packages that draw one at a time.
PATIENCE: Final = 60.0

HTML, SVG, PNG, BINARY = "text/html", "image/svg+xml", "image/png", "application/octet-stream"

#: What figures are kept as; the first suffix is the one that is given.
SUFFIXES: Final[dict[str, tuple[str, ...]]] = {
    PNG: (".png",),
    "image/jpeg": (".jpg", ".jpeg"),
    "image/gif": (".gif",),
    "image/webp": (".webp",),
    "image/avif": (".avif",),
    "image/bmp": (".bmp",),
    "image/tiff": (".tif", ".tiff"),
    SVG: (".svg",),
    "application/pdf": (".pdf",),
    HTML: (".html", ".htm"),
    "application/json": (".json",),
    BINARY: (".bin",),
}
_MEDIA_TYPES = {suffix: media_type for media_type, suffixes in SUFFIXES.items() for suffix in suffixes}
_BEGINNINGS: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", PNG),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
    (b"%PDF-", "application/pdf"),
)
_SVG = re.compile(r"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*(<!doctype svg[^>]*>\s*)?<svg[\s>/]", re.IGNORECASE | re.DOTALL)
_MARKUP = re.compile(r"\s*<[a-z!?]", re.IGNORECASE)
_WHOLE_PAGE = re.compile(r"\s*(<!--.*?-->\s*)*<(!doctype|html|\?xml)", re.IGNORECASE | re.DOTALL)
_TOP = 4096


class Rendered(Frozen):
    """A figure as bytes. `suffix` is with its dot."""

    media_type: str
    suffix: str
    data: bytes


# where it is shown


def display_path(path: object) -> str:
    """Return `path` if figures can be shown under it. Raises: InvalidName."""
    if not isinstance(path, str):
        raise InvalidName(kind="figure path", name=str(path), reason=f"it has to be a str, not {type(path).__name__}")
    parts = path.split("/")
    if len(parts) > PARTS or len(path) > LENGTH:
        raise InvalidName(kind="figure path", name=path, reason=f"it may have {PARTS} parts, and {LENGTH} characters")
    for part in parts:
        check_name("figure path" if part == path else f"in the figure path {path!r:.140} the part", part)
    return path


def with_suffix(path: str, rendered: Rendered) -> str:
    """The display path with its suffix, once."""
    known = {rendered.suffix, *SUFFIXES.get(rendered.media_type, ())}
    return path if any(path.lower().endswith(suffix) for suffix in known) else f"{path}{rendered.suffix}"


def without_suffix(path: str) -> str:
    folder, slash, name = path.rpartition("/")
    return f"{folder}{slash}{name.rpartition('.')[0] or name}"


def matching(figures: Iterable[FigureSaved], path: str) -> dict[str, FigureSaved]:
    """The newest figure for each full path that `path` may stand for: itself, or it with a suffix. Oldest come first in `figures`."""
    exact: dict[str, FigureSaved] = {}
    others: dict[str, FigureSaved] = {}
    for figure in figures:
        if figure.path == path:
            exact[path] = figure
        elif without_suffix(figure.path) == path:
            others[figure.path] = figure
    return exact or others


# drawing


def render(figure: object) -> Rendered:
    """Draw a figure.

    Raises:
        TypeError: Nobody knows how to draw it.
        ValueError: It is too large, or empty.
        Exception: Whatever its package raises.
    """
    rendered = _rendered(figure)
    if not rendered.data:
        raise ValueError("it is empty")
    if len(rendered.data) > MOST:
        raise _too_large(len(rendered.data))
    return rendered


def _rendered(figure: object) -> Rendered:
    if isinstance(figure, (bytes, bytearray, memoryview)):
        size = figure.nbytes if isinstance(figure, memoryview) else len(figure)
        if size > MOST:
            raise _too_large(size)
        return of_bytes(bytes(figure))
    if isinstance(figure, Path):
        return _of_file(figure)
    if isinstance(figure, str):
        if _MARKUP.match(figure) is None:
            raise TypeError("a str is taken for HTML or SVG, and this is neither; a file is given as a pathlib.Path")
        return _of_markup(figure)
    for base in type(figure).__mro__:
        adapter = _ADAPTERS.get((base.__module__.partition(".")[0], base.__name__))
        if adapter is not None:
            return adapter(figure)
    return _of_representation(figure)


def _too_large(size: int) -> ValueError:
    return ValueError(f"it takes {size} bytes, and may take {MOST}")


def _made(media_type: str, data: bytes) -> Rendered:
    return Rendered(media_type, SUFFIXES[media_type][0], data)


def of_bytes(data: bytes) -> Rendered:
    """What bytes are, by how they begin."""
    for beginning, media_type in _BEGINNINGS:
        if data.startswith(beginning):
            return _made(media_type, data)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _made("image/webp", data)
    if data[4:12] in (b"ftypavif", b"ftypavis"):
        return _made("image/avif", data)
    top = data[:_TOP].decode("utf-8-sig", "replace")
    if _SVG.match(top):
        return _made(SVG, data)
    if _MARKUP.match(top):
        return _made(HTML, data)
    return _made("application/json" if _is_json(data) else BINARY, data)


def _is_json(data: bytes) -> bool:
    if data.lstrip()[:1] not in (b"{", b"["):
        return False
    try:
        json.loads(data)
    except (ValueError, RecursionError):
        return False
    return True


def _of_markup(text: str) -> Rendered:
    if _SVG.match(text):
        return _made(SVG, text.encode())
    if not _WHOLE_PAGE.match(text):
        text = f'<!DOCTYPE html>\n<meta charset="utf-8">\n{text}'
    return _made(HTML, text.encode())


def _of_file(path: Path) -> Rendered:
    if not path.is_file():
        raise ValueError(f"{path} is no file")
    if (size := path.stat().st_size) > MOST:
        raise _too_large(size)
    data, media_type = path.read_bytes(), _MEDIA_TYPES.get(path.suffix.lower())
    return of_bytes(data) if media_type is None else Rendered(media_type, path.suffix.lower(), data)


def _of_representation(figure: Any) -> Rendered:
    """What it would show of itself in a notebook."""
    for method, make in _REPRESENTATIONS:
        show = getattr(type(figure), method, None)
        shown = show(figure) if callable(show) else None
        if isinstance(shown, tuple):  # with metadata
            shown = shown[0]
        if shown is not None:
            return make(shown)
    kind = type(figure)
    raise TypeError(f"nobody knows how to draw a {kind.__module__}.{kind.__qualname__}; give it a _repr_html_, or save it and pass bytes")


def _of_html(text: str) -> Rendered:
    rendered = _of_markup(text)
    return rendered if rendered.media_type == HTML else _made(HTML, f'<!DOCTYPE html>\n<meta charset="utf-8">\n{text}'.encode())


def _of_svg(text: str) -> Rendered:
    return _made(SVG, text.encode())


def _of_png(data: bytes | str) -> Rendered:
    return _made(PNG, b64decode(data) if isinstance(data, str) else bytes(data))


_REPRESENTATIONS: tuple[tuple[str, Callable[[Any], Rendered]], ...] = (
    ("_repr_html_", _of_html),
    ("_repr_svg_", _of_svg),
    ("_repr_png_", _of_png),
)


# by package

_one_at_a_time = threading.RLock()


@contextmanager
def _alone() -> Generator[None]:
    """For packages whose drawing shares state between threads."""
    if not _one_at_a_time.acquire(timeout=PATIENCE):
        raise TimeoutError(f"another figure has been drawn for more than {PATIENCE:g} s")
    try:
        yield
    finally:
        _one_at_a_time.release()


def _matplotlib(artist: Any) -> Rendered:
    figure = artist
    while not hasattr(figure, "savefig"):  # axes, or a part of a figure
        above = getattr(figure, "figure", None)
        if above is None or above is figure:
            raise ValueError("it belongs to no figure")
        figure = above
    buffer = io.BytesIO()
    with _alone():
        figure.savefig(buffer, format="png")
    return _made(PNG, buffer.getvalue())


def _plotly(figure: Any) -> Rendered:
    return _made(HTML, str(figure.to_html(full_html=True, include_plotlyjs=True, include_mathjax=False)).encode())


def _bokeh(model: Any) -> Rendered:
    with _alone():
        embed, resources = importlib.import_module("bokeh.embed"), importlib.import_module("bokeh.resources")
        return _made(HTML, str(embed.file_html(model, resources.INLINE, title="Figure")).encode())


def _panel(viewable: Any, *, embed: bool = False) -> Rendered:
    """By Bokeh's own template: panel's names icons that lie elsewhere."""
    with _alone():
        save = importlib.import_module("panel.io.save").save
        resources, templates = importlib.import_module("bokeh.resources"), importlib.import_module("bokeh.core.templates")
        page = io.StringIO()
        save(viewable, page, title="Figure", resources=resources.INLINE, template=templates.FILE, embed=embed, progress=False)
        return _made(HTML, page.getvalue().encode())


def _holoviews(element: Any) -> Rendered:
    """By whichever backend is loaded; with its sliders, for a few of their positions."""
    with _alone():
        if not importlib.import_module("holoviews").Store.renderers:
            importlib.import_module("holoviews.plotting.bokeh")
        return _panel(importlib.import_module("panel").pane.HoloViews(element), embed=True)


def _pillow(image: Any) -> Rendered:
    known = {"CMYK": "RGB", "YCbCr": "RGB", "HSV": "RGB", "RGBa": "RGBA", "La": "LA"}  # what PNG does not have
    buffer = io.BytesIO()
    (image.convert(known[image.mode]) if image.mode in known else image).save(buffer, format="PNG")
    return _made(PNG, buffer.getvalue())


_ADAPTERS: dict[tuple[str, str], Callable[[Any], Rendered]] = {
    ("matplotlib", "Artist"): _matplotlib,
    ("plotly", "BaseFigure"): _plotly,
    ("panel", "ServableMixin"): _panel,
    ("holoviews", "Dimensioned"): _holoviews,
    ("bokeh", "Model"): _bokeh,
    ("bokeh", "Document"): _bokeh,
    ("PIL", "Image"): _pillow,
}
