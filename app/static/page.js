const at = (id) => document.getElementById(id);
const form = at("form");
const messages = JSON.parse(form.dataset.messages);
const examples = JSON.parse(form.dataset.examples);
const names = new Map(
  [...document.querySelectorAll(".legend li")].map((item) => [item.className, item.querySelector(".name").textContent]),
);
const fill = (message, values) => message.replace(/\{(\w+)\}/g, (_, key) => values[key]);

let request = null;
let answer = null;
let example = 0;

const create = (tag, content, attributes = {}) => {
  // Whatever the text holds, it enters the page as text alone.
  const element = Object.assign(document.createElement(tag), attributes);
  element.textContent = content;
  return element;
};

const mark = (entity) => {
  const score = entity.score.toFixed(2);
  const label = entity.entity_group;
  const element = create("mark", answer.input.slice(entity.start, entity.end), {
    className: label,
    title: `${names.get(label)} ${score}`,
  });
  const tag = create("span", label, { className: "tag" });
  tag.append(create("span", ` ${score}`, { className: "score" }));
  element.append(tag);
  return element;
};

const show = () => {
  const minimum = Number(at("minimum").value);
  const shown = answer.result.filter((entity) => entity.score >= minimum);
  const pieces = [];
  let end = 0;
  for (const entity of shown) {
    pieces.push(answer.input.slice(end, entity.start), mark(entity));
    end = entity.end;
  }
  at("marked").replaceChildren(...pieces, answer.input.slice(end));
  at("minimum-value").textContent = minimum.toFixed(2);
  const count = answer.result.length;
  const message = !count ? messages.none : minimum ? messages.shown : messages.found;
  at("summary").textContent = fill(message, { count, shown: shown.length, minimum: minimum.toFixed(2) });
  at("json").textContent = JSON.stringify({ ...answer, result: shown }, null, 2);
  at("copied").textContent = "";
  at("result").hidden = false;
};

const clear = (summary = "") => {
  at("error").replaceChildren();
  at("result").hidden = true;
  at("summary").textContent = summary;
};

const fail = (message, detail) => {
  clear();
  at("error").append(message);
  // The service writes its details in English.
  if (detail) at("error").append(create("span", detail, { lang: "en", className: "detail" }));
};

const problem = async (response) => {
  const isProblem = response.headers.get("Content-Type")?.startsWith("application/problem+json");
  const detail = isProblem ? (await response.json()).detail : undefined;
  if (response.status === 401) {
    fail(at("token").value ? messages.token_wrong : messages.token_needed);
    at("access").hidden = false;
    at("token").focus();
  } else if (response.status === 413) fail(messages.too_long, detail);
  else if ([400, 422].includes(response.status)) fail(messages.refused, detail);
  else if ([429, 503].includes(response.status)) {
    const seconds = response.headers.get("Retry-After");
    fail(seconds ? `${messages.busy} ${fill(messages.retry, { seconds })}` : messages.busy);
  } else fail(fill(messages.failed, { status: response.status }), detail);
};

const submit = async () => {
  request?.abort();
  const value = at("text").value;
  if (!value.trim()) {
    fail(messages.empty);
    at("text").focus();
    return;
  }
  const token = at("token").value.trim();
  // No header can hold anything else.
  if (/[^\x21-\x7e]/.test(token)) {
    fail(messages.token_wrong);
    at("token").focus();
    return;
  }
  const headers = { "Content-Type": "application/json", Accept: "application/json" };
  if (token) headers.Authorization = `Bearer ${token}`;
  const own = (request = new AbortController());
  clear(messages.working);
  try {
    const response = await fetch(form.action, {
      method: "POST",
      headers,
      // JavaScript counts in UTF-16.
      body: JSON.stringify({ text: value, offsets: "utf16" }),
      signal: own.signal,
    });
    if (!response.ok) {
      await problem(response);
      return;
    }
    answer = await response.json();
    show();
    at("summary").scrollIntoView({ block: "nearest" });
  } catch {
    if (!own.signal.aborted) fail(messages.unreachable);
  }
};

const copy = async () => {
  try {
    // Outside HTTPS and localhost there is no clipboard at all.
    await navigator.clipboard.writeText(at("json").textContent);
    at("copied").textContent = messages.copied;
  } catch {
    at("details").open = true;
    getSelection().selectAllChildren(at("json"));
    at("json").focus();
    at("copied").textContent = messages.not_copied;
  }
};

form.addEventListener("submit", (event) => {
  event.preventDefault();
  submit();
});
at("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    submit();
  }
});
at("example").addEventListener("click", () => {
  const value = at("text").value;
  if (value.trim() && !examples.includes(value) && !confirm(messages.replace)) return;
  at("text").value = examples[example++ % examples.length];
  submit();
});
at("minimum").addEventListener("input", show);
at("copy").addEventListener("click", copy);
