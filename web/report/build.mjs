// node web/report/build.mjs FILE.js: the viewer of reports as one script, with the licences of what is in it.
import { readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'

const [out] = process.argv.slice(2)
const here = fileURLToPath(new URL('.', import.meta.url))
const packages = join(here, '..', 'node_modules')

const { outputFiles, metafile } = await build({
  entryPoints: [join(here, 'viewer.mjs')],
  bundle: true,
  minify: true,
  write: false,
  metafile: true,
  format: 'iife',
  target: 'es2022',
  legalComments: 'none',
  logLevel: 'warning',
  nodePaths: [packages],
  // Three quarters of a megabyte of decoders for what no page holds.
  alias: { zarrita: join(here, 'no-zarr.mjs') },
  absWorkingDir: packages,
})

/** The packages of which something is in the script. */
const names = new Set()
for (const [path, { bytesInOutput }] of Object.entries(Object.values(metafile.outputs)[0].inputs)) {
  const found = /^(@[^/]+\/[^/]+|[^@./][^/]*)\//.exec(path)
  if (found && bytesInOutput > 0) names.add(found[1])
}
const licences = [...names].sort().map((name) => {
  const folder = join(packages, name)
  const { version, license } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'))
  const own = readdirSync(folder).find((each) => /^licen[cs]e(\.|$)/i.test(each))
  // NiiVue's package comes without the text that it must be handed on with.
  const file = own ? join(folder, own) : join(here, 'licences', `${name.replace('/', '__')}.txt`)
  return `${name} ${version}, ${license}\n\n${readFileSync(file, 'utf8').trim()}\n`
})
const script = outputFiles[0].text.trim()
const whole = `/*\n${licences.join('\n----\n\n').replaceAll('*/', '* /')}*/\n${script}\n`
// It stands inside a page's script element.
if (/<\/script|<!--/i.test(whole)) throw new Error('the script would end its own element')
writeFileSync(out, whole)
console.log(`${out}: ${[...names].sort().join(', ')}; ${(whole.length / 1e6).toFixed(2)} MB`)
