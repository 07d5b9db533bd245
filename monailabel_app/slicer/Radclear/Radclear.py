"""radclear in 3D Slicer: three questions about a CT, the slices that mattered, and the reader's verdict."""

from __future__ import annotations

import qt
import slicer
from RadclearLib.asking import Asking
from RadclearLib.connection import connect
from RadclearLib.job import Job, Waiter
from RadclearLib.logic import RadclearLogic
from RadclearLib.server import Server, ServerError
from RadclearLib.shown import ShownAnswers
from RadclearLib.studies import SCENE, StudyList
from RadclearLib.study_form import StudyForm
from slicer.ScriptedLoadableModule import ScriptedLoadableModule, ScriptedLoadableModuleWidget
from slicer.util import VTKObservationMixin

DEFAULT_ADDRESS = "http://127.0.0.1:8000"
PERHAPS_STORED = "Nobody waited for the server's word: the verdict may be stored. To be sure, send it again."


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
    """The panel: what the reader presses, and what follows."""

    def __init__(self, parent=None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.connection = None

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
        self.waiter = Waiter(on_status=self.form.say, on_busy=self.busy, on_error=self.failed)
        self.shown = ShownAnswers(
            self.layout,
            self.logic,
            on_verdict=self.send,
            on_gone=lambda text: self.form.say(text, error=True),
        )
        self.asking = Asking(self.waiter, self.logic, self.shown, say=self.form.say, failed=self.failed)
        self.layout.addStretch(1)
        self.studies = StudyList(self.form.study, on_change=self.chosen)
        scene = slicer.mrmlScene
        for event in (scene.NodeAddedEvent, scene.NodeRemovedEvent, scene.EndBatchProcessEvent):
            self.addObserver(scene, event, self.onSceneChanged)
        self.addObserver(scene, scene.EndCloseEvent, self.onSceneClosed)
        self.list_studies()
        self.form.say("Enter the server's address and press Connect.")

    def cleanup(self) -> None:
        """The module is closed."""
        self.waiter.stop()
        self.shown.watch.end()
        self.removeObservers()
        self.logic.remove_files()

    def enter(self) -> None:
        """The reader comes back to the module."""
        self.list_studies()
        self.shown.watch.check()

    # Connect.

    def onConnect(self, *_) -> None:
        """Learn what the server answers and which studies it has; until then all stays as it is."""
        try:
            server = Server(self.form.address.text)
        except ServerError as error:
            return self.form.say(str(error), error=True)
        name, password = self.form.reader.text.strip(), self.form.password.text
        job = Job(lambda progress: connect(server, name=name, password=password), text="Connecting")
        self.waiter.start(job, self.connected, left=self.left)

    def connected(self, found) -> None:
        """The server's questions and studies are known. Of another server nothing is kept."""
        asks, connection = found
        self.form.show_password(asks)
        if connection is None:
            return self.form.say(
                "This server wants your name and your password. Enter both and connect again."
            )
        self.form.password.setText("")
        before, self.connection = self.connection, connection
        again = before is not None and before.server.address == connection.server.address
        if again:
            connection.known.update(before.known)
        else:
            self.shown.clear()
        settings = qt.QSettings()
        settings.setValue("Radclear/address", self.form.address.text)
        settings.setValue("Radclear/reader", self.form.reader.text.strip())
        self.list_studies(afresh=not again)
        self.form.say(
            f"Connected. Studies on the server: {len(connection.images)}. Choose a study, then ask."
        )

    # Ask.

    def onAsk(self, *_) -> None:
        """Ask all questions about the chosen study."""
        where, name = self.studies.chosen
        if where == SCENE:
            self.asking.about_volume(self.connection, slicer.mrmlScene.GetNodeByID(name))
        else:
            self.asking.about_study(self.connection, name)

    # Give a verdict.

    def send(self, tab) -> None:
        """Send the verdict of a tab, where its answer is still one about the volume."""
        given = tab.given(self.form.reader.text.strip())
        missing = tab.missing(given)
        if missing:
            return tab.say(missing, error=True)
        if not self.shown.watch.check():
            return
        server = self.connection.server

        def tell(text: str, *, error: bool = False) -> None:
            here = tab if tab in self.shown.tabs else self.form  # the answers may be gone meanwhile
            here.say(text, error=error)

        def stored(reply: dict) -> None:
            tab.stored = given
            tell(f"Stored: {given.verdict}, {reply['reader']}, {reply['stored'][:16]} UTC.")

        self.waiter.start(
            Job(lambda progress: server.give_verdict(tab.answer, given), text="Sending the verdict"),
            stored,
            failed=lambda error: tell(self.sentence(error), error=True),
            left=lambda: tell(PERHAPS_STORED, error=True),
        )

    # While something is being done.

    def onStop(self, *_) -> None:
        """The reader does not want to wait; what the server does already it finishes."""
        self.waiter.stop()

    def left(self) -> None:
        """The reader stopped waiting."""
        self.form.say("Stopped waiting.")

    def failed(self, error: Exception) -> None:
        """Tell the reader what went wrong."""
        self.form.say(self.sentence(error), error=True)

    def sentence(self, error: Exception) -> str:
        """What is no sentence of ours is said to be one of the program."""
        return str(error) if isinstance(error, ServerError) else f"This went wrong in the module: {error!r}"

    def busy(self, now: bool) -> None:
        """Whether a job is running: nothing else can be started meanwhile."""
        self.form.waiting.setVisible(now)
        self.form.connectButton.setEnabled(not now)
        self.shown.panel.enable(not now)
        self.chosen()

    # What the scene holds.

    def list_studies(self, *, afresh: bool = False) -> None:
        """The volumes of the scene first, then the server's studies."""
        images = self.connection.images if self.connection else []
        self.studies.fill(slicer.mrmlScene, images, afresh=afresh)

    def chosen(self) -> None:
        """Another study is chosen, or a job began or ended."""
        ready = self.connection is not None and not self.waiter.busy and self.studies.chosen[0]
        self.form.askButton.setEnabled(bool(ready))
        self.shown.choose(self.studies.chosen)

    def onSceneChanged(self, caller, event) -> None:
        """A node came or went, or many at once."""
        if slicer.mrmlScene.IsBatchProcessing():
            return
        self.list_studies()
        self.shown.scene_changed()

    def onSceneClosed(self, caller, event) -> None:
        """The scene is empty: so is what was shown of it, and what was on its way is not waited for."""
        self.waiter.stop()
        self.shown.clear()
        self.list_studies()
