// What the other modules share. Text only ever becomes text: nothing here makes elements of a string.
const element = (tag, properties = {}, ...children) => {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || name === "role" || name === "for") made.setAttribute(name, value);
    else made[name] = value;
  }
  made.append(...children);
  return made;
};
let fields = 0;
// A form field with its label, side by side.
const labelled = (text, field) => {
  field.id = `field-${(fields += 1)}`;
  return element("span", { className: "field" }, element("label", { htmlFor: field.id }, text), field);
};
const choice = (options, chosen) => {
  const select = element("select");
  for (const [value, text] of options) select.append(element("option", { value, selected: value === chosen }, text));
  return select;
};
// Modules tell each other by events on the document: "reveal" (an element is about to be looked at), "settle" (what
// may still push `target` about adds a promise to `until`), "subject"
// (with its label and run, where the plot is of one), "drawn" (all plots that can be seen are drawn).
const announce = (name, detail) => document.dispatchEvent(new CustomEvent(name, { detail }));
