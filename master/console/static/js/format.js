// Numbers as `cairn` prints them. 64-bit numbers arrive as text.

export const n = (value) => Number(value || 0);

// Like printf: exactly between two, the even one.
function fixed(value, digits) {
  const scale = 10 ** digits;
  const scaled = value * scale;
  const floor = Math.floor(scaled);
  const rounded = scaled - floor === 0.5 ? floor + (floor % 2) : Math.round(scaled);
  return (rounded / scale).toFixed(digits);
}

export function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
  let amount = n(value), unit = 0;
  while (amount >= 1024 && unit + 1 < units.length) { amount /= 1024; unit++; }
  if (unit === 0) return `${Math.round(amount)} B`;
  return `${fixed(amount, amount < 10 ? 1 : 0)} ${units[unit]}`;
}
export const rate = (value) => `${bytes(value)}/s`;

export function duration(seconds) {
  const all = Math.max(0, Math.floor(n(seconds)));
  const two = (value) => String(value).padStart(2, "0");
  if (all >= 3600) return `${Math.floor(all / 3600)}:${two(Math.floor(all / 60) % 60)}:${two(all % 60)}`;
  return `${Math.floor(all / 60)}:${two(all % 60)}`;
}

// For people who want a feeling, not a clock: "4 s", "3 min", "2 h", "5 d".
export function about(seconds) {
  const all = n(seconds);
  const short = (value) => Number(fixed(value, value < 10 ? 1 : 0));
  if (all < 10) return `${short(all)} s`;
  if (all < 120) return `${Math.round(all)} s`;
  if (all < 3600) return `${Math.round(all / 60)} min`;
  if (all < 86400) return `${short(all / 3600)} h`;
  return `${short(all / 86400)} d`;
}

export function percent(part, whole, digits = 0) {
  return whole > 0 ? `${fixed((100 * part) / whole, digits)} %` : "–";
}
const digits = (value) => (value >= 100 ? Math.round(value) : Number(value.toPrecision(2)));
export const ms = (value) => (value >= 1000 ? `${digits(value / 1000)} s` : `${digits(value)} ms`);
export const perSecond = (value) => `${digits(value)}/s`;
export const count = (value) => String(Math.round(value));

export function dateTime(unixMs) {
  const at = new Date(n(unixMs));
  const two = (value) => String(value).padStart(2, "0");
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${clock(unixMs)}`;
}
export function clock(unixMs) {
  const at = new Date(n(unixMs));
  return [at.getHours(), at.getMinutes(), at.getSeconds()].map((part) => String(part).padStart(2, "0")).join(":");
}

export function mode(attr) {
  const type = { DIRECTORY: "d", SYMLINK: "l", FIFO: "p", SOCKET: "s", CHAR_DEVICE: "c", BLOCK_DEVICE: "b" }[attr.type] || "-";
  const bits = [..."rwxrwxrwx"].map((letter, i) => (attr.mode & (0o400 >> i) ? letter : "-"));
  if (attr.mode & 0o4000) bits[2] = bits[2] === "x" ? "s" : "S";
  if (attr.mode & 0o2000) bits[5] = bits[5] === "x" ? "s" : "S";
  if (attr.mode & 0o1000) bits[8] = bits[8] === "x" ? "t" : "T";
  return type + bits.join("");
}

export const stamp = (value) => (value ? `${n(value.epoch)}:${n(value.seq)}` : "–");
export const plural = (count, one, many = `${one}s`) => `${count} ${n(count) === 1 ? one : many}`;
// What administrators call servers ("cairn server set"), as of the last status.
const names = new Map();
export function noteServerNames(servers) {
  names.clear();
  for (const server of servers) if (server.name) names.set(Number(server.server), server.name);
}
export const serverName = (id) => (names.has(Number(id)) ? `${names.get(Number(id))} (cs${id})` : `cs${id}`);

// "64MiB", "1.5 GiB", "1000" -> bytes; NaN when it is no size.
export function parseBytes(text) {
  const match = /^\s*([0-9]+(?:\.[0-9]+)?)\s*([KMGTPE]?)(i?B)?\s*$/i.exec(text);
  if (!match) return NaN;
  return Math.round(Number(match[1]) * 1024 ** " KMGTPE".indexOf(match[2].toUpperCase() || " "));
}
// "90s", "30m", "2h", "1d" -> seconds.
export function parseDuration(text) {
  const match = /^\s*([0-9]+(?:\.[0-9]+)?)\s*([smhd])\s*$/i.exec(text);
  return match ? Math.round(Number(match[1]) * { s: 1, m: 60, h: 3600, d: 86400 }[match[2].toLowerCase()]) : NaN;
}
