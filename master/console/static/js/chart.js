// Lines over time, drawn as SVG: up to two series, which share one axis that begins at zero.
import { h, s, show } from "./dom.js";
import { clock } from "./format.js";

const kWidth = 600, kHeight = 132;

// 1, 2 or 5 times a power: of two for bytes, of ten for the rest.
function niceMaximum(value, binary) {
  if (!(value > 0)) return binary ? 1024 : 1;
  const base = binary ? 1024 ** Math.floor(Math.log(value) / Math.log(1024)) : 10 ** Math.floor(Math.log10(value));
  const steps = binary ? [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024] : [1, 2, 5, 10];
  return base * (steps.find((step) => step * base >= value) || 10);
}

function paths(values, x, y) {
  const parts = [];
  let line = null;
  values.forEach((value, i) => {
    if (value === null || value === undefined) { line = null; return; }
    if (!line) parts.push(line = []);
    line.push(`${x(i).toFixed(1)},${y(value).toFixed(1)}`);
  });
  return parts;
}

// series: [{name, values, format}], times in Unix milliseconds.
export function chart({ name, times, series, binary = false, seconds }) {
  if (times.length < 2) {
    return h("div", { class: "chart" }, h("p", { class: "empty" }, "The first values come within seconds"));
  }
  const end = times[times.length - 1], start = end - seconds * 1000;
  const most = niceMaximum(Math.max(0, ...series.flatMap(({ values }) => values.map((value) => value ?? 0))), binary);
  const x = (i) => (Math.max(0, times[i] - start) / (end - start)) * kWidth;
  const y = (value) => kHeight - (value / most) * (kHeight - 6);
  const format = series[0].format;
  const legend = (at) => series.map((one, k) => h("span", {},
    h("i", { class: k ? "s2" : "" }), `${one.name} `, h("b", {}, one.values[at] === null || one.values[at] === undefined ? "–" : one.format(one.values[at]))));
  const latest = times.length - 1;

  const plot = h("div", { class: "plot", role: "img",
                          "aria-label": `${name}: ${series.map((one) => `${one.name} ${one.format(one.values[latest] ?? 0)}`).join(", ")}` },
    s("svg", { viewBox: `0 0 ${kWidth} ${kHeight}`, preserveAspectRatio: "none", "aria-hidden": "true" },
      [0, most / 2, most].map((value) => s("line", { class: "gridline", x1: 0, x2: kWidth, y1: y(value), y2: y(value) })),
      series.map((one, k) => paths(one.values, x, y).map((points) => [
        s("path", { class: `area ${k ? "s2" : ""}`, d: `M${points[0].split(",")[0]},${kHeight}L${points.join("L")}L${points.at(-1).split(",")[0]},${kHeight}Z` }),
        s("path", { class: k ? "s2" : "", d: `M${points.join("L")}` }),
      ]))),
    [most / 2, most].filter((value) => value === most || format(value) !== format(most)).map((value) => h("span", { class: "tick", style: { top: `${((y(value) / kHeight) * 100).toFixed(1)}%` } }, format(value))));

  const top = h("div", { class: "legend" }, legend(latest));
  plot.onpointermove = (event) => {
    const box = plot.getBoundingClientRect();
    const time = start + ((event.clientX - box.left) / box.width) * (end - start);
    let at = times.findIndex((one) => one >= time);
    if (at < 0) at = latest;
    let cursor = plot.querySelector(".cursor");
    if (!cursor) plot.append(cursor = h("span", { class: "cursor" }));
    cursor.style.left = `${((x(at) / kWidth) * 100).toFixed(2)}%`;
    show(plot.parentElement.querySelector(".legend"), legend(at), h("span", {}, clock(times[at])));
  };
  plot.onpointerleave = () => {
    plot.querySelector(".cursor")?.remove();
    show(plot.parentElement.querySelector(".legend"), legend(latest));
  };
  plot.handlers = new Set(["onpointermove", "onpointerleave"]);
  return h("div", { class: "chart" }, top, plot,
           h("div", { class: "times" }, h("span", {}, clock(start)), h("span", {}, clock(end))));
}
