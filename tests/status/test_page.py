"""The page in the docs, and the picture on it, are made from the tables."""

from __future__ import annotations

import re
from pathlib import Path

from holdfast.status import Move, Status, moves, page, picture

PAGE = Path(__file__).parents[2] / "docs" / "status.md"


def test_the_page_in_the_docs_is_the_generated_one() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "write it anew: make docs"


def test_the_picture_has_an_arrow_for_each_pair_of_the_table_and_no_other() -> None:
    drawn = {(Status(a), Status(b)) for a, b in re.findall(r"^ +([A-Z_]+) --> ([A-Z_]+):", picture(), flags=re.MULTILINE)}
    assert drawn == {(status, to) for status in Status for move in Move for to in moves(status, move) if to is not status}


def test_the_picture_names_every_move() -> None:
    assert all(str(move) in picture() for move in Move)
