// Drives a real browser over the console of a running `cordon up`, once with JavaScript and once without.
// Started by tests/tests/browser.rs, within the network namespace that `cordon up` is in:
//
//   node console.mjs LINK SCRIPT ATTACK PICTURES
//
// LINK      the one-time sign-in link as it was printed
// SCRIPT    `on` or `off`: whether the browser runs JavaScript
// ATTACK    a program that does what a rule sees; run once the list of incidents is on the screen
// PICTURES  a directory for screenshots
//
// Ends with 0 if everything was as it should be; else says what was not.
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

const [link, script, attack, pictures] = process.argv.slice(2);
const hasScript = script === "on";
const origin = new URL(link).origin;
const browserPath = process.env.CORDON_CHROMIUM || "/usr/bin/chromium";
mkdirSync(pictures, { recursive: true });

// What takes its time gets this long to happen at all; nothing is judged by how long it took.
const PATIENCE = 60_000;

const profile = mkdtempSync(join(tmpdir(), "cordon-browser-"));
const context = await chromium.launchPersistentContext(profile, {
  executablePath: browserPath,
  headless: true,
  javaScriptEnabled: hasScript,
  viewport: { width: 1440, height: 900 },
  args: [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
  ],
});
context.setDefaultTimeout(PATIENCE);

const complaints = [];
const page = context.pages()[0] ?? (await context.newPage());
page.on("console", (message) => {
  // Browsers say violations of the content policy here too.
  if (["error", "warning"].includes(message.type())) complaints.push(`console: ${message.text()}`);
});
page.on("pageerror", (error) => complaints.push(`script: ${error.message}`));
page.on("request", (request) => {
  const url = new URL(request.url());
  if (url.origin !== origin) complaints.push(`a request left the console: ${request.url()}`);
});
page.on("response", (response) => {
  if (response.status() >= 500) complaints.push(`${response.status()} from ${response.url()}`);
});

// A picture of the whole page, and at the width of a phone; nothing may stand out of either.
const picture = async (name) => {
  for (const [width, height] of [
    [1440, 900],
    [360, 740],
  ]) {
    await page.setViewportSize({ width, height });
    if (hasScript) {
      const over = await page.evaluate(
        () => document.documentElement.scrollWidth - document.documentElement.clientWidth,
      );
      assert.ok(over <= 0, `${name} at ${width}: ${over} pixels too wide`);
    }
    await page.screenshot({ path: join(pictures, `${name}-${script}-${width}.png`), fullPage: true });
  }
  await page.setViewportSize({ width: 1440, height: 900 });
};

// Without the script a person loads the page again; with it the page has to come by itself.
const until = async (what, isSo) => {
  const deadline = Date.now() + PATIENCE;
  for (;;) {
    if (await isSo()) return;
    assert.ok(Date.now() < deadline, `never: ${what}\n${await page.locator("body").innerText()}`);
    await new Promise((resolve) => setTimeout(resolve, 200));
    if (!hasScript) await page.reload();
  }
};
const said = async () => (await page.locator("main").innerText()).replace(/\s+/g, " ");
const says = (text) => until(text, async () => (await said()).includes(text));

// Every page has what people who listen or type find their way by.
const isAccessible = async (name) => {
  assert.equal(await page.locator("h1").count(), 1, `${name}: one main heading`);
  assert.equal(await page.locator("main").count(), 1, `${name}: one main landmark`);
  assert.equal(await page.locator("html[lang=en]").count(), 1, `${name}: a language`);
  const fields = page.locator("main input:not([type=hidden]), main textarea");
  for (const field of await fields.all()) {
    const id = await field.getAttribute("id");
    assert.ok(await page.locator(`label[for="${id}"]`).count(), `${name}: ${id} has a label`);
  }
  // Attributes of style or events would be refused by the page's own policy.
  assert.equal(await page.locator("[style], [onclick]").count(), 0, name);
};

try {
  // Signing in: one press, and the token is no longer in the address.
  await page.goto(link);
  await isAccessible("sign-in");
  const field = page.locator("#token");
  if (await field.count()) {
    const token = new URL(link).hash.slice(1);
    if (hasScript) assert.equal(await field.inputValue(), token, "the script brought the token");
    else await field.fill(token);
  }
  await picture("sign-in");
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("heading", { level: 1, name: "Incidents" }).waitFor();
  assert.equal(page.url(), `${origin}/`);
  const [cookie] = await context.cookies();
  assert.ok(cookie.httpOnly && cookie.sameSite === "Strict", "the cookie is closed to scripts and others");

  // The keyboard's first stop leads over the navigation.
  if (hasScript) {
    await page.keyboard.press("Tab");
    assert.equal(await page.evaluate(() => document.activeElement?.className), "skip");
    await says("1 of 1 machine heard in the last");
    await until("the page says that it is live", async () =>
      (await page.locator("#freshness").innerText()).includes("Live."),
    );
  }
  const findings = async () => Number(/(\d+) findings? in all/.exec(await said())[1]);
  const before = await findings();

  // An attack: with the script the incident comes by itself.
  let loads = 0;
  page.on("framenavigated", () => (loads += 1));
  assert.equal(spawnSync(attack).status, 0, "the attack ran");
  await until("the attack is seen", async () => (await findings()) > before);
  await until("its incident is in the list", async () =>
    (await page.locator("a[href^='/incidents/0']").count()) > 0,
  );
  if (hasScript) assert.equal(loads, 0, "it came without loading the page again");
  await isAccessible("list");
  await picture("incidents");

  // One incident: why it matched, and the event.
  await page.locator("a[href^='/incidents/0']").first().click();
  await isAccessible("incident");
  await page.getByText("Evidence: what it means, why it matched, and the event").first().click();
  await page.getByRole("heading", { name: "Why it matched" }).first().waitFor();
  assert.match(await page.locator("pre.raw").first().innerText(), /kworkerd/);
  const incident = page.url();
  await page.getByRole("button", { name: "Take it" }).click();
  await says("You have it.");
  await picture("incident");

  // Isolate: what it would do comes first, and a reason is needed.
  await page.getByRole("link", { name: "Isolate…" }).first().click();
  await isAccessible("isolate");
  const confirm = await said();
  assert.match(confirm, /What will stop[^]*TCP 445[^]*What lives[^]*The agent’s link to this hub/);
  await picture("isolate");
  const isolate = page.getByRole("button", { name: "Isolate now (segment)" });
  await isolate.click();
  assert.match(page.url(), /\/isolate/, "without a reason the form is not sent");
  await page.getByLabel("Why").fill("browser test: <b>worm</b>");
  await isolate.click();
  await page.waitForURL(`${incident}*`);
  await until("the isolation is verified", async () => {
    const measures = page.locator("section[aria-labelledby=measures]");
    return (await measures.getByText("Verified", { exact: true }).count()) > 0;
  });
  assert.equal(await page.locator("main b").count(), 0, "a reason is text, not markup");
  await picture("isolated");

  // The plan against what was found: shown, by its digest, and looked at again from the machine's page.
  await page.goto(`${origin}/machines`);
  await page.locator("main a[href^='/machines/0']").first().click();
  assert.match(await said(), /The gate is closed[^]*nobody has looked again/);
  const machine = page.url();
  await page.getByRole("link", { name: "The plan against what was found…" }).click();
  await isAccessible("plan");
  assert.match(await said(), /Digest of this plan: [0-9a-f]{12}/);
  assert.match(await said(), /the program [^]*kworkerd/);
  await picture("plan");
  await page.goto(machine);
  await page.getByRole("button", { name: "Look again now" }).click();
  await says("left or not known");
  await page.getByText("Say that it is patched", { exact: true }).first().click();
  await page.locator("#why-patched").fill("browser test: nothing to patch");
  await page.locator("form:has(#why-patched) button").click();
  await says("says that it is patched: browser test: nothing to patch");
  await isAccessible("gate");
  await picture("gate");
  await page.goto(incident);

  // Release: what is missing is shown, and takes an explicit word.
  await page.getByRole("link", { name: "Release…" }).first().click();
  await isAccessible("release");
  assert.match(await said(), /The gate is closed/);
  await page.getByLabel("Why it may be open again").fill("browser test over");
  const release = page.getByRole("button", { name: "Release now, despite what is missing" });
  await release.click();
  assert.match(page.url(), /\/release/, "without a word on what is missing the form is not sent");
  await page.getByLabel("Why despite what is missing").fill("a test, and no patient");
  await picture("release");
  await release.click();
  await page.waitForURL(`${incident}*`);
  await says("Not isolated");
  await picture("released");

  // Less than isolating: one process is frozen from the list, shown first, and taken back.
  const counter = join(profile, "counter");
  const counting = `i=0; while :; do i=$((i+1)); echo $i > ${counter}; sleep 0.02; done`;
  const victim = spawn("/bin/sh", ["-c", counting], { stdio: "ignore" });
  try {
    const counted = () => (existsSync(counter) ? readFileSync(counter, "utf8").trim() : "");
    const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
    await page.goto(`${origin}/machines`);
    await page.locator("main a[href^='/machines/0']").first().click();
    await page.getByRole("link", { name: "Its processes: freeze, kill…" }).click();
    await isAccessible("processes");
    await picture("processes");
    await page.getByRole("link", { name: `Freeze… process ${victim.pid}`, exact: true }).click();
    await isAccessible("freeze");
    assert.match(await said(), /What it does[^]*stand still[^]*What it means for care[^]*Taken back/);
    await picture("freeze");
    await page.getByLabel("Why").fill("browser test");
    await page.getByRole("button", { name: "Freeze now" }).click();
    await page.waitForURL(/#measures$/);
    const frozen = page.locator("article.card").filter({ hasText: `process ${victim.pid}` });
    await until("the freeze is verified", async () =>
      (await frozen.getByText("Verified", { exact: true }).count()) > 0,
    );
    const before = counted();
    await wait(300);
    assert.equal(counted(), before, "it stands still");
    await frozen.getByRole("link", { name: /Take it back…/ }).click();
    await isAccessible("undo");
    await page.getByLabel("Why it may be taken back").fill("browser test over");
    await page.getByRole("button", { name: "Take it back now" }).click();
    await page.waitForURL(/#measures$/);
    await until("it goes on", async () => counted() !== before);
  } finally {
    victim.kill("SIGKILL");
  }

  // The other pages.
  for (const [path, name] of [
    ["/machines", "machines"],
    ["/policy", "policy"],
    ["/policy/change?mode=act", "policy-change"],
    ["/ledger", "ledger"],
  ]) {
    await page.goto(origin + path);
    await isAccessible(name);
    await picture(name);
  }
  await page.goto(`${origin}/machines`);
  await page.locator("main a[href^='/machines/0']").first().click();
  await isAccessible("machine");
  await picture("machine");
  await page.getByRole("link", { name: "Say what it is…" }).click();
  await isAccessible("assignment");
  await picture("assignment");

  if (hasScript) {
    // News do not move the page under a press.
    await page.goto(incident);
    await page.getByText("Comment", { exact: true }).first().hover();
    await page.mouse.down();
    assert.equal(spawnSync(attack).status, 0);
    await new Promise((resolve) => setTimeout(resolve, 3_000));
    await page.mouse.up();
    await page.locator("#comment-text").waitFor();

    // A comment in the making is not lost to news.
    await page.locator("#comment-text").fill("half a thou");
    assert.equal(spawnSync(attack).status, 0);
    await until("the page says that there is news", async () =>
      (await page.locator("#freshness").innerText()).includes("There is news"),
    );
    assert.equal(await page.locator("#comment-text").inputValue(), "half a thou");
  }

  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByRole("heading", { name: "You are signed out" }).waitFor();
  await page.goto(`${origin}/machines`);
  assert.match(page.url(), /\/sign-in$/);

  assert.deepEqual(complaints, []);
  console.log(`the console works with JavaScript ${script}; pictures in ${pictures}`);
} catch (error) {
  await page.screenshot({ path: join(pictures, `failed-${script}.png`), fullPage: true }).catch(() => {});
  console.error(complaints.join("\n"));
  throw error;
} finally {
  await context.close();
  rmSync(profile, { recursive: true, force: true });
}
