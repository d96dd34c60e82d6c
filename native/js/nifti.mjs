// NIfTI-1 volumes in and masks out, with nifti-reader-js.
import * as nifti from 'nifti-reader-js'

const ARRAYS = { 2: Uint8Array, 4: Int16Array, 8: Int32Array, 16: Float32Array, 64: Float64Array, 256: Int8Array, 512: Uint16Array }
const HEADER = 352

// Python's bounds (verdiff/imaging): what float32 may round off a pitch, off a quaternion and off a place, and how far axes
// may be from right angles.
const [SPACING, TURN, PLACE_MM, SHEAR] = [1e-3, 1e-3, 0.01, 3.2e-4]
const UNITS_MM = { 1: 1000, 3: 1e-3 }

const lengthOf = (values) => Math.hypot(...values)
const rounded = (values) => `[${values.map((value) => Number(value.toFixed(4))).join(', ')}]`

/** Where a file's voxels begin; writers that leave the offset 0 mean the first byte there can be. */
function startOf(offset, held, length) {
  if (offset === 0) return held === 348 + length ? 348 : HEADER
  if (!(offset >= 348 && offset <= held && Number.isInteger(offset)))
    throw new Error(`a file whose voxels begin at byte ${offset} (vox_offset), which is no place in it behind its header`)
  return offset
}

/** The qform of nifti1.h as three axes and a place, in mm and in NIfTI's own world. */
function qformOf(float, pitches, unit) {
  let [b, c, d] = [256, 260, 264].map(float)
  let square = b * b + c * c + d * d
  if (square > 1) {
    const length = square > 1 + TURN ? NaN : Math.sqrt(square)
    ;[b, c, d, square] = [b / length, c / length, d / length, 1]
  }
  const a = Math.sqrt(1 - square)
  // The first pixdim is -1 where the third axis runs the other way.
  const across = float(76) < 0 ? -1 : 1
  const columns = [
    [a * a + b * b - c * c - d * d, 2 * (b * c + a * d), 2 * (b * d - a * c)],
    [2 * (b * c - a * d), a * a + c * c - b * b - d * d, 2 * (c * d + a * b)],
    [2 * (b * d + a * c), 2 * (c * d - a * b), a * a + d * d - c * c - b * b].map((value) => value * across),
  ]
  const axes = columns.map((column, axis) => column.map((value) => value * pitches[axis]))
  return { axes, place: [268, 272, 276].map((at) => float(at) * unit) }
}

/** The sform likewise. nifti-reader-js's own matrix is the qform's where that has the higher code. */
function sformOf(float, unit) {
  const column = (axis) => [280, 296, 312].map((row) => float(row + 4 * axis) * unit)
  return { axes: [0, 1, 2].map(column), place: column(3) }
}

function checkForm({ axes, place }, pitches) {
  if (![...axes.flat(), ...place].every(Number.isFinite)) throw new Error('a file whose orientation has values that are no numbers')
  const lengths = axes.map(lengthOf)
  if (Math.min(...lengths) <= 0) throw new Error('a file whose orientation has an axis of no length')
  const cosine = (i, j) => Math.abs(axes[i].reduce((sum, value, row) => sum + value * axes[j][row], 0)) / lengths[i] / lengths[j]
  if (Math.max(cosine(0, 1), cosine(0, 2), cosine(1, 2)) > SHEAR)
    throw new Error('a file whose orientation is sheared: its axes are not at right angles')
  if (lengths.some((length, axis) => Math.abs(length / pitches[axis] - 1) > SPACING))
    throw new Error(`a file that states two spacings: pixdim ${rounded(pitches)} and its axes' lengths ${rounded(lengths)} mm`)
}

/** Whether two forms place every corner of the grid alike, but for rounding. */
function agree(one, other, size) {
  const corner = ({ axes, place }, steps) => place.map((value, row) => value + steps.reduce((sum, step, axis) => sum + step * axes[axis][row], 0))
  const from = (here, there) => lengthOf(here.map((value, row) => value - there[row]))
  const allowed = Math.max(PLACE_MM, 0.01 * Math.min(...other.axes.map(lengthOf)))
  return [0, 1, 2, 3, 4, 5, 6, 7].every((bits) => {
    const steps = size.map((n, axis) => ((bits >> axis) & 1) * (n - 1))
    const there = corner(other, steps)
    return from(corner(one, steps), there) <= allowed + TURN * from(there, other.place)
  })
}

/** A file's bytes as a volume of the contract, with the header that a mask of it will carry. */
export function readVolume(file) {
  if (file.byteLength < 2) throw new Error('an empty file')
  const bytes = nifti.isCompressed(file) ? nifti.decompress(file) : file
  if (!nifti.isNIFTI1(bytes)) throw new Error('not a NIfTI-1 file')
  const header = nifti.readHeader(bytes)
  const size = header.dims.slice(1, 4)
  const Stored = ARRAYS[header.datatypeCode]
  if (!Stored || !header.littleEndian || header.dims[0] > 3) throw new Error('not a volume of a type that this reads')
  const view = new DataView(bytes)
  const float = (at) => view.getFloat32(at, true)
  const [qcode, scode] = [252, 254].map((at) => view.getInt16(at, true))
  if (qcode < 1 && scode < 1) throw new Error('a file that states no orientation')
  const unit = UNITS_MM[view.getUint8(123) & 7] ?? 1
  const spacingMm = [80, 84, 88].map((at) => float(at) * unit)
  if (!spacingMm.every((pitch) => pitch > 0 && Number.isFinite(pitch)))
    throw new Error(`a file that states a voxel spacing of ${spacingMm.join(' x ')} mm (pixdim); expected: positive numbers`)
  const forms = [scode > 0 && sformOf(float, unit), qcode > 0 && qformOf(float, spacingMm, unit)].filter(Boolean)
  checkForm(forms[0], spacingMm)
  if (forms.length > 1 && !agree(forms[1], forms[0], size)) throw new Error('a file that states two orientations')

  const count = size[0] * size[1] * size[2]
  const length = count * Stored.BYTES_PER_ELEMENT
  const start = startOf(float(108), bytes.byteLength, length)
  if (bytes.byteLength < start + length) throw new Error('a file that ends before its last voxel')
  const voxels = Float32Array.from(new Stored(bytes.slice(start, start + length)))
  const [slope, shift] = [112, 116].map(float)
  // NaN is how some writers leave the scaling out.
  if (Number.isFinite(slope) && slope !== 0) {
    const added = Number.isFinite(shift) ? shift : 0
    if (slope !== 1 || added !== 0) voxels.forEach((value, i) => (voxels[i] = Math.fround(value * slope) + added))
  }
  // NIfTI's world is right, anterior, superior; the contract's is left, posterior, superior.
  const { axes } = forms[0]
  const direction = [-1, -1, 1].flatMap((sign, row) => axes.map((column) => (sign * column[row]) / lengthOf(column)))
  return { size, spacingMm, direction, voxels, header: new Uint8Array(bytes.slice(0, HEADER)) }
}

/** The mask of a volume as the bytes of an uncompressed NIfTI-1 file in the volume's own grid. */
export function maskFile({ header }, mask) {
  const file = new Uint8Array(HEADER + mask.length)
  file.set(header)
  file.set(mask, HEADER)
  const view = new DataView(file.buffer)
  view.setInt16(70, nifti.NIFTI1.TYPE_UINT8, true)
  view.setInt16(72, 8, true)
  // vox_offset, scl_slope, scl_inter; cal_max, cal_min; no extension.
  for (const [at, value] of [[108, HEADER], [112, 0], [116, 0], [124, 0], [128, 0]]) view.setFloat32(at, value, true)
  file.fill(0, 348, HEADER)
  return file
}
