"""Share groups of studies out to folds so that every class is in every fold, as far as it goes.

Iterative stratification after Sechidis, Tsoumakas and Vlahavas (ECML PKDD 2011), with groups in place of
single examples: the rarest class first, each of its groups to the fold that lacks it most.
"""

from __future__ import annotations

import numpy as np


def stratified_folds(labels: np.ndarray, sizes: np.ndarray, *, n_folds: int, seed: int = 0) -> np.ndarray:
    """A fold for each group.

    Args:
        labels: (G, C) how many studies of each group have each class.
        sizes: (G,) how many studies each group has.
        n_folds: number of folds; at most G.
        seed: of the order among equals.

    Returns:
        (G,) numbers from 0 to `n_folds` - 1; every fold has at least one group.
    """
    generator = np.random.default_rng(seed)
    labels, sizes = np.asarray(labels, dtype=np.float64), np.asarray(sizes, dtype=np.float64)
    folds = np.full(len(labels), -1)
    lacks_class = np.tile(labels.sum(axis=0) / n_folds, (n_folds, 1))
    lacks_size = np.full(n_folds, sizes.sum() / n_folds)
    # large groups first, so that small ones can even out what they upset; else in random order
    order = generator.permutation(len(labels))
    order = order[np.argsort(-sizes[order], kind="stable")]

    def place(group: int, fold: int) -> None:
        folds[group] = fold
        lacks_class[fold] -= labels[group]
        lacks_size[fold] -= sizes[group]

    while (folds < 0).any():
        waiting = order[folds[order] < 0]
        left = labels[waiting].sum(axis=0)
        if not left.any():  # only groups without any class are left
            for group in waiting:
                place(group, _most(lacks_size[:, None], generator))
            break
        rarest = int(np.argmin(np.where(left > 0, left, np.inf)))
        for group in waiting[labels[waiting, rarest] > 0]:
            wanted = np.stack([lacks_class[:, rarest], lacks_size], axis=1)
            place(group, _most(wanted, generator))
    _fill_empty(folds, n_folds)
    return folds


def _most(wanted: np.ndarray, generator: np.random.Generator) -> int:
    """The row that is largest in the first column, of equals in the second, of equals a random one."""
    rows = np.arange(len(wanted))
    for column in wanted.T:
        rows = rows[np.isclose(column[rows], column[rows].max())]
    return int(generator.choice(rows))


def _fill_empty(folds: np.ndarray, n_folds: int) -> None:
    """A fold that got nothing takes a group of the fold with most."""
    for fold in range(n_folds):
        if not (folds == fold).any():
            fullest = int(np.bincount(folds, minlength=n_folds).argmax())
            folds[np.flatnonzero(folds == fullest)[-1]] = fold
