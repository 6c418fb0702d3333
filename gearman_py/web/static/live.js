// Without this script the pages are complete; with it they show new values as they come, and the
// values under the pointer.
"use strict";

const button = document.getElementById("live");
const interval = 1000 * Number(document.body.dataset.interval);
let live = sessionStorage.getItem("live") !== "no";
let timer = 0;

function schedule() {
  clearTimeout(timer);
  if (live && document.visibilityState === "visible") timer = setTimeout(refresh, interval);
}

async function refresh() {
  try {
    const signal = AbortSignal.timeout(Math.max(15000, 2 * interval)); // it may hang
    const response = await fetch(location.href, { headers: { "x-live": "1" }, redirect: "error", signal });
    if (response.ok && live && mayReplace()) {
      replace(new DOMParser().parseFromString(await response.text(), "text/html"));
    }
    button.classList.toggle("lost", !response.ok);
  } catch {
    button.classList.add("lost"); // the server is away, or the session is over: a reload tells
  }
  button.title = button.classList.contains("lost") ? "No answer from gearman-web" : "Show new values as they come";
  schedule();
}

// What someone types, marks or points at stays as it is.
function mayReplace() {
  const typing = document.activeElement?.matches("main input, main select");
  const changed = [...document.querySelectorAll("main form[method=post] :is(input, option)")].some(
    (each) => each.matches("option") ? each.selected !== each.defaultSelected : each.value !== each.defaultValue);
  const marking = !getSelection().isCollapsed;
  return !typing && !changed && !marking && !document.querySelector(".reading");
}

function replace(fresh) {
  document.title = fresh.title;
  const focused = [...document.querySelectorAll("main a, main button, main [tabindex]")].indexOf(document.activeElement);
  for (const old of document.querySelectorAll("[data-live]")) {
    const own = fresh.getElementById(old.id);
    if (!own || own.innerHTML === old.innerHTML) continue;
    const scrolled = [...old.querySelectorAll(".scroll")].map((each) => each.scrollLeft);
    old.replaceChildren(...own.childNodes);
    old.querySelectorAll(".scroll").forEach((each, number) => { each.scrollLeft = scrolled[number] ?? 0; });
  }
  if (focused >= 0 && !document.querySelector("main").contains(document.activeElement)) {
    document.querySelectorAll("main a, main button, main [tabindex]")[focused]?.focus({ preventScroll: true });
  }
}

function show() {
  button.setAttribute("aria-pressed", String(live));
  button.textContent = live ? "Live" : "Paused";
}

if (button && document.querySelector("main[data-live]")) {
  button.hidden = false;
  button.addEventListener("click", () => {
    live = !live;
    sessionStorage.setItem("live", live ? "yes" : "no");
    show();
    if (live) refresh(); else clearTimeout(timer);
  });
  document.addEventListener("visibilitychange", () => {
    if (live && document.visibilityState === "visible") refresh(); else schedule();
  });
  show();
  schedule();
}

// "/" goes to the filter.
document.addEventListener("keydown", (event) => {
  const field = document.getElementById("q");
  if (event.key === "/" && field && !event.target.matches("input, textarea, select")) {
    event.preventDefault();
    field.focus();
    field.select();
  }
});

// The values under the pointer.
function clear() {
  document.querySelectorAll(".cursor, .reading").forEach((each) => each.remove());
}

document.addEventListener("pointermove", (event) => {
  const chart = event.target.closest?.(".chart");
  clear();
  if (!chart) return;
  const box = chart.getBoundingClientRect();
  const data = JSON.parse(chart.dataset.values);
  const count = data.lines[0].texts.length;
  const share = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
  const number = Math.round(share * (count - 1));
  const at = new Date(1000 * (data.first + number * data.step));
  const when = at.toLocaleString(undefined, data.step >= 3600
    ? { weekday: "short", hour: "2-digit", minute: "2-digit" }
    : { hour: "2-digit", minute: "2-digit", second: data.step < 60 ? "2-digit" : undefined });
  const texts = data.lines.map((line) => line.texts[number] ?? "not known");
  place(chart, "cursor", (box.width * number) / (count - 1));
  place(chart, "reading", Math.min(box.width - 30, Math.max(30, (box.width * number) / (count - 1)))).textContent = `${texts.join(", ")} · ${when}`;
});
document.addEventListener("pointerleave", clear);

function place(chart, name, left) {
  const element = document.createElement("span");
  element.className = name;
  element.setAttribute("aria-hidden", "true");
  element.style.left = `${left}px`; // set by the object model, which the policy allows
  chart.append(element);
  return element;
}
