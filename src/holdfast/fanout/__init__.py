"""Many rows through one task: `map` for a list, `records` as a stream.

The law of rows, after any crash, stop or failure of the task that asked for them:

- A row that COMPLETED is given from record, wherever the gaps are, and whatever place it has now. An item that changed runs.
- A row that was cancelled, or never begun, runs.
- A row that failed for good runs again where its failure ended the `map` (`on_error="raise"`) and the calling task is tried anew: as any
  call. Where it was passed over (`"skip"`, `"collect"`, `records`) it is *skipped*: its failure is given from record, also in later tries
  of the calling task, until somebody asks for another one, by `retry_skipped=True` or another `version=`.
- With `retry_skipped=True` each attempt of the calling task tries skipped rows again, also one that goes on after a crash: so what its body
  saw fail it may then see succeed. Failures that are `NonRetryable`, and those of `on_crash="fail"`, stay as they are.
"""

from holdfast.fanout.mapping import map
from holdfast.fanout.outcomes import Record, RecordStatus, SimpleRecordsResult
from holdfast.fanout.streams import Records, records

__all__ = ["Record", "RecordStatus", "Records", "SimpleRecordsResult", "map", "records"]
