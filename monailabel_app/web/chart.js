// The attention curve that the server drew, with a cursor over it that follows the pointer and the chosen slice.

import { request } from "./api.js";
import { h, s } from "./dom.js";

/** The chart of an answer; `onPick(number)` is called with a slice. It has `show(number)`. */
export function attentionFigure(study, answer, onPick) {
  const place = h("div", { class: "chart" }, h("p", { class: "muted" }, "The curve is being drawn …"));
  const reading = h("p", { class: "reading", "aria-hidden": "true" });
  const note = h("p", { class: "muted" });
  const figure = h("figure", {}, place, reading, note);
  let cursor = null;
  let chosen = 1;
  figure.show = (number) => {
    chosen = number;
    cursor?.(number);
  };
  load(true);
  return figure;

  async function load(overview) {
    const path = `/radclear/study/${encodeURIComponent(study.id)}/chart/${answer.task}?overview=${overview}`;
    try {
      const { svg } = await request(path);
      place.replaceChildren(draw(svg));
      cursor?.(chosen);
    } catch (error) {
      if (overview) {
        note.textContent = `The curve is shown without the overview. ${error.message}`;
        load(false);
      } else {
        place.replaceChildren(h("p", { class: "error" }, `The curve cannot be drawn. ${error.message}`),
          h("button", { type: "button", class: "small", onclick: () => load(true) }, "Try again"));
      }
    }
  }

  function draw(text) {
    const svg = document.importNode(new DOMParser().parseFromString(text, "text/html").querySelector("svg"), true);
    const [left, top, width, height, peak] = svg.dataset.plot.split(" ").map(Number);
    const [low, high] = [Math.min(...study.z_mm), Math.max(...study.z_mm)];
    const yOf = (z) => top + (high > low ? (height * (high - z)) / (high - low) : height / 2);
    const xOf = (attention) => left + (width * attention) / peak;
    const mark = (name) => {
      const line = s("line", { class: `cursor ${name}`, x1: 0, x2: left + width });
      const dot = s("circle", { class: `cursor-dot ${name}`, r: 5 });
      svg.append(line, dot);
      return (number) => {
        const y = yOf(study.z_mm[number - 1]);
        line.setAttribute("y1", y);
        line.setAttribute("y2", y);
        dot.setAttribute("cx", xOf(answer.attention[number - 1]));
        dot.setAttribute("cy", y);
      };
    };
    const hover = mark("hover");
    cursor = mark("chosen");
    const at = (event) => {
      const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
      const z = high - ((point.y - top) / height) * (high - low);
      let best = 0;
      study.z_mm.forEach((value, index) => {
        if (Math.abs(value - z) < Math.abs(study.z_mm[best] - z)) best = index;
      });
      return best + 1;
    };
    svg.addEventListener("pointermove", (event) => {
      const number = at(event);
      svg.classList.add("hovered");
      hover(number);
      reading.textContent = `Slice ${number}, z ${study.z_text[number - 1]} mm, attention `
        + `${answer.attention[number - 1].toFixed(3)}. Click to see it.`;
    });
    svg.addEventListener("pointerleave", () => {
      svg.classList.remove("hovered");
      reading.textContent = "";
    });
    svg.addEventListener("click", (event) => onPick(at(event)));
    return svg;
  }
}
