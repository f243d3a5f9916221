// What stands in a field and what stands in the document, each from the other.

export function shownAs(field, value) {
  if (value === null || value === undefined) return "";
  if (field.kind === "list") return Array.isArray(value) ? value.join(", ") : String(value);
  if (field.kind === "pairs" && typeof value === "object") return Object.entries(value).map((pair) => pair.join(": ")).join(", ");
  return field.kind === "json" ? JSON.stringify(value) : String(value);
}

// undefined: nothing is said. What cannot be read stays text, for the service to refuse in its own words.
export function readFrom(field, text) {
  const said = text.trim();
  if (said === "") return undefined;
  if (field.kind === "integer" || field.kind === "number") return Number.isFinite(Number(said)) ? Number(said) : said;
  if (field.kind === "list") return said.split(",").map((one) => one.trim()).filter(Boolean);
  if (field.kind === "choice") return field.choices.find((choice) => String(choice) === said) ?? said;
  if (field.kind === "pairs") return pairsOf(said);
  if (field.kind !== "json") return text;
  try {
    return JSON.parse(said);
  } catch {
    return said;
  }
}

// "team: nlp, run: 3"; what is no pair stays text.
function pairsOf(said) {
  const pairs = said.split(",").map((one) => one.split(/:(.*)/s).map((part) => part.trim()));
  return pairs.every(([key, value]) => key && value !== undefined) ? Object.fromEntries(pairs.map(([key, value]) => [key, value])) : said;
}

export function at(document, path) {
  return path.reduce((value, key) => value?.[key], document);
}

// Sets it, or takes it out where `value` is undefined; groups that are empty then go, too.
export function put(document, path, value) {
  const [key, ...rest] = path;
  if (!rest.length) {
    if (value === undefined) delete document[key];
    else document[key] = value;
    return;
  }
  document[key] ??= {};
  put(document[key], rest, value);
  if (!Object.keys(document[key]).length) delete document[key];
}
