// Fetches the page again when the hub has news, and says whether it does. Nothing else: every page works
// without it. Text never becomes markup here: the new page is parsed as a document of its own, inert.
"use strict";

(() => {
  const byId = (id) => document.getElementById(id);

  // The sign-in link's token leaves the address bar, and with it the history.
  const signIn = byId("sign-in");
  if (signIn) {
    const hash = location.hash.slice(1).replace(/^token=/, "");
    const field = signIn.elements.namedItem("token");
    if (hash && field && !field.value) field.value = hash;
    if (location.hash || location.search) history.replaceState(null, "", location.pathname);
    return;
  }

  const freshness = byId("freshness");
  if (!freshness || freshness.dataset.live === undefined || !window.EventSource) return;
  const state = byId("freshness-state");
  const hint = byId("freshness-hint");
  const spoken = document.createElement("span");
  spoken.className = "heard";
  spoken.setAttribute("role", "status");
  freshness.append(spoken);

  const SILENT_AFTER = 25_000; // two and a half times what the hub promises (live.rs, ALIVE_EVERY)
  const AGAIN_AFTER = 30_000; // ages on the page grow old by themselves
  const AT_MOST_EVERY = 700; // a storm of news is one look
  const AIMED_FOR = 1_500; // from the last move of a hand to its press

  let heard = Date.now();
  let looked = Date.now();
  let isBehind = false;
  let isLooking = false;
  let isTyped = false;
  let wasLive = null;
  let timer = null;

  const clock = (time) => new Date(time).toISOString().slice(11, 19) + " UTC";
  const main = () => byId("main");

  document.addEventListener("input", (event) => {
    if (main().contains(event.target)) isTyped = true;
  });

  // Nothing moves under a finger: a press that begins on one button and ends on another is lost, and one that
  // was meant for what stood there a moment ago may cut the wrong machine off.
  let touched = 0;
  let isPressed = false;
  const touches = (isNow) => () => {
    touched = Date.now();
    isPressed = isNow ?? isPressed;
  };
  document.addEventListener("keydown", touches());
  document.addEventListener("pointermove", (event) => touches(isPressed && event.buttons !== 0)());
  document.addEventListener("pointerdown", (event) => touches(event.isPrimary && event.button === 0)());
  for (const name of ["pointerup", "pointercancel", "contextmenu"])
    document.addEventListener(name, touches(false));
  addEventListener("blur", touches(false));
  const isAiming = () =>
    isPressed ||
    (Date.now() - touched < AIMED_FOR &&
      (main().contains(document.activeElement) ||
        main().querySelector(":is(a, button, summary, label, input, select):hover") !== null));

  const selects = () => {
    const selection = document.getSelection();
    return selection && !selection.isCollapsed && main().contains(selection.anchorNode);
  };

  let source;
  let isDisplaced = false;

  const show = () => {
    const isOpen = source.readyState === EventSource.OPEN;
    const isLive = isOpen && Date.now() - heard < SILENT_AFTER && !isBehind;
    freshness.classList.toggle("freshness--live", isLive);
    freshness.classList.toggle("freshness--dead", !isLive);
    state.textContent = isLive
      ? "Live. Page of " + clock(looked) + ". "
      : isBehind && isOpen
        ? "There is news that is not shown yet. Page of " + clock(looked) + ". "
        : isDisplaced
          ? "Not live: newer pages of yours are. Page of " + clock(looked) + ". "
          : "Not live since " + clock(Math.max(heard, looked)) + ". ";
    hint.textContent = isLive
      ? ""
      : isBehind && isOpen
        ? "What you write, mark or press is kept; let go, or load the page again, to see the news."
        : "What you see may be out of date; load the page again.";
    if (wasLive !== isLive) {
      if (wasLive !== null) spoken.textContent = isLive ? "The page is live." : "The page is not live.";
      wasLive = isLive;
    }
  };

  // What names an element on the old and the new page alike.
  const signature = (element, root) => {
    if (element.id) return { id: element.id };
    const same = (other) =>
      other.tagName === element.tagName &&
      other.getAttribute("href") === element.getAttribute("href") &&
      other.getAttribute("name") === element.getAttribute("name");
    const index = [...root.querySelectorAll(element.tagName)].filter(same).indexOf(element);
    return { same, tag: element.tagName, index };
  };
  const find = (sign, root) =>
    sign.id
      ? byId(sign.id)
      : [...root.querySelectorAll(sign.tag)].filter(sign.same)[sign.index] || null;

  const swap = (page) => {
    const next = page.getElementById("main");
    const now = main();
    if (!next) return false;
    const opened = [...now.querySelectorAll("details[open][id]")].map((element) => element.id);
    const active = document.activeElement;
    const focus = active && active !== now && now.contains(active) ? signature(active, now) : null;
    const scrolled = [...now.querySelectorAll("pre")].map((element) => element.scrollTop);
    const [x, y] = [scrollX, scrollY];
    now.replaceChildren(...next.childNodes);
    for (const id of opened) byId(id)?.setAttribute("open", "");
    [...now.querySelectorAll("pre")].forEach((element, index) => {
      element.scrollTop = scrolled[index] || 0;
    });
    if (focus) (find(focus, now) || now).focus({ preventScroll: true });
    scrollTo(x, y);

    const links = document.querySelector("nav");
    const nextLinks = page.querySelector("nav");
    if (links && nextLinks && !links.contains(document.activeElement)) {
      const count = (root) => root.querySelector(".bar__count")?.textContent || "";
      const [before, after] = [count(links), count(nextLinks)];
      if (after && before !== after) spoken.textContent = "Incidents: " + after;
      links.replaceChildren(...nextLinks.childNodes);
    }
    document.title = page.title;
    return true;
  };

  const look = async () => {
    timer = null;
    if (isLooking) return soon();
    if (isTyped || selects()) {
      isBehind = true;
      return show();
    }
    if (isAiming()) {
      isBehind = true;
      show();
      return soon();
    }
    isLooking = true;
    try {
      const answer = await fetch(location.href, { cache: "no-store", redirect: "manual" });
      // Signed out elsewhere, or the thing is gone: show what a plain load shows.
      if (answer.type === "opaqueredirect" || answer.status === 404) return location.reload();
      if (!answer.ok) throw new Error(String(answer.status));
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      // Somebody may have begun to write meanwhile.
      if (isTyped || selects()) isBehind = true;
      else if (isAiming()) {
        isBehind = true;
        soon();
      } else if (swap(page)) {
        looked = Date.now();
        isBehind = false;
      }
    } catch {
      isBehind = true;
      setTimeout(soon, 5_000);
    } finally {
      isLooking = false;
      show();
    }
  };
  const soon = () => {
    if (timer === null) timer = setTimeout(look, AT_MOST_EVERY);
  };

  let wasLost = false;
  const listen = () => {
    isDisplaced = false;
    source = new EventSource("/live");
    source.addEventListener("open", () => {
      heard = Date.now();
      if (wasLost) soon(); // what was said meanwhile was missed
      wasLost = false;
      show();
    });
    source.addEventListener("alive", () => {
      heard = Date.now();
      show();
    });
    source.addEventListener("news", () => {
      heard = Date.now();
      soon();
    });
    source.addEventListener("displaced", () => {
      isDisplaced = wasLost = true;
      source.close();
      show();
    });
    source.addEventListener("error", () => {
      wasLost = true;
      show();
    });
  };
  listen();
  setInterval(() => {
    // A browser gives up for good where the answer was a refusal.
    if (source.readyState === EventSource.CLOSED && !isDisplaced) listen();
    show();
    if (Date.now() - looked > AGAIN_AFTER && document.visibilityState === "visible") soon();
  }, 5_000);
  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState !== "visible") return;
    if (isDisplaced) listen();
    soon();
  });
  addEventListener("pagehide", () => source.close());
  addEventListener("pageshow", (event) => {
    if (event.persisted) location.reload();
  });
})();
