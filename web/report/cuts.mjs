// Where surfaces pass through the slices on the screen: lines, drawn over the slices.
import { SLICE_TYPE } from '@niivue/niivue'

// Of a point in the patient: what is across, what is up, what goes into the screen.
const AXES = { [SLICE_TYPE.AXIAL]: [0, 1, 2], [SLICE_TYPE.CORONAL]: [0, 2, 1], [SLICE_TYPE.SAGITTAL]: [1, 2, 0] }
const [HALO, LINE] = ['rgb(0 0 0 / 55%)', 1.6]

/** Millimetres of the patient as those that the slices are laid out in, [3n] to [3n]. */
function laidOut(viewer, points) {
  const at = (mm) => viewer.frac2mm(viewer.mm2frac(mm, 0, true))
  const origin = at([0, 0, 0])
  const [x, y, z] = [at([1, 0, 0]), at([0, 1, 0]), at([0, 0, 1])].map((end) => [0, 1, 2].map((axis) => end[axis] - origin[axis]))
  const found = new Float32Array(points.length)
  for (let i = 0; i < points.length; i += 3)
    for (let axis = 0; axis < 3; axis++)
      found[i + axis] = origin[axis] + points[i] * x[axis] + points[i + 1] * y[axis] + points[i + 2] * z[axis]
  return found
}

/** The line in which a surface passes through one of the slices, added to the drawing's path. */
function trace(pen, { points, corners }, { axCorSag, AxyzMxy: plane, leftTopMM, fovMM }, [left, top, width, height]) {
  const [across, up, into] = AXES[axCorSag]
  const depths = new Float32Array(points.length / 3)
  for (let i = 0; i < depths.length; i++) {
    const slope = plane[4] * (points[3 * i + up] - plane[1]) - plane[3] * (points[3 * i + across] - plane[0])
    // A vertex in the slice itself counts as behind it.
    depths[i] = points[3 * i + into] - plane[2] - slope || 1e-6
  }
  const end = (one, other) => {
    const part = depths[one] / (depths[one] - depths[other])
    const place = (axis, first) => (points[3 * one + axis] * (1 - part) + points[3 * other + axis] * part - leftTopMM[first]) / fovMM[first]
    return [left + place(across, 0) * width, top + (1 - place(up, 1)) * height]
  }
  for (let i = 0; i < corners.length; i += 3) {
    const [a, b, c] = [corners[i], corners[i + 1], corners[i + 2]]
    const [behindA, behindB, behindC] = [depths[a] > 0, depths[b] > 0, depths[c] > 0]
    if (behindA === behindB && behindB === behindC) continue
    const alone = behindA === behindB ? c : behindA === behindC ? b : a
    const others = [a, b, c].filter((corner) => corner !== alone)
    pen.moveTo(...end(alone, others[0]))
    pen.lineTo(...end(alone, others[1]))
  }
}

/** What draws the lines of the surfaces that are shown; to be called after each drawing of the slices. */
export function cutting(viewer, canvas, shown) {
  const placed = new Map()
  const placedOf = (surface) => {
    if (!placed.has(surface)) placed.set(surface, { ...surface, points: laidOut(viewer, surface.points) })
    return placed.get(surface)
  }
  return () => {
    canvas.width = viewer.canvas.width
    canvas.height = viewer.canvas.height
    const pen = canvas.getContext('2d')
    const scale = viewer.canvas.width / viewer.canvas.clientWidth
    for (const slice of viewer.screenSlices) {
      if (!(slice.axCorSag in AXES) || slice.AxyzMxy.length < 5) continue
      // Of a slice that is mirrored the left is at the right, and the width negative.
      const [left, top, width, height] = slice.leftTopWidthHeight
      pen.save()
      pen.beginPath()
      pen.rect(Math.min(left, left + width), top, Math.abs(width), height)
      pen.clip()
      for (const surface of shown()) {
        pen.beginPath()
        trace(pen, placedOf(surface), slice, [left, top, width, height])
        for (const [style, wide] of [[HALO, LINE + 2], [surface.line, LINE]]) {
          pen.strokeStyle = style
          pen.lineWidth = wide * scale
          pen.stroke()
        }
      }
      pen.restore()
    }
  }
}
