// node axe.mjs MODULES CHROMIUM PAGE: what a browser finds wrong with the page, as JSON, at two widths in two schemes.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [modules, executablePath, page] = process.argv.slice(2);
const require = createRequire(`${modules}/`);
const puppeteer = await import(pathToFileURL(require.resolve("puppeteer-core")));
const axe = require.resolve("axe-core");

const browser = await puppeteer.launch({ executablePath, args: ["--no-sandbox", "--disable-gpu"] });
const found = { passes: 0, violations: [], messages: [], requests: [], overflows: [], sorting: null };
for (const width of [1280, 390]) {
  for (const scheme of ["light", "dark"]) {
    const tab = await browser.newPage();
    tab.on("console", (message) => found.messages.push(message.text()));
    tab.on("pageerror", (error) => found.messages.push(String(error)));
    tab.on("request", (request) => found.requests.push(request.url()));
    await tab.setBypassCSP(true); // for axe alone: it is put into the page
    await tab.setViewport({ width, height: 900 });
    await tab.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
    await tab.goto(pathToFileURL(page).href);
    const wide = await tab.evaluate(() => document.documentElement.scrollWidth);
    if (wide > width) found.overflows.push(wide);
    await tab.evaluate(() => document.querySelectorAll("details").forEach((part) => { part.open = true; }));
    await tab.addScriptTag({ path: axe });
    const { passes, violations } = await tab.evaluate(() => axe.run(document));
    found.passes += passes.length;
    for (const { id, impact, nodes } of violations) {
      found.violations.push({ id, impact, width, scheme, where: nodes.slice(0, 3).map((node) => node.html) });
    }
    await tab.close();
  }
}

const tab = await browser.newPage();
tab.on("pageerror", (error) => found.messages.push(String(error))); // with the page's own security policy
tab.on("console", (message) => found.messages.push(message.text()));
await tab.goto(pathToFileURL(page).href);
const column = () => tab.evaluate(() => {
  const heading = document.activeElement.closest("th");
  const cells = [...document.querySelectorAll("table.sortable tbody tr")].map((row) => row.cells[heading.cellIndex]);
  return { sort: heading.getAttribute("aria-sort"), keys: cells.map((cell) => cell.dataset.order) };
});
await tab.keyboard.press("Tab");
const skip = await tab.evaluate(() => document.activeElement.getAttribute("href"));
for (let i = 0; i < 60; i++) {
  await tab.keyboard.press("Tab");
  if (await tab.evaluate(() => document.activeElement.textContent.startsWith("mean AUROC"))) break;
}
const outline = await tab.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
await tab.keyboard.press("Enter");
const first = await column();
await tab.keyboard.press("Space");
found.sorting = { skip, outline, first, second: await column() };

const open = () => tab.evaluate(() => [...document.querySelectorAll("details")].map((part) => part.open));
const printed = async (moment) => {
  await tab.evaluate((name) => dispatchEvent(new Event(name)), moment);
  return open();
};
found.printing = { before: await open(), during: await printed("beforeprint"), after: await printed("afterprint") };
await browser.close();
console.log(JSON.stringify(found));
