"""What errors mean, as tables: HTTP statuses, the words of S3 and Azure, and Python's own exceptions."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from typing import Final

from holdfast.folders.protocol import Trouble

_STATUSES: Final[Mapping[int, Trouble]] = {
    401: Trouble.REFUSED,
    403: Trouble.REFUSED,
    404: Trouble.MISSING,
    408: Trouble.PASSING,
    409: Trouble.PASSING,  # two asked at the same time; which of them won, the next answer says
    412: Trouble.EXISTS,  # the only condition that we set
    425: Trouble.PASSING,
    429: Trouble.THROTTLED,
    501: Trouble.WRONG,
    503: Trouble.THROTTLED,
    505: Trouble.WRONG,
    507: Trouble.FULL,
    509: Trouble.THROTTLED,
}

#: What servers that speak S3 say, where its status alone says less or another thing.
S3_CODES: Final[Mapping[str, Trouble]] = {
    "NoSuchBucket": Trouble.NO_PLACE,
    "NoSuchKey": Trouble.MISSING,
    "NotFound": Trouble.MISSING,
    "PreconditionFailed": Trouble.EXISTS,
    "SlowDown": Trouble.THROTTLED,
    "SlowDownRead": Trouble.THROTTLED,
    "SlowDownWrite": Trouble.THROTTLED,
    "Throttling": Trouble.THROTTLED,
    "ThrottlingException": Trouble.THROTTLED,
    "RequestLimitExceeded": Trouble.THROTTLED,
    "TooManyRequests": Trouble.THROTTLED,
    "RequestTimeout": Trouble.PASSING,
    "IncompleteBody": Trouble.PASSING,
    "BadDigest": Trouble.PASSING,
    "XAmzContentSHA256Mismatch": Trouble.PASSING,
    "InternalError": Trouble.PASSING,
    "ExpiredToken": Trouble.REFUSED,
    "InvalidToken": Trouble.REFUSED,
    "TokenRefreshRequired": Trouble.REFUSED,
    "QuotaExceeded": Trouble.FULL,
    "XMinioStorageFull": Trouble.FULL,
    "XMinioAdminBucketQuotaExceeded": Trouble.FULL,
    "InsufficientStorage": Trouble.FULL,
    "BucketQuotaExceeded": Trouble.FULL,
}

#: What Azure says, where its status alone says less or another thing.
AZURE_CODES: Final[Mapping[str, Trouble]] = {
    "ContainerNotFound": Trouble.NO_PLACE,
    "ContainerBeingDeleted": Trouble.NO_PLACE,
    "ContainerDisabled": Trouble.NO_PLACE,
    "FilesystemNotFound": Trouble.NO_PLACE,
    "BlobNotFound": Trouble.MISSING,
    "ResourceNotFound": Trouble.MISSING,
    "BlobAlreadyExists": Trouble.EXISTS,
    "ConditionNotMet": Trouble.EXISTS,
    "BlobImmutableDueToPolicy": Trouble.REFUSED,
    "LeaseIdMissing": Trouble.REFUSED,
    "AccountIsDisabled": Trouble.REFUSED,
    "ServerBusy": Trouble.THROTTLED,
    "OperationTimedOut": Trouble.PASSING,
    "InternalError": Trouble.PASSING,
    "Md5Mismatch": Trouble.PASSING,
    "InsufficientStorage": Trouble.FULL,
    "AccountLimitExceeded": Trouble.FULL,
}

_ERRNOS: Final[Mapping[int, Trouble]] = {
    errno.ENOENT: Trouble.MISSING,
    errno.EEXIST: Trouble.EXISTS,
    errno.EACCES: Trouble.REFUSED,
    errno.EPERM: Trouble.REFUSED,
    errno.EROFS: Trouble.REFUSED,
    errno.ENOSPC: Trouble.FULL,
    errno.EDQUOT: Trouble.FULL,
    errno.EISDIR: Trouble.WRONG,
    errno.ENOTDIR: Trouble.WRONG,
    errno.ENAMETOOLONG: Trouble.WRONG,
    errno.EINVAL: Trouble.WRONG,
    errno.ENOSYS: Trouble.WRONG,
}

#: Programs that ask again do not mend a certificate.
_UNTRUSTED: Final = "CERTIFICATE_VERIFY_FAILED"


def of_status(status: int) -> Trouble:
    """What an HTTP status means, where the answer says no more."""
    if status in _STATUSES:
        return _STATUSES[status]
    return Trouble.PASSING if status >= 500 else Trouble.WRONG


def of_builtin(error: BaseException) -> Trouble | None:
    """What one of Python's own exceptions means; None for what is not one of those about files and sockets."""
    if isinstance(error, (NotImplementedError, IsADirectoryError, NotADirectoryError)):
        return Trouble.WRONG
    if isinstance(error, (TimeoutError, ConnectionError, EOFError)):
        return Trouble.PASSING
    if isinstance(error, FileNotFoundError):
        return Trouble.MISSING
    if isinstance(error, FileExistsError):
        return Trouble.EXISTS
    if isinstance(error, PermissionError):
        return Trouble.REFUSED
    if isinstance(error, OSError):
        return Trouble.WRONG if _UNTRUSTED in str(error) else _ERRNOS.get(error.errno or 0, Trouble.PASSING)
    return None


def causes(error: BaseException) -> Iterator[BaseException]:
    """The error, and what it was raised from."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


def is_untrusted(error: BaseException) -> bool:
    """Whether the server's certificate was refused."""
    return any(_UNTRUSTED in str(each) for each in causes(error))
