"""A reader at the panel of radclear's own Slicer module: presses, waits, and tells what the panel shows."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import application
import numpy as np
import vtk

LONGEST_S = 300


class Session:
    """The module's widget and what a reader does with it."""

    def __init__(self, app: application.Application, server: str, output: Path) -> None:
        import qt
        import Radclear

        self.app, self.output = app, output
        self.window = qt.QWidget()
        self.window.resize(460, 1000)
        self.widget = Radclear.RadclearWidget(self.window)
        self.widget.setup()
        self.form = self.widget.form
        self.form.address.setText(server)
        self.form.reader.setText("Dr. Test")
        self.said: list[str] = []

    def wait(self) -> int:
        """Until nothing is being done; how often the window could draw itself meanwhile."""
        end, turns = time.monotonic() + LONGEST_S, 0
        while not self.form.waiting.isHidden() and time.monotonic() < end:
            self.app.qt.processEvents()
            text = self.form.message.text.partition(" …")[0]
            if text not in self.said[-1:]:
                self.said.append(text)
            time.sleep(0.02)
            turns += 1
        return turns

    def pause(self, seconds: float = 0.6) -> None:
        """The reader does nothing for a moment; the window lives."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.app.qt.processEvents()
            time.sleep(0.02)

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Until something holds that is not done here; the window lives."""
        end = time.monotonic() + LONGEST_S
        while not condition():
            assert time.monotonic() < end
            self.pause(0.1)

    def choose(self, start: str) -> None:
        """A study of the list by the beginning of its line."""
        texts = [self.form.study.itemText(i) for i in range(self.form.study.count)]
        self.form.study.setCurrentIndex(next(i for i, text in enumerate(texts) if text.startswith(start)))

    def choose_volume(self, volume) -> None:
        """A volume of the scene, which may have the name of another."""
        row = self.form.study.findData(f"scene:{volume.GetID()}")
        assert row >= 0, "the volume is not listed"
        self.form.study.setCurrentIndex(row)

    def ask(self) -> dict:
        """Press the button, wait, and tell what the panel shows then."""
        self.said.clear()
        self.form.askButton.click()
        turns = self.wait()
        return {"turns": turns, "said": list(self.said), **self.shown()}

    def shown(self) -> dict:
        """What the panel and the views show now."""
        panel = self.widget.shown.panel
        return {
            "message": self.form.message.text,
            "about": "" if panel.about.isHidden() else panel.about.text,
            "answers": not panel.box.isHidden(),
            "tabs": [self.tab(number) for number in range(len(self.widget.shown.tabs))],
            "points": self.app.points(),
        }

    def tab(self, number: int) -> dict:
        """What a tab shows."""
        tab = self.widget.shown.tabs[number]
        table = tab.classes
        return {
            "title": self.widget.shown.panel.box.tabText(number),
            "banners": [banner.text for banner in tab.banners],
            "verdict": tab.verdictLine.text,
            "meaning": tab.meaning.text,
            "classes": [[table.item(row, c).text() for c in range(3)] for row in range(table.rowCount)],
            "keys": [tab.keys.item(row).text() for row in range(tab.keys.count)],
            "choices": list(tab.right),
        }

    def offsets(self) -> dict[str, float]:
        """Where the slice views are, in millimetres."""
        return {name: view.get_slice_value() for name, view in self.app.views.items()}

    def jumps(self, name: str) -> list[dict]:
        """Pick each key slice of the first tab; where the views are then, and what they show."""
        assert self.widget.shown.tabs, self.form.message.text  # what the panel says where there is no answer
        tab, found = self.widget.shown.tabs[0], []
        for row, key in enumerate(tab.answer.key_slices):
            tab.keys.setCurrentRow(row)
            file = f"{name}-{row}.png"
            self.app.picture("Red", self.output / file)
            found.append(
                {
                    "index": key.index,
                    "offsets": self.offsets(),
                    "file": file,
                    "to_ras": self.app.view_matrix("Red"),
                    "thumbnail": self.thumbnail(f"{tab.answer.task}-{key.rank}.png"),
                }
            )
        return found

    def thumbnail(self, name: str) -> list[list[int]]:
        """The pixels of a thumbnail's file."""
        from PIL import Image

        files = Path(self.widget.logic.folder).rglob(name)
        newest = max(files, key=lambda file: file.stat().st_mtime_ns)
        return np.asarray(Image.open(newest)).tolist()

    def chart(self) -> dict:
        """Show the chart of the first tab, and click a point of it as the plot view reports it."""
        tab = self.widget.shown.tabs[0]
        tab.plotButton.click()
        plot = self.widget.logic.plots[tab.answer.task]
        selection = self.app.core.app_logic.GetSelectionNode()
        table = plot.tables[0].GetTable()
        rows = [[table.GetValue(row, c).ToDouble() for c in (0, 1)] for row in range(table.GetNumberOfRows())]
        clicks = []
        for series, row in ((0, 2), (1, 0)):
            self.click_point(plot.series[series].GetID(), row)
            clicks.append({"series": series, "row": row, "offsets": self.offsets()})
        keys = plot.tables[1].GetTable()
        return {
            "shown": selection.GetActivePlotChartID() == plot.chart.GetID(),
            "title": plot.chart.GetTitle(),
            "series": [plot.chart.GetNthPlotSeriesNode(i).GetName() for i in range(2)],
            "rows": rows,
            "keys": [int(keys.GetValue(row, 0).ToDouble()) for row in range(keys.GetNumberOfRows())],
            "clicks": clicks,
        }

    def click_point(self, series_id: str, row: int) -> None:
        """What qMRMLPlotView tells of a click: the series' id and the row in its table."""
        ids, rows, collection = vtk.vtkStringArray(), vtk.vtkIdTypeArray(), vtk.vtkCollection()
        ids.InsertNextValue(series_id)
        rows.InsertNextValue(row)
        collection.AddItem(rows)
        self.widget.shown.on_point(ids, collection)

    def verdict(
        self, number: int, choice: str, *, right=(), comment: str = "", reader: str = "Dr. Test"
    ) -> str:
        """Give a verdict in a tab; what the panel says then."""
        tab = self.widget.shown.tabs[number]
        self.form.reader.setText(reader)
        if choice:
            tab.choices[choice].setChecked(True)
        for name, box in tab.right.items():
            box.setChecked(name in right)
        tab.comment.setText(comment)
        tab.sendButton.click()
        self.wait()
        return tab.sent.text

    def grab(self, name: str) -> None:
        """A picture of the panel."""
        self.window.show()
        self.window.resize(460, self.window.sizeHint.height())
        self.app.qt.processEvents()
        self.window.grab().save(str(self.output / name))
