// node segment.mjs MODEL.verdiff SCAN.nii.gz MASK.nii: the golden test, then the mask of a NIfTI volume.
import { readFile, writeFile } from 'node:fs/promises'
import ort from 'onnxruntime-node'
import { readVolume, maskFile } from './nifti.mjs'
import { PIPELINE, engineOf, openBundle, requireGolden, segment } from './verdiff.mjs'

const [model, scan, out] = process.argv.slice(2)
if (!out) {
  console.error('usage: node segment.mjs MODEL.verdiff SCAN.nii.gz MASK.nii')
  process.exit(2)
}
const bundle = await openBundle(new Uint8Array(await readFile(model)))
const engine = engineOf(ort, await ort.InferenceSession.create(bundle.read(PIPELINE)))
await requireGolden(bundle, engine)
const file = await readFile(scan)
const volume = readVolume(file.buffer.slice(file.byteOffset, file.byteOffset + file.length))
await writeFile(out, maskFile(volume, await segment(bundle, engine, volume)), { flag: 'wx' })
