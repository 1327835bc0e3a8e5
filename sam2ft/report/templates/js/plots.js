// Every plot takes the place of its picture when it comes near the window, or when there is time; on paper the picture
// stays.
const source = document.getElementById("plots");
const plots = source ? JSON.parse(source.textContent) : {};
const THEME = ["ink", "soft", "faint", "line", "accent", "card"];
const MOST_PICKED = 7;
const views = [];

const rowsOf = (columns) => {
  const names = Object.keys(columns);
  return columns[names[0]].map((_, at) => Object.fromEntries(names.map((name) => [name, columns[name][at]])));
};
const colours = () => {
  const style = getComputedStyle(document.documentElement);
  return THEME.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]);
};

const tip = element("div", { className: "tip", hidden: true, role: "status" });
document.body.append(tip);
const shownNumber = (value) => (typeof value === "number" ? String(Number(value.toPrecision(4))) : String(value));
const tell = (plot, event, item) => {
  const said = item?.datum ? plot.tells.filter(([field]) => item.datum[field] != null) : [];
  tip.hidden = said.length === 0;
  if (tip.hidden) return;
  tip.replaceChildren(...said.map(([field, name]) => element("div", {}, `${name}: `, element("b", {}, shownNumber(item.datum[field])))));
  const { clientX: x, clientY: y } = event;
  tip.style.left = `${Math.max(4, Math.min(x + 14, innerWidth - tip.offsetWidth - 8))}px`;
  tip.style.top = `${Math.max(4, Math.min(y + 14, innerHeight - tip.offsetHeight - 8))}px`;
};

const draw = async (figure, plot, settings) => {
  const place = element("div", { className: "view" });
  place.style.minWidth = `${plot.least}px`;
  figure.querySelector("img").before(element("div", { className: "slide" }, place));
  figure.classList.add("drawn");
  const given = new Map([...colours(), ["room", place.clientWidth], ...settings]);
  const params = plot.spec.params.map((one) => (given.has(one.name) ? { ...one, value: given.get(one.name) } : one));
  const spec = { ...plot.spec, params, datasets: { rows: rowsOf(plot.columns) } };
  // Level 1 tells errors only: that a layer has nothing to show (no interval of any point) is none.
  const quiet = { actions: false, defaultStyle: false, tooltip: false, logLevel: 1 };
  const options = { mode: "vega-lite", renderer: "canvas", ...quiet };
  const { view } = await window.sam2ftEmbed(place, spec, options);
  place.setAttribute("role", "img");
  place.setAttribute("aria-label", plot.alt);
  view.addEventListener("mousemove", (event, item) => tell(plot, event, item));
  view.addEventListener("mouseout", () => (tip.hidden = true));
  view.addEventListener("click", (event, item) => {
    tell(plot, event, item);
    if (item?.datum) figure.dispatchEvent(new CustomEvent("pick", { detail: item.datum }));
  });
  views.push(view);
  return view;
};

// The points that have a colour: taken out by a click on their name, put in by the list or a click on a line.
const picker = (plot, set) => {
  let picked = [...plot.picked];
  const chips = element("span", { className: "chips" });
  const more = choice([["", "show a point …"], ...plot.picks.map((name) => [name, name])], "");
  const change = (names) => {
    picked = names;
    chips.replaceChildren(
      ...picked.map((name, rank) => {
        const swatch = element("i", { className: "swatch" });
        swatch.style.background = rank ? plot.palette[rank - 1] : "var(--accent)";
        const chip = element("button", { type: "button", className: "chip", title: "take its colour away" }, swatch, name);
        chip.addEventListener("click", () => change(picked.filter((other) => other !== name)));
        return chip;
      }),
    );
    set("picked", picked);
  };
  const toggle = (name) => {
    if (picked.includes(name)) change(picked.filter((other) => other !== name));
    else change([...picked, name].slice(-MOST_PICKED));
  };
  more.addEventListener("input", () => {
    if (more.value && !picked.includes(more.value)) toggle(more.value);
    more.value = "";
  });
  const ready = [chips];
  if (plot.picks.length > 1) ready.push(labelled("Points", more));
  change(picked);
  return { parts: ready, toggle };
};

const prepare = (figure) => {
  const plot = plots[figure.dataset.plot];
  const settings = new Map();
  let view = null;
  const set = (name, value) => {
    settings.set(name, value);
    view?.signal(name, value).runAsync();
  };
  const bar = element("div", { className: "controls" });
  for (const control of plot.controls) {
    if (control.options.length < 2) continue;
    const select = choice(control.options, control.options[0][0]);
    select.addEventListener("input", () => set(control.parameter, select.value));
    bar.append(labelled(control.label, select));
  }
  if (plot.picks.length) {
    const { parts, toggle } = picker(plot, set);
    bar.append(...parts);
    figure.addEventListener("pick", (event) => toggle(event.detail.point));
  } else {
    figure.addEventListener("pick", ({ detail }) => {
      const row = detail.run && document.querySelector(`tr[data-run="${CSS.escape(detail.run)}"]`);
      if (detail.subject) announce("subject", { subject: detail.subject, label: String(detail.id ?? "*"), run: detail.run });
      else if (row) announce("go", row.id);
    });
  }
  if (bar.children.length) figure.prepend(bar);
  return () => draw(figure, plot, settings).then((made) => (view = made));
};

const figures = [...document.querySelectorAll("figure[data-plot]")];
const drawers = new Map(figures.map((figure) => [figure, prepare(figure)]));
const drawn = new Map();
const drawOnce = (figure) => {
  if (!drawn.has(figure)) drawn.set(figure, drawers.get(figure)());
  return drawn.get(figure);
};
const near = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) if (isIntersecting) drawOnce(target);
}, { rootMargin: "300px" });
for (const figure of figures) near.observe(figure);

// In a closed part there is no width to draw for.
const visible = (figure) => figure.offsetParent !== null;
// A plot is not as high as its picture: those that stand before the aim of a jump are drawn before it.
document.addEventListener("settle", ({ detail: { target, until } }) => {
  const before = (figure) => figure.compareDocumentPosition(target) & Node.DOCUMENT_POSITION_FOLLOWING;
  until.push(...figures.filter((figure) => visible(figure) && before(figure)).map(drawOnce));
});
// The rest one after another in idle moments, so that a reader's jump need not wait.
const idle = window.requestIdleCallback ?? setTimeout;
const drawNext = () => {
  const next = figures.find((figure) => visible(figure) && !drawn.has(figure));
  if (next) drawOnce(next).finally(() => idle(drawNext));
  else announce("drawn");
};
idle(drawNext);

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const view of views) {
    for (const [name, value] of colours()) view.signal(name, value);
    view.runAsync();
  }
});
