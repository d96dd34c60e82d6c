"""What ``verdiff infer`` prints: what was found, how it was read, where it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from verdiff.anatomy import AnatomyFiles, Spine
    from verdiff.batch.written import WrittenScan
    from verdiff.imaging import Volume
    from verdiff.runtime import Segmentation
    from verdiff.runtime.writing import OutputFiles

NOT_CALIBRATED = "no no-go surfaces: the model is not calibrated ('verdiff calibrate')"


def written_lines(written: WrittenScan) -> list[str]:
    """Everything that is said of a scan whose files are in their places, but what comes last."""
    lines = summary(written.result, written.read.files)
    lines += [f"wrote {path}" for path in ({} if written.read.objects is None else written.read.objects.named).values()]
    if written.read.files.page is not None:
        lines += page_lines()
    if written.spine is not None and written.spine_files is not None:
        lines += spine_lines(written.spine, written.spine_files)
        if written.read.asked.anatomy.mesh:
            lines += [NOT_CALIBRATED] if written.no_go is None else written.no_go.lines()
    return lines


def page_lines() -> list[str]:
    """What has to be said of a page that has a still picture alone."""
    from verdiff.page.frame import NO_VIEWER, has_viewer

    return [] if has_viewer() else [f"note: the page shows a still picture: {NO_VIEWER}"]


def summary(result: Segmentation, files: OutputFiles) -> list[str]:
    """The lines that say what was found, how long it took and where it is."""
    model, backend = result.provenance["model"], result.provenance["backend"]
    reached, timings = result.provenance["reached"], result.timings
    effort = f"{reached['steps'][1]} steps x {reached['samples'][1]} samples"
    if not reached["samples"][1]:
        effort = "prior only" if model["diffusion"] else "one pass"
    computed = result.provenance["computed"]
    if result.provenance["sampling"]["policy"] != "whole":
        effort += f", policy {result.provenance['sampling']['policy']}"
        effort += f" ({computed['share']:.0%} of the pixels)" if computed["window"] else ""
    lines = [
        f"{model['id']} {model['version']} on {backend['name']} ({backend['device']}, {backend['precision']}): {effort}"
    ]
    if "untrained" in model:
        lines.append(f"untrained model ({model['untrained']}): its mask means nothing")
    lines += chosen_lines(result.provenance.get("chosen", {}))
    if "sampling_would_take_ms" in computed:
        needed = computed["sampling_would_take_ms"]
        more = "" if needed is None else f": with sampling it takes about {needed:.0f} ms"
        lines.append(f"the budget left time for the prior alone{more}")
    if result.outcome in ("budget", "cancelled"):
        lines.append(
            f"stopped by {result.outcome}: {reached['slices_refined']} of {reached['slices']} slices refined, "
            "the others have the prior's answer"
        )
    if computed["window_outgrown"]:
        kept = "the window was kept for want of time" if computed["window"] else "whole slices were computed after all"
        lines.append(f"a structure reached the border of the window: {kept}")
    if result.empty:
        lines.append("empty mask: no structure was found")
    else:
        lines += [
            f"  {name:<12} {volume:9.2f} ml{cut_mark(result.cut_sides.get(name, ()))}"
            for name, volume in result.volumes_ml().items()
        ]
    stages = ["read", "load", "normalise", "locate", "resample", "prior", "noise", "loop", "fuse", "restore"]
    stages += ["anatomy", "margins", "page", "write"]
    lines.append("seconds: " + ", ".join(f"{name} {timings[name]:.2f}" for name in stages if name in timings))
    lines += [f"warning: {each['text']} ({each['name']})" for each in result.provenance["warnings"]]
    lines += [
        f"wrote {path}" for path in (files.mask, files.report, files.uncertainty, files.preview, files.page) if path
    ]
    return lines


def chosen_lines(chosen: Mapping[str, Any]) -> list[str]:
    """What ``--precision auto`` took and why, and why not the others; nothing for a precision that was named."""
    if not chosen:
        return []
    left_out = [each for each in chosen["candidates"] if "refused" in each]
    return [
        f"precision auto: {chosen['because']} (choosing took {chosen['seconds']:.1f} s)",
        *(f"  not {each['precision']} on {each['backend']}: {each['refused']}" for each in left_out),
    ]


def last_lines(result: Segmentation) -> list[str]:
    """What a reader must not miss, printed last: how the scan was read where it left that open, what was forced."""
    lines = [f"note: {note}" for note in result.provenance["scan"]["notes"]]
    if result.provenance["forced"]:
        lines.append(f"forced past: {'; '.join(result.provenance['forced'])}")
    return lines


def spine_lines(spine: Spine, files: AnatomyFiles) -> list[str]:
    """The lines that say which vertebrae were found, how they are called and where the files are."""
    hint = "" if spine.named_by is not None else " (--lowest L5 says that the lowest is L5)"
    lines = [f"{len(spine.vertebrae)} vertebrae from the lowest up, {spine.says_levels}{hint}"]
    for vertebra in spine.vertebrae:
        parts = [f"height {vertebra.height_mm:.0f} mm"]
        if vertebra.volume_ml is not None:
            parts.insert(0, f"{vertebra.volume_ml:.2f} ml{cut_mark(vertebra.cut_sides)}")
        if vertebra.confidence is not None:
            parts.append(f"confidence {vertebra.confidence:.2f}")
        lines.append(f"  {vertebra.name:<12} {', '.join(parts)}{'' if vertebra.complete else ', cut off'}")
    lines += [f"note: {remark}" for remark in spine.remarks]
    lines += [f"wrote {path}" for path in files.named.values()]
    return lines


def cut_mark(sides: Sequence[str]) -> str:
    """What follows a volume that the field of view cuts: the sides that cut it."""
    return f" within the field of view, which cuts it ({', '.join(sides)})" if sides else ""


def dice_lines(result: Segmentation, volume: Volume, truth: Volume) -> list[str]:
    """Dice of every structure of the model against the reference mask."""
    from verdiff.evaluate import score_case

    x, y, z = volume.geometry.spacing_mm
    ids = {label.name: label.id for label in result.label_table}
    scores = score_case(result.labels, truth.array, spacing_mm=(z, y, x), label_ids=ids, distances=False)
    return ["Dice: " + ", ".join(f"{name} {score.dice:.4f}" for name, score in scores.items())]
