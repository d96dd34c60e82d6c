// node web/drive.mjs CHROMIUM URL SCAN FOLDER: for the tests, opens the page as a reader would and gives it a scan, or a
// DICOM folder. It leaves the downloaded mask and a screenshot in FOLDER, and prints as JSON what it saw.
import { statSync } from 'node:fs'
import { join } from 'node:path'
import { chromium } from 'playwright-core'

const [executablePath, url, scan, folder] = process.argv.slice(2)
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
  await page.screenshot({ path: join(folder, 'page.png') })
}
console.log(JSON.stringify({ ...seen, complaints, before: requests.slice(0, before), after: requests.slice(before) }))
await browser.close()
