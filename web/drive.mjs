// node web/drive.mjs CHROMIUM URL SCAN FOLDER [MORE ...]: for the tests, opens the page as a reader would and gives it a scan,
// or a DICOM folder. It leaves the downloaded mask and a screenshot in FOLDER, and prints as JSON what it saw. MORE are scans
// that the same page is given afterwards, one by one; the files of drop:FILE,FILE are dropped in one moment.
import { readFileSync, statSync } from 'node:fs'
import { basename, join } from 'node:path'
import { chromium } from 'playwright-core'

const [executablePath, url, scan, folder, ...more] = process.argv.slice(2)
const browser = await chromium.launch({
  executablePath,
  args: ['--no-sandbox', '--use-gl=angle', '--use-angle=swiftshader', '--enable-unsafe-swiftshader'],
})
const page = await browser.newPage({ viewport: { width: 1280, height: 800 } })
const [requests, complaints] = [[], []]
page.context().on('request', (request) => requests.push(`${request.method()} ${request.url()}`))
page.on('pageerror', (error) => complaints.push(String(error)))
page.on('console', (message) => message.type() === 'error' && complaints.push(message.text()))
page.setDefaultTimeout(540_000)

async function drop(paths) {
  const files = paths.map((path) => [basename(path), readFileSync(path).toString('base64')])
  await page.evaluate((given) => {
    for (const [name, text] of given) {
      const file = new File([Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0))], name)
      const entry = { isFile: true, fullPath: `/${name}`, file: (found) => setTimeout(() => found(file), 50) }
      document.ondrop({ preventDefault() {}, dataTransfer: { items: [{ webkitGetAsEntry: () => entry }] } })
    }
  }, files)
}

await page.goto(url)
await page.waitForFunction(() => document.body.dataset.device || document.querySelector('#status.failed'))
const before = requests.length
const seen = { model: await page.textContent('#model'), status: await page.textContent('#status') }
if (scan && (await page.evaluate(() => document.body.dataset.device))) {
  await page.setInputFiles(statSync(scan).isDirectory() ? '#folder' : '#file', scan)
  await page.waitForSelector('#download:not([hidden]), #status.failed')
  seen.status = await page.textContent('#status')
  if (await page.isVisible('#download')) {
    const [download] = await Promise.all([page.waitForEvent('download'), page.click('#download')])
    await download.saveAs(join(folder, download.suggestedFilename()))
    seen.mask = download.suggestedFilename()
    seen.volumes = await page.$$eval('#volumes tbody tr', (rows) => rows.map((row) => row.textContent))
  }
  seen.later = []
  for (const other of more) {
    await page.evaluate(() => (document.getElementById('status').className = ''))
    if (other.startsWith('drop:')) await drop(other.slice(5).split(','))
    else await page.setInputFiles(statSync(other).isDirectory() ? '#folder' : '#file', other)
    await page.waitForSelector('#download:not([hidden]), #status.failed')
    // What was dropped beside it would be heard of by now.
    if (other.startsWith('drop:')) await page.waitForTimeout(1000)
    const [status, mask] = [await page.textContent('#status'), await page.getAttribute('#download', 'download')]
    seen.later.push({ status, mask: (await page.isVisible('#download')) ? mask : null, prompt: await page.isVisible('#drop') })
  }
  await page.screenshot({ path: join(folder, 'page.png') })
}
console.log(JSON.stringify({ ...seen, complaints, before: requests.slice(0, before), after: requests.slice(before) }))
await browser.close()
