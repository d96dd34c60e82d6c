// A host for verdiff's models in JavaScript: docs/contract.md, version 2, for Node and for browsers.
//
//     const bundle = await openBundle(bytes)                                        // checked, hash by hash
//     const session = await ort.InferenceSession.create(bundle.read(PIPELINE))
//     const engine = engineOf(ort, session)
//     await requireGolden(bundle, engine)                                           // before the first patient
//     const labels = await segment(bundle, engine, volume)                          // in the volume's own voxels
//
// A volume: size [x, y, z], spacingMm [x, y, z], voxels with x running fastest, and nine direction cosines, row major:
// columns are the voxel axes, rows are the patient's left, posterior and superior.
//
// `ort` is onnxruntime-node or onnxruntime-web; nothing else is needed.

export const PIPELINE = 'graphs/pipeline.fp32.onnx'

/** The entries of a zip that stores its files as they are, as bundles and their goldens are written. */
function storedFiles(zip) {
  const view = new DataView(zip.buffer, zip.byteOffset, zip.byteLength)
  const files = new Map()
  let end = zip.length - 22
  while (end >= 0 && view.getUint32(end, true) !== 0x06054b50) end--
  if (end < 0) throw new Error('not a zip: no directory at its end')
  let at = view.getUint32(end + 16, true)
  for (let left = view.getUint16(end + 10, true); left > 0; left--) {
    const [name, extra, note] = [28, 30, 32].map((offset) => view.getUint16(at + offset, true))
    const [length, local] = [24, 42].map((offset) => view.getUint32(at + offset, true))
    if (view.getUint16(at + 10, true) !== 0) throw new Error('a compressed entry; bundles are stored as they are')
    const start = local + 30 + view.getUint16(local + 26, true) + view.getUint16(local + 28, true)
    if (start + length > zip.length) throw new Error('the zip is cut short')
    files.set(new TextDecoder().decode(zip.subarray(at + 46, at + 46 + name)), zip.subarray(start, start + length))
    at += 46 + name + extra + note
  }
  return files
}

async function sha256(bytes) {
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes))
  return [...digest].map((byte) => byte.toString(16).padStart(2, '0')).join('')
}

/** A bundle whose files are those of its manifest, every one compared by its SHA-256. */
export async function openBundle(bytes) {
  const files = storedFiles(bytes)
  if (!files.has('manifest.json')) throw new Error('no file manifest.json in the bundle')
  const manifest = JSON.parse(new TextDecoder().decode(files.get('manifest.json')))
  if (manifest.schema_version !== 1) throw new Error('a bundle of a schema that this host does not know')
  for (const [name, hash] of Object.entries(manifest.files)) {
    if (!files.has(name) || (await sha256(files.get(name))) !== hash) throw new Error(`damaged or missing: ${name}`)
  }
  if (Object.keys(manifest.files).length + 1 !== files.size) throw new Error('files that the manifest does not list')
  return { manifest, read: (name) => files.get(name) }
}

/** Standard normal numbers of one slice and sample: Philox4x32-10 and Box-Muller, in float64, rounded to float32. */
export function noiseOf(seed, slice, sample, out) {
  const keys = [Number(BigInt(seed) & 0xffffffffn), Number(BigInt(seed) >> 32n)]
  const high = (a, b) => {
    const [al, ah, bl, bh] = [a & 0xffff, a >>> 16, b & 0xffff, b >>> 16]
    const middle = ah * bl + Math.floor((al * bl) / 65536)
    return (ah * bh + Math.floor(middle / 65536) + Math.floor(((middle % 65536) + al * bh) / 65536)) >>> 0
  }
  for (let block = 0; 4 * block < out.length; block++) {
    let word = [block, slice, sample, 0]
    let [first, second] = keys
    for (let round = 0; round < 10; round++) {
      word = [
        (high(0xcd9e8d57, word[2]) ^ word[1] ^ first) >>> 0,
        Math.imul(0xcd9e8d57, word[2]) >>> 0,
        (high(0xd2511f53, word[0]) ^ word[3] ^ second) >>> 0,
        Math.imul(0xd2511f53, word[0]) >>> 0,
      ]
      first = (first + 0x9e3779b9) >>> 0
      second = (second + 0xbb67ae85) >>> 0
    }
    for (let pair = 0; pair < 4; pair += 2) {
      const radius = Math.sqrt(-2 * Math.log((word[pair] + 0.5) * 2 ** -32))
      const angle = 6.283185307179586 * ((word[pair + 1] + 0.5) * 2 ** -32)
      // What lies past the end of a typed array is dropped.
      out[4 * block + pair] = radius * Math.cos(angle)
      out[4 * block + pair + 1] = radius * Math.sin(angle)
    }
  }
}

// The patient's axis (0 left, 1 posterior, 2 superior) and its sign for slices, rows and columns.
const VIEWS = {
  sagittal: [[0, 1], [2, -1], [1, 1]],
  coronal: [[1, 1], [2, -1], [0, 1]],
  axial: [[2, 1], [1, 1], [0, 1]],
}
const ORDERS = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]]

/** The box of the voxels brighter than the darkest, without the margins around it: [first, last + 1] of x, y and z. */
export function pictureOf({ size: [X, Y, Z], voxels }) {
  const least = voxels.reduce((found, value) => (Number.isFinite(value) && value < found ? value : found), Infinity)
  const box = [[X, 0], [Y, 0], [Z, 0]]
  let voxel = 0
  for (let z = 0; z < Z; z++)
    for (let y = 0; y < Y; y++)
      for (let x = 0; x < X; x++) {
        const value = voxels[voxel++]
        if (!(value > least && value < Infinity)) continue
        for (const [axis, at] of [x, y, z].entries()) {
          if (at < box[axis][0]) box[axis][0] = at
          if (at >= box[axis][1]) box[axis][1] = at + 1
        }
      }
  return box[0][1] > 0 ? box : [[0, X], [0, Y], [0, Z]]
}

/** How a box of a volume is walked in a view: voxel = start + slice step[0] + row step[1] + column step[2]. */
export function walk({ size, spacingMm, direction }, view, box) {
  if (!(view in VIEWS)) throw new Error(`this host takes volumes, and the model the view ${view}`)
  // For each of the patient's axes the voxel axis nearest to it: the assignment with the largest sum of cosines.
  const fit = (axes) => Math.round(1e6 * axes.reduce((sum, axis, world) => sum + Math.abs(direction[3 * world + axis]), 0))
  const nearest = ORDERS.reduce((best, axes) => (fit(axes) > fit(best) ? axes : best))
  const stride = [1, size[0], size[0] * size[1]]
  const found = { count: [], step: [], pitchMm: [], start: 0 }
  for (const [world, sign] of VIEWS[view]) {
    const voxel = nearest[world]
    const backwards = direction[3 * world + voxel] >= 0 !== sign > 0
    const [first, end] = box[voxel]
    found.count.push(end - first)
    found.pitchMm.push(spacingMm[voxel])
    found.step.push(backwards ? -stride[voxel] : stride[voxel])
    found.start += stride[voxel] * (backwards ? end - 1 : first)
  }
  return found
}

/** How many of the sorted numbers lie at or below a limit. */
function countUpTo(sorted, limit) {
  let [low, high] = [0, sorted.length]
  while (low < high) {
    const middle = (low + high) >> 1
    if (sorted[middle] <= limit) low = middle + 1
    else high = middle
  }
  return low
}

/** The number of voxels that pad the scan, of all in order: a number far below zero that many have and few come near. */
function countPadding(sorted) {
  if (sorted.length === 0 || !(sorted[0] <= -500)) return 0
  const [same, upto] = [sorted[0], sorted[0] / 2].map((limit) => countUpTo(sorted, limit))
  if (same < 1e-3 * sorted.length || upto - same > 0.25 * same || upto === sorted.length) return 0
  return upto + countPadding(sorted.subarray(upto))
}

/** The voxels of a box, in any order. */
function voxelsOf({ size: [X, Y], voxels }, [[x0, x1], [y0, y1], [z0, z1]]) {
  const found = new Float32Array((x1 - x0) * (y1 - y0) * (z1 - z0))
  let at = 0
  for (let z = z0; z < z1; z++)
    for (let y = y0; y < y1; y++, at += x1 - x0) found.set(voxels.subarray((z * Y + y) * X + x0, (z * Y + y) * X + x1), at)
  return found
}

/** The intensities that become -1 and 1. */
export function boundsOf(voxels, { kind, low, high }) {
  if (kind === 'window') return [low, high]
  if (kind !== 'percentile') throw new Error(`an intensity rule that this host does not know: ${kind}`)
  const finite = Float32Array.from(voxels).filter(Number.isFinite).sort()
  const sorted = finite.subarray(countPadding(finite))
  if (sorted.length === 0) throw new Error('an image without a finite voxel')
  const percentile = (percent) => {
    const rank = (percent / 100) * (sorted.length - 1)
    const [below, above] = [sorted[Math.floor(rank)], sorted[Math.min(Math.floor(rank) + 1, sorted.length - 1)]]
    return below + (above - below) * (rank - Math.floor(rank))
  }
  const bounds = [percentile(low), percentile(high)]
  const chosen = bounds[0] < bounds[1] ? bounds : [sorted[0], sorted[sorted.length - 1]]
  if (!(chosen[0] < chosen[1])) throw new Error('a constant image')
  return chosen
}

/** The nearest whole number; halves go to the even one. */
function roundHalfToEven(value) {
  const floor = Math.floor(value)
  if (value - floor !== 0.5) return Math.round(value)
  return floor % 2 === 0 ? floor : floor + 1
}

/** pipeline.onnx as a function: {slices, bounds, size, noise} with their shapes -> {labels, uncertainty}. */
export function engineOf(ort, session) {
  return async ({ slices, bounds, size, noise }) => {
    const feed = {
      slices: new ort.Tensor('float32', slices.data, slices.shape),
      bounds: new ort.Tensor('float32', Float32Array.from(bounds), [2]),
      size: new ort.Tensor('int64', BigInt64Array.from(size.map(BigInt)), [2]),
    }
    if (session.inputNames.includes('noise')) feed.noise = new ort.Tensor('float32', noise.data, noise.shape)
    const { labels, uncertainty } = await session.run(feed, ['labels', 'uncertainty'])
    return { labels: labels.data, uncertainty: uncertainty.data }
  }
}

/** The mask of a volume in its own voxels: 0 for background, else the id of a structure. `done` hears of every slice. */
export async function segment({ manifest }, engine, volume, done = () => {}) {
  if (volume.voxels.length !== volume.size[0] * volume.size[1] * volume.size[2]) throw new Error('a volume whose voxels are not those of its size')
  const box = pictureOf(volume)
  const { count, step, pitchMm, start } = walk(volume, manifest.view, box)
  const [slices, h, w] = count
  const size = [1, 2].map((i) => Math.max(1, roundHalfToEven((count[i] * pitchMm[i]) / manifest.spacing_mm)))
  const [H, W] = size.map((length) => Math.ceil(length / manifest.multiple) * manifest.multiple)
  const { samples, seed } = manifest.defaults
  const shape = [samples, 1, manifest.labels.length, H, W]
  const perSample = manifest.labels.length * H * W
  const bounds = boundsOf(voxelsOf(volume, box), manifest.intensity)
  const mask = new Uint8Array(volume.voxels.length)
  for (let slice = 0; slice < slices; slice++) {
    const voxelOf = (pixel) => start + slice * step[0] + Math.floor(pixel / w) * step[1] + (pixel % w) * step[2]
    const plane = Float32Array.from({ length: h * w }, (_, pixel) => volume.voxels[voxelOf(pixel)])
    const noise = new Float32Array(samples * perSample)
    for (let m = 0; m < samples; m++) noiseOf(seed, slice, m, noise.subarray(m * perSample, (m + 1) * perSample))
    const { labels } = await engine({ slices: { data: plane, shape: [1, h, w] }, bounds, size, noise: { data: noise, shape } })
    labels.forEach((label, pixel) => (mask[voxelOf(pixel)] = label))
    done(slice + 1, slices)
  }
  return mask
}

/** An array of a golden file. */
function arrayOf(files, name) {
  const npy = files.get(name)
  if (!npy) throw new Error(`golden: no file ${name}`)
  const start = 10 + npy[8] + 256 * npy[9]
  const header = new TextDecoder().decode(npy.subarray(10, start))
  const shape = header.match(/'shape': \(([\d, ]*)\)/)?.[1].split(',').filter((part) => part.trim()).map(Number)
  const values = npy.slice(start)
  const bytes = header.includes("'<f4'") ? 4 : header.includes("'|u1'") ? 1 : NaN
  if (shape?.reduce((count, length) => count * length, bytes) !== values.length)
    throw new Error(`golden: ${name} is no array of its own shape, of bytes or 32-bit floats`)
  return { shape, data: bytes === 4 ? new Float32Array(values.buffer) : values }
}

/** The golden test of the contract: this host's noise and this engine's masks are the model's own, or it throws. */
export async function requireGolden(bundle, engine) {
  const files = storedFiles(bundle.read('golden/golden.npz'))
  const [image, expected, surprise] = ['image', 'labels', 'uncertainty'].map((name) => arrayOf(files, `${name}.npy`))
  const [N, one, H, W] = image.shape
  const pixels = image.data.length
  if (image.shape.length !== 4 || one !== 1 || pixels === 0) throw new Error('golden: no image of shape [N, 1, H, W]')
  if (expected.data.length !== pixels || surprise.data.length !== pixels)
    throw new Error('golden: labels or uncertainty of another size than its image')
  const noise = files.has('noise.npy') && arrayOf(files, 'noise.npy')
  if (noise) {
    if (noise.data.length !== pixels * bundle.manifest.labels.length) throw new Error('golden: noise of another size than its image')
    const made = new Float32Array(noise.data.length)
    for (let n = 0; n < N; n++) noiseOf(35, n, 0, made.subarray((n * made.length) / N, ((n + 1) * made.length) / N))
    if (!made.every((value, i) => Math.abs(value - noise.data[i]) < 1e-6)) throw new Error('golden: other noise')
  }
  const slices = { data: image.data, shape: [N, H, W] }
  const answer = await engine({ slices, bounds: [-1, 1], size: [H, W], noise })
  if (answer.labels.length !== pixels || answer.uncertainty.length !== pixels)
    throw new Error('golden: an answer of another size than its image')
  const near = surprise.data.every((value, i) => Math.abs(value - answer.uncertainty[i]) < 1e-3)
  if (!near) throw new Error('golden: other uncertainty')
  const wrong = expected.data.reduce((count, label, i) => count + (label !== answer.labels[i]), 0)
  if (wrong > 1e-4 * expected.data.length) throw new Error('golden: other labels')
}
