// Drop a scan, see its mask. The model runs in worker.mjs; this file is what one sees and clicks.
import { NVImage, Niivue, SLICE_TYPE } from '@niivue/niivue'
import { maskFile, readVolume } from '../native/js/nifti.mjs'

const COLOURS = [[230, 159, 0], [86, 180, 233], [0, 158, 115], [213, 94, 0], [204, 121, 167], [240, 228, 66]]
const at = (id) => document.getElementById(id)
const workerOf = (name) => new Worker(new URL(name, import.meta.url), { type: 'module' })
const [worker, dicom] = [workerOf('worker.js'), workerOf('dicom.js')]
const viewer = new Niivue({ backColor: [0, 0, 0, 1], show3Dcrosshair: true, crosshairWidth: 0.3, logLevel: 'error' })
let manifest
let busy = false
let asked = 0

function say(text, failed = false) {
  at('status').textContent = text
  at('status').classList.toggle('failed', failed)
}

/** A worker's answer to a question; what it says of its progress goes to `hear`. */
function ask(of, question, hear = () => {}) {
  // Numbered, so that nobody takes an answer to another question for the answer to this one.
  const id = ++asked
  return new Promise((resolve, reject) => {
    const settle = (finish, value) => {
      of.removeEventListener('message', listen)
      of.removeEventListener('error', fail)
      finish(value)
    }
    const listen = ({ data }) => {
      if (data.id !== id) return
      if (data.failed) settle(reject, new Error(data.failed))
      else if (data.all) hear(data)
      else settle(resolve, data)
    }
    const fail = (event) => settle(reject, new Error(event.message || 'a worker of the page could not be started'))
    of.addEventListener('message', listen)
    of.addEventListener('error', fail)
    of.postMessage({ id, ...question })
  })
}

/** One NIfTI file of what was chosen, itself or the largest volume of a DICOM folder, and of how many. */
async function niftiOf(files) {
  const given = files.find((file) => /\.nii(\.gz)?$/i.test(file.name))
  if (given) return [given, 1]
  say(`Reading ${files.length} DICOM files …`)
  const { made } = await ask(dicom, { files })
  if (made.length === 0) throw new Error('found: neither a NIfTI file nor a DICOM series; expected: one of them')
  return [made.reduce((largest, file) => (file.size > largest.size ? file : largest)), made.length]
}

function clear() {
  for (const shown of [...viewer.volumes]) viewer.removeVolume(shown)
}

async function show(name, scan, volume, mask) {
  clear()
  viewer.addVolume(await NVImage.loadFromFile({ file: scan, name: scan.name }))
  if (mask) {
    const file = new File([maskFile(volume, mask)], name)
    const overlay = await NVImage.loadFromFile({ file, name, opacity: Number(at('opacity').value) })
    const [ids, labels] = [manifest.labels.map(({ id }) => id), manifest.labels.map((label) => label.name)]
    const channel = (index) => [0, ...ids.map((_, i) => COLOURS[i % COLOURS.length][index])]
    const alpha = [0, ...ids.map(() => 255)]
    overlay.setColormapLabel({ R: channel(0), G: channel(1), B: channel(2), A: alpha, I: [0, ...ids], labels: ['', ...labels] })
    viewer.addVolume(overlay)
  }
  viewer.setSliceType(SLICE_TYPE.MULTIPLANAR)
}

function showVolumes(mask, spacingMm) {
  const millilitres = spacingMm.reduce((product, pitch) => product * pitch, 1) / 1000
  const rows = manifest.labels.map(({ id, name }, i) => {
    const row = document.createElement('tr')
    const swatch = Object.assign(document.createElement('span'), { className: 'swatch' })
    swatch.style.background = `rgb(${COLOURS[i % COLOURS.length]})`
    const voxels = mask.reduce((count, label) => count + (label === id), 0)
    const [title, amount] = [row.insertCell(), row.insertCell()]
    title.append(swatch, name)
    amount.textContent = `${(voxels * millilitres).toFixed(1)} ml`
    return row
  })
  at('volumes').tBodies[0].replaceChildren(...rows)
}

async function offer(name, volume, mask) {
  const packed = new Blob([maskFile(volume, mask)]).stream().pipeThrough(new CompressionStream('gzip'))
  URL.revokeObjectURL(at('download').href)
  at('download').href = URL.createObjectURL(await new Response(packed).blob())
  at('download').download = name
}

/** Opens what `find` finds, unless something is being opened: nothing is awaited before that is told. */
async function open(find) {
  if (busy) return
  busy = true
  const result = [at('volumes'), at('download'), at('shade')]
  const inputs = [at('file'), at('folder')]
  for (const element of result) element.hidden = true
  for (const input of inputs) input.disabled = true
  try {
    const [scan, among] = await niftiOf(await find())
    const volume = readVolume(await scan.arrayBuffer())
    at('drop').hidden = true
    await show('', scan)
    const name = `${scan.name.replace(/\.nii(\.gz)?$/i, '')}_seg.nii.gz`
    at('progress').hidden = false
    const { header, ...grid } = volume
    const { mask, seconds } = await ask(worker, { volume: grid }, ({ done, all }) => {
      Object.assign(at('progress'), { value: done, max: all })
      say(`${scan.name}: slice ${done} of ${all}`)
    })
    await show(name.replace('.gz', ''), scan, volume, mask)
    showVolumes(mask, volume.spacingMm)
    await offer(name, volume, mask)
    say(`${scan.name}: ${seconds.toFixed(1)} s` + (among > 1 ? `; the largest of ${among} volumes in the folder` : ''))
    for (const element of result) element.hidden = false
  } catch (error) {
    // The picture of the scan before must not stand beside what is said of this one.
    clear()
    at('drop').hidden = false
    say(error?.message || 'found: a scan that could not be opened', true)
  } finally {
    busy = false
    at('progress').hidden = true
    for (const input of inputs) Object.assign(input, { disabled: false, value: '' })
  }
}

/** All files below what was dropped, folders walked. */
async function dropped(entries) {
  const files = []
  for (const entry of entries) {
    if (entry.isFile) files.push(await new Promise((resolve, reject) => entry.file(resolve, reject)))
    else {
      const reader = entry.createReader()
      // A reader hands out a part of a folder at a time, and an empty one at its end.
      for (let part; (part = await new Promise((resolve, reject) => reader.readEntries(resolve, reject))).length > 0; )
        files.push(...(await dropped(part)))
    }
  }
  return files
}

async function start() {
  await viewer.attachToCanvas(at('view'))
  // Loaded now, so that nothing is asked of the server once a scan is here.
  const [{ loaded }] = await Promise.all([
    ask(worker, { load: new URLSearchParams(location.search).get('device') }),
    ask(dicom, {}),
  ])
  manifest = loaded.manifest
  at('model').textContent = `${manifest.model_id} ${manifest.version}, on ${loaded.runs}`
  say(loaded.notes.join(' '))
  document.body.dataset.device = loaded.device
  for (const id of ['file', 'folder']) {
    at(id).disabled = false
    at(id).onchange = ({ target }) => {
      const files = [...target.files]
      open(() => files)
    }
  }
  at('opacity').oninput = ({ target }) => viewer.setOpacity(1, Number(target.value))
  document.ondragover = (event) => event.preventDefault()
  document.ondrop = (event) => {
    event.preventDefault()
    // The entries are gone once the event is over.
    const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry()).filter(Boolean)
    open(() => dropped(entries))
  }
}

start().catch((error) => say(error?.message || 'found: a page that could not be loaded', true))
