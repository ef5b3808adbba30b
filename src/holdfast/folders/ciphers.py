"""How an encrypted object looks, byte by byte, and what its keys are. Pure functions; no I/O.

An object is one record; one that grows, as a segment of the journal does on a disk, has one more for each write. A record::

    magic, version      8    \\xf5cipher\\x01
    key id              8    made from the key, tells nothing about it
    offset              8    where the record begins in its object
    length              8    of what was encrypted
    salt               16    random
    ciphertext, tag          AES-256-GCM, `length` and 16 bytes

Each record has a key of its own, HKDF-SHA256 of the key and the salt, so that no nonce has to be unique. Authenticated with it are its
offset and the path of its object below the store's root: a record can be neither changed, nor moved inside its object or to another
one, nor doubled or left out in the middle, without that being seen. That the last ones are cut off is not seen here: what has to be
there is known to the journal, whose frames are chained and whose ends are on record, and to the digests of everything else.

What is damaged is handed on as damage (`DAMAGED`), in its place: every reader checks what it reads, and names the damage in its words.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Callable, Sequence
from hashlib import blake2b
from importlib import import_module
from struct import Struct
from typing import Any, Final, NamedTuple, NoReturn, Protocol

from holdfast.errors import InvalidOption, JournalTooNew, MissingExtra, NotEncrypted, WrongKey

MAGIC: Final = b"\xf5cipher"  # no text begins so, nor JSON
VERSION: Final = 1
#: What stands in the text for bytes that don't decrypt: no digest, no JSON and no frame of a journal matches it.
DAMAGED: Final = b"\xf5damaged\xf5"

_BEGIN: Final = MAGIC + bytes([VERSION])
_HEADER: Final = Struct(">8s8sQQ16s")
_TAG: Final = 16
#: By so much a record is longer than its text.
OVERHEAD: Final = _HEADER.size + _TAG
#: The cipher takes no more than 2 GiB at a time: what is longer gets several records.
PART: Final = 1 << 30

_KEY_SIZE: Final = 32
_SALT_SIZE: Final = 16
_NONCE: Final = bytes(12)  # of a key that encrypts once
_INFO: Final = b"holdfast record 1"
_PERSON: Final = b"holdfast key id"
_NOT_A_KEY: Final = (
    "a key is 32 bytes, or their base64 text: base64.urlsafe_b64encode(os.urandom(32)); several make a sequence, "
    "the first of which encrypts"
)


def is_encrypted(data: bytes) -> bool:
    """Whether these are the bytes of an encrypted object."""
    return data.startswith(MAGIC)


def plain_size(size: int) -> int:
    """How long the text of an object of `size` bytes is, where it was written at once; of one that grew, a little less than `size`."""
    return max(0, size - OVERHEAD * -(-size // (PART + OVERHEAD)))


class _Cipher(Protocol):
    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes, /) -> bytes: ...

    def decrypt(self, nonce: bytes, data: memoryview, associated_data: bytes, /) -> bytes: ...


class _Key:
    """One key. It shows its id, and never itself."""

    __slots__ = ("_cipher_for", "id")

    def __init__(self, secret: bytes) -> None:
        self.id: bytes = blake2b(secret, digest_size=8, person=_PERSON).digest()
        self._cipher_for = _cipher_maker(secret)

    def cipher(self, salt: bytes) -> _Cipher:
        """The cipher of the one record that has this salt."""
        return self._cipher_for(salt)


class _Record(NamedTuple):
    text: bytes
    offset: int
    end: int


class Keys:
    """The keys of a store: the first encrypts, all decrypt. They are shown by their ids, and never pickled.

    Raises:
        InvalidOption: What was given are no keys; without showing it.
        MissingExtra: `cryptography` is not installed.
    """

    __slots__ = ("_invalid", "_keys")

    def __init__(self, given: object) -> None:
        secrets = _secrets(given)
        self._invalid: type[Exception] = _cryptography("exceptions").InvalidTag
        self._keys = tuple(_Key(secret) for secret in secrets)

    @property
    def ids(self) -> tuple[str, ...]:
        """What tells one key from another."""
        return tuple(key.id.hex() for key in self._keys)

    def __repr__(self) -> str:
        return f"Keys({', '.join(self.ids)})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("keys of a store are not pickled: give $HOLDFAST_ENCRYPTION_KEY to the process that needs them")

    def encrypt(self, text: bytes, path: str, offset: int = 0) -> bytes:
        """Encrypt `text` for the object at `path` below the store's root, where it is to begin at byte `offset`."""
        records: list[bytes] = []
        for start in range(0, len(text), PART) or (0,):
            records.append(self._encrypted(text[start : start + PART], path, offset))
            offset += len(records[-1])
        return b"".join(records)

    def decrypt(self, data: bytes, path: str, where: str) -> bytes:
        """Decrypt an object.

        What was to be written last and is invalid is torn, and left out. Other damage stands as `DAMAGED` in the text, in its place.

        Args:
            data: The object's bytes.
            path: Its path below the store's root.
            where: What to call it in messages.

        Raises:
            WrongKey: It was encrypted with a key that is not ours.
            NotEncrypted: It was never encrypted.
            JournalTooNew: It was encrypted by a newer version.
        """
        texts: list[bytes] = []
        at, is_broken = 0, False
        while 0 <= at < len(data):
            record = self._record(data, at, path)
            if record is None:
                at, is_broken = data.find(MAGIC, at + 1), True
                continue
            if is_broken or record.offset != at:
                texts.append(DAMAGED)
            texts.append(record.text)
            at, is_broken = record.end, False
        return b"".join(texts) if texts else self._said_of_nothing(data, where)

    def _encrypted(self, text: bytes, path: str, offset: int) -> bytes:
        key, salt = self._keys[0], os.urandom(_SALT_SIZE)
        header = _HEADER.pack(_BEGIN, key.id, offset, len(text), salt)
        return header + key.cipher(salt).encrypt(_NONCE, text, _place(path, offset))

    def _record(self, data: bytes, at: int, path: str) -> _Record | None:
        """The record that begins at byte `at`. What its header says is believed only if it decrypts: a flipped magic or id does no harm."""
        if len(data) - at < OVERHEAD:
            return None
        _, key_id, offset, length, salt = _HEADER.unpack_from(data, at)
        end = at + OVERHEAD + length
        if end > len(data):
            return None
        encrypted = memoryview(data)[at + _HEADER.size : end]
        for key in [key for key in self._keys if key.id == key_id] or self._keys:
            try:
                return _Record(key.cipher(salt).decrypt(_NONCE, encrypted, _place(path, offset)), offset, end)
            except self._invalid:
                continue
        return None

    def _said_of_nothing(self, data: bytes, where: str) -> bytes:
        """Say why nothing of an object decrypts."""
        key_id = data[8:16]
        if all(key.id != key_id for key in self._keys) and self._is_shifted(data):
            return DAMAGED
        if data[: len(MAGIC)] == MAGIC and data[7:8] > bytes([VERSION]):
            raise JournalTooNew(where=where, found=f"{data[7]} of encryption", known=f"{VERSION}")
        if any(key.id == key_id for key in self._keys):
            return DAMAGED
        if is_encrypted(data):
            raise WrongKey(where=where, reason=f"encrypted with the key {key_id.hex()}, and opened with {', '.join(self.ids)}")
        if not data.strip(b"\0"):  # what a file system leaves of a write that was not synced
            return DAMAGED
        raise NotEncrypted(where=where)

    def _is_shifted(self, data: bytes) -> bool:
        """Whether a byte too few or too many in its header, not another key, is why an object does not decrypt."""
        if any(key.id in data[: 2 * _HEADER.size] for key in self._keys):
            return True
        if len(data) < OVERHEAD or not data.startswith(_BEGIN):
            return False
        end: int = OVERHEAD + _HEADER.unpack_from(data)[3]
        return end > len(data) or not MAGIC.startswith(data[end : end + len(MAGIC)])


def _place(path: str, offset: int) -> bytes:
    return b"%d %b" % (offset, path.encode("utf-8", "surrogatepass"))


def _secrets(given: object) -> list[bytes]:
    """Raises: InvalidOption, without what was given."""
    many: Sequence[object] = given if isinstance(given, (list, tuple)) else [given]
    texts = [
        part.strip() if isinstance(part, str) else part for each in many for part in (each.split(",") if isinstance(each, str) else (each,))
    ]
    secrets = [secret for text in texts if (secret := _secret(text)) is not None]
    if not secrets or len(secrets) != len(texts):
        raise InvalidOption(option="encryption_key", value="(not shown)", reason=_NOT_A_KEY)
    return secrets


def _secret(text: object) -> bytes | None:
    """The 32 bytes that are meant, or None."""
    if isinstance(text, bytes) and len(text) == _KEY_SIZE:
        return text
    try:
        plain = text.decode("ascii") if isinstance(text, bytes) else text
        if not isinstance(plain, str):
            return None
        padded = plain.rstrip("=").translate(str.maketrans("+/", "-_"))
        secret = base64.b64decode(padded + "=" * (-len(padded) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        return None
    return secret if len(secret) == _KEY_SIZE else None


def _cipher_maker(secret: bytes) -> Callable[[bytes], _Cipher]:
    aes = _cryptography("hazmat.primitives.ciphers.aead").AESGCM
    hkdf = _cryptography("hazmat.primitives.kdf.hkdf").HKDF
    sha256 = _cryptography("hazmat.primitives.hashes").SHA256()

    def cipher(salt: bytes) -> _Cipher:
        made: _Cipher = aes(hkdf(algorithm=sha256, length=_KEY_SIZE, salt=salt, info=_INFO).derive(secret))
        return made

    return cipher


def _cryptography(module: str) -> Any:
    try:
        return import_module(f"cryptography.{module}")
    except ImportError as error:
        raise MissingExtra(feature="encryption at rest", package="cryptography", extra="crypto") from error
