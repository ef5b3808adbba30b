"""What tests of code on Holdfast need.

`task_context` for a body under test, `no_backoff` and `Clock` for time, `memory_store` and `bucket_store` for a store of its own;
`crash_everywhere`, `crash_at` and `power_cuts` to kill a program wherever it can be killed; `run_shuffled` to run it in any order; disks
and object stores that fail on demand; and the laws that any adapter has to pass (`holdfast.testing.conformance_folders`).
"""

from holdfast.folders.memory import MemoryDisk
from holdfast.folders.protocol import Trouble
from holdfast.testing.bodies import task_context
from holdfast.testing.bucket_crashes import CrashBucket, Wire
from holdfast.testing.bucket_faults import Fault, FaultyBucket
from holdfast.testing.buckets import MemoryBucket
from holdfast.testing.clocks import Clock, no_backoff
from holdfast.testing.crashes import Crash, Entry, Ledger, Survival, crash_at, crash_everywhere, power_cuts
from holdfast.testing.faults import CrashDisk, FullDisk, cut, flip_byte
from holdfast.testing.lives import SimulatedCrash
from holdfast.testing.loops import Deadlock, Shuffled, run_shuffled, shuffled
from holdfast.testing.pauses import PauseBucket
from holdfast.testing.stores import bucket_store, memory_store

__all__ = [
    "Clock",
    "Crash",
    "CrashBucket",
    "CrashDisk",
    "Deadlock",
    "Entry",
    "Fault",
    "FaultyBucket",
    "FullDisk",
    "Ledger",
    "MemoryBucket",
    "MemoryDisk",
    "PauseBucket",
    "Shuffled",
    "SimulatedCrash",
    "Survival",
    "Trouble",
    "Wire",
    "bucket_store",
    "crash_at",
    "crash_everywhere",
    "cut",
    "flip_byte",
    "memory_store",
    "no_backoff",
    "power_cuts",
    "run_shuffled",
    "shuffled",
    "task_context",
]
