"""What can be read from fixed embeddings: linear probes of slices, heads over bags, nearest neighbours."""

from __future__ import annotations

import copy
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from radclear.aggregation import build_aggregator, build_loss

_C = (0.001, 0.01, 0.1)
_PATIENCE = 10


class Accuracy(NamedTuple):
    """A share of hits with its interval."""

    value: float
    low: float
    high: float


def standardised(train: np.ndarray, *others: np.ndarray) -> tuple[np.ndarray, ...]:
    """All arrays with the training rows' mean 0 and deviation 1 in each column."""
    mean, deviation = train.mean(axis=0), train.std(axis=0) + 1e-6
    return tuple((rows - mean) / deviation for rows in (train, *others))


def linear_probe(
    train: np.ndarray, y_train: np.ndarray, val: np.ndarray, y_val: np.ndarray, test: np.ndarray
) -> np.ndarray:
    """Scores of the test rows by logistic regression, its penalty chosen by AUROC on the validation rows."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score

    train, val, test = standardised(train, val, test)
    fitted = [LogisticRegression(C=c, max_iter=300, class_weight="balanced").fit(train, y_train) for c in _C]
    best = max(fitted, key=lambda model: roc_auc_score(y_val, model.decision_function(val)))
    return best.decision_function(test)


def head_probe(
    bags: dict[str, Tensor],
    labels: dict[str, Tensor],
    *,
    aggregator: str,
    seed: int,
    epochs: int = 40,
    learning_rate: float = 1e-3,
) -> np.ndarray:
    """Test scores of a multi-label head, its best epoch chosen by the validation loss.

    Args:
        bags: split → (studies, instances, d) for `train`, `val` and `test`.
        labels: split → (studies, classes) of 0 and 1, for `train` and `val`.
        aggregator: one of `radclear.aggregation.AGGREGATORS`.
        seed: of weights, batches and dropout.
        epochs: at most.
        learning_rate: of Adam.

    Returns:
        (test studies, classes) logits.
    """
    torch.manual_seed(seed)
    network = build_aggregator(aggregator, bags["train"].shape[2], labels["train"].shape[1], hidden_dim=128)
    positives = labels["train"].sum(dim=0)
    balance = ((len(labels["train"]) - positives) / positives.clamp(min=1)).tolist()
    loss = build_loss("multilabel", weights=balance)
    optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate)
    best, best_loss, since = copy.deepcopy(network.state_dict()), float("inf"), 0
    for _ in range(epochs):
        network.train()
        for rows in torch.randperm(len(bags["train"])).split(32):
            optimizer.zero_grad()
            loss(network(bags["train"][rows]), labels["train"][rows]).backward()
            optimizer.step()
        network.eval()
        with torch.no_grad():
            found = float(loss(network(bags["val"]), labels["val"]))
        since += 1
        if found < best_loss:
            best, best_loss, since = copy.deepcopy(network.state_dict()), found, 0
        if since >= _PATIENCE:
            break
    network.load_state_dict(best)
    network.eval()
    with torch.no_grad():
        return network(bags["test"]).numpy()


def nearest_in_other_groups(features: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """For each row the index of its nearest row, by cosine, among those of other groups."""
    rows = features / (np.linalg.norm(features, axis=1, keepdims=True) + 1e-12)
    similarity = rows @ rows.T
    similarity[groups[:, None] == groups[None, :]] = -np.inf
    return similarity.argmax(axis=1)


def grouped_hits(features: np.ndarray, labels: np.ndarray, groups: np.ndarray, *, seed: int) -> np.ndarray:
    """(n,) bool: where logistic regression is right, over five folds none of whose groups is split."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold

    right = np.zeros(len(labels), bool)
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=seed)
    for train, test in folds.split(features, labels, groups):
        x_train, x_test = standardised(features[train], features[test])
        model = LogisticRegression(C=0.01, max_iter=500).fit(x_train, labels[train])
        right[test] = model.predict(x_test) == labels[test]
    return right


def accuracy(right: np.ndarray, groups: np.ndarray, *, seed: int, n_resamples: int = 2000) -> Accuracy:
    """Share of hits, and the middle 95 % of those of groups drawn with replacement.

    Args:
        right: (n,) bool.
        groups: (n,), whose rows are drawn together.
        seed: of the draws.
        n_resamples: how many.
    """
    _, group = np.unique(groups, return_inverse=True)
    hits, sizes = np.bincount(group, weights=right), np.bincount(group)
    drawn = np.random.default_rng(seed).integers(len(sizes), size=(n_resamples, len(sizes)))
    low, high = np.quantile(hits[drawn].sum(axis=1) / sizes[drawn].sum(axis=1), (0.025, 0.975))
    return Accuracy(float(right.mean()), float(low), float(high))
