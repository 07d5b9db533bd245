"""Attention along the study as Slicer's table, plot series and chart nodes."""

from __future__ import annotations

import slicer
import vtk

from .answer import Answer

SLICE, ATTENTION = "slice", "attention"


class AttentionPlot:
    """The chart of one answer: a line over all slices, and a mark on each key slice."""

    def __init__(self, scene, answer: Answer) -> None:
        """
        Args:
            scene: where the nodes go.
            answer: whose attention it is.
        """
        self.scene = scene
        name = f"{answer.title}: attention"
        numbers = list(range(1, len(answer.attention) + 1))
        keys = sorted(answer.key_slices, key=lambda key: key.number)
        self.tables = [
            _table(scene, f"{name} (all slices)", numbers, answer.attention),
            _table(scene, f"{name} (key slices)", [k.number for k in keys], [k.attention for k in keys]),
        ]
        line, marks = (_series(scene, table) for table in self.tables)
        line.SetName("attention")
        line.SetMarkerStyle(slicer.vtkMRMLPlotSeriesNode.MarkerStyleCircle)
        line.SetMarkerSize(4)
        line.SetColor(0.35, 0.65, 1.0)
        marks.SetName("key slices")
        marks.SetLineStyle(slicer.vtkMRMLPlotSeriesNode.LineStyleNone)
        marks.SetMarkerStyle(slicer.vtkMRMLPlotSeriesNode.MarkerStyleDiamond)
        marks.SetMarkerSize(14)
        marks.SetColor(1.0, 0.78, 0.2)
        self.series = [line, marks]
        self.chart = scene.AddNewNodeByClass("vtkMRMLPlotChartNode", name)
        self.chart.SetTitle(name)
        self.chart.SetXAxisTitle("slice, 1 at the feet")
        self.chart.SetYAxisTitle("share of attention")
        for series in self.series:
            self.chart.AddAndObservePlotSeriesNodeID(series.GetID())
        for node in (self.chart, *self.series, *self.tables):
            node.SetSaveWithScene(False)  # see `mark_key_slices`

    def selected_slice(self, series_ids, selections) -> int | None:
        """The slice that was clicked in a plot view.

        Args:
            series_ids: `vtkStringArray` of series nodes' ids, as the view's signal `dataSelected` gives.
            selections: `vtkCollection` of the selected rows of each.

        Returns:
            Its index from 0; None where the click was into another chart or into nothing.
        """
        for position in range(series_ids.GetNumberOfValues()):
            rows = selections.GetItemAsObject(position)
            for number, series in enumerate(self.series):
                if series.GetID() == series_ids.GetValue(position) and rows and rows.GetNumberOfValues():
                    column = self.tables[number].GetTable().GetColumnByName(SLICE)
                    return int(column.GetValue(rows.GetValue(0))) - 1
        return None

    def remove(self) -> None:
        """Take the nodes out of the scene."""
        for node in (self.chart, *self.series, *self.tables):
            if self.scene.IsNodePresent(node):
                self.scene.RemoveNode(node)


def _table(scene, name: str, numbers, values):
    node = scene.AddNewNodeByClass("vtkMRMLTableNode", name)
    slices, attention = vtk.vtkIntArray(), vtk.vtkDoubleArray()
    slices.SetName(SLICE)
    attention.SetName(ATTENTION)
    for number in numbers:
        slices.InsertNextValue(int(number))
    for value in values:
        attention.InsertNextValue(float(value))
    node.AddColumn(slices)
    node.AddColumn(attention)
    return node


def _series(scene, table):
    node = scene.AddNewNodeByClass("vtkMRMLPlotSeriesNode")
    node.SetAndObserveTableNodeID(table.GetID())
    node.SetPlotType(slicer.vtkMRMLPlotSeriesNode.PlotTypeScatter)
    node.SetXColumnName(SLICE)
    node.SetYColumnName(ATTENTION)
    return node
