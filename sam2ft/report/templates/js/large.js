// Pictures open large; the keys for left and right go on to the next one that is shown.
const large = element("dialog", { className: "large", "aria-label": "picture in full size" });
const picture = element("img", { alt: "" });
const words = element("p");
const close = element("button", { type: "button", className: "plain" }, "Close");
let current = null; // a picture of the first screen is among the cases, too
const step = (by) => {
  const shown = [...document.querySelectorAll("a.picture")].filter((link) => link.offsetParent !== null);
  const next = shown[shown.indexOf(current) + by];
  if (next) open(next);
};
const open = (link) => {
  current = link;
  // A link to a place on the page holds its picture itself, which is smaller than the screen.
  const inside = link.querySelector("img");
  picture.src = link.hash ? inside.src : link.href;
  picture.classList.toggle("spread", Boolean(link.hash));
  picture.alt = inside.alt;
  words.textContent = picture.alt;
  if (!large.open) large.showModal();
};
const before = element("button", { type: "button", className: "plain" }, "Previous");
const after = element("button", { type: "button", className: "plain" }, "Next");
large.append(picture, words, before, after, close);
document.body.append(large);
close.addEventListener("click", () => large.close());
before.addEventListener("click", () => step(-1));
after.addEventListener("click", () => step(1));
large.addEventListener("keydown", (event) => {
  if (event.key === "ArrowLeft") step(-1);
  if (event.key === "ArrowRight") step(1);
});
for (const link of document.querySelectorAll("a.picture")) {
  link.addEventListener("click", (event) => {
    if (event.metaKey || event.ctrlKey || event.shiftKey) return;
    event.preventDefault();
    open(link);
  });
}
