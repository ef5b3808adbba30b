"""What is written down about a run has no secrets in it: by their names, and by their forms."""

from __future__ import annotations

import dataclasses
import time
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, SecretBytes, SecretStr

from holdfast.codec import to_json
from holdfast.folders.secrets import HIDDEN
from holdfast.runs.masks import is_secret_name, masked, without
from holdfast.runs.parameters import PARAMETER_BYTES, plain_parameters

SECRET_NAMES = [
    "password", "Password", "PASSWORD", "db_password", "dbPassword", "passwd", "passphrase", "user_pass", "userpass", "pass", "pwd", "PWD",
    "db_pwd", "dbPwd", "pin", "api_key", "apikey", "API-Key", "x-api-key", "key", "keys", "secret_key", "accountkey", "private_key",
    "secret", "client_secret", "secrets", "token", "tokens", "access_token", "accessToken", "admin_tokens", "token_info", "auth", "oauth",
    "authorization", "Authorization", "authentication", "author_token", "credentials", "creds", "aws_credentials", "cookie", "set-cookie",
    "sas", "sas_url", "connection_string", "signature", "sig", "X-Amz-Signature", "jwt", "otp", "bearer", "dsn", "max_tokens_secret",
    "n_token_key", "HOLDFAST_ENCRYPTION_KEY", "AWS_SECRET_ACCESS_KEY",
]  # fmt: skip
HARMLESS_NAMES = [
    "max_tokens", "maxTokens", "max_new_tokens", "n_tokens", "num_tokens", "total_tokens", "tokens_in", "tokens_out", "token_count",
    "token_limit", "tokenizer", "keyword", "keywords", "keyboard", "author", "authors", "author_name", "passengers", "passes", "compass",
    "monkey", "name", "url", "path", "docs", "rate", "spin", "pinned", "signal", "design", "learning_rate", "model", "user", "host",
]  # fmt: skip


@pytest.mark.parametrize("name", SECRET_NAMES)
def test_what_is_called_so_is_hidden(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize("name", HARMLESS_NAMES)
def test_what_only_looks_like_a_secrets_name_is_shown(name: str) -> None:
    assert not is_secret_name(name)


TEXTS = {
    "postgres://me:hunter2@host/db": "postgres://me:***@host/db",
    "postgres://me:hun@ter/2@host/db": "postgres://me:***@host/db",
    "redis://:hunter2@host:6379/0": "redis://:***@host:6379/0",
    "from a://u:p1@h to b://v:p2@i": "from a://u:***@h to b://v:***@i",
    "https://ghp@github.com/o/r": "https://***@github.com/o/r",
    "s3://bucket/folder": "s3://bucket/folder",
    "abfs://container@account.dfs.core.windows.net/x": "abfs://container@account.dfs.core.windows.net/x",
    "https://host:8080/path": "https://host:8080/path",
    "https://h/x?sig=abc%2F&sv=1": "https://h/x?sig=***&sv=1",
    "https://h/x?api_key=abc": "https://h/x?api_key=***",
    "Server=s;User=u;Password='a b';Port=1": "Server=s;User=u;Password=***;Port=1",
    "DefaultEndpointsProtocol=https;AccountName=n;AccountKey=abc==;E=x": "DefaultEndpointsProtocol=https;AccountName=n;AccountKey=***;E=x",
    '{"token": "a\\"b", "n": 1}': '{"token": ***, "n": 1}',
    "{'password': b'x', 'n': 1}": "{'password': ***, 'n': 1}",
    "password='never closed": "password=***",
    "Authorization: Bearer abc.def": "Authorization: ***",
    "curl -H 'Bearer abc.def'": "curl -H 'Bearer ***",
    "token => abc": "token => ***",
    "use sk-abcdefghijklmnopqrst now": "use *** now",
    "AKIAABCDEFGHIJKLMNOP": "***",
    "ghp_0123456789012345678901": "***",
    "eyJhbGciOi.eyJzdWIi.sig-nature": "***",
    "-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY-----\nrest": "***\nrest",
    "-----BEGIN PRIVATE KEY-----\nabc": "***",
    "half past 12:30, and a = b": "half past 12:30, and a = b",
    "the key takeaways: many": "the key takeaways: many",
    "": "",
}


@pytest.mark.parametrize("text", TEXTS)
def test_what_has_the_form_of_a_secret_is_hidden_and_the_rest_is_shown(text: str) -> None:
    assert masked(text) == TEXTS[text]


@pytest.mark.parametrize("text", ["x a://u:p", "password=ab", "password='a b"])
def test_a_secret_at_the_edge_of_a_cut_is_hidden(text: str) -> None:
    shown = masked(text, is_cut=True)
    assert shown.endswith(HIDDEN)


@pytest.mark.parametrize(
    "word", ["a://b:", "=a", "a", "'", "x='\\", "k=' ", "key= ", "eyJ.", "-----BEGIN PRIVATE KEY-----", "sk-", "http://a", "@a:"]
)
def test_no_text_takes_long(word: str) -> None:
    text = word * (16_000 // len(word))
    began = time.process_time()
    masked(text)
    assert time.process_time() - began < 2.0  # a hundred times what the slowest takes, and a tenth of what one takes that looks back


def test_a_secret_is_hidden_wherever_else_it_stands() -> None:
    tree = {"a": "with hunter2 in it", "hunter2": ["hunter2", 1, None], "b": {"c": "hunter22"}}
    assert without(["hunter2", "hun"], tree) == {"a": "with *** in it", "***": ["***", 1, None], "b": {"c": "***2"}}


# whatever is given


class Model(BaseModel):
    user: str
    password: str
    handle: SecretStr
    raw: SecretBytes
    quiet: str = Field(default="", repr=False)


@dataclasses.dataclass
class Config:
    api_key: Any
    inner: Any = None
    quiet: Any = dataclasses.field(default=None, repr=False)


class Pair(NamedTuple):
    token: str
    name: str


class Client:
    def __init__(self, secret: str) -> None:
        self.secret = secret

    def __repr__(self) -> str:
        return f"Client(host='h', password={self.secret!r})"


#: Long enough not to stand in a name or a note by chance; no part of it is told in pieces.
secrets = st.text(
    st.characters(min_codepoint=33, max_codepoint=0x2FF, blacklist_categories=["Cs", "Cc", "Zs"]), min_size=4, max_size=30
).map(lambda text: f"Zq7{text}7qZ")
secret_names = st.sampled_from(SECRET_NAMES)
plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=30)
    | st.binary(max_size=30)
    | st.datetimes()
    | st.decimals(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4) | st.tuples(inner, inner),
    max_leaves=8,
)


def hidden_in(name: str, secret: str) -> list[Any]:
    """The ways in which a secret may be given."""
    return [
        {name: secret},
        {name: [secret]},
        {name: {"inner": (secret, 1)}},
        {name: secret.encode()},
        {name: SecretStr(secret)},
        {"handle": SecretStr(secret)},
        {"raw": SecretBytes(secret.encode())},
        {"headers": [(name, secret)]},
        {"headers": [[name, secret], ["Accept", "text"]]},
        {"deep": [{"er": {name: secret}}]},
        {"config": Config(secret)},
        {"config": Config(None, inner={name: secret})},
        {"config": Config(None, quiet=secret)},
        {"model": Model(user="u", password=secret, handle=SecretStr(secret), raw=SecretBytes(secret.encode()), quiet=secret)},
        {"pair": Pair(secret, "n")},
        {"client": Client(secret)},
        {"clients": [Client(secret)]},
        {"url": f"postgres://user:{quote(secret, safe='')}@host/db?x=1"},
        {"url": f"text before postgres://user:{secret}@host/db, and behind"},
        {"url": f"https://h/p?{name}={quote(secret, safe='')}&x=1"},
        {"text": f"{name}={secret!r} and so on"},
        {"options": {"storage": {"url": f"s3://user:{secret}@host"}}},
        {name: secret, "again": f"it says {secret} here too"},
    ]


@settings(max_examples=150, deadline=None)
@given(secret_names, secrets, plain)
@example("password", "Zq7'\"\\7qZ", None)
def test_no_secret_is_ever_written(name: str, secret: str, beside: Any) -> None:
    for parameters in hidden_in(name, secret):
        shown, _ = plain_parameters({"a": beside, **parameters, "z": beside})
        written = to_json(shown).decode()
        for form in (secret, quote(secret, safe=""), repr(secret)[1:-1], to_json(secret).decode()[1:-1]):
            assert form not in written, (parameters, written)


@settings(max_examples=60, deadline=None)
@given(secrets, st.integers(0, 9000), st.integers(0, 9000))
def test_no_secret_is_written_where_a_text_is_cut(secret: str, before: int, behind: int) -> None:
    text = f"{'x' * before} postgres://user:{secret}@host/db password={secret} {'y' * behind}"
    written = to_json(plain_parameters({"text": text})[0]).decode()
    assert secret[:8] not in written


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.text(min_size=1, max_size=20), plain, max_size=5))
def test_whatever_is_given_is_written_as_JSON_of_bounded_size(arguments: dict[str, Any]) -> None:
    shown, _ = plain_parameters(arguments)
    assert len(to_json(shown)) <= PARAMETER_BYTES


def test_an_unlikely_name_is_no_reason_to_fail() -> None:
    assert plain_parameters({"": 1, "…": 2, "\ud800": 3})[0] == {"": 1, "…": 2, "\\ud800": 3}
