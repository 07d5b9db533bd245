"""A tab of the panel: one answer and the form of the reader's verdict on it."""

from __future__ import annotations

import os
from dataclasses import dataclass

import qt

from .answer import Answer
from .labels import BANNER_STYLES, plain_label
from .scene import thumbnail, write_png

_THUMBNAIL = 96
VERDICTS = (("agree", "Agree"), ("disagree", "Disagree"), ("correct", "Correct it:"))


@dataclass(frozen=True)
class Given:
    """A verdict as the form says it; `classes` are those that are right, None where that is not asked."""

    reader: str
    verdict: str
    classes: tuple | None
    comment: str


class AnswerTab:
    """One answer: warnings, what it says, classes, key slices, and the verdict."""

    def __init__(
        self, answer: Answer, *, volume, folder: str, doubts: tuple, on_jump, on_plot, on_verdict
    ) -> None:
        """
        Args:
            answer: the answer.
            volume: node of the study in the scene.
            folder: for the files of thumbnails.
            doubts: sentences about volume and answer together.
            on_jump: called with the index of a slice.
            on_plot: called to show the attention chart.
            on_verdict: called with this tab, to send the verdict.
        """
        self.answer = answer
        self.stored: Given | None = None
        self.widget = qt.QWidget()
        layout = qt.QVBoxLayout(self.widget)
        self.banners = []
        for banner in answer.banners:
            self._banner(layout, banner.kind, f"{banner.title}: {' '.join(banner.messages)}")
        for doubt in doubts:
            self._banner(layout, "input", f"Check the input: {doubt}")
        layout.addWidget(plain_label(answer.question))
        self.verdictLine = plain_label(answer.verdict, style="font-weight: bold; font-size: 14px;")
        layout.addWidget(self.verdictLine)
        self.classes = self._class_table()
        layout.addWidget(self.classes)
        self.meaning = plain_label(answer.meaning)
        layout.addWidget(self.meaning)
        self.keys = self._key_list(volume, folder, on_jump)
        layout.addWidget(self.keys)
        self.plotButton = qt.QPushButton("Show attention of all slices (click a point to jump there)")
        self.plotButton.connect("clicked(bool)", lambda *_: on_plot())
        layout.addWidget(self.plotButton)
        layout.addWidget(plain_label(answer.attention_meaning))
        self._verdict_form(layout, on_verdict)
        layout.addStretch(1)

    def _banner(self, layout, kind: str, text: str) -> None:
        label = plain_label(text, style=BANNER_STYLES[kind])
        self.banners.append(label)
        layout.addWidget(label)

    def _class_table(self) -> qt.QTableWidget:
        lines = self.answer.lines
        table = qt.QTableWidget(len(lines), 3)
        table.setHorizontalHeaderLabels(["Class", "Probability", "Threshold"])
        table.verticalHeader().setVisible(False)
        table.horizontalHeader().setStretchLastSection(True)
        table.setEditTriggers(qt.QAbstractItemView.NoEditTriggers)
        for row, line in enumerate(lines):
            for column, text in enumerate((line.label, line.text, line.call)):
                item = qt.QTableWidgetItem(text)
                font = item.font()
                font.setBold(line.strong)
                item.setFont(font)
                table.setItem(row, column, item)
        table.resizeColumnsToContents()
        table.setFixedHeight(28 + 30 * len(lines))
        return table

    def _key_list(self, volume, folder: str, on_jump) -> qt.QListWidget:
        keys = qt.QListWidget()
        keys.setViewMode(qt.QListView.IconMode)
        keys.setIconSize(qt.QSize(_THUMBNAIL, _THUMBNAIL))
        keys.setMovement(qt.QListView.Static)
        keys.setFixedHeight(_THUMBNAIL + 44)
        for key in self.answer.key_slices:
            path = os.path.join(folder, f"{self.answer.task}-{key.rank}.png")
            write_png(thumbnail(self.answer, volume, key.index, size=_THUMBNAIL), path)
            keys.addItem(qt.QListWidgetItem(qt.QIcon(path), key.text(self.answer.shape[2])))

        def chosen(*_) -> None:
            if keys.currentRow >= 0:
                on_jump(self.answer.key_slices[keys.currentRow].index)

        keys.connect("currentRowChanged(int)", chosen)
        keys.connect("itemClicked(QListWidgetItem*)", chosen)  # the same again, after looking elsewhere
        return keys

    def _verdict_form(self, layout, on_verdict) -> None:
        box = qt.QGroupBox("Your verdict")
        layout.addWidget(box)
        form = qt.QVBoxLayout(box)
        row = qt.QHBoxLayout()
        form.addLayout(row)
        self.choices = {}
        for name, text in VERDICTS:
            self.choices[name] = qt.QRadioButton(text)
            row.addWidget(self.choices[name])
        self.right = {}
        kind = qt.QRadioButton if self.answer.single else qt.QCheckBox
        self.rightBox = qt.QWidget()
        columns = qt.QGridLayout(self.rightBox)
        for position, line in enumerate(self.answer.lines):
            self.right[line.name] = kind(line.label)
            columns.addWidget(self.right[line.name], position // 3, position % 3)
        self.rightBox.setEnabled(False)
        form.addWidget(self.rightBox)
        self.choices["correct"].connect("toggled(bool)", lambda on: self.rightBox.setEnabled(on))
        self.comment = qt.QLineEdit()
        self.comment.setMaxLength(2000)
        self.comment.setPlaceholderText("comment; no names of patients")
        form.addWidget(self.comment)
        self.sendButton = qt.QPushButton("Send verdict")
        self.sendButton.connect("clicked(bool)", lambda *_: on_verdict(self))
        form.addWidget(self.sendButton)
        self.sent = plain_label()
        form.addWidget(self.sent)

    def given(self, reader: str) -> Given:
        """What the form says now."""
        verdict = next((name for name, button in self.choices.items() if button.checked), "")
        ticked = tuple(name for name, button in self.right.items() if button.checked)
        return Given(reader, verdict, ticked if verdict == "correct" else None, self.comment.text)

    def missing(self, given: Given) -> str:
        """Why a verdict cannot be sent; empty where it can."""
        if not given.verdict:
            return "Choose agree, disagree or correct first."
        if not given.reader:
            return "Enter your name above: it is kept with the verdict."
        if given.verdict == "correct" and self.answer.single and len(given.classes) != 1:
            return "Choose the one class that is right."
        if given == self.stored:
            return "This verdict is stored already."
        return ""

    def say(self, text: str, *, error: bool = False) -> None:
        """A sentence below the verdict."""
        self.sent.setStyleSheet(BANNER_STYLES["input"] if error else "")
        self.sent.setText(text)

    def show_given(self, verdicts: list) -> None:
        """What was said of this study before, the newest last."""
        lines = []
        for verdict in verdicts[-3:]:
            right = verdict.get("classes")
            names = ", ".join(right) if right else "none of the classes" if right == [] else "no classes"
            lines.append(f"{verdict['stored'][:10]} {verdict['reader']}: {verdict['verdict']} ({names})")
        self.say("\n".join(lines))
