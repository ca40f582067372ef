// Holds no data: recordings and bounds are read from the attributes of the page.
"use strict";
const cards = [...document.querySelectorAll("figure[data-name]")];
const count = document.getElementById("count");
const field = (card, edge) => card.querySelector(`input[data-edge=${edge}]`);
const value = (card, edge) => Number(field(card, edge).value);
const right = () => cards.filter((card) => card.querySelector("input[type=checkbox]").checked);
let unsaved = false;

function show(card) {
  const begins = Number(card.dataset.begins), seconds = Number(card.dataset.seconds);
  const at = (edge) => ((value(card, edge) - begins) / seconds) * 1000;
  const keyword = card.querySelector(".keyword");
  keyword.setAttribute("x", at("start"));
  keyword.setAttribute("width", Math.max(0, at("end") - at("start")));
  for (const edge of card.querySelectorAll(".edge")) edge.setAttribute("x", at(edge.dataset.edge) - 4);
}

function counted() {
  if (count) count.textContent = `${right().length} of ${cards.length} marked as right`;
}

function move(card, edge, seconds) {
  const begins = Number(card.dataset.begins), least = 0.05;
  const low = edge === "start" ? begins : value(card, "start") + least;
  const high = edge === "end" ? begins + Number(card.dataset.seconds) : value(card, "end") - least;
  field(card, edge).value = Math.min(Math.max(seconds, low), high).toFixed(3);
  card.querySelector("input[type=checkbox]").checked = true;
  unsaved = true;
  show(card);
  counted();
}

function play(card) {
  const audio = card.querySelector("audio"), begins = Number(card.dataset.begins), end = value(card, "end") - begins;
  audio.currentTime = value(card, "start") - begins;
  audio.ontimeupdate = () => { if (audio.currentTime >= end) { audio.pause(); audio.ontimeupdate = null; } };
  audio.play();
}

function save() {
  const bounds = right().map((card) =>
    ({ recording: card.dataset.name, start: value(card, "start"), end: value(card, "end") }));
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([JSON.stringify({ bounds }, null, 1)], { type: "application/json" }));
  link.download = "bounds.json";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  unsaved = false;
}

for (const card of cards) {
  const picture = card.querySelector("svg");
  const seconds = (event) => {
    const box = picture.getBoundingClientRect();
    return Number(card.dataset.begins) + ((event.clientX - box.left) / box.width) * Number(card.dataset.seconds);
  };
  for (const edge of card.querySelectorAll(".edge")) {
    edge.addEventListener("pointerdown", (event) => { edge.setPointerCapture(event.pointerId); event.preventDefault(); });
    edge.addEventListener("pointermove", (event) => {
      if (edge.hasPointerCapture(event.pointerId)) move(card, edge.dataset.edge, seconds(event));
    });
  }
  for (const input of card.querySelectorAll("input[type=number]"))
    input.addEventListener("change", () => move(card, input.dataset.edge, Number(input.value)));
  card.querySelector("input[type=checkbox]").addEventListener("change", () => { unsaved = true; counted(); });
  card.querySelector("button").addEventListener("click", () => play(card));
}
const button = document.getElementById("save");
if (button) button.addEventListener("click", save);
document.addEventListener("play", (event) => {
  for (const player of document.querySelectorAll("audio")) if (player !== event.target) player.pause();
}, true);
window.addEventListener("beforeunload", (event) => { if (unsaved) event.preventDefault(); });
counted();
