// The picture in a report's page: slices to scroll through, surfaces to turn. Bundled by report/build.mjs into the wheel;
// every page holds it, with its data as base64, so that nothing is loaded from anywhere.
import { DRAG_MODE, NVImage, NVMesh, Niivue, SLICE_TYPE } from '@niivue/niivue'
import { cutting } from './cuts.mjs'

const at = (id) => document.getElementById(id)
const facts = JSON.parse(at('facts').textContent)
const PLANES = { axial: SLICE_TYPE.AXIAL, coronal: SLICE_TYPE.CORONAL, sagittal: SLICE_TYPE.SAGITTAL }
const LOOK = { backColor: [0, 0, 0, 1], logLevel: 'error', dragAndDropEnabled: false, loadingText: '' }
// Of NIfTI's axes, towards less and more.
const SIDES = ['LR', 'PA', 'IS']
const hidden = new Set()
// No-go surfaces that are shown, by name.
const moved = new Set()
// How opaque an outer one is, and a structure whose inner one is to be seen.
const [OUTER, AROUND_INNER] = [0.32, 0.25]

/** What an element holds as base64; a plain loop, which takes a twentieth of the time of `Uint8Array.from`. */
function bytes(id) {
  const letters = atob(at(id).textContent)
  const found = new Uint8Array(letters.length)
  for (let i = 0; i < letters.length; i++) found[i] = letters.charCodeAt(i)
  return found
}

const image = (id, options) => NVImage.loadFromFile({ file: new File([bytes(id)], `${id}.nii.gz`), name: `${id}.nii.gz`, ...options })

async function unpacked(id) {
  return new Response(new Blob([bytes(id)]).stream().pipeThrough(new DecompressionStream('gzip'))).arrayBuffer()
}

/** The colours of the mask, those of structures that are hidden left out. */
function colours() {
  const ids = facts.labels.map(({ id }) => id)
  const channel = (index) => [0, ...facts.labels.map(({ colour }) => colour[index])]
  return {
    ...{ R: channel(0), G: channel(1), B: channel(2), I: [0, ...ids] },
    A: [0, ...ids.map((id) => (hidden.has(id) ? 0 : 255))],
    labels: ['', ...facts.labels.map(({ name }) => name)],
  }
}

/** A viewer that draws nothing before `show` is called: else it draws all there is anew with each thing that is added. */
async function begin(pane, options) {
  const viewer = new Niivue({ ...LOOK, ...options })
  await viewer.attachToCanvas(pane.querySelector('canvas'))
  const draw = viewer.drawScene.bind(viewer)
  viewer.drawScene = () => {}
  const show = (after = () => {}) => {
    viewer.drawScene = () => {
      draw()
      after()
    }
    viewer.drawScene()
  }
  return [viewer, show]
}

/** Adds to a viewer what prepares all there is anew with each thing added, at once: a large scan costs seconds each time. */
async function atOnce(viewer, adding) {
  viewer.updateGLVolume = () => {}
  await adding()
  delete viewer.updateGLVolume
  viewer.updateGLVolume()
}

/** A no-go surface as lines on the slices; lighter than its structure, since an inner one lies on it. */
function lines({ points, corners, colour, side }) {
  const light = colour.map((part) => Math.round(side === 'inner' ? part + 0.65 * (255 - part) : part))
  return { points, corners, line: `rgb(${light})` }
}

/** What puts marks in their places after each drawing: text at places in the patient. */
function marking(viewer, layer, wanted, place) {
  const marks = wanted.map((mark) => {
    const element = Object.assign(document.createElement('span'), { textContent: mark.name, className: mark.kind ?? '' })
    layer.append(element)
    return [mark, element]
  })
  return () => {
    const scale = viewer.canvas.clientWidth / viewer.canvas.width
    for (const [mark, element] of marks) {
      const spot = place(mark)
      element.hidden = !spot
      if (spot) element.style.transform = `translate(${spot[0] * scale}px, ${spot[1] * scale}px) translate(-50%, -50%)`
    }
  }
}

/** Where a mark is in the first pane whose plane passes through its structure; null where none does. */
function inSlices(viewer, mark) {
  const point = viewer.frac2mm(viewer.mm2frac(mark.mm, 0, true))
  for (const { axCorSag, AxyzMxy: plane, leftTopMM, fovMM, leftTopWidthHeight } of viewer.screenSlices) {
    if (axCorSag > SLICE_TYPE.SAGITTAL || axCorSag === SLICE_TYPE.AXIAL || plane.length < 4) continue
    const [x, y, z] = axCorSag === SLICE_TYPE.CORONAL ? [point[0], point[2], point[1]] : [point[1], point[2], point[0]]
    const depth = plane[2] + plane[4] * (y - plane[1]) - plane[3] * (x - plane[0])
    let [left, top, width, height] = leftTopWidthHeight
    let across = (x - leftTopMM[0]) / fovMM[0]
    const up = (y - leftTopMM[1]) / fovMM[1]
    if (Math.abs(z - depth) > mark.reach_mm || across < 0 || across > 1 || up < 0 || up > 1) continue
    if (width < 0) [left, width, across] = [left + width, -width, 1 - across]
    return [left + across * width, top + (1 - up) * height]
  }
  return null
}

function arrange(viewer, view) {
  const main = facts.view in PLANES ? facts.view : 'axial'
  const others = Object.keys(PLANES).filter((plane) => plane !== main)
  if (view !== 'all' || facts.film) {
    viewer.clearCustomLayout()
    viewer.setSliceType(PLANES[view === 'all' ? main : view])
    return
  }
  viewer.setCustomLayout([
    { sliceType: PLANES[main], position: [0, 0, 0.64, 1] },
    { sliceType: PLANES[others[1]], position: [0.64, 0, 0.36, 0.5] },
    { sliceType: PLANES[others[0]], position: [0.64, 0.5, 0.36, 0.5] },
  ])
}

function read(location) {
  const [scan, mask, doubt] = location.values.map(({ value }) => value)
  const found = facts.labels.find(({ id }) => id === Math.round(mask))
  const words = [...location.mm].slice(0, 3).map((mm, axis) => `${SIDES[axis][Number(mm >= 0)]} ${Math.abs(mm).toFixed(1)}`)
  const place = facts.oriented ? `${words.join('  ')} mm` : ''
  const parts = [place, `intensity ${Number(scan.toPrecision(4))}`, found ? found.name : 'background', `uncertainty ${Math.round((100 * doubt) / 255)} %`]
  at('readout').textContent = parts.filter(Boolean).join('   ')
}

async function slices() {
  const pane = at('slices')
  const [viewer, show] = await begin(pane, {
    ...{ crosshairColor: [0.85, 0.88, 0.92, 0.6], crosshairWidth: facts.film ? 0 : 0.3, crosshairWidthUnit: 'mm' },
    ...{ isRadiologicalConvention: true, sagittalNoseLeft: true, dragMode: DRAG_MODE.windowing, tileMargin: 6 },
    ...{ isOrientationTextVisible: facts.oriented, fontColor: [0.75, 0.79, 0.83, 1], fontMinPx: 12, fontSizeScaling: 0.3 },
    ...{ multiplanarPadPixels: 4, isForceMouseClickToVoxelCenters: true },
  })
  const [low, high] = facts.window
  await atOnce(viewer, async () => {
    viewer.addVolume(await image('scan', { cal_min: low, cal_max: high }))
    const mask = await image('mask', { opacity: Number(at('strength').value) })
    mask.setColormapLabel(colours())
    viewer.addVolume(mask)
    viewer.addVolume(await image('uncertainty', { colormap: 'inferno', cal_min: 20, cal_max: 200, opacity: 0 }))
  })
  viewer.volumes[0].colorbarVisible = false
  viewer.onLocationChange = read
  arrange(viewer, 'all')
  viewer.scene.crosshairPos = viewer.mm2frac(facts.centre, 0, true)
  viewer.createOnLocationChange()
  const marks = facts.film ? [] : facts.marks
  const mark = marking(viewer, pane.querySelector('.marks'), marks, (each) => inSlices(viewer, each))
  const layer = pane.querySelector('.cuts')
  const cut = layer ? cutting(viewer, layer, () => noGo().filter(({ name }) => moved.has(name)).map(lines)) : () => {}
  show(() => {
    mark()
    cut()
  })
  return viewer
}

/** The patient's sides around the surfaces, at the ends of the scene's axes. */
function sides(viewer) {
  const low = [0, 1, 2].map((axis) => Math.min(...viewer.meshes.map((mesh) => mesh.extentsMin[axis])))
  const high = [0, 1, 2].map((axis) => Math.max(...viewer.meshes.map((mesh) => mesh.extentsMax[axis])))
  const middle = low.map((value, axis) => (value + high[axis]) / 2)
  const out = 0.5 * Math.max(...high.map((value, axis) => value - low[axis])) * 1.12
  const end = (axis, way) => middle.map((value, each) => (each === axis ? value + way * out : value))
  return SIDES.flatMap((letters, axis) => [
    { name: letters[0], kind: 'side', mm: end(axis, -1), other: end(axis, 1) },
    { name: letters[1], kind: 'side', mm: end(axis, 1), other: end(axis, -1) },
  ])
}

const noGo = () => facts.shapes.filter(({ side }) => side)

/** Fills in a surface's points and corners, the first time that they are wanted. */
async function unfold(shape) {
  if (shape.points) return
  const raw = await unpacked(shape.id)
  const steps = new Uint16Array(raw, 0, 3 * shape.vertices)
  const moves = new Int32Array(raw, raw.byteLength - 12 * shape.triangles)
  shape.points = Float32Array.from(steps, (value, index) => shape.low[index % 3] + shape.step[index % 3] * value)
  let corner = 0
  shape.corners = Uint32Array.from(moves, (move) => (corner += move))
}

async function add(viewer, shape) {
  await unfold(shape)
  const rgba = new Uint8Array([...shape.colour, 255])
  const mesh = new NVMesh(shape.points, shape.corners, shape.name, rgba, 1, true, viewer.gl)
  Object.assign(mesh, { label: shape.label, side: shape.side })
  viewer.addMesh(mesh)
}

/** What of the surfaces is seen: an outer one is a veil, and so is the structure around an inner one. */
function veil(viewer) {
  const within = new Set(viewer.meshes.filter(({ side, name }) => side === 'inner' && moved.has(name)).map(({ label }) => label))
  for (const mesh of viewer.meshes) {
    mesh.visible = mesh.side ? moved.has(mesh.name) : !hidden.has(mesh.label)
    mesh.opacity = mesh.side === 'outer' ? OUTER : mesh.side || !within.has(mesh.label) ? 1 : AROUND_INNER
  }
  // What is seen through comes after what is behind it.
  viewer.meshes.sort((one, other) => other.opacity - one.opacity)
  viewer.drawScene()
}

/** Zooms so that the surfaces fill the pane however they are turned about the patient's long axis, sides included. */
function fit(viewer) {
  const half = [0, 1, 2].map((axis) => {
    const ends = viewer.meshes.flatMap((mesh) => [mesh.extentsMin[axis], mesh.extentsMax[axis]])
    return (Math.max(...ends) - Math.min(...ends)) / 2
  })
  const wide = viewer.canvas.width / viewer.canvas.height
  viewer.setPivot3D()
  // NiiVue shows 0.8 times the farthest point's distance each way, along the pane's shorter side.
  const needed = 1.2 * Math.max(half[2] * Math.min(1, wide), Math.hypot(half[0], half[1]) / Math.max(1, wide))
  viewer.setScale((0.8 * viewer.furthestFromPivot) / needed)
}

async function surfaces() {
  const pane = at('surfaces')
  if (!pane) return null
  const [viewer, show] = await begin(pane, { crosshairWidth: 0, isOrientationTextVisible: false })
  await atOnce(viewer, async () => {
    for (const shape of facts.shapes.filter(({ side }) => !side)) await add(viewer, shape)
  })
  viewer.setSliceType(SLICE_TYPE.RENDER)
  viewer.setRenderAzimuthElevation(240, 8)
  fit(viewer)
  const around = sides(viewer)
  const on = (mm) => {
    const frame = [0, 0, viewer.canvas.width, viewer.canvas.height]
    const [matrix] = viewer.calculateMvpMatrix(null, frame, viewer.scene.renderAzimuth, viewer.scene.renderElevation)
    return viewer.calculateScreenPoint(mm, matrix, frame)
  }
  const apart = ({ mm, other }) => Math.hypot(...[0, 1].map((axis) => on(mm)[axis] - on(other)[axis]))
  const marks = marking(viewer, pane.querySelector('.marks'), [...facts.marks, ...around], (mark) => {
    // A side that faces the reader would stand on the spine.
    if (mark.other && apart(mark) < 0.6 * Math.max(...around.map(apart))) return null
    return on(mark.mm)
  })
  show(marks)
  return viewer
}

/** The buttons of one group: one of them is pressed. */
function choice(name, chosen) {
  const buttons = [...document.querySelectorAll(`[data-${name}]`)]
  for (const button of buttons)
    button.onclick = () => {
      for (const each of buttons) each.setAttribute('aria-pressed', String(each === button))
      chosen(button.dataset[name])
    }
}

function control(flat, solid) {
  const strength = at('strength')
  const amounts = { mask: Number(strength.value), uncertainty: 0.85 }
  let layer = 'mask'
  const show = () => {
    flat.setOpacity(1, layer === 'mask' ? amounts.mask : 0)
    flat.setOpacity(2, layer === 'uncertainty' ? amounts.uncertainty : 0)
  }
  choice('view', (view) => arrange(flat, view))
  choice('layer', (wanted) => {
    layer = wanted
    strength.disabled = layer === 'scan'
    strength.value = amounts[layer] ?? 0
    show()
  })
  strength.oninput = () => {
    amounts[layer] = Number(strength.value)
    show()
  }
  for (const button of document.querySelectorAll('[data-label]'))
    button.onclick = () => {
      const id = Number(button.dataset.label)
      if (!hidden.delete(id)) hidden.add(id)
      button.setAttribute('aria-pressed', String(!hidden.has(id)))
      flat.volumes[1].setColormapLabel(colours())
      flat.updateGLVolume()
      if (solid) veil(solid)
    }
  for (const button of document.querySelectorAll('[data-no-go]')) button.onclick = () => turnTo(button, flat, solid)
}

/** Shows a no-go surface or hides it: turned, and as a line on the slices; what is shown is named beside it. */
async function turnTo(button, flat, solid) {
  const name = button.dataset.noGo
  if (!moved.delete(name)) moved.add(name)
  button.setAttribute('aria-pressed', String(moved.has(name)))
  const shape = facts.shapes.find((each) => each.name === name)
  if (!solid.meshes.some((mesh) => mesh.name === name)) await add(solid, shape)
  const said = [...document.querySelectorAll('[data-no-go][aria-pressed=true]')]
  at('turned').textContent = said.map((each) => `${each.dataset.noGo}: ${each.textContent}, ${each.nextSibling.textContent}`).join('\n')
  veil(solid)
  flat.drawScene()
}

async function start() {
  const probe = document.createElement('canvas').getContext('webgl2')
  if (!probe) throw new Error('this browser has no WebGL 2')
  probe.getExtension('WEBGL_lose_context')?.loseContext()
  document.body.dataset.viewer = 'starting'
  const flat = await slices()
  const solid = await surfaces()
  control(flat, solid)
  document.body.dataset.viewer = 'shown'
}

start().catch((error) => {
  document.body.dataset.viewer = 'still'
  at('why-still').textContent = `A still picture: ${error.message}.`
})
