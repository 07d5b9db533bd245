"""MONAI Label app of radclear: tumor location, lung disease and stage of a CT study, in 3D Slicer and OHIF.

Start it with `python -m monailabel.main start_server --app monailabel_app --studies FOLDER --host 127.0.0.1`.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from typing import Any

from lib.answering import answer_request
from lib.archive import connect, credentials
from lib.audit import Audit
from lib.batch import StudyBatch, end_with_server
from lib.datastore import StudyDatastore
from lib.dicomweb import DicomWebIndex
from lib.failures import Failures
from lib.infers import build_tasks
from lib.labels import LabelFiles
from lib.learning_routes import RetrainHead, VerdictScoring
from lib.log_privacy import PrivateLog, install
from lib.options import is_remote, read_options
from lib.patients import Patients, read_patients
from lib.publishing import announce_trained, publish
from lib.recovery import recover
from lib.routes import serve
from lib.strategies import next_study, strategies
from lib.studies import StudyIndex
from lib.trainings import Trainings
from lib.uploads import UploadLimits
from lib.verdicts import VerdictStore
from lib.versions import HeadVersions
from lib.volumes import VolumeFiles
from lib.work_queue import WorkQueue
from monailabel.config import settings
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.infer_v2 import InferTask
from monailabel.interfaces.tasks.scoring import ScoringMethod
from monailabel.interfaces.tasks.strategy import Strategy
from monailabel.interfaces.tasks.train import TrainTask
from monailabel.tasks.activelearning.first import First

from radclear import __version__
from radclear.backbones import keep_freed_memory
from radclear.bundle import Head, StudyAnswers, load_heads
from radclear.cli.catalog import bundles_folder, head_paths
from radclear.cli.run_options import resolve_device
from radclear.results.wording import INTENDED_USE

logger = logging.getLogger(__name__)


class RadclearApp(MONAILabelApp):
    """Loads the heads, opens the store, and closes what MONAI Label leaves open."""

    def __init__(self, app_dir: str, studies: str, conf: Mapping[str, str] | None) -> None:
        """
        Args:
            app_dir: this folder.
            studies: a folder, or the address of a DICOMweb server.
            conf: see `lib.options.Options`.
        """
        self.options = read_options(conf)
        self.data = self.options.data_folder(studies)
        self.patients = read_patients(self.options.patients) if self.options.patients else Patients({})
        self.audit = Audit(self.data / "audit.jsonl")
        self.verdicts = VerdictStore(self.data / "verdicts")
        self.versions = HeadVersions(self.data / "models", device=resolve_device(self.options.device))
        self.trainings = Trainings(
            self.data / "trainings",
            self.versions,
            made=lambda training: announce_trained(self, training),
            publish=lambda training: publish(self, training.task, training.id, user="training"),
        )
        self.queue = WorkQueue(waiting=self.options.waiting)
        keep_freed_memory()
        super().__init__(
            app_dir=app_dir,
            studies=studies,
            conf=dict(conf or {}),
            name="radclear",
            description=f"Tumor location, lung disease and stage from a CT study. {INTENDED_USE}",
            version=__version__,
        )
        server = sys.modules.get("monailabel.app")
        if server is not None:  # not there in a child process, which runs one task and ends
            recover(self)
            if unknown := self.patients.unknown(self.datastore().list_images()):
                logger.warning(
                    "%d of %d studies in the table of patients are not in the store; their names have to be "
                    "those of files, folders or series",
                    unknown,
                    len(self.patients),
                )
            serve(server.app, self)
            end_with_server()
            self.audit.append("start", version=__version__, models=self._weights())

    def _weights(self) -> dict[str, str]:
        return {name: task.head.weights_sha256 for name, task in self._infers.items()}

    def init_datastore(self) -> Datastore:
        """The studies; and below the data folder uploads, converted volumes and stored results.

        MONAI Label's own would fetch tools for an archive at the start.
        """
        options = self.options
        index = self._index()
        volumes = VolumeFiles(
            self.data / "volumes",
            ready=index.ready,
            most_bytes=options.volumes_mib * 2**20,
            policy=options.policy,
            memory_cap_bytes=options.memory_cap_bytes,
        )
        self.log_filter = PrivateLog(index.names)
        install(self.log_filter)
        labels = LabelFiles(self.data / "labels")
        failures = Failures(labels.folder, self.log_filter.clean)
        return StudyDatastore(index, volumes, labels, failures, identifiers=options.identifiers)

    def _index(self) -> StudyIndex:
        options, uploads = self.options, self.data / "uploads"
        limits = UploadLimits(
            largest_bytes=options.upload_mib * 2**20,
            all_bytes=options.uploads_gib * 2**30,
            memory_cap_bytes=options.memory_cap_bytes,
        )
        if not is_remote(self.studies):
            return StudyIndex(self.studies, uploads, limits=limits, rescan_s=options.rescan)
        user, password = credentials()
        client = connect(
            self.studies.rstrip("/"),
            user=user,
            password=password,
            qido=settings.MONAI_LABEL_QIDO_PREFIX,
            wado=settings.MONAI_LABEL_WADO_PREFIX,
        )
        return DicomWebIndex(
            client,
            self.data / "series",
            uploads,
            most_bytes=options.volumes_mib * 2**20,
            limits=limits,
            rescan_s=options.rescan,
        )

    def init_infers(self) -> dict[str, InferTask]:
        """Three entries for each question."""
        options = self.options
        device = self.versions.device
        bundled = load_heads(
            head_paths(bundles_folder(options.bundles), list(options.tasks)),
            backbone_bundle=options.backbone,
            device=device,
        )
        self.bundled = {head.task: head for head in bundled}
        heads = [self.versions.load_current(head.task) or head for head in bundled]
        self.answers = StudyAnswers(
            device=device,
            precision=options.precision,
            batch_size=options.batch_size,
            policy=options.policy,
            cache_bytes=options.cache_mib * 2**20,
            memory_cap_bytes=options.memory_cap_bytes,
        )
        logger.info("%d heads on %s", len(heads), device)
        tasks = build_tasks(heads, self.answers, self.audit, identifiers=options.identifiers)
        for task in tasks.values():
            task.use(task.head, self.versions.current(task.head.task))
        return tasks

    def init_strategies(self) -> dict[str, Strategy]:
        return {"first": First(), **strategies(self)}

    def init_trainers(self) -> dict[str, TrainTask]:
        return {task: RetrainHead(f"train {task} from readers' verdicts") for task in self.bundled}

    def init_scoring_methods(self) -> dict[str, ScoringMethod]:
        return {task: VerdictScoring(f"{task} against readers' verdicts") for task in self.bundled}

    def init_batch_infer(self) -> Callable:
        return StudyBatch()

    def infer(self, request: Mapping[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
        """Answer one request; see `lib.answering.answer_request`.

        Args:
            request: as there.
            datastore: the app's own when omitted.
        """
        return answer_request(self._infers, datastore or self.datastore(), request)

    def next_sample(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """A study to look at: its id and what the store tells of it; empty where there is none.

        MONAI Label's own would convert the study and tell its path.
        """
        return next_study(self._strategies[request["strategy"]], request, self.datastore())

    def models(self) -> dict[str, InferTask]:
        """The entries that can be asked: name → task."""
        return self._infers

    def heads(self) -> dict[str, Head]:
        """The heads that answer: question → head."""
        return {task.head.task: task.head for task in self._infers.values()}

    def strategies(self) -> dict[str, Strategy]:
        """Ways to choose the next study."""
        return self._strategies

    def info(self) -> dict[str, Any]:
        """As MONAI Label's; with what the numbers are for."""
        return {**super().info(), "intended_use": INTENDED_USE}

    def async_scoring(self, method: str, params: Any = None) -> dict[str, Any]:
        """Nothing: MONAI Label would start a process per question at every start; see `lib.scoring`."""
        return {}

    def _load_sessions(self, load: bool = False) -> None:
        """None: a session would keep an uploaded image, and unpack archives, outside the store."""
