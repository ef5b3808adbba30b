"""What work cost: reports, prices and sums. No I/O, no loop.

Money is Decimal and nothing else, and every sum is exact: a sum that would have to be rounded does not exist within the bounds of one
report (`LARGEST`, `PLACES`). How much work may cost is in `holdfast.tabs`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, Inexact, InvalidOperation, Overflow
from typing import Any, Final, TypeAlias

from holdfast.errors import InvalidOption
from holdfast.frozen import Frozen

#: Bounds of one amount. Sums of any number of such amounts have fewer digits than the context below keeps.
DIGITS: Final = 60
PLACES: Final = 60
LARGEST_TOKENS: Final = 10**18
LONGEST_NAME: Final = 1024
#: So many keys of an action take less as a tuple than as a set; a hundred thousand actions may have one each.
FEW: Final = 8

_EXACT: Final = Context(prec=400, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[Inexact, InvalidOperation, Overflow])
"""Raises where it would have to round."""

# Made by it, since `Decimal(...)` looks at the thread's own context, and so sets a context variable.
ZERO: Final = _EXACT.create_decimal(0)
LARGEST: Final = _EXACT.create_decimal(f"1E+{DIGITS}")


def plus(a: Decimal, b: Decimal) -> Decimal:
    """The exact sum, whatever the precision of the present decimal context."""
    return _EXACT.add(a, b)


def minus(a: Decimal, b: Decimal) -> Decimal:
    """The exact difference."""
    return _EXACT.subtract(a, b)


def times(a: Decimal, b: Decimal) -> Decimal:
    """The exact product."""
    return _EXACT.multiply(a, b)


def amount(option: str, value: Any) -> Decimal:
    """An amount of money, from 0 up. Raises: InvalidOption, naming the option."""
    if isinstance(value, float):
        reason = f"a float can't hold amounts like 0.1 exactly, and sums of them drift; give a str or a Decimal, such as {str(value)!r}"
        raise InvalidOption(option=option, value=value, reason=reason)
    if not isinstance(value, (Decimal, str)):
        raise InvalidOption(option=option, value=value, reason="give a Decimal, or a str such as '0.0015'")
    try:
        found = Decimal(value)
    except InvalidOperation:
        raise InvalidOption(option=option, value=value, reason="it is no number; write it such as '0.0015'") from None
    if not found.is_finite():
        raise InvalidOption(option=option, value=value, reason="it has to be a finite number")
    if found < 0:
        raise InvalidOption(option=option, value=value, reason="it has to be 0 or more; what was spent is not taken back")
    if found > LARGEST or -int(found.as_tuple().exponent) > PLACES:
        reason = f"it has to be at most 1E+{DIGITS}, with at most {PLACES} digits behind the point"
        raise InvalidOption(option=option, value=f"{found:.3E}", reason=reason)
    return found if found else found.copy_abs()


def count(option: str, value: Any, *, at_least: int = 0) -> int:
    """A whole number. Raises: InvalidOption, naming the option."""
    if not isinstance(value, int) or isinstance(value, bool) or not at_least <= value <= LARGEST_TOKENS:
        raise InvalidOption(option=option, value=value, reason=f"give a whole number from {at_least} to 1E+18")
    return value


class Cost(Frozen):
    """An exact sum of money and of tokens.

    Attributes:
        cost: Money, in whatever currency it was reported.
        tokens: In both directions.
        tokens_in: Of prompts, where that was told apart.
        tokens_out: Of answers, where that was told apart.
    """

    cost: Decimal = ZERO
    tokens: int = 0
    tokens_in: int = 0
    tokens_out: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            plus(self.cost, other.cost),
            self.tokens + other.tokens,
            self.tokens_in + other.tokens_in,
            self.tokens_out + other.tokens_out,
        )

    def __bool__(self) -> bool:
        return bool(self.cost or self.tokens or self.tokens_in or self.tokens_out)


NOTHING: Final = Cost()


def total(costs: Iterable[Cost]) -> Cost:
    """The exact sum."""
    found = NOTHING
    for each in costs:
        found = found + each if found is not NOTHING else each
    return found


def larger(a: Cost, b: Cost) -> Cost:
    """Of money and of tokens, each, the greater."""
    return Cost(max(a.cost, b.cost), max(a.tokens, b.tokens))


class Report(Frozen):
    """One `ctx().add_cost(...)`, checked."""

    cost: Cost
    model: str = ""
    key: str = ""


def report(cost: Any, tokens: Any, tokens_in: Any, tokens_out: Any, model: Any, key: Any) -> Report:
    """What `ctx().add_cost` was told. Raises: InvalidOption, naming the argument."""
    money = amount("cost", cost)
    given, sent, answered = count("tokens", tokens), count("tokens_in", tokens_in), count("tokens_out", tokens_out)
    if given and given < sent + answered:
        reason = f"it counts both directions, and tokens_in and tokens_out are {sent + answered} together; leave it out for their sum"
        raise InvalidOption(option="tokens", value=tokens, reason=reason)
    return Report(Cost(money, given or sent + answered, sent, answered), _name("model", model), _name("key", key))


def _name(option: str, value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str) or not value or len(value) > LONGEST_NAME:
        raise InvalidOption(option=option, value=value, reason=f"give a str that is not empty, of at most {LONGEST_NAME} characters")
    return value


class Price:
    """What a model charges for 1,000 tokens, in and out.

    Example:
        >>> Price("0.15", "0.60").of(1200, 300)
        Decimal('0.360')

    Args:
        input_per_1k: For 1,000 tokens of a prompt.
        output_per_1k: For 1,000 tokens of an answer; by default the same.

    Raises:
        InvalidOption: Neither a Decimal nor a str, or not an amount from 0 up.
    """

    __slots__ = ("input_per_1k", "output_per_1k")

    input_per_1k: Decimal
    output_per_1k: Decimal

    def __init__(self, input_per_1k: Decimal | str, output_per_1k: Decimal | str | None = None) -> None:
        self.input_per_1k = amount("input_per_1k", input_per_1k)
        self.output_per_1k = self.input_per_1k if output_per_1k is None else amount("output_per_1k", output_per_1k)

    def of(self, tokens_in: int = 0, tokens_out: int = 0) -> Decimal:
        """The exact price of so many tokens. Raises: InvalidOption."""
        sent, answered = count("tokens_in", tokens_in), count("tokens_out", tokens_out)
        thousandfold = plus(times(self.input_per_1k, Decimal(sent)), times(self.output_per_1k, Decimal(answered)))
        return thousandfold.scaleb(-3, _EXACT)

    def __repr__(self) -> str:
        return f"Price({str(self.input_per_1k)!r}, {str(self.output_per_1k)!r})"


class Bill:
    """What one action cost itself, over all its attempts, and what of that was answered from record. Made for those that cost anything."""

    __slots__ = ("_at_hand", "_number", "keys", "lines", "saved")

    keys: tuple[str, ...] | set[str]
    lines: tuple[tuple[str, Cost], ...]
    saved: Decimal

    def __init__(self) -> None:
        self.lines = ()
        self.keys = ()
        self.saved = ZERO
        self._number = -1
        self._at_hand = NOTHING

    def add(self, number: int, model: str, cost: Cost, key: str) -> Cost | None:
        """Count a report of attempt `number` in. Returns what that attempt has cost by now; None, where its key was counted before."""
        if key:
            if key in self.keys:
                return None
            if isinstance(self.keys, set):
                self.keys.add(key)
            else:
                self.keys = (*self.keys, key) if len(self.keys) < FEW else {*self.keys, key}
        if all(known != model for known, _ in self.lines):
            self.lines = (*self.lines, (model, cost))
        else:
            self.lines = tuple((known, line + cost if known == model else line) for known, line in self.lines)
        self._at_hand = self._at_hand + cost if number == self._number else cost
        self._number = number
        return self._at_hand

    def save(self) -> Decimal:
        """It is answered from record. Returns what of it was not before: what is paid once is saved once, however often it is replayed."""
        before, self.saved = self.saved, self.total.cost
        return minus(self.saved, before)

    @property
    def total(self) -> Cost:
        return self.lines[0][1] if len(self.lines) == 1 else total(cost for _, cost in self.lines)


Line: TypeAlias = tuple[str, str]


class Costs(Mapping[Line, Cost]):
    """What a run cost, by task and model: `(task name, model)`, where the model is "" for what was reported without one."""

    def __init__(self, lines: Iterable[tuple[Line, Cost]] = ()) -> None:
        found: dict[Line, Cost] = {}
        for line, cost in lines:
            found[line] = found[line] + cost if line in found else cost
        self._lines = found

    @property
    def total(self) -> Cost:
        """All of it."""
        return total(self._lines.values())

    @property
    def by_task(self) -> Mapping[str, Cost]:
        """What each task cost itself, without what it called."""
        return self._by(0)

    @property
    def by_model(self) -> Mapping[str, Cost]:
        """What each model cost; "" for what was reported without one."""
        return self._by(1)

    def _by(self, part: int) -> dict[str, Cost]:
        found: dict[str, Cost] = {}
        for line, cost in self._lines.items():
            found[line[part]] = found[line[part]] + cost if line[part] in found else cost
        return found

    def __getitem__(self, line: Line) -> Cost:
        return self._lines[line]

    def __iter__(self) -> Iterator[Line]:
        return iter(self._lines)

    def __len__(self) -> int:
        return len(self._lines)

    def __repr__(self) -> str:
        return f"Costs({self._lines!r})"
