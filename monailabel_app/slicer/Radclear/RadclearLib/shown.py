"""The answers that are shown: at their volume, in the views that show it, and gone when it is another."""

from __future__ import annotations

import slicer

from . import scene as in_scene
from .answer_tab import AnswerTab
from .binding import check
from .panel import AnswerPanel
from .voxels import fingerprint
from .watch import Watch

CHANGED = "The volume was changed since it was answered, so the answers to it were taken away. Ask again."
CHANGED_MEANWHILE = "The volume was changed while the answer was on its way, so it is not shown. Ask again."
REMOVED = "The volume was removed from the scene, so there is nothing to show the answer at."


class ShownAnswers:
    """The answers to the questions about one volume, in panel and scene."""

    def __init__(self, layout, logic, *, on_verdict, on_gone) -> None:
        """
        Args:
            layout: of the module.
            logic: keeps what is in the scene.
            on_verdict: called with a tab whose verdict is to be sent.
            on_gone: called with why answers are not shown any more, or not at all.
        """
        self.logic = logic
        self._on_verdict, self._gone = on_verdict, on_gone
        self._from = ""
        self._choices: list = []
        self._chosen: tuple = ("", "")
        self._plot_view = None
        self.panel = AnswerPanel(layout, on_tab=self.on_tab, on_show=self.show_volume)
        self.watch = Watch(on_change=lambda: self.lose(CHANGED), on_move=self.moved, on_views=self.refresh)

    @property
    def tabs(self) -> list:
        """An `AnswerTab` for each answer."""
        return self.panel.tabs

    def show(self, found: list, volume, *, asked: str, server: str, choices: list) -> bool:
        """Show answers, where they are about the volume.

        Args:
            found: answer and earlier verdicts of each question.
            volume: the node.
            asked: its `fingerprint` when it was asked about.
            server: address of the server.
            choices: what of the list of studies stands for this volume.

        Returns:
            Whether they are shown.
        """
        self.clear()
        if not slicer.mrmlScene.IsNodePresent(volume):
            self._gone(REMOVED)
            return False
        if fingerprint(volume) != asked:
            self._gone(CHANGED_MEANWHILE)
            return False
        answers = [answer for answer, _ in found]
        result = check(answers, volume)
        if result.refusal:
            self._gone(result.refusal)
            return False
        self.logic.show(answers, volume)
        folder = self.logic.new_folder()
        self.watch.begin(volume, asked)
        self._from, self._choices = server, choices
        tabs = []
        for answer, verdicts in found:
            tab = AnswerTab(
                answer,
                volume=volume,
                folder=folder,
                doubts=result.doubts,
                on_jump=lambda index, answer=answer: self.jump(answer, index),
                on_plot=lambda task=answer.task: self.show_plot(task),
                on_verdict=self._on_verdict,
            )
            tab.show_given(verdicts)
            tabs.append(tab)
        self.panel.fill(tabs)
        self.show_volume()
        self.on_tab(0)
        return True

    def lose(self, reason: str) -> None:
        """Take the answers away and say why."""
        if self.tabs:
            self.clear()
            self._gone(reason)

    def clear(self) -> None:
        """Take the answers away."""
        self.watch.end()
        self.panel.clear()
        self.logic.clear()

    def choose(self, chosen: tuple) -> None:
        """Another study is chosen in the list."""
        self._chosen = chosen
        self.refresh()

    def scene_changed(self) -> None:
        """A node came or went."""
        if self.watch.volume is not None and not slicer.mrmlScene.IsNodePresent(self.watch.volume):
            return self.lose(REMOVED)
        self.watch.look_for_views()

    def refresh(self) -> None:
        """Say what the answers belong to, and show marks only where their volume is."""
        volume = self.watch.volume
        if volume is None or not self.tabs:
            return
        showing, others = in_scene.views(slicer.mrmlScene, volume)
        hidden = bool(others) and not showing
        task = "" if hidden else self.tabs[max(self.panel.box.currentIndex, 0)].answer.task
        self.logic.show_only(task, views=showing if others else [])
        about, warning = f"These answers are about {volume.GetName()}, from {self._from}.", True
        if hidden:
            about = f"There are answers about {volume.GetName()}, but the views show another volume."
        elif others:
            about += " Some views show another volume: the marks are not in those."
        elif self._chosen not in self._choices:
            about += " The study that is chosen above was not asked about yet."
        else:
            warning = False
        self.panel.tell(about, warning=warning, answers=not hidden)

    def moved(self) -> None:
        """The volume lies under another transform."""
        self.logic.follow(self.watch.volume)

    def show_volume(self) -> None:
        """Put the answered volume into all views."""
        slicer.util.setSliceViewerLayers(background=self.watch.volume)
        self.refresh()

    def on_tab(self, number: int) -> None:
        """Another question: its marks, and its most attended slice."""
        if self.watch.volume is not None and 0 <= number < len(self.tabs):
            answer = self.tabs[number].answer
            self.refresh()
            self.jump(answer, answer.key_slices[0].index)

    def jump(self, answer, index: int) -> None:
        """All views to a slice; where none shows the answered volume, it is put back first."""
        if not in_scene.views(slicer.mrmlScene, self.watch.volume)[0]:
            self.show_volume()
        in_scene.jump(slicer.mrmlScene, answer, self.watch.volume, index)

    def show_plot(self, task: str) -> None:
        """The attention chart beside the slices; a click on a point jumps there."""
        slicer.modules.plots.logic().ShowChartInLayout(self.logic.plots[task].chart)
        if not self._plot_view:
            self._plot_view = slicer.app.layoutManager().plotWidget(0).plotView()
            self._plot_view.connect("dataSelected(vtkStringArray*, vtkCollection*)", self.on_point)

    def on_point(self, series_ids, selections) -> None:
        """A point of the chart was clicked."""
        for tab in self.tabs:
            index = self.logic.plots[tab.answer.task].selected_slice(series_ids, selections)
            if index is not None:
                self.jump(tab.answer, index)
