// Opens examples/browser.html twice in a headless browser: what one page publishes the other shows.
"use strict";
const { chromium } = require("playwright-core");

const how = JSON.parse(process.argv[2]);
const complaints = [];

async function open(browser) {
  const page = await browser.newPage();
  page.on("console", message => complaints.push(message.text()));
  page.on("pageerror", error => complaints.push(error.message));
  await page.goto(how.page);
  await page.locator("#status.good", { hasText: `Connected to sidecar ${how.sidecar}` }).waitFor();
  return page;
}

(async () => {
  const args = ["--no-sandbox", "--disable-dev-shm-usage"];
  const browser = await chromium.launch({ executablePath: how.chromium, args });
  try {
    const [reader, writer] = [await open(browser), await open(browser)];
    await reader.click("#subscribe button");
    await reader.locator("#log li", { hasText: "subscribed" }).waitFor();
    await reader.fill("#publish [name=data]", "my own");
    await reader.click("#publish button");
    await reader.locator("#log li", { hasText: "my own" }).waitFor();
    await writer.fill("#publish [name=data]", "<b>hello</b>");
    await writer.click("#publish button");
    await writer.locator("#log li", { hasText: "received by 1" }).waitFor();
    await reader.locator("#log li", { hasText: "<b>hello</b>" }).waitFor();
  } catch (error) {  // what the pages showed says more than that something was missing
    for (const page of browser.contexts().flatMap(context => context.pages()))
      complaints.push(await page.locator("body").innerText());
    throw error;
  } finally {
    await browser.close();
  }
  console.log(JSON.stringify(complaints));
})().catch(error => {
  console.log(error.stack, JSON.stringify(complaints));
  process.exitCode = 1;
});
