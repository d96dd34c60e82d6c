// node web/serve.mjs FOLDER [PORT]: serves the page to this machine, with the headers that threads in it want.
import { readFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { extname, join, normalize } from 'node:path'

const TYPES = { '.html': 'text/html', '.css': 'text/css', '.js': 'text/javascript', '.mjs': 'text/javascript', '.wasm': 'application/wasm' }
const HEADERS = { 'cross-origin-opener-policy': 'same-origin', 'cross-origin-embedder-policy': 'require-corp' }
const [folder, port = '8080'] = process.argv.slice(2)

const server = createServer(async ({ method, url }, reply) => {
  let path
  try {
    path = normalize(decodeURIComponent(new URL(url, 'http://here').pathname))
  } catch {
    // Not an address at all, such as /%: one such question must not end the server.
    return reply.writeHead(400).end()
  }
  const name = path.endsWith('/') ? join(path, 'index.html') : path
  try {
    if (method !== 'GET') throw new Error('this server takes nothing')
    const body = await readFile(join(folder, name))
    reply.writeHead(200, { 'content-type': TYPES[extname(name)] ?? 'application/octet-stream', ...HEADERS }).end(body)
  } catch {
    reply.writeHead(404).end()
  }
})
server.listen(Number(port), '127.0.0.1', () => console.log(`http://127.0.0.1:${server.address().port}/`))
