"""The words of a result: each task's question, its classes and what the scores mean, for people."""

from __future__ import annotations

INTENDED_USE = (
    "For research use only, not for diagnosis. Not a medical device: do not base a decision about a patient "
    "on it. Every answer needs to be checked on the images by a qualified reader."
)

_TITLES = {
    "tumor_location": ("Tumor location", "Where are tumor lesions?"),
    "lung_disease": ("Lung disease", "Which lung diseases does this study show?"),
    "staging": ("Staging", "Which tumor stage fits this study?"),
}

_NAMED_CLASSES = 3  # in the heading of a task; its table holds all
_MOST_DIGITS = 6  # of the probabilities in a result document

_CLASS_LABELS = {
    "tumor_location": {"abdomen": "Abdomen (other)", "soft_tissue": "Soft tissue"},
    "lung_disease": {"ground_glass": "Ground-glass opacity", "effusion": "Pleural effusion"},
    "staging": {"I": "Stage I", "II": "Stage II", "III": "Stage III", "IV": "Stage IV"},
}

# What is true of studies with a class, as the end of "about 8 of 10 comparable studies ...".
_CLAIMS = {
    "tumor_location": "show a tumor lesion at this site",
    "lung_disease": "show this disease",
    "staging": "have this stage",
}

ATTENTION_MEANING = (
    "Attention is the share of the answer's weight that a slice received; all slices together make 1. It "
    "shows where the model looked. It does not outline a lesion or prove that there is one."
)


def task_title(task: str) -> str:
    """Short name of a task for headings."""
    return _TITLES[task][0] if task in _TITLES else task.replace("_", " ").capitalize()


def task_question(task: str) -> str:
    """The task as a question in plain words."""
    return _TITLES[task][1] if task in _TITLES else f"{task_title(task)}: which classes does this study show?"


def class_label(task: str, name: str) -> str:
    """Name of a class for people."""
    label = _CLASS_LABELS.get(task, {}).get(name)
    return label or (name[:1].upper() + name[1:]).replace("_", " ")


def score_meaning(task: dict) -> str:
    """One or two plain sentences: how to read the scores of this task.

    Args:
        task: an entry of ``result["tasks"]``.
    """
    claim = _CLAIMS.get(task["task"], "belong to this class")
    if task["model"]["demonstration"]:
        text = "Demonstration weights: the numbers show what an answer looks like, nothing about a patient."
    elif task["calibrated"]:
        text = f"A probability of 0.80 means: about 8 of 10 comparable studies with this value {claim}."
    else:
        text = f"Scores rank, but are not calibrated: 0.80 does not mean that 8 of 10 such studies {claim}."
    if task["kind"] != "multilabel":
        return f"{text} Exactly one class is true, so the values add up to 1."
    return f"{text} Each class is judged on its own, so several can be high, or none."


def verdict(task: dict) -> str:
    """The answer in one line, for the heading of a task.

    Names the first three of the positive classes in the order of `ranked_classes`; the rest is counted.

    Args:
        task: an entry of ``result["tasks"]``.
    """
    digits = score_digits(task)
    highest = max(task["classes"], key=lambda entry: entry["probability"])
    top = f"{highest['label']} ({format_score(highest['probability'], digits)})"
    if task["kind"] != "multilabel":
        return (
            f"Most likely {top[0].lower()}{top[1:]}" if task["task"] == "staging" else f"Most likely: {top}"
        )
    number = "probability" if task["calibrated"] else "score"
    if all(entry["above_operating_point"] is None for entry in task["classes"]):
        return f"Highest {number}: {top}; no operating points set"
    positive = [entry for entry in ranked_classes(task) if entry["above_operating_point"]]
    if not positive:
        return f"No class above its operating point; highest {number}: {top}"
    named = [f"{c['label']} ({format_score(c['probability'], digits)})" for c in positive[:_NAMED_CLASSES]]
    rest = len(positive) - len(named)
    return ", ".join(named) + (f" and {rest} more" if rest else "")


def ranked_classes(task: dict) -> list[dict]:
    """Classes that may be there together, in a reader's order: positive ones first, by falling probability.

    Args:
        task: an entry of ``result["tasks"]``.
    """
    return sorted(task["classes"], key=lambda c: (not c["above_operating_point"], -c["probability"]))


def sentence(text: str) -> str:
    """A message as a sentence: a capital in front, a full stop behind."""
    text = text[:1].upper() + text[1:]
    return text if not text or text.endswith((".", "!", "?")) else text + "."


def score_digits(task: dict) -> int:
    """Decimals for the scores and operating points of a task: 2, or as many more as tell each from the other.

    Two numbers that differ after rounding stand in their true order, so what is printed never contradicts
    whether a class is above its operating point.

    Args:
        task: an entry of ``result["tasks"]``.
    """

    def told_apart(entry: dict, digits: int) -> bool:
        point = entry.get("operating_point")
        if point is None or point in (0, 1) or point == entry["probability"]:
            return True
        return round(point, digits) not in (0, 1, round(entry["probability"], digits))

    return next(
        (d for d in range(2, _MOST_DIGITS) if all(told_apart(entry, d) for entry in task["classes"])),
        _MOST_DIGITS,
    )


def format_score(value: float, digits: int = 2) -> str:
    """A probability or attention with so many decimals, which never rounds to a certainty."""
    least = 10**-digits
    if 0 < value < least / 2:
        return f"<{least:.{digits}f}"
    if 1 - least / 2 <= value < 1:
        return f">{1 - least:.{digits}f}"
    return f"{value:.{digits}f}"


def format_mm(value: float) -> str:
    """Millimetres with one decimal and a true minus sign."""
    text = f"{value:.1f}"
    return "0.0" if text == "-0.0" else text.replace("-", "−")
