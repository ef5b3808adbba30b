"""Stores over disks of which the test can take a copy: what the next process finds when this one is killed there."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from holdfast import Store
from holdfast.folders.local import LocalFolder
from holdfast.folders.protocol import Disk
from holdfast.folders.threads import at_once


@pytest.fixture
def store_on() -> Callable[[Disk], Store]:
    def store_on(disk: Disk) -> Store:
        store = Store("memory:")
        store.folder = LocalFolder(disk, "/store", "memory:", run=at_once)
        return store

    return store_on
