"""The lower part of the panel: which volume the answers are about, and a tab for each answer."""

from __future__ import annotations

import qt

from .labels import BANNER_STYLES, plain_label


class AnswerPanel:
    """Tabs, and above them a sentence about what they belong to."""

    def __init__(self, layout, *, on_tab, on_show) -> None:
        """
        Args:
            layout: of the module.
            on_tab: called with the number of the tab that is chosen.
            on_show: called when the reader wants to see the answered volume again.
        """
        self.tabs: list = []
        self.about = plain_label()
        layout.addWidget(self.about)
        self.showButton = qt.QPushButton("Show this volume in all views")
        self.showButton.connect("clicked(bool)", lambda *_: on_show())
        layout.addWidget(self.showButton)
        self.box = qt.QTabWidget()
        self.box.connect("currentChanged(int)", on_tab)
        layout.addWidget(self.box)
        self.clear()

    def fill(self, tabs: list) -> None:
        """Show answers.

        Args:
            tabs: an `AnswerTab` for each.
        """
        self.clear()
        self.tabs = tabs
        for tab in tabs:
            self.box.addTab(tab.widget, tab.answer.title)

    def clear(self) -> None:
        """Take the answers off the panel."""
        tabs, self.tabs = self.tabs, []
        self.box.clear()
        for tab in tabs:
            tab.widget.deleteLater()
        for widget in (self.about, self.showButton, self.box):
            widget.setVisible(False)

    def tell(self, text: str, *, warning: bool, answers: bool) -> None:
        """Say what the answers belong to.

        Args:
            text: the sentence.
            warning: it is more than a reminder, and the volume can be put back into the views.
            answers: show the answers below.
        """
        self.about.setStyleSheet(BANNER_STYLES["input"] if warning else "")
        self.about.setText(text)
        self.about.setVisible(True)
        self.showButton.setVisible(warning)
        self.box.setVisible(answers)

    def enable(self, now: bool) -> None:
        """Whether a verdict can be sent."""
        for tab in self.tabs:
            tab.sendButton.setEnabled(now)
