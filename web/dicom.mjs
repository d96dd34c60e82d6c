// dcm2niix beside the page: the files of a DICOM folder in, its volumes out.
// The package's own worker keeps one file system for all folders and fails at the second; here every folder has a fresh one,
// of a program that was fetched once.
import Module from './dcm2niix.jpeg.js'

const WASM = new URL('dcm2niix.jpeg.wasm', import.meta.url)
let wasmBinary

async function load() {
  const reply = await fetch(WASM)
  if (!reply.ok) throw new Error(`found: no dcm2niix (${reply.status}); expected: ${WASM.pathname} beside the page`)
  wasmBinary = await reply.arrayBuffer()
}

async function convert(files) {
  const complaints = []
  const program = await Module({ wasmBinary, print: () => {}, printErr: (line) => complaints.push(line) })
  program.FS.mkdir('/input')
  program.FS.mkdir('/output')
  // Numbered: a folder below may have a file of the same name.
  for (const [index, file] of files.entries())
    program.FS.createDataFile('/input', `${index}_${file.name}`, new Uint8Array(await file.arrayBuffer()), true, true)
  const code = program.callMain(['-o', '/output', '/input'])
  const made = program.FS.readdir('/output').filter((name) => /\.nii$/i.test(name))
  // 2: no DICOM among the files; 3: some of the volumes could not be made.
  if (![0, 2, 3].includes(code)) throw new Error(`found: a folder that dcm2niix does not convert (${code}) ${complaints.at(-1) ?? ''}`)
  return made.map((name) => new File([program.FS.readFile(`/output/${name}`)], name))
}

self.onmessage = async ({ data: { id, files } }) => {
  try {
    self.postMessage(files ? { id, made: await convert(files) } : { id, loaded: await load() ?? true })
  } catch (error) {
    self.postMessage({ id, failed: error?.message || String(error) })
  }
}
