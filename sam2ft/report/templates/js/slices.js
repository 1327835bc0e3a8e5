// Volumes to scroll: one at a time, one slice at a time. Image and overlays are files that lie upon each other.
const AHEAD = 2;
const SWIPE_PX = 24;
const volumes = JSON.parse(document.getElementById("volumes").textContent);
const items = [...document.querySelectorAll("#volume-list > li")];

if (items.length) {
  const layers = ["reference", "prediction", "errors"];
  const boxes = layers.map((layer) => element("input", { type: "checkbox", checked: layer !== "errors" }));
  const switched = () => layers.forEach((layer, at) => {
    for (const one of document.querySelectorAll(`.layer.${layer}`)) one.hidden = !boxes[at].checked;
  });
  const chosen = choice(items.map((item, at) => [String(at), `${item.dataset.name} (${item.dataset.why})`]), "0");
  const shown = () => {
    for (const [at, item] of items.entries()) item.hidden = at !== Number(chosen.value);
  };
  const viewers = items.map((item, at) => {
    const { slices, start, total } = volumes[at];
    const frame = item.querySelector("figure");
    const base = frame.querySelector(".base");
    const over = [...frame.querySelectorAll(".layer img")];
    const place = item.querySelector(".place");
    const range = element("input", { type: "range", min: 0, max: slices.length - 1, step: 1, value: start });
    let now = start;
    const fetched = new Set();
    const ahead = (position) => {
      if (!slices[position] || fetched.has(position)) return;
      fetched.add(position);
      for (const file of slices[position].slice(1, 3)) element("img", { src: `./${file}` });
    };
    const show = (position) => {
      now = Math.max(0, Math.min(slices.length - 1, position));
      const [index, image, overlay, dice] = slices[now];
      base.src = `./${image}`;
      base.alt = `slice ${index} of ${item.dataset.name}`;
      for (const one of over) one.src = `./${overlay}`;
      range.value = now;
      range.setAttribute("aria-valuetext", `slice ${index}`);
      place.textContent = `slice ${index} (counted from 0 to ${total - 1})`;
      for (const row of item.querySelectorAll("tr[data-label]")) {
        const value = dice[row.dataset.label];
        const cell = row.cells[1];
        cell.textContent = value === undefined ? "–" : typeof value === "string" ? value : value.toFixed(3);
        cell.classList.toggle("bad", typeof value === "string" || value === 0);
      }
      for (let step = 1; step <= AHEAD; step += 1) [now + step, now - step].forEach(ahead);
    };
    range.addEventListener("input", () => show(Number(range.value)));
    const before = element("button", { type: "button", className: "plain" }, "Previous slice");
    const after = element("button", { type: "button", className: "plain" }, "Next slice");
    before.addEventListener("click", () => show(now - 1));
    after.addEventListener("click", () => show(now + 1));
    frame.tabIndex = 0;
    const keys = { ArrowUp: -1, ArrowLeft: -1, ArrowDown: 1, ArrowRight: 1, PageUp: -5, PageDown: 5, Home: -Infinity, End: Infinity };
    item.addEventListener("keydown", (event) => {
      if (event.altKey || event.ctrlKey || event.metaKey) return;
      const layer = ["1", "2", "3"].indexOf(event.key);
      if (layer >= 0) boxes[layer].click();
      else if (event.key in keys && event.target !== range) show(now + keys[event.key]);
      else return;
      event.preventDefault();
    });
    frame.addEventListener("click", () => frame.focus({ preventScroll: true }));
    frame.addEventListener("wheel", (event) => {
      if (document.activeElement !== frame || event.ctrlKey) return;
      event.preventDefault();
      show(now + Math.sign(event.deltaY));
    }, { passive: false });
    let from = null;
    frame.addEventListener("pointerdown", (event) => { from = event.clientX; });
    frame.addEventListener("pointermove", (event) => {
      if (from === null || Math.abs(event.clientX - from) < SWIPE_PX) return;
      show(now + (event.clientX < from ? 1 : -1));
      from = event.clientX;
    });
    for (const name of ["pointerup", "pointercancel", "pointerleave"]) frame.addEventListener(name, () => { from = null; });
    if (slices.length > 1) place.before(element("div", { className: "controls stepper" }, labelled("Slice", range), before, after));
    else range.hidden = true;
    return { show, start };
  });

  const bar = element("div", { className: "filters overlays", role: "group", "aria-label": "Volume and overlays" });
  bar.append(labelled("Volume", chosen));
  layers.forEach((layer, at) => bar.append(labelled(`${layer} (${at + 1})`, boxes[at])));
  document.getElementById("volume-list").before(bar);
  for (const box of boxes) box.addEventListener("input", switched);
  const turn = (at, position) => {
    chosen.value = String(at);
    shown();
    viewers[at].show(position);
  };
  chosen.addEventListener("input", () => turn(Number(chosen.value), viewers[Number(chosen.value)].start));
  for (const link of document.querySelectorAll("a.to-slice")) {
    link.addEventListener("click", () => turn(items.findIndex((item) => `#${item.id}` === link.hash), Number(link.dataset.slice)));
  }
  document.addEventListener("reveal", (event) => {
    const at = items.indexOf(event.detail.closest("#volume-list > li"));
    if (at >= 0 && items[at].hidden) turn(at, viewers[at].start);
  });
  switched();
  turn(0, viewers[0].start);
}
