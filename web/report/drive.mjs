// node web/report/drive.mjs CHROMIUM PAGE FOLDER [still]: for the tests, opens a report's page as a reader would, in a browser
// with WebGL or ("still") without. It leaves pictures of what it saw in FOLDER and prints the rest as JSON.
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { chromium } from 'playwright-core'

const [executablePath, file, folder, still] = process.argv.slice(2)
const drawing = still ? ['--disable-3d-apis'] : ['--use-gl=angle', '--use-angle=swiftshader', '--enable-unsafe-swiftshader']
const browser = await chromium.launch({ executablePath, args: ['--no-sandbox', ...drawing] })
const page = await browser.newPage({ viewport: { width: 1280, height: 860 } })
page.setDefaultTimeout(540_000)
const [requests, complaints] = [[], []]
page.context().on('request', (request) => requests.push(request.url().split(',')[0]))
page.on('pageerror', (error) => complaints.push(String(error)))
page.on('console', (message) => message.type() === 'error' && complaints.push(message.text()))
page.on('dialog', (dialog) => {
  complaints.push(`dialog ${dialog.message()}`)
  dialog.dismiss()
})

const texts = (selector) => page.$$eval(selector, (all) => all.filter((each) => each.checkVisibility()).map((each) => each.innerText))
const rows = (selector) =>
  page.$$eval(`${selector} tbody tr`, (all) => all.map((row) => [...row.cells].map((cell) => cell.innerText.trim())))

await page.goto(pathToFileURL(file).href, { waitUntil: 'commit' })
await page.waitForFunction(() => document.querySelector('footer') && (!document.getElementById('facts') || ['shown', 'still'].includes(document.body.dataset.viewer)))
const seen = {
  state: await page.evaluate(() => document.body.dataset.viewer ?? 'none'),
  title: await page.title(),
  heading: await page.textContent('h1'),
  bands: await texts('.bands p'),
  marks: await texts('#slices .marks span'),
  turned: await texts('#surfaces .marks span:not(.side)'),
  legend: await texts('.legend button'),
  still: await texts('#still figcaption'),
  readout: await texts('#readout'),
  structures: await rows('#s-structures'),
  vertebrae: await rows('#s-vertebrae'),
  noGo: await rows('#s-no-go'),
  times: await rows('#s-times'),
  provenance: await page.textContent('#s-provenance'),
}
await page.screenshot({ path: join(folder, 'page.png') })
if (seen.state === 'shown') {
  // What is written over the picture is not the picture.
  await page.addStyleTag({ content: '.marks, .legend, #readout { visibility: hidden }' })
  const shoot = async (name, pane = '#slices') => {
    await page.waitForTimeout(500)
    await page.locator(`${pane} canvas`).first().screenshot({ path: join(folder, `${name}.png`) })
  }
  await shoot('slices')
  if (await page.$('#surfaces')) {
    await shoot('surfaces', '#surfaces')
    const box = await page.locator('#surfaces canvas').boundingBox()
    await page.mouse.move(box.x + box.width / 2, box.y + box.height / 2)
    await page.mouse.down()
    await page.mouse.move(box.x + box.width / 2 + 90, box.y + box.height / 2 + 20, { steps: 3 })
    await page.mouse.up()
    await shoot('turned', '#surfaces')
  }
  if (await page.$('[data-no-go]')) {
    await page.locator('[data-no-go]').first().click()
    await page.waitForFunction(() => document.getElementById('turned').textContent)
    seen.named = await texts('#turned')
    await page.addStyleTag({ content: '#turned { visibility: hidden }' })
    await shoot('veiled', '#surfaces')
    await shoot('cut')
  }
  await page.click('[data-layer=uncertainty]')
  await shoot('uncertainty')
  await page.click('[data-layer=scan]')
  await shoot('scan')
  if (await page.$('[data-view=sagittal]')) {
    await page.click('[data-view=sagittal]')
    await shoot('sagittal')
    await page.locator('#slices canvas').first().hover()
    await page.mouse.wheel(0, 240)
    await shoot('scrolled')
    seen.scrolled = await page.textContent('#readout')
  }
}
console.log(JSON.stringify({ ...seen, requests, complaints }))
await browser.close()
