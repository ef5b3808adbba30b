"""What people draw becomes bytes that are what they claim to be, and pages that load nothing."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from holdfast.events import FigureSaved
from holdfast.figures import MOST, Rendered, display_path, matching, of_bytes, render, with_suffix, without_suffix

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 16


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


class Loads(HTMLParser):
    """What a page would ask the network for."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.from_elsewhere: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in ("a", "base"):
            self.from_elsewhere += [
                (tag, v) for k, v in attrs if k in ("src", "href", "data", "poster") and v and re.match(r"(\w+:)?//", v)
            ]


def page_of(rendered: Rendered) -> str:
    assert (rendered.media_type, rendered.suffix) == ("text/html", ".html")
    text = rendered.data.decode()
    page = Loads()
    page.feed(text)
    assert page.from_elsewhere == []
    assert page.tags
    return text


def picture_of(rendered: Rendered) -> Any:
    image = pytest.importorskip("PIL.Image")
    assert (rendered.media_type, rendered.suffix) == ("image/png", ".png")
    opened = image.open(io.BytesIO(rendered.data))
    opened.load()
    return opened


# pictures


def matplotlib_figure() -> Any:
    figure = pytest.importorskip("matplotlib.figure").Figure(figsize=(4, 3), dpi=100)
    axes = figure.subplots()
    axes.plot([1, 3, 2])
    axes.set_title("motor")
    return figure


def two_in_one() -> Any:
    return pytest.importorskip("matplotlib.figure").Figure(figsize=(4, 3), dpi=100).subfigures(1, 2)[0]


def pyplot_figure() -> Any:
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    pyplot = pytest.importorskip("matplotlib.pyplot")
    figure, axes = pyplot.subplots(figsize=(4, 3), dpi=100)
    axes.plot([1, 3, 2])
    return figure


@pytest.mark.parametrize(
    "make",
    [
        matplotlib_figure,
        pyplot_figure,
        two_in_one,
        lambda: matplotlib_figure().axes[0],
        lambda: matplotlib_figure().axes[0].lines[0],
        lambda: two_in_one().subplots(),
    ],
    ids=["figure", "pyplot", "subfigure", "axes", "line", "axes of a subfigure"],
)
def test_a_figure_of_matplotlib_and_all_that_is_in_one_is_a_png(make: Callable[[], Any]) -> None:
    opened = picture_of(render(make()))
    assert opened.size == (400, 300)


def test_a_drawn_line_is_in_the_picture() -> None:
    figure = pytest.importorskip("matplotlib.figure").Figure(figsize=(4, 3), dpi=100)
    figure.subplots().plot([1, 3, 2], color="red", linewidth=5)
    colours = {colour for _, colour in picture_of(render(figure)).convert("RGB").getcolors(1 << 20)}
    assert (255, 0, 0) in colours


def test_a_part_of_no_figure_is_no_figure() -> None:
    lines = pytest.importorskip("matplotlib.lines")
    with pytest.raises(ValueError, match="belongs to no figure"):
        render(lines.Line2D([0, 1], [0, 1]))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "CMYK", "YCbCr", "HSV"])
def test_an_image_of_any_mode_that_has_colours_is_a_png(mode: str) -> None:
    image = pytest.importorskip("PIL.Image")
    assert picture_of(render(image.new(mode, (8, 4)))).size == (8, 4)


def test_an_image_that_png_can_not_hold_is_refused_by_its_package() -> None:
    image = pytest.importorskip("PIL.Image")
    with pytest.raises(OSError, match="cannot write mode F"):
        render(image.new("F", (8, 4)))


# pages


def plotly_figure() -> Any:
    objects = pytest.importorskip("plotly.graph_objects")
    return objects.Figure(objects.Scatter(y=[1, 3, 2]), layout={"title": "über plotly"})


def bokeh_figure() -> Any:
    figure = pytest.importorskip("bokeh.plotting").figure(title="über bokeh")
    figure.line([1, 2], [3, 4])
    return figure


def bokeh_formula() -> Any:
    figure = pytest.importorskip("bokeh.plotting").figure(title=r"über bokeh $$x^2$$")
    figure.line([1, 2], [3, 4])
    return figure


def bokeh_layout() -> Any:
    return pytest.importorskip("bokeh.layouts").row(bokeh_figure(), bokeh_figure())


def bokeh_document() -> Any:
    document = pytest.importorskip("bokeh.document").Document()
    document.add_root(bokeh_figure())
    return document


def panel_tabs() -> Any:
    panel = pytest.importorskip("panel")
    return panel.Tabs(("one", bokeh_figure()), ("two", panel.pane.Markdown("# über panel")))


def holoviews_curve() -> Any:
    return pytest.importorskip("holoviews").Curve([1, 3, 2], label="über holoviews")


def holoviews_layout() -> Any:
    return holoviews_curve() + holoviews_curve() * holoviews_curve()


def holoviews_map() -> Any:
    holoviews = pytest.importorskip("holoviews")
    return holoviews.HoloMap({i: holoviews.Curve([i, 3, 2], label="über holoviews") for i in range(2)})


@pytest.mark.parametrize(
    "make",
    [
        plotly_figure,
        bokeh_figure,
        bokeh_formula,
        bokeh_layout,
        bokeh_document,
        panel_tabs,
        holoviews_curve,
        holoviews_layout,
        holoviews_map,
    ],
)
@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # what these packages warn of is theirs
def test_a_figure_of_a_package_is_one_page_that_loads_nothing(make: Callable[[], Any]) -> None:
    text = page_of(render(make()))
    assert re.search(r"(ü|\\u00fc|&#252;|&uuml;)ber", text)
    assert len(text) > 500_000, "its scripts are in it"


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_what_the_matplotlib_backend_of_holoviews_draws_is_in_the_page() -> None:
    holoviews = pytest.importorskip("holoviews")
    curve = holoviews_curve()
    before = list(holoviews.Store.renderers), holoviews.Store.current_backend
    pytest.importorskip("holoviews.plotting.mpl")
    holoviews.Store.set_current_backend("matplotlib")
    try:
        assert "image/png" in page_of(render(curve))
    finally:
        if before[0]:
            holoviews.Store.set_current_backend(before[1])


@pytest.mark.parametrize(
    ("markup", "begins"),
    [
        ("<p>hä</p>", '<!DOCTYPE html>\n<meta charset="utf-8">\n<p>hä</p>'),
        ("  \n<!DOCTYPE html><html></html>", "  \n<!DOCTYPE html><html></html>"),
        ("<!-- made --><html>", "<!-- made --><html>"),
    ],
)
def test_markup_is_a_page_and_says_how_it_is_written(markup: str, begins: str) -> None:
    assert page_of(render(markup)) == begins


@pytest.mark.parametrize("text", ["<svg></svg>", '<?xml version="1.0"?>\n<!-- x -->\n<SVG viewBox="0 0 1 1"/>'])
def test_markup_of_a_drawing_is_a_drawing(text: str) -> None:
    assert render(text) == Rendered("image/svg+xml", ".svg", text.encode()) == render(text.encode())


# what shows itself


class ShowsHtml:
    def _repr_html_(self) -> str:
        return "<b>it</b>"


class ShowsSvg:
    def _repr_html_(self) -> None:
        return None

    def _repr_svg_(self) -> tuple[str, dict[str, int]]:
        return "<svg/>", {}


class ShowsPng:
    def _repr_png_(self) -> bytes:
        return PNG


class ShowsText:
    def _repr_html_(self) -> str:
        return "just text"


@pytest.mark.parametrize(
    ("figure", "suffix", "ends"),
    [
        (ShowsHtml(), ".html", b"<b>it</b>"),
        (ShowsText(), ".html", b"just text"),
        (ShowsSvg(), ".svg", b"<svg/>"),
        (ShowsPng(), ".png", PNG),
    ],
)
def test_what_shows_itself_in_a_notebook_is_kept_as_it_does(figure: object, suffix: str, ends: bytes) -> None:
    rendered = render(figure)
    assert rendered.suffix == suffix
    assert rendered.data.endswith(ends)


def test_a_table_is_a_page() -> None:
    pandas = pytest.importorskip("pandas")
    assert "<td>2</td>" in page_of(render(pandas.DataFrame({"a": [1, 2]})))


@pytest.mark.parametrize("figure", [None, 1, "no markup", "a < b", object(), ShowsHtml, sys, {"data": []}, ["<p>"]])
def test_what_nobody_can_draw_is_a_TypeError_that_says_what_can_be(figure: object) -> None:
    with pytest.raises(TypeError, match=r"draw|HTML"):
        render(figure)


# bytes


@pytest.mark.parametrize(
    ("data", "media_type", "suffix"),
    [
        (PNG, "image/png", ".png"),
        (b"\xff\xd8\xff\xe0rest", "image/jpeg", ".jpg"),
        (b"GIF87a..", "image/gif", ".gif"),
        (b"GIF89a..", "image/gif", ".gif"),
        (b"RIFF\1\2\3\4WEBPVP8 ", "image/webp", ".webp"),
        (b"RIFF\1\2\3\4WAVE", "application/octet-stream", ".bin"),
        (b"II*\0....", "image/tiff", ".tif"),
        (b"\0\0\0\x1cftypavif", "image/avif", ".avif"),
        (b"%PDF-1.7", "application/pdf", ".pdf"),
        (b"<svg/>", "image/svg+xml", ".svg"),
        (b"<svg width='1'/>", "image/svg+xml", ".svg"),
        (b"\xef\xbb\xbf<!DOCTYPE html>", "text/html", ".html"),
        (b"<p>x", "text/html", ".html"),
        (b'{"data": []}', "application/json", ".json"),
        (b" [1, 2]", "application/json", ".json"),
        (b"[" * 100_000, "application/octet-stream", ".bin"),
        (b"{no json", "application/octet-stream", ".bin"),
        (b"1", "application/octet-stream", ".bin"),
        (b"<", "application/octet-stream", ".bin"),
        (b"\0", "application/octet-stream", ".bin"),
    ],
)
def test_bytes_are_known_by_how_they_begin(data: bytes, media_type: str, suffix: str) -> None:
    assert of_bytes(data) == Rendered(media_type, suffix, data)
    assert render(bytearray(data)) == render(memoryview(data)) == of_bytes(data)


@pytest.mark.parametrize("figure", [b"", bytearray(), memoryview(b"")])
def test_nothing_is_no_figure(figure: object) -> None:
    with pytest.raises(ValueError, match="empty"):
        render(figure)


def test_a_figure_that_is_too_large_is_refused() -> None:
    assert len(render(b"\0" * MOST).data) == MOST
    for figure in (b"\0" * (MOST + 1), memoryview(bytearray(MOST + 4)).cast("i"), "<p>" + "x" * MOST):
        with pytest.raises(ValueError, match=f"may take {MOST}"):
            render(figure)


# files


def test_a_file_keeps_its_bytes_and_its_suffix(tmp_path: Path) -> None:
    for name, suffix, media_type in [("a.JPEG", ".jpeg", "image/jpeg"), ("b.svg", ".svg", "image/svg+xml"), ("c.dat", ".png", "image/png")]:
        (tmp_path / name).write_bytes(PNG)
        assert render(tmp_path / name) == Rendered(media_type, suffix, PNG)


def test_no_suffix_of_a_file_makes_a_key_that_means_something_else(tmp_path: Path) -> None:
    (tmp_path / "00000000000000000001.jsonl").write_bytes(b'{"e":"warned"}\n{"e":"warned"}\n')
    assert render(tmp_path / "00000000000000000001.jsonl").suffix == ".bin"


def test_what_is_no_file_or_too_large_is_refused_unread(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "gone.png"):
        with pytest.raises(ValueError, match="is no file"):
            render(path)
    with (tmp_path / "large.png").open("wb") as file:
        file.truncate(MOST + 1)
    with pytest.raises(ValueError, match=f"may take {MOST}"):
        render(tmp_path / "large.png")


# paths

PLAIN = Rendered("image/jpeg", ".jpg", b"x")


@pytest.mark.parametrize(
    ("path", "full"),
    [
        ("a/b", "a/b.jpg"),
        ("a/b.jpg", "a/b.jpg"),
        ("a/b.JPEG", "a/b.JPEG"),
        ("a/b.png", "a/b.png.jpg"),
        ("v1.0", "v1.0.jpg"),
        ("jpg", "jpg.jpg"),
    ],
)
def test_a_path_gets_its_suffix_once(path: str, full: str) -> None:
    assert with_suffix(display_path(path), PLAIN) == full


def test_what_a_path_may_stand_for_is_itself_or_it_with_a_suffix() -> None:
    def saved(path: str, size: int) -> FigureSaved:
        return FigureSaved(action="a", at=0.0, path=path, key="", media_type="", size=size)

    there = [saved("a/b.png", 1), saved("a/b.html", 2), saved("a/b", 3), saved("c.png", 4), saved("c.png", 5), saved("v1.0.png", 6)]
    assert {path: figure.size for path, figure in matching(there, "a/b").items()} == {"a/b": 3}
    assert {path: figure.size for path, figure in matching(there[:2], "a/b").items()} == {"a/b.png": 1, "a/b.html": 2}
    assert {path: figure.size for path, figure in matching(there, "c").items()} == {"c.png": 5}
    assert set(matching(there, "v1.0")) == {"v1.0.png"}
    assert matching(there, "v1") == matching(there, "") == {}
    assert without_suffix("a.b/c") == "a.b/c"
