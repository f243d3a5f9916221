// The job's JSON schema as a list of arguments: what each is called, means, may be, and is when nothing is said.

// [{group, title, fields}] of the schema; the first has what stands in no group.
export function groupsOf({ schema, groups, fates }) {
  const own = Object.entries(schema.properties).filter(([name]) => !groups.includes(name) && name !== "steps");
  const first = { group: null, title: "Job", fields: own.map(([name, part]) => fieldOf(schema, null, name, part, {})) };
  const others = groups.map((group) => {
    const described = resolved(schema, schema.properties[group]);
    const fields = Object.entries(described.properties).map(([name, part]) => fieldOf(schema, group, name, part, fates));
    return { group, title: group[0].toUpperCase() + group.slice(1), fields };
  });
  return [first, ...others];
}

// kind: choice, switch, integer, number, text, list, pairs, json
function fieldOf(schema, group, name, part, fates) {
  const options = (part.anyOf ?? [part]).map((option) => resolved(schema, option)).filter((option) => option.type !== "null");
  const shape = options.find((option) => option.type === "array") ?? options[0] ?? {};
  const path = group === null ? [name] : [group, name];
  return {
    path,
    name,
    id: path.join("-"),
    pointer: `/${path.join("/")}`,
    help: part.description ?? "",
    standard: part.default ?? null,
    kind: kindOf(shape),
    choices: shape.enum ?? null,
    format: shape.format ?? null,
    isNeeded: group !== null && (resolved(schema, schema.properties[group]).required ?? []).includes(name),
    isSecret: /_token$/.test(name),
    bounds: boundsOf(shape),
    fate: fates[path.join(".")] ?? { kind: "works", why: "" },
  };
}

function kindOf(shape) {
  if (shape.enum) return "choice";
  if (shape.type === "boolean") return "switch";
  if (shape.type === "integer" || shape.type === "number") return shape.type;
  if (shape.type === "array") return shape.items?.type === "string" || !shape.items ? "list" : "json";
  if (Object.values(shape.patternProperties ?? {}).some((value) => value.type === "string")) return "pairs";
  return shape.type === "object" || shape.properties ? "json" : "text";
}

function boundsOf(shape) {
  const said = [
    shape.minimum === undefined ? null : `at least ${shape.minimum}`,
    shape.exclusiveMinimum === undefined ? null : `above ${shape.exclusiveMinimum}`,
    shape.maximum === undefined ? null : `at most ${shape.maximum}`,
    shape.exclusiveMaximum === undefined ? null : `below ${shape.exclusiveMaximum}`,
  ];
  return said.filter(Boolean).join(", ");
}

function resolved(schema, part) {
  return part.$ref ? schema.$defs[part.$ref.split("/").at(-1)] : part;
}
