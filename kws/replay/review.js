// Holds no data: the clips are read from the attributes of the page.
"use strict";
const cards = [...document.querySelectorAll("[data-hash]")];
const count = document.getElementById("count");
const chosen = (value) =>
  cards.filter((card) => card.querySelector(`input[value=${value}]`).checked).map((card) => card.dataset.hash);
let unsaved = false;

function show() {
  const release = chosen("release").length, reject = chosen("reject").length;
  count.textContent =
    `${release + reject} of ${cards.length} decided: ${release} to release, ${reject} to reject`;
}

function save() {
  const text = JSON.stringify({ release: chosen("release"), reject: chosen("reject") }, null, 1);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  link.download = "decisions.json";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  unsaved = false;
}

function decide(card, value) {
  for (const input of card.querySelectorAll("input")) input.checked = input.value === value;
  changed();
}

function changed() {
  unsaved = true;
  show();
}

function go(card) {
  if (!card) return;
  card.focus();
  card.scrollIntoView({ block: "nearest" });
}

document.addEventListener("change", changed);
document.addEventListener("click", (event) => {
  if (event.target.id === "save") save();
  if (event.target.matches("fieldset button")) decide(event.target.closest("[data-hash]"), "");
});
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  const at = cards.indexOf(document.activeElement.closest("[data-hash]"));
  const card = cards[at];
  const keys = {
    j: () => go(cards[at + 1]),
    k: () => go(cards[at - 1]),
    p: () => { const player = card.querySelector("audio"); player.paused ? player.play() : player.pause(); },
    r: () => decide(card, "release"),
    x: () => decide(card, "reject"),
    u: () => decide(card, ""),
  };
  if (!Object.hasOwn(keys, event.key) || (!card && event.key !== "j")) return;
  event.preventDefault();
  keys[event.key]();
});
document.addEventListener("play", (event) => {
  for (const player of document.querySelectorAll("audio")) if (player !== event.target) player.pause();
}, true);
window.addEventListener("beforeunload", (event) => { if (unsaved) event.preventDefault(); });
show();
