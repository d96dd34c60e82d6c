// The model, beside the page: loads it once, then turns volumes into masks.
import * as ort from 'onnxruntime-web/webgpu'
import { PIPELINE, engineOf, openBundle, requireGolden, segment } from '../native/js/verdiff.mjs'

const DEVICES = { webgpu: 'WebGPU', wasm: 'the processor' }
ort.env.wasm.wasmPaths = new URL('./', import.meta.url).href
// Without these headers of the server there is no memory that threads share.
ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(navigator.hardwareConcurrency, 8) : 1
ort.env.logLevel = 'error'

let bundle, engine

async function load(asked) {
  const reply = await fetch(new URL('model.verdiff', import.meta.url))
  bundle = await openBundle(new Uint8Array(await reply.arrayBuffer()))
  const adapter = asked !== 'wasm' && (await navigator.gpu?.requestAdapter())
  if (asked === 'webgpu' && !adapter) throw new Error('no WebGPU here')
  const notes = []
  for (const device of asked ? [asked] : adapter ? ['webgpu', 'wasm'] : ['wasm']) {
    try {
      const session = await ort.InferenceSession.create(bundle.read(PIPELINE), { executionProviders: [device] })
      engine = engineOf(ort, session)
      await requireGolden(bundle, engine)
      const threads = device === 'wasm' ? `, ${ort.env.wasm.numThreads} threads` : ''
      return { manifest: bundle.manifest, device, runs: DEVICES[device] + threads, notes }
    } catch (error) {
      notes.push(`${DEVICES[device]} did not pass: ${error.message}`)
    }
  }
  throw new Error(notes.join('; '))
}

self.onmessage = async ({ data: { id, load: asked, volume } }) => {
  try {
    if (!volume) return self.postMessage({ id, loaded: await load(asked) })
    const begun = performance.now()
    const mask = await segment(bundle, engine, volume, (done, all) => self.postMessage({ id, done, all }))
    self.postMessage({ id, mask, seconds: (performance.now() - begun) / 1000 }, [mask.buffer])
  } catch (error) {
    self.postMessage({ id, failed: error.message })
  }
}
