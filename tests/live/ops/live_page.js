// Reads the live page in a headless browser and does what a person would; prints what it saw.
"use strict";
const assert = require("node:assert");
const { chromium } = require("playwright-core");

const how = JSON.parse(process.argv[2]);
const HOSTILE = "<img src=x onerror=alert(1)>";
const seen = { complaints: [], hosts: [] };

async function open(browser) {
  const context = await browser.newContext({
    viewport: { width: how.width, height: how.height }, colorScheme: how.scheme,
  });
  const page = await context.newPage();
  const note = url => seen.hosts.push(new URL(url).host);
  page.on("console", message => seen.complaints.push(message.text()));
  page.on("pageerror", error => seen.complaints.push(error.message));
  page.on("dialog", dialog => { seen.complaints.push(dialog.message()); dialog.dismiss(); });
  page.on("request", request => note(request.url()));
  page.on("websocket", socket => note(socket.url()));
  await page.goto(how.url);
  return page;
}

const node = (name, word) => `.node[data-node=${name}][data-word="${word}"]`;

/** Wait for a node to have one of the words for what is bad, in the colour for it. */
async function isBad(page, name, words) {
  const pill = words.map(word => `${node(name, word)} .pill.is-bad`).join(",");
  await page.waitForSelector(pill);
  await page.waitForSelector("#verdict:not(.is-good)");
}

async function said(page, text) {
  await page.waitForFunction(text => document.querySelector("#said").textContent.includes(text), text);
}

async function whole(page) {
  for (const name of ["node-1", "node-2", "node-3", "node-4"]) await page.waitForSelector(node(name, "active"));
  await page.waitForSelector("#verdict.is-good");
  assert.equal(await page.textContent("#verdict-text"), "The fleet is whole");
}

async function fits(page) {
  const [wide, room] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
  assert.ok(wide <= room, `the page is ${wide} wide, the window ${room}`);
}

/** A channel with markup for a name stays text, wherever it is shown. */
async function hostile(page) {
  await page.fill("#channel", HOSTILE);
  await page.click("#subscribe button");
  await said(page, `subscribed to ${HOSTILE}`);
  await page.fill("#message", HOSTILE);
  await page.click("#publish button");
  await page.locator("#messages li", { hasText: `${HOSTILE} ${HOSTILE}` }).waitFor();
  await page.locator("#channels td", { hasText: HOSTILE }).waitFor();
  assert.equal(await page.locator("img").count(), 0);
  await page.click("#held button");
  await said(page, "unsubscribed");
}

async function fleet(page) {
  await whole(page);
  await fits(page);
  await page.fill("#channel", "news");
  await page.press("#channel", "Enter");   // by keyboard alone
  await said(page, "subscribed to news");
  await page.fill("#message", "hello from a page");
  await page.press("#message", "Enter");
  await page.locator("#messages li", { hasText: "hello from a page" }).waitFor();
  await said(page, "published to 1 receiver");
  await page.fill("#channel", "__fanout:x");
  await page.click("#publish button");
  await said(page, "reserved_channel: ");
  await page.locator("#clients td", { hasText: "ws #1" }).waitFor();
  await hostile(page);

  process.kill(how.redis, "SIGSTOP");   // one that is killed is started again within a moment
  try {
    await isBad(page, "node-2", ["unreachable", "not heard"]);
  } finally {
    process.kill(how.redis, "SIGCONT");
  }
  await whole(page);

  process.kill(how.agent, "SIGKILL");   // its Redis dies with it
  await isBad(page, "node-4", ["unreachable", "not heard"]);
  await isBad(page, "node-4", ["lost"]);
  await page.locator("#events li", { hasText: "node-4 lost: its lease expired" }).waitFor();
  await page.locator("#verdict-text", { hasText: "node-4 fell silent and was removed" }).waitFor();
  await fits(page);
}

async function login(page) {
  await page.waitForSelector(node("node-1", "active"));
  await page.click("#subscribe button");
  await said(page, "unauthenticated: ");
  await page.fill("#token", "wrong");
  await page.click("#login button");
  await said(page, "unauthenticated: ");
  await page.fill("#token", how.token);
  await page.click("#login button");
  await said(page, "logged in");
  await page.fill("#channel", "other");
  await page.click("#subscribe button");
  await said(page, "forbidden: ");
  await page.fill("#channel", "news");
  await page.click("#subscribe button");
  await said(page, "subscribed to news");

  assert.deepEqual(seen.complaints, []);   // of what comes now a browser complains: nobody is there
  process.kill(how.sidecar, "SIGTERM");
  await page.locator("#banner", { hasText: "Showing the state of" }).waitFor();
  assert.equal(await page.textContent("#live-word"), "not connected");
  assert.match(await page.textContent("#verdict-text"), /^Unknown/);
  seen.complaints = [];
}

(async () => {
  const args = ["--no-sandbox", "--disable-dev-shm-usage"];
  const browser = await chromium.launch({ executablePath: how.chromium, args });
  try {
    const page = await open(browser);
    await { fleet, login }[how.scene](page);
  } finally {
    await browser.close();
  }
  console.log(JSON.stringify(seen));
})().catch(error => {
  console.log(error.stack, JSON.stringify(seen));
  process.exitCode = 1;
});
