"""The examples do what their first lines say: each is run as its user runs it."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from holdfast import Status, Store

EXAMPLES = Path(__file__).parents[2] / "examples"
SECONDS = 120

pytestmark = pytest.mark.slow


def command(name: str, *arguments: object) -> list[str]:
    return [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py"), *map(str, arguments)]


def run(name: str, *arguments: object, cwd: Path, returns: int = 0) -> list[str]:
    """The lines that a program prints."""
    done = subprocess.run(command(name, *arguments), cwd=cwd, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == returns, done.stdout + done.stderr
    return done.stdout.splitlines()


def test_a_loop_goes_on_from_the_saved_index_after_each_failure_in_both_colours(tmp_path: Path) -> None:
    lines = run("checkpoint_loop", "--store", "s", "--iterations", 8, "--fail-every", 3, cwd=tmp_path)
    for colour in ("async", "def"):
        began = [line for line in lines if line.startswith(f"{colour}: ")]
        assert began == [f"{colour}: attempt {number} begins at {index}" for number, index in enumerate((0, 3, 6))]
        assert f"loop-{colour}: {sum(range(8))}" in lines


def test_custom_context_reaches_three_levels_and_every_branch(tmp_path: Path) -> None:
    lines = run("context_levels", "--store", "s", "--tenant", "acme", cwd=tmp_path)
    for source, priority in (("papers", "high"), ("news", "low"), ("blogs", "low")):
        assert f"{source}: priority={priority} source={source} tenant=acme" in lines
        for page in range(2):
            assert f"context-acme attempt 0 [priority={priority} source={source} tenant=acme] page {page}" in lines


def test_training_goes_on_after_a_kill_and_ends_with_the_same_score(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    straight = run("train_digits", "--store", "s", "--run-name", "straight", "--epochs", 4, cwd=tmp_path)
    before = run("train_digits", "--store", "s", "--epochs", 4, "--die-after", 2, cwd=tmp_path, returns=-signal.SIGKILL)
    after = run("train_digits", "--store", "s", "--epochs", 4, cwd=tmp_path)
    assert before == straight[:3]
    assert after == ["starting at epoch 2", *straight[3:]]
    assert after[-1].startswith("score ")


def test_a_declined_card_is_asked_once_though_the_process_dies_after_it(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.sqlite"
    arguments = ("--store", "s", "--ledger", ledger, "--order", 7)
    before = run("pay_order", *arguments, "--die-before-shipping", cwd=tmp_path, returns=-signal.SIGKILL)
    assert before == ["asked for 1999 cents by card", "declined: order 7: insufficient funds", "asked for 1999 cents by transfer"]
    for _ in range(2):  # resumed, and from record
        assert run("pay_order", *arguments, cwd=tmp_path)[-1] == "paid by transfer, parcel-7"
    with closing(sqlite3.connect(ledger)) as database:
        assert database.execute("SELECT way FROM requests").fetchall() == [("card",), ("transfer",)]
        assert database.execute("SELECT way, cents FROM charges").fetchall() == [("transfer", 1999)]


def test_the_index_is_finished_after_a_kill_without_doing_a_recorded_file_again(tmp_path: Path) -> None:
    arguments = ("--store", tmp_path / "s", "--limit", 200)
    program = subprocess.Popen(command("index_stdlib", *arguments), stderr=subprocess.PIPE, text=True)
    assert program.stderr is not None
    with program, program.stderr as lines:
        while "files 20/200" not in (line := next(lines)):
            assert line
        program.send_signal(signal.SIGKILL)
    store = Store(tmp_path / "s")
    before = store.state_sync("index-stdlib")
    assert before.status is Status.CRASHED
    done = {name for name, action in before.actions.items() if action.status is Status.COMPLETED}
    assert len(done) >= 20
    resumed = run("index_stdlib", *arguments, cwd=tmp_path)
    straight = run("index_stdlib", "--store", "other", "--limit", 200, cwd=tmp_path)
    assert resumed == straight
    assert resumed[0].startswith("200 files, ")
    after = store.state_sync("index-stdlib")
    assert {len(after.actions[name].attempts) for name in done} == {1}


def test_what_the_index_says_is_right(tmp_path: Path) -> None:
    library = tmp_path / "library"
    (library / "site-packages").mkdir(parents=True)
    (library / "a.py").write_text("import os\nfrom sys import path\nclass A:\n    def f(self): ...\n")
    (library / "broken.py").write_text("def\n")
    (library / "site-packages" / "other.py").write_text("import os\n")
    program = (
        "import sys, sysconfig; sys.argv[1:] = ['--store', 's']; "
        f"sysconfig.get_path = lambda name: {str(library)!r}; "
        f"sys.path.insert(0, {str(EXAMPLES)!r}); import index_stdlib; index_stdlib.main()"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.stdout == "2 files, 5 lines: 2 definitions, 2 imports (1 files can't be parsed)\n", done.stderr


def test_the_demo_ends_with_three_facts_that_hold(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(command("demo", 300), env=environment, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(re.findall(r"^   yes  ", done.stdout, flags=re.MULTILINE)) == 3
    assert "as the store knew" in done.stdout
    assert list(tmp_path.iterdir()) == [], "it tidies up"


TABLES = ("orders", "reservations", "holds", "charges", "parcels")


def of_order(path: Path, order: int) -> dict[str, int]:
    """How many rows each table has of an order."""
    with closing(sqlite3.connect(path)) as database:
        return {table: database.execute(f"SELECT count(*) FROM {table} WHERE order_id = ?", (order,)).fetchone()[0] for table in TABLES}


DONE = {"orders": 1, "reservations": 1, "holds": 0, "charges": 1, "parcels": 1}
UNDONE = dict.fromkeys(TABLES, 0)


def test_an_order_goes_through_each_stage_once_however_often_its_line_is_run(tmp_path: Path) -> None:
    did = ["extract", "validate", "charge", "charge", "ship"]
    for expected in (did, []):
        lines = run("orders", "--store", "s", "--order", 1, cwd=tmp_path)
        assert [line.split(":")[0].strip() for line in lines[: len(expected)]] == expected
        assert lines[len(expected)] == "shipped: parcel-1, paid 1999 cents"
        assert of_order(tmp_path / "shop.sqlite", 1) == DONE


def test_an_order_killed_as_it_is_paid_for_is_paid_for_once(tmp_path: Path) -> None:
    before = run("orders", "--store", "s", "--order", 2, "--die-in-charge", cwd=tmp_path, returns=-signal.SIGKILL)
    assert before[-1] == "  charge: 1999 cents are held on the good card"
    assert of_order(tmp_path / "shop.sqlite", 2) == {**DONE, "parcels": 0}
    after = run("orders", "--store", "s", "--order", 2, cwd=tmp_path)
    assert after[:2] == [*before[-1:], "  charge: 1999 cents are paid"]
    assert "  charge: COMPLETED (crashed, completed)" in after
    assert of_order(tmp_path / "shop.sqlite", 2) == DONE


def test_a_declined_order_leaves_nothing_in_the_database_though_it_is_killed_as_it_undoes(tmp_path: Path) -> None:
    database = tmp_path / "shop.sqlite"
    run("orders", "--store", "s", "--order", 1, cwd=tmp_path)
    arguments = ("--store", "s", "--order", 3, "--declined")
    before = run("orders", *arguments, "--die-in-rollback", cwd=tmp_path, returns=-signal.SIGKILL)
    assert before[-2:] == ["  undo: holds: 1 deleted", "  undo: reservations: 1 deleted"]
    assert of_order(database, 3) == {**UNDONE, "orders": 1}
    assert Store(tmp_path / "s").state_sync("order-3").status is Status.ROLLING_BACK
    after = run("orders", *arguments, cwd=tmp_path)
    assert after[:3] == [
        "  undo: reservations: nothing there any more",  # its effect was undone, and its end not on record
        "  undo: orders: 1 deleted",
        "declined: order 3: insufficient funds; all is undone",
    ]
    assert Store(tmp_path / "s").state_sync("order-3").status is Status.ROLLED_BACK
    again = run("orders", *arguments, cwd=tmp_path)
    assert again[:2] == ["rolled back: order 3: insufficient funds", "order-3 is ROLLED_BACK"]
    assert of_order(database, 3) == UNDONE
    assert of_order(database, 1) == DONE, "another order is left alone"


def test_an_order_that_was_shipped_is_taken_back_by_another_process(tmp_path: Path) -> None:
    run("orders", "--store", "s", "--order", 1, cwd=tmp_path)
    for undone in (["parcels", "charges", "holds", "reservations", "orders"], []):
        lines = run("orders", "--store", "s", "--order", 1, "--take-back", cwd=tmp_path)
        assert [line.split(":")[1].strip() for line in lines if line.startswith("  undo: ")] == undone
        assert lines[-1] == "in the database: 0 orders, 0 reservations, 0 holds, 0 charges, 0 parcels"
        assert of_order(tmp_path / "shop.sqlite", 1) == UNDONE


FIGURES = ("scans/accuracy.png", "report/confusion.png", "report/mistakes.png")


@pytest.fixture(scope="module")
def scanned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Where a scan was run that nobody killed, and what it printed."""
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    folder = tmp_path_factory.mktemp("scanned")
    return folder, run("scan_report", "--store", "s", "--width", 3, cwd=folder)


def test_a_scan_goes_on_after_a_kill_and_reports_the_same_with_its_figures(tmp_path: Path, scanned: tuple[Path, list[str]]) -> None:
    arguments = ("--store", "s", "--width", 3)
    program = subprocess.Popen(command("scan_report", *arguments), cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    assert program.stderr is not None
    with program, program.stderr as lines:
        while "points 3/9" not in (line := next(lines)):
            assert line
        program.send_signal(signal.SIGKILL)
    done = {name for name, action in Store(tmp_path / "s").state_sync("scan").actions.items() if action.status is Status.COMPLETED}
    assert len(done) >= 3
    resumed = run("scan_report", *arguments, cwd=tmp_path)
    assert run("scan_report", *arguments, cwd=tmp_path) == resumed, "from record"
    after = Store(tmp_path / "s").state_sync("scan")
    assert {len(after.actions[name].attempts) for name in done} == {1}
    assert resumed[0].startswith("scan: COMPLETED, best of 9: C = 10^")
    assert resumed[1] == "  schemas: classification, report"
    assert [line for line in resumed if line.startswith("  figure: ")] == [f"  figure: figures/scan/{path}" for path in FIGURES]
    for path in FIGURES:
        shown = (tmp_path / "figures" / "scan" / path).read_bytes()
        assert shown == Store(tmp_path / "s").figure_sync("scan", path)
        assert shown.startswith(b"\x89PNG\r\n\x1a\n")
    assert "  given: store='s', width=3, seed=7" in resumed
    assert scanned[1][:3] == resumed[:3]


def test_a_second_scan_looks_closer_at_the_best_point_of_the_first(scanned: tuple[Path, list[str]]) -> None:
    folder, before = scanned
    run("scan_report", "--store", "s", "--width", 3, "--run-name", "tuesday", cwd=folder)
    assert run("scan_report", "--store", "s", "--width", 3, cwd=folder) == before, "from record: what came in between is nothing to it"
    first, second = (payload(folder / "s", name) for name in ("scan", "tuesday"))
    assert (first["step"], second["step"]) == (1.0, 0.5)
    assert all(abs(second["best"][axis] - first["best"][axis]) <= 0.5 for axis in ("cost", "gamma"))


def payload(store: Path, run_name: str) -> dict[str, Any]:
    found = Store(store).result_sync(run_name).payload
    assert isinstance(found, dict)
    return found
