"""A scan over two parameters of a classifier, with figures, a summary and a described run. The next one looks closer at the best point.

python examples/scan_report.py --run-name monday        # 25 points, one durable action each; kill it when you like
python examples/scan_report.py --run-name tuesday       # around the best point of monday, in half the steps
python examples/scan_report.py --run-name monday        # from record: the same report again
"""

import argparse
import asyncio
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure  # without pyplot: no display, no state that threads share
from matplotlib.patches import Rectangle
from pydantic import BaseModel
from sklearn.datasets import load_digits
from sklearn.metrics import confusion_matrix
from sklearn.model_selection import cross_val_score, train_test_split
from sklearn.svm import SVC

import holdfast as hf
from holdfast import Store, ctx, group, task
from holdfast.observers.terminal import TerminalObserver


class Point(BaseModel):
    """Where the scan looks: powers of ten."""

    cost: float
    gamma: float


class Measured(BaseModel):
    point: Point
    accuracy: float


class Report(BaseModel):
    """What a scan is about. `step` is the distance of neighbours, in powers of ten."""

    best: Point
    step: float
    accuracy: float
    mistakes: int


def data(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Half to learn from and half to be judged by: of one seed the same halves."""
    x, y = load_digits(return_X_y=True)
    learn_x, judge_x, learn_y, judge_y = train_test_split(x / 16, y, test_size=0.5, random_state=seed, stratify=y)
    return learn_x, judge_x, learn_y, judge_y


def classifier(point: Point) -> SVC:
    return SVC(C=10**point.cost, gamma=10**point.gamma)


# the actions


@task
async def newest(store: str | None) -> Report | None:
    """What the last scan found. A task, because the answer changes with time: this run goes by the answer that is on record."""
    async with Store(store) as there:
        before = await there.latest_result(scan, schema="classification")
    return before.payload if before is not None else None


@task(concurrency=2)
def measure(point: Point, seed: int) -> Measured:
    x, _, y, _ = data(seed)
    accuracy = float(cross_val_score(classifier(point), x, y, cv=3).mean())
    ctx().summary(f"C = 10^{point.cost:g}, gamma = 10^{point.gamma:g}: {accuracy:.1%}")
    return Measured(point=point, accuracy=accuracy)


@task
def judge(best: Measured, seed: int) -> int:
    """Count the digits that the best one takes for others, and show which."""
    learn_x, judge_x, learn_y, judge_y = data(seed)
    taken_for = classifier(best.point).fit(learn_x, learn_y).predict(judge_x)
    ctx().figure("report/confusion", confusion_figure(judge_y, taken_for))
    wrong = np.flatnonzero(taken_for != judge_y)
    if len(wrong):
        ctx().figure("report/mistakes", mistakes_figure(judge_x[wrong], judge_y[wrong], taken_for[wrong]))
    ctx().summary(f"{len(wrong)} of {len(judge_y)} digits are taken for another")
    return len(wrong)


@task
async def scan(store: str | None, width: int, seed: int) -> Report:
    """Measure width times width points: around the best one of the last scan, if there is one, and half as far from each other."""
    before = await newest(store)
    middle, step = (before.best, before.step / 2) if before is not None else (Point(cost=1, gamma=-2), 1.0)
    offsets = [step * (n - width // 2) for n in range(width)]
    points = [Point(cost=middle.cost + up, gamma=middle.gamma + right) for up in offsets for right in offsets]

    async def measured(point: Point) -> Measured:
        found = await measure.call(point, seed)
        ctx().progress("points", total=len(points))
        return found

    with group("points"):
        found = await asyncio.gather(*(measured(point) for point in points))
    best = max(found, key=lambda one: one.accuracy)  # of equals the first: that of the least cost
    ctx().figure("scans/accuracy", scan_figure(found, best))
    mistakes = await judge.call(best, seed)
    ctx().summary(f"best of {len(points)}: C = 10^{best.point.cost:g}, gamma = 10^{best.point.gamma:g}, accuracy {best.accuracy:.1%}")
    ctx().implements("classification;report")
    return Report(best=best.point, step=step, accuracy=best.accuracy, mistakes=mistakes)


# the figures


def scan_figure(found: list[Measured], best: Measured) -> Figure:
    costs = sorted({one.point.cost for one in found})
    gammas = sorted({one.point.gamma for one in found})
    accuracy = {(one.point.cost, one.point.gamma): one.accuracy for one in found}
    grid = np.array([[accuracy[cost, gamma] for gamma in gammas] for cost in costs])
    figure = Figure(figsize=(6.4, 5), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(grid, origin="lower", cmap="viridis")
    bright = grid.min() + 0.6 * np.ptp(grid)
    for row, cost in enumerate(costs):
        for column, gamma in enumerate(gammas):
            is_best = (cost, gamma) == (best.point.cost, best.point.gamma)
            shade = "black" if grid[row, column] > bright else "white"
            weight = "bold" if is_best else "normal"
            axes.text(column, row, f"{grid[row, column]:.1%}", ha="center", va="center", color=shade, weight=weight)
            if is_best:
                axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor="red", linewidth=3))
    axes.set_xticks(range(len(gammas)), [f"$10^{{{gamma:g}}}$" for gamma in gammas])
    axes.set_yticks(range(len(costs)), [f"$10^{{{cost:g}}}$" for cost in costs])
    axes.set(xlabel="gamma", ylabel="C", title="Accuracy, three-fold; the best point is framed")
    figure.colorbar(image, format="{x:.1%}")
    return figure


def confusion_figure(is_really: np.ndarray, taken_for: np.ndarray) -> Figure:
    counts = confusion_matrix(is_really, taken_for, labels=range(10))
    figure = Figure(figsize=(5.4, 5), layout="constrained")
    axes = figure.subplots()
    axes.imshow(np.log1p(counts), cmap="Blues")  # by their logarithm, or single mistakes could not be seen
    for row, column in zip(*counts.nonzero(), strict=True):
        shade = "white" if row == column else "black"
        axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=shade)
    axes.set_xticks(range(10))
    axes.set_yticks(range(10))
    axes.set(xlabel="taken for", ylabel="is really", title=f"{len(is_really)} digits that were not learnt from")
    return figure


def mistakes_figure(pixels: np.ndarray, is_really: np.ndarray, taken_for: np.ndarray, most: int = 12) -> Figure:
    shown = min(len(pixels), most)
    rows = -(-shown // 6)
    figure = Figure(figsize=(7.2, 0.4 + 1.45 * rows), layout="constrained")
    figure.suptitle(f"{shown} of {len(pixels)} mistakes: what it is, and what it was taken for")
    for place, axes in enumerate(figure.subplots(rows, 6, squeeze=False).flat):
        axes.set_axis_off()
        if place < shown:
            axes.imshow(pixels[place].reshape(8, 8), cmap="gray_r")
            axes.set_title(f"{is_really[place]}, not {taken_for[place]}", fontsize=10)
    return figure


# the program


async def program(options: argparse.Namespace) -> None:
    call = scan(options.store, options.width, options.seed)
    await hf.run(call, run_name=options.run_name, store=options.store, observers=[TerminalObserver()])
    async with Store(options.store) as store:
        await tell(store, options.run_name, options.figures)


async def tell(store: Store, run_name: str, folder: Path) -> None:
    """Print what the store knows of the run, and copy its figures to where they can be looked at."""
    result = await store.result(run_name)
    print(f"{run_name}: {result.status.value}, {result.summary}")
    print(f"  schemas: {', '.join(result.schemas)}")
    print(f"  payload: {result.payload}")
    for path in result.figures:
        file = folder / run_name / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(await store.figure(run_name, path))
        print(f"  figure: {file}")
    described = await store.describe(run_name)
    print(f"  given: {', '.join(f'{name}={value!r}' for name, value in described.parameters.items())}")
    print(f"  with: {', '.join(f'{name} {described.versions[name]}' for name in ('holdfast', 'python'))}")
    print(f"  at: commit {described.versions.get('git', 'unknown')}, {described.environment['cpus']} CPUs")


def main() -> None:
    parser = argparse.ArgumentParser(description="Scan the parameters of a classifier.")
    parser.add_argument("--store", help="a folder; by default $HOLDFAST_STORE, else .holdfast")
    parser.add_argument("--run-name", default="scan")
    parser.add_argument("--width", type=int, default=5, help="so many points along each side")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--figures", type=Path, default=Path("figures"), help="a folder that figures are copied to, to be looked at")
    options = parser.parse_args()
    asyncio.run(program(options))


if __name__ == "__main__":
    main()
