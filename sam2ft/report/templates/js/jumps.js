// A jump to what a filter hides, or what lies in a closed part, shows it first and marks it.
const jump = async (target) => {
  if (!target) return;
  announce("reveal", target);
  for (let part = target.closest("details"); part; part = part.parentElement.closest("details")) part.open = true;
  for (const old of document.querySelectorAll(".reached")) old.classList.remove("reached");
  target.classList.add("reached");
  const until = [];
  announce("settle", { target, until });
  await Promise.allSettled(until);
  target.scrollIntoView({ block: target.tagName === "TR" ? "center" : "start" });
};
const goTo = (id) => jump(document.getElementById(id));
addEventListener("click", (event) => {
  const link = event.target.closest?.('a[href^="#"]');
  if (link) setTimeout(() => goTo(link.hash.slice(1)));
});
addEventListener("hashchange", () => goTo(location.hash.slice(1)));
document.addEventListener("go", (event) => {
  location.hash = event.detail;
});
if (location.hash) goTo(location.hash.slice(1));
