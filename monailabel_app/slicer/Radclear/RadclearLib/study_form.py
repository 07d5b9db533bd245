"""The upper part of the panel, built in code: server, reader, study, and what is being done."""

from __future__ import annotations

import ctk
import qt

from .labels import BANNER_STYLES, plain_label


class StudyForm:
    """Server, reader, study, and the button that asks."""

    def __init__(self, layout) -> None:
        box = ctk.ctkCollapsibleButton()
        box.text = "Study"
        layout.addWidget(box)
        form = qt.QFormLayout(box)
        self.address = qt.QLineEdit()
        self.connectButton = qt.QPushButton("Connect")
        row = qt.QHBoxLayout()
        row.addWidget(self.address)
        row.addWidget(self.connectButton)
        form.addRow("Server", row)
        self.reader = qt.QLineEdit()
        self.reader.setPlaceholderText("your name, kept with your verdicts")
        form.addRow("Reader", self.reader)
        self.password = qt.QLineEdit()
        self.password.setEchoMode(qt.QLineEdit.Password)
        self.passwordLabel = qt.QLabel("Password")
        form.addRow(self.passwordLabel, self.password)
        self.show_password(False)
        self.study = qt.QComboBox()
        form.addRow("Study", self.study)
        self.askButton = qt.QPushButton("Ask all questions")
        self.askButton.setEnabled(False)
        form.addRow(self.askButton)
        self.progress = qt.QProgressBar()
        self.progress.setRange(0, 0)  # moves without an end, as nobody knows how long it takes
        self.stopButton = qt.QPushButton("Stop waiting")
        self.waiting = qt.QWidget()
        row = qt.QHBoxLayout(self.waiting)
        row.addWidget(self.progress)
        row.addWidget(self.stopButton)
        self.waiting.setVisible(False)
        form.addRow(self.waiting)
        self.message = plain_label()
        form.addRow(self.message)

    def show_password(self, wanted: bool) -> None:
        """Whether the server asks for one."""
        self.password.setVisible(wanted)
        self.passwordLabel.setVisible(wanted)

    def say(self, text: str, *, error: bool = False) -> None:
        """A sentence for the reader."""
        self.message.setStyleSheet(BANNER_STYLES["input"] if error else "")
        self.message.setText(text)
