// A small line over time, for the eye; a label says it in words, unless words stand beside it.

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 90, HEIGHT = 20; // of the drawing, which is stretched as its place is

/**
 * Draw `samples`, pairs of a time and a value from 0 to `top` with the oldest first. Time goes to the right, from `since` to `until`.
 * @param {Element} place
 * @param {[number, number][]} samples
 */
export function drawLine(place, samples, { since, until, top, label = "" }) {
  const across = WIDTH / Math.max(1, until - since), up = (HEIGHT - 2) / top;
  const points = samples.map(([at, value]) =>
    `${((at - since) * across).toFixed(1)},${(HEIGHT - 1 - Math.min(value, top) * up).toFixed(1)}`).join(" ");
  if (!place.querySelector("svg")) place.replaceChildren(drawing());
  const [line] = place.children;
  const curve = /** @type {Element} */ (line.firstChild);
  if (curve.getAttribute("points") !== points) curve.setAttribute("points", points);
  if (label) line.setAttribute("aria-label", label);
  line.setAttribute(label ? "role" : "aria-hidden", label ? "img" : "true");
}

/** The samples of a value that held until the next of them, up to `until`. */
export function steps(samples, until) {
  return samples.flatMap(([at, value], index) => [[at, value], [samples[index + 1]?.[0] ?? until, value]]);
}

function drawing() {
  const line = document.createElementNS(SVG, "svg");
  line.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  line.setAttribute("preserveAspectRatio", "none");
  const curve = document.createElementNS(SVG, "polyline");
  curve.setAttribute("vector-effect", "non-scaling-stroke");
  line.append(curve);
  return line;
}
