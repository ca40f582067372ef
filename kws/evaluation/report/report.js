// The texts and counts of each slider are in the data block, in the order of the sliders.
"use strict";
const sweeps = JSON.parse(document.getElementById("sweeps").textContent);
document.querySelectorAll(".slider").forEach((box, i) => {
  const sweep = sweeps[i];
  const input = box.querySelector("input"), marker = document.querySelector(`[data-marker="${i}"]`);
  const write = (name, text) => {
    for (const part of box.querySelectorAll(`[data-show=${name}]`)) part.textContent = text;  // none if not measured
  };

  function show() {
    const [threshold, misses, alarms, left, top] = sweep.stops[input.value];
    const calibrated = Number(input.value) === sweep.start;
    write("threshold", calibrated ? `${threshold} (calibrated)` : threshold);
    write("misses", sweep.misses[misses]);
    write("alarms", sweep.alarms[alarms]);
    const spoken = `threshold ${threshold}, misses ${sweep.misses[misses]}, false alarms ${sweep.alarms[alarms]}`;
    input.setAttribute("aria-valuetext", spoken);
    if (marker) {
      marker.hidden = left < 0 || left > 1 || top < 0 || top > 1;
      marker.style.left = `${100 * left}%`;
      marker.style.top = `${100 * top}%`;
    }
  }

  input.max = sweep.stops.length - 1;
  input.value = sweep.start;
  input.addEventListener("input", show);
  box.querySelector("button").addEventListener("click", () => { input.value = sweep.start; show(); });
  box.hidden = sweep.stops.length < 2;
  show();
});
