"""Who a call is: names of modules, tasks and actions, and digests of the values that a call is made with.

An id must be the same in another process, on another machine, after a restart, whatever the hash seed and the order in which a dict was
filled. So nothing here looks at `hash()`, `id()`, `repr()` of foreign objects, paths or clocks.
"""

from holdfast.identity.calls import Cell, Signature, bind, free_variables
from holdfast.identity.digests import DIGEST_BYTES, Indigestible, digest_inputs, digest_value
from holdfast.identity.names import BUILTIN, NAME_LENGTH, action_name, check_name, module_name, task_name
from holdfast.identity.sources import source_digest

__all__ = [
    "BUILTIN",
    "DIGEST_BYTES",
    "NAME_LENGTH",
    "Cell",
    "Indigestible",
    "Signature",
    "action_name",
    "bind",
    "check_name",
    "digest_inputs",
    "digest_value",
    "free_variables",
    "module_name",
    "source_digest",
    "task_name",
]
