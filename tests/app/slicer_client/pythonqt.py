"""Slicer's `qt` and `ctk` modules over PySide6: real Qt widgets, spoken to as in PythonQt.

PythonQt makes properties attributes (`box.currentText`), takes signals as text
(`box.connect("clicked(bool)", f)`) and is lenient with numbers and truth values; PySide6 is none of this.
"""

from __future__ import annotations

import sys
import types
from unittest.mock import MagicMock

from PySide6 import QtCore, QtGui, QtWidgets


def _attribute(kind: type, name: str) -> property | None:
    """A property of a Qt class as an attribute; None where it has no reader."""
    capital = name[:1].upper() + name[1:]
    readers = [getattr(kind, reader, None) for reader in (name, f"is{capital}", f"has{capital}")]
    reader = next((reader for reader in readers if callable(reader)), None)
    writer = getattr(kind, f"set{capital}", None)
    return (
        property(lambda self: reader(self), writer and (lambda self, value: writer(self, value)))
        if reader
        else None
    )


class _PythonQt:
    """What PythonQt adds to every widget."""

    def __getattribute__(self, name: str):
        if name != "connect":  # PySide finds its own static method before any of a subclass
            return super().__getattribute__(name)
        return lambda signal, slot: getattr(self, signal.partition("(")[0]).connect(slot)

    def setEnabled(self, value) -> None:
        super().setEnabled(bool(value))

    def setVisible(self, value) -> None:
        super().setVisible(bool(value))


def _as_in_pythonqt(kind: type) -> type:
    """A subclass of a Qt class whose properties are attributes."""
    about = kind.staticMetaObject
    names = [about.property(i).name() for i in range(about.propertyCount())]
    body = {name: attribute for name in names if (attribute := _attribute(kind, name))}
    if kind is QtWidgets.QProgressBar:
        body["setValue"] = lambda self, value: QtWidgets.QProgressBar.setValue(self, int(value))
    return type(kind.__name__, (_PythonQt, kind), body)


class _SlicerOnly:
    """Slicer's own widgets and dialogs: accept everything, show nothing."""

    def __new__(cls, *args, **options):
        return MagicMock(name=cls.__name__)


def _ctk_class(name: str) -> type:
    if name.startswith("__"):
        raise AttributeError(name)
    return type(name, (_SlicerOnly,), {})


class CollapsibleButton(QtWidgets.QGroupBox):
    """Stands for ctkCollapsibleButton: a titled group whose content can be hidden."""

    def __init__(self, parent=None) -> None:
        super().__init__(parent)
        self._collapsed = False

    text = property(lambda self: self.title(), lambda self, value: self.setTitle(value))

    @property
    def collapsed(self) -> bool:
        return self._collapsed

    @collapsed.setter
    def collapsed(self, value: bool) -> None:
        self._collapsed = bool(value)
        for child in self.findChildren(
            QtWidgets.QWidget, options=QtCore.Qt.FindChildOption.FindDirectChildrenOnly
        ):
            child.setVisible(not value)

    def setEnabled(self, value) -> None:
        super().setEnabled(bool(value))

    def setVisible(self, value) -> None:
        super().setVisible(bool(value))


def install(settings: dict[str, str]) -> QtWidgets.QApplication:
    """Put `qt` and `ctk` where Slicer's modules import them from.

    Args:
        settings: what `qt.QSettings` reads and writes.

    Returns:
        The application, which has to be kept.
    """
    application = QtWidgets.QApplication.instance() or QtWidgets.QApplication([])
    qt = types.ModuleType("qt")
    for library in (QtCore, QtGui, QtWidgets):
        for name in dir(library):
            kind = getattr(library, name)
            if isinstance(kind, type) and issubclass(kind, QtWidgets.QWidget):
                kind = _as_in_pythonqt(kind)
            setattr(qt, name, kind)
    qt.QTimer = _as_in_pythonqt(QtCore.QTimer)
    qt.QApplication = QtWidgets.QApplication
    qt.QMessageBox = MagicMock()
    qt.SIGNAL = str

    class QSettings:
        def value(self, name, default=None):
            return settings.get(name, default)

        def setValue(self, name, value) -> None:
            settings[name] = value

    qt.QSettings = QSettings
    ctk = types.ModuleType("ctk")
    ctk.ctkCollapsibleButton = CollapsibleButton
    ctk.ctkSettingsPanel = type("ctkSettingsPanel", (), {})
    ctk.__getattr__ = _ctk_class
    sys.modules.update(qt=qt, ctk=ctk)
    return application


def load_ui(path: str) -> QtWidgets.QWidget:
    """The named widgets of a Qt Designer file, without its layouts: what a module reaches as `self.ui`.

    Widgets that only Slicer has take everything and show nothing.
    """
    import xml.etree.ElementTree as ElementTree

    qt = sys.modules["qt"]
    children = {}
    for element in ElementTree.parse(path).iter("widget"):
        kind, name = element.get("class"), element.get("name")
        known = {"ctkCollapsibleButton": CollapsibleButton, "ctkComboBox": qt.QComboBox}.get(kind)
        known = known or getattr(qt, kind, None)
        children[name] = known() if known else MagicMock(name=name)
        if kind == "QComboBox" and any(
            p.get("name") == "editable" and p.findtext("bool") == "true" for p in element.iter("property")
        ):
            children[name].setEditable(True)
    form = QtWidgets.QWidget()
    form.setMRMLScene, form.named = (lambda scene: None), children
    return form
