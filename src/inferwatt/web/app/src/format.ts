/** Numbers for people: three significant digits, an SI prefix, and a dash for what is not known. */

export type EnergyUnit = "J" | "Wh";

export interface Quantity {
  figure: string;
  unit: string;
}

export const UNKNOWN = "–";
const JOULES_PER_WH = 3600;

const PREFIXES = [
  { factor: 1e9, prefix: "G" },
  { factor: 1e6, prefix: "M" },
  { factor: 1e3, prefix: "k" },
  { factor: 1, prefix: "" },
  { factor: 1e-3, prefix: "m" },
  { factor: 1e-6, prefix: "µ" },
] as const;
const SMALLEST = PREFIXES[PREFIXES.length - 1]!;
const ONE = PREFIXES[3];

type Prefix = (typeof PREFIXES)[number];

/** The prefix for a value; whole units are kept down to a tenth, since 0.42 J reads easier than 420 mJ. */
function prefixOf(value: number): Prefix {
  const size = Math.abs(value);
  if (size === 0) return ONE;
  return PREFIXES.find(({ factor }) => size >= (factor === 1 ? 0.1 : factor * 0.9995)) ?? SMALLEST;
}

/** Three significant digits without an exponent. */
function digits(value: number): string {
  const size = Math.abs(value);
  if (size === 0) return "0";
  const places = size >= 99.95 ? 0 : size >= 9.995 ? 1 : 2;
  return size < 0.0995 ? value.toFixed(3) : value.toFixed(size < 0.9995 ? 3 : places);
}

/** A value with its unit, e.g. 1234 W -> 1.23 kW. */
export function quantity(value: number | null | undefined, unit: string): Quantity {
  if (value == null || !Number.isFinite(value)) return { figure: UNKNOWN, unit: "" };
  const { factor, prefix } = prefixOf(value);
  return { figure: digits(value / factor), unit: prefix + unit };
}

/** Joules in the unit that the reader chose. */
export function energy(joules: number | null | undefined, unit: EnergyUnit): Quantity {
  return quantity(joules == null ? joules : inUnit(joules, unit), unit);
}

/** A range in the prefix of the figure that it belongs to, e.g. "0.252–0.588". */
export function range(
  low: number | null,
  high: number | null,
  figure: number | null,
  unit: EnergyUnit,
): string | null {
  if (low == null || high == null || figure == null) return null;
  const { factor } = prefixOf(inUnit(figure, unit));
  return `${digits(inUnit(low, unit) / factor)}–${digits(inUnit(high, unit) / factor)}`;
}

function inUnit(joules: number, unit: EnergyUnit): number {
  return unit === "J" ? joules : joules / JOULES_PER_WH;
}

/** A count, grouped by thin spaces: 12 345. */
export function count(value: number | null | undefined): string {
  if (value == null) return UNKNOWN;
  return String(value).replace(/\B(?=(\d{3})+(?!\d))/g, "\u2009");
}

/** A rate with three significant digits. */
export function rate(value: number | null | undefined): string {
  return value == null ? UNKNOWN : digits(value);
}

/** "±40%"; a bound of which nothing is known is not shown. */
export function bound(ratio: number | null | undefined): string {
  if (ratio == null) return "";
  const percent = ratio * 100;
  return `±${percent >= 10 ? Math.round(percent) : +percent.toFixed(1)}%`;
}

/** A part of a whole; small parts are "<1%", never 0%. */
export function share(part: number, whole: number): string {
  if (whole <= 0) return UNKNOWN;
  const percent = (part / whole) * 100;
  return percent > 0 && percent < 1 ? "<1%" : `${Math.round(percent)}%`;
}

/** How long, in one or two units: 0.84 s, 12 s, 3 min 20 s, 5 h 12 min, 2 d 4 h. */
export function span(seconds: number): string {
  if (seconds < 9.995) return `${Math.max(seconds, 0).toFixed(2)} s`;
  if (seconds < 60) return `${Math.round(seconds)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${Math.floor(seconds % 60)} s`;
  const hours = Math.floor(minutes / 60);
  return hours < 24 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** How long ago, coarse enough not to flicker. */
export function age(seconds: number): string {
  if (seconds < 1) return "now";
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  return span(seconds);
}

/** The time of day on the reader's clock, 24 hours. */
export function clock(unixSeconds: number): string {
  return new Date(unixSeconds * 1000).toLocaleTimeString("en-GB");
}
