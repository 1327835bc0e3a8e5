// On paper nothing is closed, and every picture is there: a printer does not wait for those that load when one scrolls.
const loadNow = () => {
  for (const image of document.querySelectorAll("img[loading=lazy]")) if (image.offsetParent) image.loading = "eager";
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
