// Holds no data: the clips are read from the attributes of the page.
"use strict";
const cards = [...document.querySelectorAll("[data-hash]")];
const choices = [...document.querySelectorAll("kbd[data-choice]")].map((key) => [key.dataset.choice, key.textContent]);
const count = document.getElementById("count");
const chosen = (value) =>
  cards.filter((card) => card.querySelector(`input[value=${value}]`).checked).map((card) => card.dataset.hash);
let unsaved = false;

function show() {
  const counts = choices.map(([name]) => [name.replaceAll("_", " "), chosen(name).length]);
  const decided = counts.reduce((sum, [, n]) => sum + n, 0);
  count.textContent = `${decided} of ${cards.length} decided: ${counts.map(([name, n]) => `${n} ${name}`).join(", ")}`;
}

function save() {
  const text = JSON.stringify(Object.fromEntries(choices.map(([name]) => [name, chosen(name)])), null, 1);
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
    u: () => decide(card, ""),
    ...Object.fromEntries(choices.map(([name, key]) => [key, () => decide(card, name)])),
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
