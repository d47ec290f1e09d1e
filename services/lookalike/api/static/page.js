// The page works without this. With it, a picture can be dropped anywhere or pasted,
// and stays chosen while collection and category change.
"use strict";

let running = null; // the search that is under way
let isOurs = false; // whether what is being dragged started on this page

const main = () => document.getElementById("page");
const input = () => document.getElementById("image");
const spoken = document.getElementById("status");
// A field named "id" or "submit" hides the form's own property of that name.
const submit = (form) => HTMLFormElement.prototype.requestSubmit.call(form);

function say(title, text) {
  document.getElementById("notice")?.remove();
  const [notice, heading, sentence] = ["div", "h2", "p"].map((tag) => document.createElement(tag));
  notice.id = "notice";
  notice.className = "notice";
  notice.setAttribute("role", "alert");
  heading.textContent = title;
  sentence.textContent = text;
  notice.append(heading, sentence);
  main().prepend(notice);
  notice.scrollIntoView({ block: "nearest" });
}

// On a phone the choices are one row that scrolls; the current one should be in sight.
function reveal() {
  for (const chip of document.querySelectorAll(".chip[aria-pressed=true]")) {
    chip.parentElement.scrollLeft = chip.offsetLeft - chip.parentElement.offsetWidth / 2;
  }
}

function preview(file) {
  const picture = document.createElement("img");
  picture.className = "query";
  picture.alt = "Your picture";
  picture.src = URL.createObjectURL(file);
  picture.onload = picture.onerror = () => URL.revokeObjectURL(picture.src);
  const drop = document.getElementById("drop");
  drop.classList.add("held");
  drop.replaceChildren(picture);
}

function show(html) {
  const fresh = new DOMParser().parseFromString(html, "text/html");
  const next = fresh.getElementById("page");
  const focused = document.activeElement?.id;
  // The chosen file lives in the old input, so that one moves over.
  if (input()) next.querySelector("#image")?.replaceWith(input());
  main().replaceWith(document.adoptNode(next));
  document.title = fresh.title;
  reveal();
  // A picture that could not be read is not held on to.
  if (document.getElementById("notice") && !document.querySelector(".asked")) {
    if (input()) input().value = "";
  }
  if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
  const told = document.getElementById("notice") || document.getElementById("summary");
  spoken.textContent = told ? told.textContent.trim() : "";
}

async function search(form, button) {
  running?.abort();
  const mine = (running = new AbortController());
  main().setAttribute("aria-busy", "true");
  try {
    const answer = await fetch("/", {
      method: "POST",
      body: new FormData(form, button),
      signal: mine.signal,
    });
    show(await answer.text());
    // The results have no address; the way back leads to what had one.
    if (location.search) history.pushState(null, "", "/");
  } catch (error) {
    if (error.name === "AbortError") return;
    say("The server does not answer", "Is it running? Try again in a moment.");
  }
  if (running === mine) main().removeAttribute("aria-busy");
}

function choose() {
  const [file] = input().files;
  if (!file) return;
  const most = Number(input().dataset.maxBytes);
  if (file.size > most) {
    input().value = "";
    const limit = Math.floor(most / 2 ** 20);
    say("That picture is too large", `A picture has at most ${limit} MiB.`);
    return;
  }
  preview(file);
  submit(input().form);
}

function take(files) {
  // Some systems do not know a type; the server looks at the bytes anyway.
  const file = [...files].find((one) => !one.type || one.type.startsWith("image/"));
  if (!input()) return;
  if (!file) {
    say("That is not a picture", "Drop or paste an image file.");
    return;
  }
  const transfer = new DataTransfer();
  transfer.items.add(file);
  input().files = transfer.files;
  choose();
}

reveal();
document.addEventListener("change", (event) => {
  if (event.target === input()) choose();
  else if (event.target.matches("[data-submits]")) submit(event.target.form);
});
document.addEventListener("submit", (event) => {
  // Without a file, the form leads to an address of its own.
  if (event.target !== input()?.form || !input().files.length) return;
  event.preventDefault();
  search(event.target, event.submitter);
});
window.addEventListener("popstate", () => location.reload());

const brings = (event) => !isOurs && event.dataTransfer?.types.includes("Files");
const mark = (on) => document.documentElement.classList.toggle("dragging", on);
document.addEventListener("dragstart", () => (isOurs = true));
document.addEventListener("dragend", () => (isOurs = false));
document.addEventListener("dragover", (event) => {
  if (!brings(event)) return;
  event.preventDefault();
  mark(true);
});
document.addEventListener("dragleave", (event) => event.relatedTarget || mark(false));
document.addEventListener("drop", (event) => {
  mark(false);
  if (!brings(event)) return;
  event.preventDefault();
  take(event.dataTransfer.files);
});
document.addEventListener("paste", (event) => {
  if (event.clipboardData?.files.length) take(event.clipboardData.files);
});

// While pictures are being taken in, the start page follows.
setInterval(async () => {
  if (!document.querySelector("#progress, .start") || document.hidden || running) return;
  if (document.querySelector(".asked, #page :focus")) return;
  const answer = await fetch(location.href).catch(() => null);
  if (answer?.ok && !running) show(await answer.text());
}, 3000);
