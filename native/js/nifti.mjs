// NIfTI-1 volumes in and masks out, with nifti-reader-js.
import * as nifti from 'nifti-reader-js'

const ARRAYS = { 2: Uint8Array, 4: Int16Array, 8: Int32Array, 16: Float32Array, 64: Float64Array, 256: Int8Array, 512: Uint16Array }
const HEADER = 352

/** A file's bytes as a volume of the contract, with the header that a mask of it will carry. */
export function readVolume(file) {
  if (file.byteLength < 2) throw new Error('an empty file')
  const bytes = nifti.isCompressed(file) ? nifti.decompress(file) : file
  if (!nifti.isNIFTI1(bytes)) throw new Error('not a NIfTI-1 file')
  const header = nifti.readHeader(bytes)
  const size = header.dims.slice(1, 4)
  const Stored = ARRAYS[header.datatypeCode]
  if (!Stored || !header.littleEndian || header.dims[0] > 3) throw new Error('not a volume of a type that this reads')
  if (header.qform_code < 1 && header.sform_code < 1) throw new Error('a file that states no orientation')
  const [image, count] = [nifti.readImage(header, bytes), size[0] * size[1] * size[2]]
  if (image.byteLength < count * Stored.BYTES_PER_ELEMENT) throw new Error('a file that ends before its last voxel')
  const voxels = Float32Array.from(new Stored(image, 0, count))
  const [slope, shift] = [header.scl_slope, header.scl_inter].map(Math.fround)
  if (slope !== 0 && (slope !== 1 || shift !== 0)) voxels.forEach((value, i) => (voxels[i] = Math.fround(value * slope) + shift))
  const spacingMm = header.pixDims.slice(1, 4).map(Math.abs)
  // NIfTI's world is right, anterior, superior; the contract's is left, posterior, superior.
  const toRas = header.sform_code > 0 ? header.affine : header.getQformMat()
  const other = header.qform_code > 0 ? header.getQformMat() : toRas
  const apart = spacingMm.map((pitch, axis) => Math.max(...[0, 1, 2].map((row) => Math.abs(other[row][axis] - toRas[row][axis]) / pitch)))
  if (!(Math.max(...apart) < 0.01)) throw new Error('a file that states two orientations')
  const direction = [-1, -1, 1].flatMap((sign, row) => spacingMm.map((pitch, axis) => (sign * toRas[row][axis]) / pitch))
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
