// On paper nothing is closed, and every picture is there: a printer does not wait for those that load when one scrolls.
const loadNow = () => {
  const waiting = [...document.querySelectorAll("img[loading=lazy]")].filter((image) => image.offsetParent);
  for (const image of waiting) {
    image.loading = "eager";
    image.decoding = "sync";
  }
};
document.addEventListener("drawn", loadNow);
let opened = [];
addEventListener("beforeprint", () => {
  loadNow();
  opened = [...document.querySelectorAll("details:not([open])")];
  for (const part of opened) part.open = true;
});
addEventListener("afterprint", () => {
  for (const part of opened) part.open = false;
});
