"""What tests of code on Holdfast need.

`task_context` for a body under test, `no_backoff` and `Clock` for time, `memory_store` for a store of its own; `crash_everywhere`,
`crash_at` and `power_cuts` to kill a program wherever it can be killed; disks that fail on demand; and the laws that any adapter has to
pass (`holdfast.testing.conformance_folders`).
"""

from holdfast.folders.memory import MemoryDisk
from holdfast.testing.bodies import task_context
from holdfast.testing.clocks import Clock, no_backoff
from holdfast.testing.crashes import Crash, Entry, Ledger, Survival, crash_at, crash_everywhere, power_cuts
from holdfast.testing.faults import CrashDisk, FullDisk, SimulatedCrash, cut, flip_byte
from holdfast.testing.stores import memory_store

__all__ = [
    "Clock",
    "Crash",
    "CrashDisk",
    "Entry",
    "FullDisk",
    "Ledger",
    "MemoryDisk",
    "SimulatedCrash",
    "Survival",
    "crash_at",
    "crash_everywhere",
    "cut",
    "flip_byte",
    "memory_store",
    "no_backoff",
    "power_cuts",
    "task_context",
]
