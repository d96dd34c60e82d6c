// node web/build.mjs MODEL.verdiff FOLDER: the page as static files, everything it needs among them.
import { cp, mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'

const [model, out] = process.argv.slice(2)
const here = fileURLToPath(new URL('.', import.meta.url))
const packages = join(here, 'node_modules')

await build({
  entryPoints: { page: join(here, 'page.mjs'), worker: join(here, 'worker.mjs'), dicom: join(here, 'dicom.mjs') },
  outdir: out,
  bundle: true,
  minify: true,
  format: 'esm',
  target: 'es2022',
  legalComments: 'linked',
  logLevel: 'warning',
  // Copied as it is: it looks for its program beside itself.
  external: ['./dcm2niix.jpeg.js'],
  // native/js lies beside the page and shares its packages.
  nodePaths: [packages],
  alias: { 'nifti-reader-js': join(packages, 'nifti-reader-js') },
})
await mkdir(out, { recursive: true })
const copies = {
  'index.html': here,
  'page.css': here,
  'ort-wasm-simd-threaded.asyncify.mjs': join(packages, 'onnxruntime-web', 'dist'),
  'ort-wasm-simd-threaded.asyncify.wasm': join(packages, 'onnxruntime-web', 'dist'),
  'dcm2niix.jpeg.js': join(packages, '@niivue', 'dcm2niix', 'dist'),
  'dcm2niix.jpeg.wasm': join(packages, '@niivue', 'dcm2niix', 'dist'),
}
for (const [name, folder] of Object.entries(copies)) await cp(join(folder, name), join(out, name))
await cp(model, join(out, 'model.verdiff'))
