// Shows openapi.json as a page.
import { find, make } from "./page.js";

(async () => {
  const api = await (await fetch("/openapi.json")).json();

  /** Write the type of a schema. */
  function type(schema) {
    if (!schema) return "";
    if (schema.$ref) return schema.$ref.split("/").pop();
    if (schema.anyOf) return schema.anyOf.map(type).join(" or ");
    if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" or ");
    if (schema.const !== undefined) return JSON.stringify(schema.const);
    if (schema.type === "array") return `list of ${type(schema.items ?? {}) || "values"}`;
    if (schema.type === "object" && schema.additionalProperties) return `object of ${type(schema.additionalProperties)}`;
    return schema.type ?? "";
  }

  const lines = (pairs) => make("dl", {}, ...pairs.flatMap(([name, text]) => [make("dt", {}, name), make("dd", {}, text)]));
  const join = (...texts) => texts.filter(Boolean).join(". ");

  function answer([status, { description, content }]) {
    const kinds = Object.entries(content ?? {}).map(([kind, { schema }]) => type(schema) || kind);
    return [status, join(kinds.join(", "), description)];
  }

  function route(path, method, facts) {
    const parameters = (facts.parameters ?? []).map(({ name, required, schema, description }) => (
      [name, join(description ?? schema.description, type(schema), required ? "" : `default: ${schema.default ?? "none"}`)]));
    const body = facts.requestBody ? [["body", facts.requestBody.description]] : [];
    return make(
      "div", { class: "route" },
      make("h3", {}, make("code", {}, `${method.toUpperCase()} ${path}`)),
      make("p", {}, facts.description), lines([...parameters, ...body]),
      make("p", { class: "note" }, "Answers"), lines(Object.entries(facts.responses).map(answer)),
    );
  }

  find("#about").textContent = api.info.description;
  find("#example").textContent = [
    `curl -X POST -T song.mp3 '${location.origin}/jobs?name=song.mp3&model=MODEL'`,
    `curl -N ${location.origin}/jobs/ID/events`,
    `curl -OJ ${location.origin}/jobs/ID/zip`,
  ].join("\n");
  const sections = new Map();
  for (const [path, methods] of Object.entries(api.paths)) {
    for (const [method, facts] of Object.entries(methods)) {
      const [tag] = facts.tags;
      if (!sections.has(tag)) sections.set(tag, make("section", {}, make("h2", {}, tag[0].toUpperCase() + tag.slice(1))));
      sections.get(tag).append(route(path, method, facts));
    }
  }
  find("#routes").append(...sections.values());
  for (const [name, { properties, description }] of Object.entries(api.components.schemas)) {
    if (!properties) continue;
    const fields = Object.entries(properties).map(([field, schema]) => [field, join(type(schema), schema.description)]);
    find("#objects").append(make(
      "div", { class: "route" }, make("h3", {}, make("code", {}, name)), make("p", {}, description ?? ""), lines(fields),
    ));
  }
})();
