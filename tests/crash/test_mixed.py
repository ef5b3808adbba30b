"""A program with a bit of everything is killed wherever it can be killed. Nothing recorded is lost, nothing recorded runs twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from campaign.programs import hold, ledger, mixed
from servers.fixtures import Server

from holdfast.folders.objects import ObjectFolder
from holdfast.testing import crash_everywhere, power_cuts
from holdfast.testing.places import BucketPlace, FilesPlace, On, RemotePlace

WIDTH = 20
IN_MEMORY: list[On] = ["disk", "bucket"]


@pytest.mark.parametrize("on", IN_MEMORY)
def test_killed_here_and_there_it_gives_the_right_result_and_repeats_nothing(on: On) -> None:
    assert hold(crash_everywhere(lambda: mixed(4), step=9, on=on, ledger=ledger), 4) > 20


@pytest.mark.parametrize("on", IN_MEMORY)
def test_whatever_is_forgotten_or_late_it_gives_the_right_result_and_repeats_nothing(on: On) -> None:
    assert hold(power_cuts(lambda: mixed(4), range(40), on=on, ledger=ledger), 4) > 40


def test_killed_on_a_real_disk_it_gives_the_right_result_and_repeats_nothing(tmp_path: Path) -> None:
    assert hold(crash_everywhere(lambda: mixed(2), step=31, on=FilesPlace(tmp_path), ledger=ledger), 2) > 10


def s3(moto: Server, name: str) -> RemotePlace:
    def folder(path: str) -> ObjectFolder:
        found = moto.folder(f"{name}/{path}")
        assert isinstance(found, ObjectFolder)
        return found

    return RemotePlace(folder)


@pytest.mark.slow
def test_killed_on_s3_it_gives_the_right_result_and_repeats_nothing(moto: Server) -> None:
    assert hold(crash_everywhere(lambda: mixed(2), step=29, when=["after"], on=s3(moto, "killed"), ledger=ledger), 2) >= 1


# the long forms


@pytest.mark.campaign
@pytest.mark.parametrize("on", IN_MEMORY)
def test_killed_everywhere_it_gives_the_right_result_and_repeats_nothing(on: On, record_property: Any) -> None:
    killed = hold(crash_everywhere(lambda: mixed(WIDTH), late_by=(1, 2, 3, 5, 8, 12, 18, 24), on=on, ledger=ledger), WIDTH)
    record_property(f"tried: killed everywhere, {on} in memory", killed)
    assert killed > 300


@pytest.mark.campaign
def test_killed_everywhere_on_a_real_disk_it_gives_the_right_result_and_repeats_nothing(tmp_path: Path, record_property: Any) -> None:
    killed = hold(crash_everywhere(lambda: mixed(4), on=FilesPlace(tmp_path), ledger=ledger), 4)
    record_property("tried: killed everywhere, real disk", killed)
    assert killed > 300


@pytest.mark.campaign
def test_killed_everywhere_on_s3_it_gives_the_right_result_and_repeats_nothing(moto: Server, record_property: Any) -> None:
    killed = hold(crash_everywhere(lambda: mixed(4), late_by=[1, 7], on=s3(moto, "everywhere"), ledger=ledger), 4)
    record_property("tried: killed everywhere, S3", killed)
    assert killed > 100


@pytest.mark.campaign
@pytest.mark.parametrize("thousand", range(10))
def test_after_ten_thousand_power_cuts_it_gives_the_right_result_and_repeats_nothing(thousand: int, record_property: Any) -> None:
    seeds, width = range(thousand * 1000, thousand * 1000 + 1000), 2 + thousand * 2
    killed = hold(power_cuts(lambda: mixed(width), seeds, ledger=ledger), width)
    record_property("tried: power cuts, disk in memory", killed)
    assert killed > 1000


@pytest.mark.campaign
@pytest.mark.parametrize("hundred", range(10))
def test_killed_in_any_order_of_tasks_with_late_requests_it_gives_the_right_result(hundred: int, record_property: Any) -> None:
    killed = 0
    for seed in range(hundred * 100, hundred * 100 + 100):
        killed += hold(power_cuts(lambda: mixed(4), [seed], on=BucketPlace(seed=seed), ledger=ledger), 4)
    record_property("tried: killed in shuffled orders with late requests, bucket in memory", killed)
    assert killed > 100
