"""Verdiff: a scripted module that segments the spine with the installed program ``verdiff``."""

from __future__ import annotations

import os
from typing import Any

import ctk
import qt
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from VerdiffSegmenterLib.call import CallError, Settings, find_program
from VerdiffSegmenterLib.job import Job, lines_of

import slicer

_POLL_MS = 200
_FROM_PICTURE = "from the picture"
_LEVELS = ("L6", "L5", "L4", "L3", "L2", "L1", *(f"T{number}" for number in range(12, 0, -1)))
_PROGRAM = "Verdiff/Program"


class VerdiffSegmenter(ScriptedLoadableModule):
    """What Slicer lists."""

    def __init__(self, parent: Any) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = "Verdiff Spine Segmentation"
        parent.categories = ["Segmentation"]
        parent.dependencies = []
        parent.contributors = ["The verdiff developers"]
        parent.helpText = (
            "Vertebrae, intervertebral discs and the spinal canal of an MR scan, by the installed program verdiff in a "
            "process of its own. Research software: not a medical device, and not for diagnosis or treatment."
        )
        parent.acknowledgementText = "See docs/slicer.md in verdiff's sources."


class VerdiffSegmenterWidget(ScriptedLoadableModuleWidget):
    """The panel: a scan, a few choices, and one button that starts and cancels."""

    def setup(self) -> None:
        """Build the panel."""
        ScriptedLoadableModuleWidget.setup(self)
        self.logic = VerdiffSegmenterLogic()
        self.timer = qt.QTimer()
        self.timer.setInterval(_POLL_MS)
        self.timer.connect("timeout()", self.on_timer)
        box = ctk.ctkCollapsibleButton()
        box.text = "Segment a scan"
        self.layout.addWidget(box)
        form = qt.QFormLayout(box)
        self.scan = self._selector("vtkMRMLScalarVolumeNode", create=False)
        self.output = self._selector("vtkMRMLSegmentationNode", create=True)
        self.device = qt.QComboBox()
        self.device.editable = True
        self.device.addItems(["cpu", "cuda", "cuda:1"])
        self.budget = qt.QSpinBox()
        self.budget.maximum = 600_000
        self.budget.singleStep = 1000
        self.budget.suffix = " ms"
        self.budget.specialValueText = "as long as it takes"
        self.model = qt.QLineEdit()
        self.model.placeholderText = "spine-mr, or the path of a bundle"
        self.vertebrae = qt.QCheckBox("a segment for each vertebra and disc")
        self.vertebrae.checked = True
        self.lowest = qt.QComboBox()
        self.lowest.addItems([_FROM_PICTURE, *_LEVELS])
        self.force = qt.QCheckBox("also if the scan looks unlike those of the training")
        self.program = ctk.ctkPathLineEdit()
        self.program.currentPath = qt.QSettings().value(_PROGRAM, "")
        self.program.toolTip = "The program verdiff, or the folder of its environment; empty: the one on the PATH"
        rows = {
            "Scan": self.scan,
            "Segmentation": self.output,
            "Device": self.device,
            "Time budget": self.budget,
            "Model": self.model,
            "Vertebrae": self.vertebrae,
            "Lowest vertebra": self.lowest,
            "Force": self.force,
            "Program": self.program,
        }
        for title, widget in rows.items():
            form.addRow(title, widget)
        self.button = qt.QPushButton("Segment")
        self.button.connect("clicked()", self.on_button)
        self.bar = qt.QProgressBar()
        self.bar.hide()
        self.says = qt.QPlainTextEdit()
        self.says.readOnly = True
        for widget in (self.button, self.bar, self.says):
            form.addRow(widget)
        self.layout.addStretch(1)

    def cleanup(self) -> None:
        """End a call that still runs."""
        self.timer.stop()
        self.logic.cancel()

    def on_button(self) -> None:
        """Start, or cancel what runs; a call that has ended, and whose result nobody has taken yet, is finished."""
        if self.logic.running:
            self.logic.cancel()
            self._rest("cancelled: the scene is as it was")
            return
        if self.logic.pending:
            # It ended since the timer last looked.
            self.on_timer()
            return
        scan = self.scan.currentNode()
        if scan is None:
            self.says.plainText = "no scan is chosen\nexpected: a loaded MR volume\nto do: load one and choose it above"
            return
        qt.QSettings().setValue(_PROGRAM, self.program.currentPath)
        try:
            self.logic.start(scan, self._settings(), program=self.program.currentPath)
        except CallError as error:
            self.says.plainText = str(error)
            return
        self.says.plainText = ""
        self.button.text = "Cancel"
        self.bar.show()
        self.timer.start()

    def on_timer(self) -> None:
        """Show how far the call is; take its result when it has ended."""
        progress = self.logic.progress
        if self.logic.running:
            # Qt shows a busy bar where the maximum is 0.
            self.bar.maximum = 0 if progress.share is None else 100
            self.bar.value = round(100 * (progress.share or 0.0))
            self.bar.format = f"{progress.doing} %p%"
            return
        chosen = self.output.currentNode()
        output = chosen or slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Spine")
        try:
            report = self.logic.finish(output)
        except CallError as error:
            if chosen is None:
                slicer.mrmlScene.RemoveNode(output)
            self._rest(str(error))
            return
        self.output.setCurrentNode(output)
        output.CreateDefaultDisplayNodes()
        output.CreateClosedSurfaceRepresentation()
        self._rest("" if report is None else "\n".join(lines_of(report)))

    def _rest(self, text: str) -> None:
        self.timer.stop()
        self.bar.hide()
        self.button.text = "Segment"
        self.says.plainText = text

    def _settings(self) -> Settings:
        level = self.lowest.currentText
        return Settings(
            device=self.device.currentText.strip() or "cpu",
            budget_ms=self.budget.value or None,
            model=self.model.text.strip() or None,
            vertebrae=self.vertebrae.checked,
            lowest=None if level == _FROM_PICTURE else level,
            force=self.force.checked,
        )

    def _selector(self, kind: str, *, create: bool) -> Any:
        selector = slicer.qMRMLNodeComboBox()
        selector.nodeTypes = [kind]
        selector.addEnabled = selector.renameEnabled = selector.removeEnabled = create
        selector.noneEnabled = create
        selector.setMRMLScene(slicer.mrmlScene)
        return selector


class VerdiffSegmenterLogic(ScriptedLoadableModuleLogic):
    """One job at a time; usable from scripts: ``start``, ask ``running`` now and then, ``finish``."""

    def __init__(self) -> None:
        ScriptedLoadableModuleLogic.__init__(self)
        self._job: Job | None = None

    @property
    def running(self) -> bool:
        """Whether a call runs."""
        return self._job is not None and self._job.running

    @property
    def pending(self) -> bool:
        """Whether there is a call whose result nobody has taken yet, whether it runs or has ended."""
        return self._job is not None

    @property
    def progress(self) -> Any:
        """How far it is."""
        assert self._job is not None
        return self._job.progress

    def start(self, scan: Any, settings: Settings, *, program: str = "") -> None:
        """Start a call; see :class:`VerdiffSegmenterLib.job.Job`. One that nobody has taken the result of goes."""
        # Else its folder would stay, with the patient's scan in it.
        self.cancel()
        environment = self._environment()
        self._job = Job(find_program(program, environment), scan, settings, environment)

    def finish(self, segmentation: Any) -> dict[str, Any] | None:
        """Take the result of the call that has ended."""
        assert self._job is not None
        job, self._job = self._job, None
        return job.finish(segmentation)

    def cancel(self) -> None:
        """End the call, if one runs."""
        if self._job is not None:
            self._job.cancel()
            self._job = None

    @staticmethod
    def _environment() -> dict[str, str]:
        """The environment that Slicer was started from, without what its launcher added."""
        return dict(getattr(slicer.util, "startupEnvironment", lambda: os.environ)())


class VerdiffSegmenterTest(ScriptedLoadableModuleTest):
    """What Slicer's own test runner runs: an installed verdiff runs, and says why it takes no scan of zeros."""

    def runTest(self) -> None:
        """Hand a small scan of zeros to a process."""
        import vtk

        slicer.mrmlScene.Clear()
        scan = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty")
        image = vtk.vtkImageData()
        image.SetDimensions(64, 64, 3)
        image.AllocateScalars(vtk.VTK_SHORT, 1)
        image.GetPointData().GetScalars().Fill(0)
        scan.SetAndObserveImageData(image)
        logic = VerdiffSegmenterLogic()
        logic.start(scan, Settings(vertebrae=False, force=True, budget_ms=None))
        while logic.running:
            slicer.app.processEvents()
        output = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
        with self.assertRaises(CallError) as refused:
            logic.finish(output)
        self.delayDisplay(f"verdiff said: {refused.exception}")
        self.assertIn("constant", str(refused.exception))
