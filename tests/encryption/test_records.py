"""What a record says of itself, and what is made of it when it is not as it was written."""

from __future__ import annotations

import base64
import os
import pickle
import sys
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.errors import InvalidOption, JournalTooNew, MissingExtra, NotEncrypted, WrongKey
from holdfast.folders import ciphers
from holdfast.folders.ciphers import DAMAGED, MAGIC, OVERHEAD, Keys, is_encrypted, plain_size

KEY, OTHER = bytes(range(32)), bytes(range(32, 64))
URLSAFE = base64.urlsafe_b64encode(bytes([251]) * 32)


def grown(keys: Keys, texts: Sequence[bytes], path: str = "a") -> list[bytes]:
    """The records of a log, one for each write."""
    records: list[bytes] = []
    for text in texts:
        records.append(keys.encrypt(text, path, len(b"".join(records))))
    return records


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0x41]) + data[at + 1 :]


@given(text=st.binary(max_size=300), path=st.text(min_size=1, max_size=30))
def test_what_was_encrypted_is_decrypted_at_its_place(text: bytes, path: str) -> None:
    keys = Keys(KEY)
    encrypted = keys.encrypt(text, path)
    assert keys.decrypt(encrypted, path, "here") == text
    assert is_encrypted(encrypted)
    assert plain_size(len(encrypted)) == len(text)


@given(texts=st.lists(st.binary(max_size=60), min_size=1, max_size=6), torn=st.binary(max_size=200))
def test_a_log_is_the_texts_of_all_its_writes_but_a_torn_last_one(texts: list[bytes], torn: bytes) -> None:
    keys = Keys(KEY)
    data = b"".join(grown(keys, texts))
    assert keys.decrypt(data, "a", "here") == b"".join(texts)
    assert keys.decrypt(data + torn, "a", "here") == b"".join(texts)
    last = keys.encrypt(b"never acknowledged", "a", len(data))
    for cut in range(len(last)):
        assert keys.decrypt(data + last[:cut], "a", "here") == b"".join(texts)


@settings(max_examples=50)
@given(texts=st.lists(st.binary(min_size=1, max_size=40), min_size=2, max_size=5), data=st.data())
def test_a_byte_flipped_anywhere_in_a_log_is_harmless_torn_or_seen_as_damage(texts: list[bytes], data: st.DataObject) -> None:
    keys = Keys(KEY)
    records = grown(keys, texts)
    whole = b"".join(records)
    at = data.draw(st.integers(0, len(whole) - 1))
    found = keys.decrypt(flipped(whole, at), "a", "here")
    hit = next(n for n in range(len(records)) if at < len(b"".join(records[: n + 1])))
    # the magic and the id are looked for, and not believed: what decrypts is as it was
    torn = b"".join(texts[:-1])
    damaged = b"".join([*texts[:hit], DAMAGED, *texts[hit + 1 :]])
    assert found in ({b"".join(texts), torn} if hit == len(records) - 1 else {b"".join(texts), damaged})


@pytest.mark.parametrize(
    ("order", "found"),
    [
        ((0, 2), [b"one", DAMAGED, b"three"]),
        ((0, 2, 1), [b"one", DAMAGED, b"three", DAMAGED, b"two"]),
        ((0, 1, 1, 2), [b"one", b"two", DAMAGED, b"two", DAMAGED, b"three"]),
        ((1, 2), [DAMAGED, b"two", DAMAGED, b"three"]),
        ((0, 1), [b"one", b"two"]),
    ],
    ids=["left out", "swapped", "doubled", "begun later", "cut off at the end"],
)
def test_records_that_are_not_where_they_were_written_are_damage(order: Sequence[int], found: Sequence[bytes]) -> None:
    keys = Keys(KEY)
    records = grown(keys, [b"one", b"two", b"three"])
    assert keys.decrypt(b"".join(records[n] for n in order), "a", "here") == b"".join(found)


@pytest.mark.parametrize("change", [lambda whole, at: whole[:at] + b"!" + whole[at:], lambda whole, at: whole[:at] + whole[at + 1 :]])
def test_a_byte_more_or_less_in_the_middle_never_cuts_off_what_is_behind(change: Callable[[bytes, int], bytes]) -> None:
    keys = Keys(KEY)
    records = grown(keys, [b"one", b"two", b"three", b"four"])
    whole = b"".join(records)
    for at in range(len(records[0]), len(whole) - len(records[-1])):
        found = keys.decrypt(change(whole, at), "a", "here")
        assert DAMAGED in found
        assert found.endswith(b"four")


def test_records_of_another_object_are_no_part_of_this_one() -> None:
    keys = Keys(KEY)
    assert keys.decrypt(keys.encrypt(b"text", "runs/a/run.json"), "runs/b/run.json", "here") == DAMAGED
    mine = grown(keys, [b"one"], "a")[0]
    assert keys.decrypt(mine + grown(keys, [b"one", b"two"], "b")[1], "a", "here") == b"one"


def test_equal_texts_never_look_alike() -> None:
    keys = Keys(KEY)
    assert len({keys.encrypt(b"text", "a")[24:] for _ in range(100)}) == 100


def test_what_is_longer_than_the_cipher_takes_is_several_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ciphers, "PART", 10)
    keys = Keys(KEY)
    for size in (0, 1, 9, 10, 11, 20, 35):
        text = os.urandom(size)
        encrypted = keys.encrypt(text, "a")
        assert keys.decrypt(encrypted, "a", "here") == text
        assert plain_size(len(encrypted)) == size
        assert len(encrypted) == size + OVERHEAD * max(-(-size // 10), 1)


# keys


@pytest.mark.parametrize(
    "given",
    [
        URLSAFE,
        URLSAFE.decode(),
        URLSAFE.decode().rstrip("="),
        base64.b64encode(bytes([251]) * 32),
        base64.b64encode(bytes([251]) * 32).decode(),
        f" {URLSAFE.decode()}\n",
        [bytes([251]) * 32],
        (URLSAFE,),
    ],
)
def test_a_key_is_32_bytes_or_their_base64_text(given: object) -> None:
    assert Keys(given).ids == Keys(bytes([251]) * 32).ids


def test_several_keys_are_a_sequence_or_a_text_with_commas() -> None:
    assert Keys((KEY, OTHER)).ids == Keys(KEY).ids + Keys(OTHER).ids
    assert Keys(",".join(base64.b64encode(key).decode() for key in (KEY, OTHER))).ids == Keys([KEY, OTHER]).ids


SECRET = "correct-horse-battery-staple"


@pytest.mark.parametrize(
    "given",
    [
        SECRET,
        SECRET.encode(),
        [KEY, SECRET],
        (),
        [],
        "",
        ",",
        b"",
        None,
        7,
        {SECRET: 1},
        KEY + SECRET.encode(),
        KEY.hex() + SECRET,
        "ü" * 32,
    ],
)
def test_what_is_no_key_is_refused_without_being_shown(given: object) -> None:
    with pytest.raises(InvalidOption) as caught:
        Keys(given)
    error = caught.value
    assert error.option == "encryption_key"
    assert error.__cause__ is None
    shown = f"{error} {error!r} {error.facts} {error.__context__} {pickle.dumps(error)!r}"
    assert SECRET not in shown
    assert KEY.hex() not in shown


def test_keys_show_their_ids_and_never_themselves() -> None:
    keys = Keys((KEY, OTHER))
    for secret in (KEY, OTHER):
        for form in (secret.hex(), repr(secret)[2:-1], base64.b64encode(secret).decode(), str(list(secret))):
            assert form not in f"{keys} {keys!r} {keys.ids}"
        assert secret not in keys.encrypt(b"text", "a")
        assert secret[:8] not in keys.encrypt(b"text", "a")


def test_keys_are_not_pickled() -> None:
    with pytest.raises(TypeError, match="HOLDFAST_ENCRYPTION_KEY"):
        pickle.dumps(Keys(KEY))


def test_the_first_key_encrypts_and_all_decrypt() -> None:
    old, both, new = Keys(OTHER), Keys((KEY, OTHER)), Keys(KEY)
    assert both.decrypt(old.encrypt(b"text", "a"), "a", "here") == b"text"
    assert new.decrypt(both.encrypt(b"text", "a"), "a", "here") == b"text"
    with pytest.raises(WrongKey):
        old.decrypt(both.encrypt(b"text", "a"), "a", "here")


# what does not decrypt


def test_another_key_is_named_by_its_id() -> None:
    with pytest.raises(WrongKey) as caught:
        Keys(KEY).decrypt(Keys(OTHER).encrypt(b"text", "a"), "a", "file:///store/a")
    assert str(caught.value).startswith(
        f"file:///store/a: encrypted with the key {Keys(OTHER).ids[0]}, and opened with {Keys(KEY).ids[0]};"
    )


@pytest.mark.parametrize("data", [b'{"holdfast": "1.0"}', b"plain", b"x" * 500])
def test_what_was_never_encrypted_has_its_own_error(data: bytes) -> None:
    with pytest.raises(NotEncrypted, match="file:///store/a is not encrypted"):
        Keys(KEY).decrypt(data, "a", "file:///store/a")


@pytest.mark.parametrize("data", [b"", bytes(10), bytes(500)])
def test_what_a_file_system_leaves_of_an_unsynced_write_is_damage(data: bytes) -> None:
    assert Keys(KEY).decrypt(data, "a", "here") == DAMAGED


def test_a_later_version_has_its_own_error() -> None:
    encrypted = Keys(KEY).encrypt(b"text", "a")
    with pytest.raises(JournalTooNew):
        Keys(KEY).decrypt(MAGIC + b"\x02" + encrypted[8:-1] + b"?", "a", "here")


def test_a_byte_flipped_anywhere_in_an_object_is_harmless_or_damage() -> None:
    keys = Keys(KEY)
    encrypted = keys.encrypt(b"a text of some length", "a")
    found = [keys.decrypt(flipped(encrypted, at), "a", "here") for at in range(len(encrypted))]
    assert set(found) == {b"a text of some length", DAMAGED}
    assert found.count(DAMAGED) == len(encrypted) - 16, "only the magic and the id of the key are there to be looked for"


def test_an_object_that_was_cut_is_damage() -> None:
    keys = Keys(KEY)
    encrypted = keys.encrypt(b"text", "a")
    assert {keys.decrypt(encrypted[:cut], "a", "here") for cut in range(16, len(encrypted))} == {DAMAGED}


def test_an_object_that_lost_a_byte_or_has_one_more_is_damage_wherever_that_is() -> None:
    keys = Keys((OTHER, KEY))
    encrypted = Keys(KEY).encrypt(b"text", "a")
    for at in range(len(encrypted)):
        assert keys.decrypt(encrypted[:at] + encrypted[at + 1 :], "a", "here") == DAMAGED
    for at in range(1, len(encrypted)):
        assert keys.decrypt(encrypted[:at] + b"?" + encrypted[at:], "a", "here") == DAMAGED


# without cryptography


def test_without_cryptography_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(sys.modules):
        if name.partition(".")[0] == "cryptography":
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(MissingExtra, match=r"pip install 'holdfast\[crypto\]'"):
        Keys(KEY)
