// The images behind an answer: attention curve, the chosen slice, and the key slices as thumbnails.

import { picture, request } from "./api.js";
import { attentionFigure } from "./chart.js";
import { h, say } from "./dom.js";

const LARGE_PX = 768;
const THUMBNAIL_PX = 192;
const SCALE_MM = 50;
const AHEAD = 2; // slices on both sides that are fetched before they are asked for

/** The section of an answer, at its strongest key slice. It has what keys do: `step`, `stepKey` and so on. */
export function imageSection(study, answer, session) {
  const count = study.z_mm.length;
  const keys = answer.key_slices;
  let number = keys[0].number;
  let window = answer.window;
  let wanted = "";

  const image = h("img", { alt: "" });
  const frame = h("div", { class: "frame" }, image, scaleBar(study));
  const trouble = h("p", { class: "error", role: "alert" });
  const caption = h("p", { class: "caption" });
  const slider = h("input", { type: "range", id: "slice", min: 1, max: count, step: 1,
    oninput: () => show(Number(slider.value)) });
  const curve = attentionFigure(study, answer, show);
  const windows = h("fieldset", { class: "windows" }, h("legend", {}, "Window"),
    session.windows.map(({ name, text }) => h("label", { class: "choice" },
      h("input", { type: "radio", name: "window", value: name, checked: name === window, onchange: () => setWindow(name) }),
      `${name} ${text}`)));
  const link = h("a", { class: "button", target: "_blank", rel: "noopener", onclick: openWithToken }, "Open OHIF at this slice");
  const thumbnails = keys.map((key) => thumbnail(study, key, answer, session, () => show(key.number)));
  const title = `images-${answer.task}`;

  frame.addEventListener("wheel", (event) => {
    if (event.ctrlKey || event.deltaY === 0) return; // zooming the page stays zooming
    event.preventDefault();
    step(event.deltaY < 0 ? 1 : -1);
  }, { passive: false });

  const element = h("section", { class: "card images", "aria-labelledby": title },
    h("h2", { id: title }, `Images: ${answer.title.toLowerCase()}`),
    h("div", { class: "imagegrid" },
      h("div", { class: "curve" }, h("h3", {}, "Attention over the slices"), curve,
        h("p", { class: "meaning" }, `${study.attention_meaning} The dotted line is even attention `
          + `(${(1 / count).toFixed(3)} per slice).`)),
      h("div", { class: "large" }, h("h3", {}, "Chosen slice"), frame, trouble, caption,
        h("div", { class: "slider" }, h("label", { for: "slice" }, "Slice"), h("span", { "aria-hidden": "true" }, "foot"), slider,
          h("span", { "aria-hidden": "true" }, "head")),
        windows,
        study.viewer ? h("p", {}, link) : h("p", { class: "muted" }, session.no_viewer || study.no_viewer)),
      h("div", { class: "keys" }, h("h3", {}, "Key slices"), h("ol", { class: "thumbnails" }, thumbnails.map((t) => h("li", {}, t))))));
  show(number);
  return { element, step, stepKey, nextWindow, openViewer };

  function show(next) {
    number = Math.min(Math.max(next, 1), count);
    slider.value = number;
    const attention = answer.attention[number - 1];
    const key = keys.find((entry) => entry.number === number);
    const place = `Slice ${number} of ${count}, z ${study.z_text[number - 1]} mm`;
    const words = `Attention ${attention.toFixed(3)}, ${(attention * count).toFixed(1)} times the even share`;
    slider.setAttribute("aria-valuetext", `${place}. ${words}${key ? `, key slice ${key.rank}` : ""}`);
    caption.replaceChildren(h("strong", {}, key ? `Key slice #${key.rank}. ` : ""), `${place}. ${words}.`);
    curve.show(number);
    thumbnails.forEach((button, index) => button.setAttribute("aria-pressed", keys[index].number === number ? "true" : "false"));
    link.href = viewerPath(study, number);
    load(place);
  }

  async function load(place) {
    const path = slicePath(study, number, window, LARGE_PX);
    wanted = path;
    frame.classList.add("loading");
    try {
      const address = await picture(path);
      if (wanted !== path) return; // another slice was chosen meanwhile
      image.src = address;
      image.alt = `Axial ${place.charAt(0).toLowerCase()}${place.slice(1)}, ${window} window, patient’s right at the left`;
      trouble.textContent = "";
      frame.classList.remove("loading", "missing");
      for (let by = 1; by <= AHEAD; by += 1) {
        for (const near of [number + by, number - by]) {
          if (near >= 1 && near <= count) picture(slicePath(study, near, window, LARGE_PX)).catch(() => {});
        }
      }
    } catch (error) {
      if (wanted !== path) return;
      image.removeAttribute("src");
      image.alt = "";
      frame.classList.remove("loading");
      frame.classList.add("missing");
      trouble.replaceChildren(`The slice cannot be shown. ${error.message} `,
        h("button", { type: "button", class: "small", onclick: () => load(place) }, "Try again"));
    }
  }

  function step(by) {
    show(number + by);
  }

  /** The next key slice in the order of their ranks. */
  function stepKey(by) {
    const at = keys.findIndex((key) => key.number === number);
    const next = at < 0 ? 0 : (at + by + keys.length) % keys.length;
    show(keys[next].number);
    say(`Key slice ${keys[next].rank}: slice ${keys[next].number}.`);
  }

  function setWindow(name) {
    window = name;
    windows.querySelector(`[value="${name}"]`).checked = true;
    show(number);
  }

  function nextWindow() {
    const at = session.windows.findIndex(({ name }) => name === window);
    setWindow(session.windows[(at + 1) % session.windows.length].name);
    say(`Window: ${window}.`);
  }

  function openViewer() {
    if (study.viewer) link.click();
    else say(session.no_viewer || study.no_viewer);
  }

  /** A link cannot carry a token, so with authentication the address is asked for first. */
  async function openWithToken(event) {
    if (!session.authentication) return;
    event.preventDefault();
    try {
      const { address } = await request(`${viewerPath(study, number)}&address=true`);
      globalThis.open(address, "_blank", "noopener");
    } catch (error) {
      trouble.textContent = error.message;
    }
  }
}

function viewerPath(study, number) {
  return `/radclear/study/${encodeURIComponent(study.id)}/ohif?slice=${number}`;
}

function slicePath(study, number, window, size) {
  const query = new URLSearchParams({ window, size, series_hash: study.series_hash });
  return `/radclear/study/${encodeURIComponent(study.id)}/slice/${number}?${query}`;
}

function scaleBar(study) {
  const bar = h("span", { class: "scale", "aria-hidden": "true" }, "5 cm");
  const share = SCALE_MM / study.width_mm;
  bar.hidden = share > 0.6;
  bar.style.width = `${100 * share}%`;
  return bar;
}

function thumbnail(study, key, answer, session, onPick) {
  const image = h("img", { alt: "" });
  const name = answer.window;
  const limits = session.windows.find((known) => known.name === name).text;
  const problem = h("span", { class: "error" });
  picture(slicePath(study, key.number, name, THUMBNAIL_PX)).then((address) => { image.src = address; },
    () => { problem.textContent = "no picture"; });
  return h("button", { type: "button", class: "thumbnail", "aria-pressed": "false", onclick: onPick }, image, problem,
    h("span", {}, h("strong", {}, `#${key.rank}`), ` slice ${key.number}`),
    h("span", { class: "muted" }, `attention ${key.attention}`), h("span", { class: "muted" }, `${name} ${limits}`));
}
