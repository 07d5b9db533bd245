// Elements from plain values. Text is always set as text, so nothing a server or reader wrote becomes markup.

const SVG = "http://www.w3.org/2000/svg";

/** An HTML element: `h("p", {class: "x", onclick: f}, "text", child)`. False and null values are left out. */
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** An SVG element; arguments as for `h`. */
export function s(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name in element && typeof value === "boolean") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...present(children));
  return element;
}

function present(children) {
  return children.flat().filter((child) => child !== null && child !== false && child !== undefined);
}

/** Put a new view into the page: its heading gets the focus, so that a screen reader starts there. */
export function showView(title, ...children) {
  document.title = `${title} · radclear`;
  const main = document.getElementById("main");
  main.replaceChildren(...present(children));
  const heading = main.querySelector("h1");
  if (heading) {
    heading.tabIndex = -1;
    heading.focus({ preventScroll: true });
    window.scrollTo(0, 0);
  }
}

/** Say something to everybody: it is shown below the header and read by screen readers. */
export function say(text) {
  document.getElementById("status").textContent = text;
}
