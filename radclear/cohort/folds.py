"""Folds of a cohort: drawn once, by patient, written to a file, and used again from there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from radclear.cohort.label_rows import LabelTableError
from radclear.cohort.labels import LabelTable
from radclear.cohort.stratify import stratified_folds
from radclear.ct import study_key
from radclear.results import write_atomically

FORMAT = "radclear folds 1"


class FoldError(LabelTableError):
    """Folds that cannot be made of a table, or a file of folds that is about another table."""


@dataclass(frozen=True)
class FoldPlan:
    """Which fold each study is in.

    Of fold k, the studies in it are predicted (`test`), those of fold k + 1 (of the last fold: 0) decide
    when training stops (`val`), and all others train. So no study is predicted by a network that saw it in
    any role.

    Attributes:
        n_folds: how many, 3 or more.
        seed: of the draw.
        folds: study → fold, from 0.
        groups: study → group that stays in one fold, mostly the patient.
    """

    n_folds: int
    seed: int
    folds: Mapping[str, int]
    groups: Mapping[str, str]

    @classmethod
    def make(cls, table: LabelTable, *, n_folds: int = 5, seed: int = 0) -> FoldPlan:
        """Draw folds for the studies of a table, stratified by class as far as the groups allow.

        Args:
            table: all its studies get a fold.
            n_folds: 3 or more.
            seed: the same table and seed give the same folds, whatever the order of the rows.

        Raises:
            FoldError: fewer than 3 folds, or fewer groups than folds.
        """
        if n_folds < 3:
            raise FoldError(
                f"{n_folds} folds asked for; expected 3 or more: one to predict, one to stop training by, "
                "and the rest to train on"
            )
        groups = {s.study: s.group or s.patient for s in table.studies}
        names = sorted(set(groups.values()))
        if len(names) < n_folds:
            raise FoldError(
                f"{table.path or 'table'}: {len(names)} patients (or groups) with usable studies for "
                f"{n_folds} folds; ask for fewer folds, or add patients"
            )
        one_hot = table.one_hot(table.studies)
        index = {name: i for i, name in enumerate(names)}
        labels, sizes = np.zeros((len(names), len(table.classes))), np.zeros(len(names))
        for study, row in zip(table.studies, one_hot, strict=True):
            labels[index[groups[study.study]]] += row
            sizes[index[groups[study.study]]] += 1
        of_group = stratified_folds(labels, sizes, n_folds=n_folds, seed=seed)
        folds = {study: int(of_group[index[group]]) for study, group in groups.items()}
        return cls(n_folds, seed, folds, groups)

    @classmethod
    def open(cls, path: str | Path, table: LabelTable, *, n_folds: int = 5, seed: int = 0) -> FoldPlan:
        """The folds in a file, which must fit the table; drawn and written there where it does not exist.

        Args:
            path: of the file; once written, it is never changed.
            table, n_folds, seed: see `make`; a file with other folds is refused.

        Raises:
            FoldError: as `make`, `read` and `check_fits`, or the file has another number of folds or seed.
        """
        path = Path(path)
        if not path.exists():
            plan = cls.make(table, n_folds=n_folds, seed=seed)
            plan.write(path)
            return plan
        plan = cls.read(path)
        if (plan.n_folds, plan.seed) != (n_folds, seed):
            raise FoldError(
                f"{path} has {plan.n_folds} folds of seed {plan.seed}; expected {n_folds} of seed {seed}. "
                "Ask for those it has, or use another folder or folds file to have new ones drawn"
            )
        plan.check_fits(table, source=path)
        return plan

    @classmethod
    def read(cls, path: str | Path) -> FoldPlan:
        """Read a file that `write` wrote.

        Raises:
            FoldError: it is something else, or has one group in two folds.
        """
        path = Path(path)
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["format"] != FORMAT:
                raise ValueError(f"its format is {content['format']!r}, expected {FORMAT!r}")
            studies: dict[str, dict[str, Any]] = content["studies"]
            plan = cls(
                int(content["n_folds"]),
                int(content["seed"]),
                {name: int(entry["fold"]) for name, entry in studies.items()},
                {name: str(entry["group"]) for name, entry in studies.items()},
            )
        except OSError as error:
            raise FoldError(f"folds file {path} cannot be read ({error.strerror})") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise FoldError(
                f"{path} is no file of folds ({error!r}); delete it to have folds drawn again"
            ) from error
        plan._check(path)
        return plan

    def write(self, path: str | Path) -> None:
        """Write the file, whole or not at all."""
        content = {
            "format": FORMAT,
            "n_folds": self.n_folds,
            "seed": self.seed,
            "studies": {
                name: {"fold": fold, "group": self.groups[name]} for name, fold in sorted(self.folds.items())
            },
        }
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        write_atomically(Path(path), text.encode("utf-8"))

    def check_fits(self, table: LabelTable, *, source: str | Path = "the folds") -> None:
        """Refuse folds that were drawn for another table.

        Args:
            table: whose studies must be those of the folds, in the same groups.
            source: how to call the folds in the message.

        Raises:
            FoldError: says which studies differ, by their keys.
        """
        studies = {s.study: s.group or s.patient for s in table.studies}
        missing, gone = sorted(set(studies) - set(self.folds)), sorted(set(self.folds) - set(studies))
        moved = sorted(s for s in set(studies) & set(self.folds) if studies[s] != self.groups[s])
        problems = [
            f"{len(names)} studies {what} (the first is {study_key(names[0])})"
            for names, what in (
                (missing, "of the table have no fold"),
                (gone, "with a fold are not usable in the table"),
                (moved, "are of another patient or group now"),
            )
            if names
        ]
        if problems:
            raise FoldError(
                f"{source} does not fit {table.path or 'the table'}: {'; '.join(problems)}. Folds are drawn "
                "once for one table and one set of embeddings; restore those, or use another output folder "
                "or folds file to have new ones drawn"
            )

    def apply(self, table: LabelTable, fold: int) -> LabelTable:
        """The table with the splits `train`, `val` and `test` of one fold.

        Raises:
            FoldError: the folds are of another table, or there is no such fold.
        """
        if not 0 <= fold < self.n_folds:
            raise FoldError(f"fold is {fold}; expected a number from 0 to {self.n_folds - 1}")
        self.check_fits(table)
        validation = (fold + 1) % self.n_folds
        role = {fold: "test", validation: "val"}
        studies = tuple(replace(s, split=role.get(self.folds[s.study], "train")) for s in table.studies)
        return replace(table, studies=studies)

    def balance(self, table: LabelTable) -> list[dict[str, Any]]:
        """Per fold: `fold`, `n_studies`, `n_groups` and `n_positive` (class → studies)."""
        rows = []
        for fold in range(self.n_folds):
            studies = [s for s in table.studies if self.folds[s.study] == fold]
            positives = table.one_hot(studies).sum(axis=0)
            rows.append(
                {
                    "fold": fold,
                    "n_studies": len(studies),
                    "n_groups": len({self.groups[s.study] for s in studies}),
                    "n_positive": {c: int(n) for c, n in zip(table.classes, positives, strict=True)},
                }
            )
        return rows

    def _check(self, path: Path) -> None:
        found = set(self.folds.values())
        if self.n_folds < 3 or found != set(range(self.n_folds)):
            raise FoldError(
                f"{path} has folds {sorted(found)}; expected {self.n_folds} of them, 3 or more, from 0"
            )
        seen: dict[str, tuple[str, int]] = {}
        for study, fold in self.folds.items():
            other, before = seen.setdefault(self.groups[study], (study, fold))
            if before != fold:
                raise FoldError(
                    f"{path}: a patient or group is in fold {before} ({study_key(other)}) and in fold {fold} "
                    f"({study_key(study)}); all its studies belong in one fold"
                )
