"""What is written down about a run, without its secrets: by the names that secrets go by, and by the forms that they have.

Rather too much is hidden than too little: what stands in run.json is there for good.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

from holdfast.folders.secrets import HIDDEN, SECRET_NAME

#: Shorter texts would blot out words.
_SHORTEST: Final = 4

#: Words that only look like a secret's name. What is left of a name without them decides.
_HARMLESS: Final = re.compile(
    r"keyword|keyboard|keyframe|keypoint|monkey|author(?!i[sz])|passeng|passag|passes|bypass|compass|tokeni[sz]e|disaster|sacred|incredib"
    r"|(?<![a-z])(?:max|min|num|n|total)(?:_[a-z]+)?_?tokens?(?![a-z])|tokens?_(?:count|limit|budget|in|out)(?![a-z])",
    re.IGNORECASE,
)
#: Short names of secrets, which count only as words of their own.
_SECRET_WORD: Final = re.compile(r"(?:^|[^a-z])(?:pw|pwd|psw|pin|otp|jwt|pat|sig|dsn|bearer|private)(?:$|[^a-z])", re.IGNORECASE)
_HUMP: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")

_SUSPECT: Final = re.compile(r"[:=@]|-----BEGIN|sk-|gh[pousr]_|github_pat_|glpat-|xox|hf_|AKIA|AIza|eyJ|Bearer")
_PRIVATE_KEY: Final = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL)
_SHAPES: Final = re.compile(
    r"sk-[\w-]{16,}|gh[pousr]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|xox[a-z]-[\w-]{10,}|hf_\w{20,}|AKIA[0-9A-Z]{12,}|AIza[\w-]{30,}"
    r"|eyJ[\w-]+\.[\w-]+\.[\w-]*"
)
_BEARER: Final = re.compile(r"\bBearer\s+\S+")
_WORD: Final = re.compile(r"\S+")
_PASSWORD_BEGINS: Final = re.compile(r"://[^\s/:@?#]*:")
_USER: Final = re.compile(r"(https?://)[^\s/@?#:]+@", re.IGNORECASE)
_NAMED: Final = re.compile(r"""(?<![\w.-])([\w.-]+)["']?\s*(?:=>|[=:])\s*""")
_GIVEN: Final = re.compile(
    r"""[bru]?"(?:[^"\\]|\\.)*(?:"|\Z)|[bru]?'(?:[^'\\]|\\.)*(?:'|\Z)|(?:(?:Bearer|Basic|Token)\s+)?[^\s&;]*""", re.DOTALL
)


def is_secret_name(name: str) -> bool:
    """Whether what goes by this name has to be hidden."""
    harmless = _HARMLESS.sub(" ", name)
    return SECRET_NAME.search(harmless) is not None or _SECRET_WORD.search(_HUMP.sub("_", harmless)) is not None


def masked(text: str, *, is_cut: bool = False) -> str:
    """The text without what has the form of a secret: passwords in URLs, `password=...`, tokens and keys of well-known forms.

    `is_cut`: the text goes on elsewhere.
    """
    if _SUSPECT.search(text) is None:
        return text
    text = _PRIVATE_KEY.sub(HIDDEN, text)
    if "://" in text:
        text = _USER.sub(rf"\1{HIDDEN}@", _without_passwords(text, is_cut))
    return _BEARER.sub(f"Bearer {HIDDEN}", _SHAPES.sub(HIDDEN, _without_named(text)))


def names_a_secret(text: str) -> bool:
    """Whether a text, such as an object's repr, gives something by a secret's name."""
    return any(is_secret_name(found[1]) for found in _NAMED.finditer(text))


def without(secrets: Iterable[str], tree: Any) -> Any:
    """A tree of plain data in which none of these texts is found."""
    blots = sorted((secret for secret in secrets if len(secret) >= _SHORTEST), key=len, reverse=True)
    return _blotted(tree, blots) if blots else tree


def _blotted(tree: Any, blots: list[str]) -> Any:
    match tree:
        case str():
            for blot in blots:
                tree = tree.replace(blot, HIDDEN)
            return tree
        case dict():
            return {_blotted(name, blots): _blotted(value, blots) for name, value in tree.items()}
        case list():
            return [_blotted(value, blots) for value in tree]
        case _:
            return tree


def _without_passwords(text: str, is_cut: bool) -> str:
    """A password ends at the last @ of the word: in a URL it can't hold one, but people write some that do."""

    def without_password(word: re.Match[str]) -> str:
        begins = _PASSWORD_BEGINS.search(word[0])
        if begins is None:
            return word[0]
        ends = word[0].rfind("@")
        if is_cut and word.end() == len(text):  # its last @ may be beyond
            return word[0][: begins.end()] + HIDDEN
        return word[0][: begins.end()] + HIDDEN + word[0][ends:] if ends >= begins.end() else word[0]

    return _WORD.sub(without_password, text)


def _without_named(text: str) -> str:
    shown, start = [], 0
    for found in _NAMED.finditer(text):
        if found.start() < start or not is_secret_name(found[1]):
            continue
        given = _GIVEN.match(text, found.end())
        if given is not None and given[0]:
            shown += [text[start : found.end()], HIDDEN]
            start = given.end()
    return "".join([*shown, text[start:]])
