"""The far side: one attempt. Enter the task's context, run the body, give its outcome. Every engine ends up here."""

from __future__ import annotations

from typing import Any, TypeAlias

from holdfast.contexts import Context, Link, TaskContext, put, take_back
from holdfast.frozen import Frozen
from holdfast.orders import Capsule, Order


class Value(Frozen):
    """The body returned."""

    value: Any


class Error(Frozen):
    """The body raised; or what it returned could not be kept, and `is_its_own` is False."""

    error: Exception
    is_its_own: bool = True


class Ended(Frozen):
    """The body was ended from outside: by cancellation, or by an exception (`SystemExit`, `KeyboardInterrupt`) that is for the process."""

    cause: BaseException


class Abandoned(Frozen):
    """The body could not be stopped, and goes on for nobody."""

    cause: BaseException


Outcome: TypeAlias = Value | Error | Ended | Abandoned


def node(capsule: Capsule, link: Link) -> Context:
    """The context node that an attempt's body runs in."""
    running = TaskContext(capsule, link)
    return Context(running, capsule.raw_data_base, capsule.custom_context, (), capsule.counted_context, None, link.budgets)


async def run_async(order: Order, capsule: Capsule, link: Link) -> Outcome:
    """Run an `async def` body in the present task."""
    token = put(node(capsule, link))
    try:
        return Value(await order.definition.fn(*order.args, **order.kwargs))
    except Exception as error:
        return Error(error)
    except GeneratorExit:  # the loop is gone, and closes what it left
        raise
    except BaseException as cause:
        return Ended(cause)
    finally:
        link.is_over = True
        take_back(token)


def run_sync(order: Order, capsule: Capsule, link: Link) -> Outcome:
    """Run a `def` body in the present thread."""
    token = put(node(capsule, link))
    try:
        return Value(order.definition.fn(*order.args, **order.kwargs))
    except Exception as error:
        return Error(error)
    except BaseException as cause:
        return Ended(cause)
    finally:
        link.is_over = True
        take_back(token)
