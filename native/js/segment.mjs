// node segment.mjs MODEL.verdiff SCAN.nii.gz MASK.nii.gz: the golden test, then the mask of a NIfTI volume.
import { existsSync } from 'node:fs'
import { readFile, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { gunzipSync, gzipSync } from 'node:zlib'
import ort from 'onnxruntime-node'
import { readVolume, maskFile } from './nifti.mjs'
import { PIPELINE, engineOf, openBundle, requireGolden, segment } from './verdiff.mjs'

/** The bytes of a file, out of gzip if it is one, whose checksum is compared. */
async function read(name) {
  const bytes = await readFile(name)
  const plain = bytes[0] === 0x1f && bytes[1] === 0x8b ? gunzipSync(bytes) : bytes
  return plain.buffer.slice(plain.byteOffset, plain.byteOffset + plain.length)
}

async function run(model, scan, out) {
  // What is wrong with the files is said before the model is loaded.
  if (existsSync(out)) throw new Error(`${out} exists`)
  if (!existsSync(dirname(out))) throw new Error(`there is no folder for ${out}`)
  if (!/\.nii(\.gz)?$/.test(out)) throw new Error(`${out} does not end in .nii or .nii.gz`)
  const volume = readVolume(await read(scan))
  const bundle = await openBundle(new Uint8Array(await readFile(model)))
  const engine = engineOf(ort, await ort.InferenceSession.create(bundle.read(PIPELINE)))
  await requireGolden(bundle, engine)
  const mask = maskFile(volume, await segment(bundle, engine, volume))
  await writeFile(out, out.endsWith('.gz') ? gzipSync(mask) : mask, { flag: 'wx' })
}

const names = process.argv.slice(2)
if (names.length !== 3) {
  console.error('usage: node segment.mjs MODEL.verdiff SCAN.nii.gz MASK.nii.gz')
  process.exit(2)
}
try {
  await run(...names)
} catch (error) {
  console.error(`segment.mjs: ${error.message}`)
  process.exit(1)
}
