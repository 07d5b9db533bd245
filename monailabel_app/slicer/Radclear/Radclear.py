"""radclear in 3D Slicer: three questions about a CT, the slices that mattered, and the reader's verdict."""

from __future__ import annotations

import qt
import slicer
from RadclearLib import scene as key_scene
from RadclearLib.forms import AnswerTab, StudyForm
from RadclearLib.geometry import mismatch
from RadclearLib.job import Job
from RadclearLib.logic import RadclearLogic
from RadclearLib.server import Server, ServerError
from slicer.ScriptedLoadableModule import ScriptedLoadableModule, ScriptedLoadableModuleWidget
from slicer.util import VTKObservationMixin

DEFAULT_ADDRESS = "http://127.0.0.1:8000"
POLL_MS = 100
IN_SCENE, ON_SERVER = "scene", "server"


class Radclear(ScriptedLoadableModule):
    """What Slicer's module list shows."""

    def __init__(self, parent) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = "Radclear"
        parent.categories = ["Active Learning"]
        parent.dependencies = []
        parent.contributors = ["radclear"]
        parent.helpText = (
            "Asks a radclear server where tumor lesions are, which lung diseases a chest CT shows, and which "
            "stage fits, and shows the slices that the answers rest on. For research use only, not for "
            "diagnosis."
        )
        parent.acknowledgementText = "Apache-2.0"


class RadclearWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel."""

    def __init__(self, parent=None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self.server = None
        self.tasks: dict = {}
        self.tabs: list = []
        self.images: list = []
        self._job = None
        self._then = None
        self._failed = self.failed
        self._plot_view = None

    def setup(self) -> None:
        """Build the panel."""
        ScriptedLoadableModuleWidget.setup(self)
        self.logic = RadclearLogic()
        self.form = StudyForm(self.layout)
        settings = qt.QSettings()
        self.form.address.setText(settings.value("Radclear/address") or DEFAULT_ADDRESS)
        self.form.reader.setText(settings.value("Radclear/reader") or "")
        self.form.connectButton.connect("clicked(bool)", self.onConnect)
        self.form.askButton.connect("clicked(bool)", self.onAsk)
        self.form.stopButton.connect("clicked(bool)", self.onStop)
        self.answers = qt.QTabWidget()
        self.answers.setVisible(False)
        self.answers.connect("currentChanged(int)", self.onTab)
        self.layout.addWidget(self.answers)
        self.layout.addStretch(1)
        self.timer = qt.QTimer()
        self.timer.setInterval(POLL_MS)
        self.timer.connect("timeout()", self.onTimer)
        scene = slicer.mrmlScene
        for event in (scene.NodeAddedEvent, scene.NodeRemovedEvent):
            self.addObserver(scene, event, self.onSceneChanged)
        self.addObserver(scene, scene.EndCloseEvent, self.onSceneClosed)
        self.list_studies()
        self.form.say("Enter the server's address and press Connect.")

    def cleanup(self) -> None:
        """The module is closed."""
        self.timer.stop()
        self.removeObservers()
        self.logic.remove_files()

    def enter(self) -> None:
        """The reader comes back to the module."""
        self.list_studies()

    # What the reader presses.

    def onConnect(self, *_) -> None:
        """Learn what the server answers and which studies it has."""
        try:
            self.server = server = Server(self.form.address.text)
        except ServerError as error:
            return self.form.say(str(error), error=True)
        name, password = self.form.reader.text.strip(), self.form.password.text

        def connect(progress):
            asks = server.asks_for_password()
            if asks and not password:
                return asks, None, None
            if asks:
                server.sign_in(name, password)
            return asks, server.tasks(), server.studies()

        self.start(Job(connect, text="Connecting"), self.connected)

    def connected(self, found) -> None:
        """The server's questions and studies are known."""
        asks, tasks, images = found
        self.form.show_password(asks)
        if tasks is None:
            return self.form.say(
                "This server wants your name and your password. Enter both and connect again."
            )
        self.form.password.setText("")
        self.tasks, self.images = tasks, images
        settings = qt.QSettings()
        settings.setValue("Radclear/address", self.form.address.text)
        settings.setValue("Radclear/reader", self.form.reader.text.strip())
        self.list_studies()
        self.form.say(f"Connected. Studies on the server: {len(images)}. Choose a study, then ask.")

    def onAsk(self, *_) -> None:
        """Ask all questions about the chosen study."""
        server, folder = self.server, self.logic.folder
        where, _, name = str(self.form.study.currentData).partition(":")
        if where == IN_SCENE:
            volume = slicer.mrmlScene.GetNodeByID(name)
            image = volume.GetAttribute(key_scene.IMAGE_ATTRIBUTE)
            if image:
                return self.ask_about(volume, image)
            path = self.logic.save(volume)
            job = Job(lambda progress: server.upload(path), text="Sending the volume to the server")
            return self.start(job, lambda image: self.ask_about(volume, image))
        job = Job(lambda progress: server.download(name, folder), text="Fetching the study")
        self.start(job, lambda path: self.ask_about(slicer.util.loadVolume(path), name))

    def ask_about(self, volume, image: str) -> None:
        """All questions, one after the other: the first takes long, the others share its work."""
        volume.SetAttribute(key_scene.IMAGE_ATTRIBUTE, image)
        server, tasks = self.server, list(self.tasks)

        def ask(progress):
            found = []
            for number, task in enumerate(tasks, start=1):
                progress(f"Reading the study: {task.replace('_', ' ')} ({number} of {len(tasks)})")
                answer = server.ask(task, image)
                found.append((answer, server.verdicts(image, task)))
            return found

        self.start(Job(ask, text="Asking"), lambda found: self.show_answers(found, volume))

    def show_answers(self, found, volume) -> None:
        """Fill the tabs, and mark the key slices in the views."""
        self.remove_tabs()
        for answer, verdicts in found:
            self.logic.show(answer, volume)
            tab = AnswerTab(
                answer,
                volume=volume,
                folder=self.logic.folder,
                warning=mismatch(answer, volume),
                on_jump=lambda index, answer=answer: key_scene.jump(slicer.mrmlScene, answer, index),
                on_plot=lambda task=answer.task: self.show_plot(task),
                on_verdict=self.send,
            )
            tab.show_given(verdicts)
            self.tabs.append(tab)
            self.answers.addTab(tab.widget, answer.title)
        self.answers.setVisible(True)
        slicer.util.setSliceViewerLayers(background=volume)
        self.onTab(0)
        self.form.say("Answered. Pick a key slice to jump there.")

    def onTab(self, number: int) -> None:
        """Another question: its marks, and its most attended slice."""
        if 0 <= number < len(self.tabs):
            answer = self.tabs[number].answer
            self.logic.show_only(answer.task)
            key_scene.jump(slicer.mrmlScene, answer, answer.key_slices[0].index)

    def show_plot(self, task: str) -> None:
        """The attention chart beside the slices; a click on a point jumps there."""
        slicer.modules.plots.logic().ShowChartInLayout(self.logic.plots[task].chart)
        if not self._plot_view:
            self._plot_view = slicer.app.layoutManager().plotWidget(0).plotView()
            self._plot_view.connect("dataSelected(vtkStringArray*, vtkCollection*)", self.onPointSelected)

    def onPointSelected(self, series_ids, selections) -> None:
        """A point of the chart was clicked."""
        for tab in self.tabs:
            plot = self.logic.plots.get(tab.answer.task)
            index = plot.selected_slice(series_ids, selections) if plot else None
            if index is not None:
                key_scene.jump(slicer.mrmlScene, tab.answer, index)

    def send(self, tab: AnswerTab) -> None:
        """Send the verdict of a tab."""
        verdict, reader = tab.chosen(), self.form.reader.text.strip()
        classes = tab.right_classes() if verdict == "correct" else None
        if not verdict:
            return tab.say("Choose agree, disagree or correct first.", error=True)
        if not reader:
            return tab.say("Enter your name above: it is kept with the verdict.", error=True)
        if verdict == "correct" and tab.answer.single and len(classes) != 1:
            return tab.say("Choose the one class that is right.", error=True)
        server, comment = self.server, tab.comment.text

        def give(progress):
            return server.give_verdict(tab.answer, verdict, classes=classes, comment=comment, reader=reader)

        self.start(
            Job(give, text="Sending the verdict"),
            lambda stored: tab.say(f"Stored: {verdict}, {stored['reader']}, {stored['stored'][:16]} UTC."),
            failed=lambda error: tab.say(str(error), error=True),
        )

    def onStop(self, *_) -> None:
        """The reader does not want to wait; what the server does already it finishes."""
        self._job = None
        self.waiting(False)
        self.form.say("Stopped waiting.")

    # Work in the background.

    def start(self, job: Job, then, *, failed=None) -> None:
        """Wait for a job without blocking the window.

        Args:
            job: running.
            then: called with its result.
            failed: called with its error, instead of showing it at the study.
        """
        self._job, self._then, self._failed = job, then, failed or self.failed
        self.waiting(True)
        self.onTimer()
        self.timer.start()

    def onTimer(self) -> None:
        """Show how far the job is; go on when it is done."""
        job = self._job
        if job is None:
            return
        if not job.done:
            return self.form.say(job.status())
        self._job = None
        self.waiting(False)
        self.form.say("")
        if job.error is not None:
            return self._failed(job.error)
        try:
            self._then(job.result)
        except Exception as error:
            self.failed(error)
            raise

    def failed(self, error: Exception) -> None:
        """Tell the reader; what is no sentence of ours is said to be one of the program."""
        text = str(error) if isinstance(error, ServerError) else f"This went wrong in the module: {error!r}"
        self.form.say(text, error=True)

    def waiting(self, now: bool) -> None:
        """Whether a job is running: nothing else can be started meanwhile."""
        if not now:
            self.timer.stop()
        self.form.waiting.setVisible(now)
        self.form.connectButton.setEnabled(not now)
        self.form.askButton.setEnabled(not now and bool(self.tasks) and self.form.study.count > 0)
        for tab in self.tabs:
            tab.sendButton.setEnabled(not now)

    # What the scene holds.

    def list_studies(self) -> None:
        """The volumes of the scene first, then the server's studies."""
        chosen = self.form.study.currentIndex
        text = self.form.study.currentText
        self.form.study.clear()
        for node in key_scene.volumes(slicer.mrmlScene):
            self.form.study.addItem(f"In Slicer: {node.GetName()}", f"{IN_SCENE}:{node.GetID()}")
        for image in self.images:
            self.form.study.addItem(f"On the server: {image}", f"{ON_SERVER}:{image}")
        again = self.form.study.findText(text) if chosen >= 0 else 0
        self.form.study.setCurrentIndex(max(again, 0))
        self.form.askButton.setEnabled(self._job is None and bool(self.tasks) and self.form.study.count > 0)

    def onSceneChanged(self, caller, event) -> None:
        """A node came or went."""
        self.list_studies()

    def onSceneClosed(self, caller, event) -> None:
        """The scene is empty: so is what was shown of it."""
        self.logic.forget()
        self.remove_tabs()
        self.answers.setVisible(False)
        self.list_studies()

    def remove_tabs(self) -> None:
        """Take the answers off the panel."""
        tabs, self.tabs = self.tabs, []
        self.answers.clear()
        for tab in tabs:
            tab.widget.deleteLater()
