"""MONAI Label's view of the studies. Image ids are radclear's study keys, so that no id names a patient."""

from __future__ import annotations

from typing import Any

from monailabel.interfaces.datastore import Datastore

from lib.failures import Failures
from lib.labels import LabelFiles
from lib.studies import StudyIndex
from lib.volumes import VolumeFiles
from radclear.ct import StudySource
from radclear.errors import RadclearError


class ReadOnlyError(RadclearError):
    """The app was asked to change or remove what it only reads."""


class StudyDatastore(Datastore):
    """Studies to read, volumes for viewers, stored results."""

    def __init__(
        self,
        studies: StudyIndex,
        volumes: VolumeFiles,
        labels: LabelFiles,
        failures: Failures,
        *,
        identifiers: bool = False,
    ) -> None:
        """
        Args:
            studies: the index.
            volumes: gives files to viewers.
            labels: stored results.
            failures: why others are not there.
            identifiers: tell clients the studies' names.
        """
        self.studies = studies
        self.volumes = volumes
        self.labels = labels
        self.failures = failures
        self.identifiers = identifiers

    def source(self, image_id: str, *, series: str | None = None) -> StudySource:
        """The study of an id; see `StudyIndex.find`."""
        return self.studies.find(image_id, series=series)

    def name(self) -> str:
        return "radclear"

    def description(self) -> str:
        return "CT studies, under the hashes of their names"

    def set_name(self, name: str) -> None:
        raise ReadOnlyError("the store's name cannot be changed")

    def set_description(self, description: str) -> None:
        raise ReadOnlyError("the store's description cannot be changed")

    def list_images(self) -> list[str]:
        return self.studies.ids()

    def get_image(self, image_id: str, params: Any = None) -> bytes:
        return self.volumes.path(self.source(image_id)).read_bytes()

    def get_image_uri(self, image_id: str) -> str:
        return str(self.volumes.path(self.source(image_id)))

    def get_image_info(self, image_id: str) -> dict[str, Any]:
        return self._info(self.source(image_id))

    def _info(self, source: StudySource) -> dict[str, Any]:
        info = {"name": self.volumes.name(source)}
        return {**info, "study_name": source.name} if self.identifiers else info

    def get_labels_by_image_id(self, image_id: str) -> dict[str, str]:
        key = self.source(image_id).key
        return dict.fromkeys(self.labels.tags(key), key)

    def get_label_by_image_id(self, image_id: str, tag: str) -> str:
        return self.get_labels_by_image_id(image_id).get(tag, "")

    def get_label(self, label_id: str, label_tag: str, params: Any = None) -> bytes:
        return self.labels.path(self.source(label_id).key, label_tag).read_bytes()

    def get_label_uri(self, label_id: str, label_tag: str) -> str:
        return str(self.labels.path(self.source(label_id).key, label_tag))

    def get_label_info(self, label_id: str, label_tag: str) -> dict[str, Any]:
        return self.labels.info(self.source(label_id).key, label_tag)

    def get_labeled_images(self, label_tag: str | None = None, labels: Any = None) -> list[str]:
        return [key for key in self.list_images() if self._has_label(key, label_tag)]

    def get_unlabeled_images(self, label_tag: str | None = None, labels: Any = None) -> list[str]:
        return [key for key in self.list_images() if not self._has_label(key, label_tag)]

    def _has_label(self, key: str, tag: str | None) -> bool:
        return bool(self.labels.tags(key)) if tag is None else bool(self.labels.info(key, tag))

    def save_label(
        self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any]
    ) -> str:
        key = self.source(image_id).key
        self.labels.save(key, label_filename, label_tag, label_info)
        return key

    def add_image(self, image_id: str, image_filename: str, image_info: dict[str, Any]) -> str:
        raise ReadOnlyError("images come in through PUT /datastore/image")

    def remove_image(self, image_id: str) -> None:
        raise ReadOnlyError("studies are not removed through the server; the administrator does that")

    def remove_label(self, label_id: str, label_tag: str) -> None:
        raise ReadOnlyError("results are not removed through the server; the administrator does that")

    def update_image_info(self, image_id: str, info: dict[str, Any]) -> None:
        """Nothing is kept: MONAI Label would store here which client was shown an image."""

    def update_label_info(self, label_id: str, label_tag: str, info: dict[str, Any]) -> None:
        raise ReadOnlyError("what is known about a result cannot be changed")

    def datalist(self) -> list[dict[str, Any]]:
        return []

    def get_dataset_archive(self, limit_cases: int | None) -> str:
        raise ReadOnlyError("the studies are not handed out as an archive")

    def refresh(self) -> None:
        self.studies.rescan()

    def status(self) -> dict[str, Any]:
        images = self.list_images()
        tags: dict[str, int] = {}
        for key in images:
            for tag in self.labels.tags(key):
                tags[tag] = tags.get(tag, 0) + 1
        return {
            "total": len(images),
            "completed": sum(bool(self.labels.tags(k)) for k in images),
            "label_tags": tags,
        }

    def json(self) -> dict[str, Any]:
        objects = {}
        for key, source in self.studies.sources().items():
            info = self._info(source)
            labels = {
                tag: {"ext": f".{known['name'].rpartition('.')[2]}", "info": known}
                for tag in self.labels.tags(key)
                if (known := self.labels.info(key, tag)).get("name")
            }
            suffix = info["name"].removeprefix(key)
            objects[key] = {"image": {"ext": suffix, "info": info}, "labels": labels}
        return {"name": self.name(), "description": self.description(), "objects": objects}
