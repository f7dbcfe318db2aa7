const byId = (id) => document.getElementById(id);
const form = byId("form");
const messages = JSON.parse(form.dataset.messages);
const examples = JSON.parse(form.dataset.examples);
// The class of a type has its colours.
const types = new Map(
  [...document.querySelectorAll(".legend li")].map((item) => [
    item.dataset.label,
    { className: item.className, name: item.querySelector(".name").textContent || item.dataset.label },
  ]),
);
const format = (message, values) => message.replace(/\{(\w+)\}/g, (_, key) => values[key]);

let request = null; // the AbortController of the latest request
let answer = null;
let example = 0;

const createElement = (tag, content, attributes = {}) => {
  // Set the content as text, so that markup in it is never interpreted.
  const element = Object.assign(document.createElement(tag), attributes);
  element.textContent = content;
  return element;
};

const createMark = (entity) => {
  const score = entity.score.toFixed(2);
  const label = entity.entity_group;
  const element = createElement("mark", answer.input.slice(entity.start, entity.end), {
    className: types.get(label).className,
    title: `${types.get(label).name} ${score}`,
  });
  const tag = createElement("span", label, { className: "tag" });
  tag.append(createElement("span", ` ${score}`, { className: "score" }));
  element.append(tag);
  return element;
};

const showAnswer = () => {
  const minimum = Number(byId("minimum").value);
  const shown = answer.result.filter((entity) => entity.score >= minimum);
  const pieces = [];
  let end = 0;
  for (const entity of shown) {
    pieces.push(answer.input.slice(end, entity.start), createMark(entity));
    end = entity.end;
  }
  byId("marked").replaceChildren(...pieces, answer.input.slice(end));
  byId("minimum-value").textContent = minimum.toFixed(2);
  const count = answer.result.length;
  const message = !count ? messages.none : minimum ? messages.shown : messages.found;
  byId("summary").textContent = format(message, { count, shown: shown.length, minimum: minimum.toFixed(2) });
  byId("json").textContent = JSON.stringify({ ...answer, result: shown }, null, 2);
  byId("copied").textContent = "";
  byId("result").hidden = false;
};

const clearResult = (summary = "") => {
  byId("error").replaceChildren();
  byId("result").hidden = true;
  byId("summary").textContent = summary;
};

const showError = (message, detail) => {
  clearResult();
  byId("error").append(message);
  // The details of the service are in English.
  if (detail) byId("error").append(createElement("span", detail, { lang: "en", className: "detail" }));
};

const showProblem = async (response) => {
  const isProblem = response.headers.get("Content-Type")?.startsWith("application/problem+json");
  const detail = isProblem ? (await response.json()).detail : undefined;
  if (response.status === 401) {
    showError(byId("token").value ? messages.token_wrong : messages.token_needed);
    byId("access").hidden = false;
    byId("token").focus();
  } else if (response.status === 413) showError(messages.too_long, detail);
  else if ([400, 422].includes(response.status)) showError(messages.refused, detail);
  else if ([429, 503].includes(response.status)) {
    const seconds = response.headers.get("Retry-After");
    showError(seconds ? `${messages.busy} ${format(messages.retry, { seconds })}` : messages.busy);
  } else showError(format(messages.failed, { status: response.status }), detail);
};

const submit = async () => {
  request?.abort();
  const value = byId("text").value;
  if (!value.trim()) {
    showError(messages.empty);
    byId("text").focus();
    return;
  }
  const token = byId("token").value.trim();
  // A header can only have these characters.
  if (/[^\x21-\x7e]/.test(token)) {
    showError(messages.token_wrong);
    byId("token").focus();
    return;
  }
  const headers = { "Content-Type": "application/json", Accept: "application/json" };
  if (token) headers.Authorization = `Bearer ${token}`;
  const controller = new AbortController();
  request = controller;
  clearResult(messages.working);
  try {
    const response = await fetch(form.action, {
      method: "POST",
      headers,
      // JavaScript strings are indexed in UTF-16 code units.
      body: JSON.stringify({ text: value, offsets: "utf16" }),
      signal: controller.signal,
    });
    if (!response.ok) {
      await showProblem(response);
      return;
    }
    answer = await response.json();
    showAnswer();
    byId("summary").scrollIntoView({ block: "nearest" });
  } catch {
    if (!controller.signal.aborted) showError(messages.unreachable);
  }
};

const copy = async () => {
  try {
    // The clipboard only exists on HTTPS and localhost.
    await navigator.clipboard.writeText(byId("json").textContent);
    byId("copied").textContent = messages.copied;
  } catch {
    byId("details").open = true;
    getSelection().selectAllChildren(byId("json"));
    byId("json").focus();
    byId("copied").textContent = messages.not_copied;
  }
};

form.addEventListener("submit", (event) => {
  event.preventDefault();
  submit();
});
byId("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    submit();
  }
});
byId("example").addEventListener("click", () => {
  const value = byId("text").value;
  if (value.trim() && !examples.includes(value) && !confirm(messages.replace)) return;
  byId("text").value = examples[example++ % examples.length];
  submit();
});
byId("minimum").addEventListener("input", showAnswer);
byId("copy").addEventListener("click", copy);
