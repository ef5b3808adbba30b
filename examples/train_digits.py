"""Train a model on scikit-learn's digits, and lose at most one epoch to a crash.

python examples/train_digits.py --die-after 5     # kills itself after the fifth epoch: no chance to tidy up
python examples/train_digits.py                   # goes on with the sixth, and ends with the score of an uninterrupted run
"""

import argparse
import asyncio
import os
import pickle
import signal

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import train_test_split

import holdfast as hf
from holdfast import ctx, task

DIGITS = range(10)
die_after: int | None = None  # for the demonstration; not an input of the task, so that both command lines are the same run


@task
def train(epochs: int, seed: int) -> float:
    x, y = load_digits(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(x / 16, y, random_state=seed)

    # Pickle is this program's own choice: to Holdfast a checkpoint is bytes. Load pickles only from stores that you trust.
    saved = ctx().checkpoint.load_sync(bytes)
    epoch, model = pickle.loads(saved) if saved is not None else (0, SGDClassifier(random_state=seed))
    print(f"starting at epoch {epoch}", flush=True)
    while epoch < epochs:
        order = np.random.default_rng(seed + epoch).permutation(len(x_train))
        model.partial_fit(x_train[order], y_train[order], classes=DIGITS)
        epoch += 1
        ctx().checkpoint.save_sync(pickle.dumps((epoch, model)), metadata={"epoch": epoch})
        print(f"epoch {epoch}: {model.score(x_test, y_test):.4f}", flush=True)
        if epoch == die_after:
            os.kill(os.getpid(), signal.SIGKILL)
    return float(model.score(x_test, y_test))


def main() -> None:
    global die_after
    parser = argparse.ArgumentParser(description="Train on the digits, with a checkpoint after each epoch.")
    parser.add_argument("--store", help="a folder; by default $HOLDFAST_STORE, else .holdfast")
    parser.add_argument("--run-name", default="digits")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--die-after", type=int, help="kill the process after so many epochs")
    options = parser.parse_args()
    die_after = options.die_after
    score = asyncio.run(hf.run(train.call(options.epochs, seed=7), run_name=options.run_name, store=options.store))
    print(f"score {score!r}")


if __name__ == "__main__":
    main()
