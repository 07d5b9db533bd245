"""Key slices of a prediction table against a table of annotated slices."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from radclear.evaluation.csv_rows import CsvRows, read_csv
from radclear.evaluation.errors import EvaluationError
from radclear.evaluation.hits import HitAtK, key_slice_hits
from radclear.evaluation.table import PredictionTable

KS = (1, 3, 5)


@dataclass(frozen=True)
class KeySliceHits:
    """Hit rates of a prediction table.

    Attributes:
        hits: one per k.
        n_studies: studies of the prediction table, with annotations and without.
        kinds: kinds of annotation that count; all where empty.
        boxes: the annotation table.
        warnings: sentences that a reader must know.
    """

    hits: tuple[HitAtK, ...]
    n_studies: int
    kinds: tuple[str, ...]
    boxes: CsvRows
    warnings: tuple[str, ...]


def table_hits(
    table: PredictionTable,
    boxes: str | Path,
    *,
    kinds: Sequence[str] = (),
    n_resamples: int = 2000,
    seed: int = 0,
) -> KeySliceHits:
    """hit@1, hit@3 and hit@5 of the table's `key_slices` column.

    Args:
        table: with key slices.
        boxes: CSV with `study`, `slice` (counted from 0 as in the table) and, where kinds are chosen, `kind`;
            a row per annotation, studies that the prediction table does not have are skipped.
        kinds: which kinds count; all when empty.
        n_resamples: of the patient bootstrap.
        seed: of the bootstrap.

    Raises:
        EvaluationError: no key slices, a malformed annotation table, or no annotated study with an answer.
    """
    if table.key_slices is None:
        raise EvaluationError(
            f"prediction table {table.name} has no column key_slices to compare with annotated slices; add "
            "it (slice numbers from 0, most attention first, separated by blanks) or leave out --boxes"
        )
    rows = read_csv(boxes, required=("study", "slice", *(["kind"] if kinds else [])), what="box table")
    annotated = _annotated(rows, kinds)
    ranked = dict(zip(table.studies, table.key_slices, strict=True))
    counted = {study: slices for study, slices in annotated.items() if study in ranked}
    if not counted:
        raise EvaluationError(
            f"box table {rows.path} annotates {len(annotated)} studies{_of(kinds)}, none of which is in "
            f"{table.name}; studies must have the same names in both"
        )
    n_slices = None if table.n_slices is None else dict(zip(table.studies, table.n_slices, strict=True))
    shortest = min(
        len(ranked[s]) if n_slices is None or len(ranked[s]) < n_slices[s] else max(KS) for s in counted
    )
    ks = tuple(k for k in KS if k <= shortest)
    if not ks:
        raise EvaluationError(
            f"a study of {table.name} with annotated slices has an empty key_slices field; rank at least "
            "one slice"
        )
    warnings = []
    if left_out := [f"hit@{k}" for k in KS if k not in ks]:
        warnings.append(f"{', '.join(left_out)} left out: a study has only {shortest} key slices.")
    hits = key_slice_hits(
        ranked,
        counted,
        ks=ks,
        patients=dict(zip(table.studies, table.patients, strict=True)),
        n_slices=n_slices,
        n_resamples=n_resamples,
        seed=seed,
    )
    return KeySliceHits(hits, table.n_studies, tuple(kinds), rows, tuple(warnings))


def _annotated(rows: CsvRows, kinds: Sequence[str]) -> dict[str, set[int]]:
    annotated: dict[str, set[int]] = defaultdict(set)
    found = {row["kind"] for _, row in rows.rows} if kinds else set()
    if unknown := [kind for kind in kinds if kind not in found]:
        raise EvaluationError(
            f"box table {rows.path} has no box of kind {', '.join(unknown)}; it has "
            f"{', '.join(sorted(found))}"
        )
    for number, row in rows.rows:
        if not row["slice"].isdecimal():
            raise EvaluationError(
                f"box table {rows.path}, line {number}: slice is {row['slice']!r}; expected a number from 0"
            )
        if not kinds or row["kind"] in kinds:
            annotated[row["study"]].add(int(row["slice"]))
    return dict(annotated)


def _of(kinds: Sequence[str]) -> str:
    return f" with {', '.join(kinds)}" if kinds else ""
