"""Many rows through one task: `map` for a list, `records` as a stream."""

from holdfast.fanout.mapping import map
from holdfast.fanout.outcomes import Record, RecordStatus, SimpleRecordsResult
from holdfast.fanout.streams import Records, records

__all__ = ["Record", "RecordStatus", "Records", "SimpleRecordsResult", "map", "records"]
