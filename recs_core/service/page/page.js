"use strict";
// Everything is asked of the service that the page came from; nothing is fetched from anywhere else.

const REASONS = 4;
const find = (selector, within = document) => within.querySelector(selector);
const leftOut = new Map();
let facts = null, key = "", latest = 0;

function make(tag, text, attributes = {}) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

class Refused extends Error {
  constructor(status, told) {
    super(told.error || `the service answers ${status}`);
    this.status = status;
    this.field = told.field;
  }
}

async function ask(path, body) {
  const headers = {"content-type": "application/json"};
  if (key) headers["x-api-key"] = key;
  const options = body === undefined ? {headers} : {method: "POST", headers, body: JSON.stringify(body)};
  const response = await fetch(path, options);
  const told = await response.json().catch(() => ({}));
  if (!response.ok) throw new Refused(response.status, told);
  return told;
}

// Ids are text or integers, as training had them.
const asId = (text, kind) => kind === "integer" && /^-?\d+$/.test(text) ? Number(text) : text;

async function start() {
  try {
    facts = await ask("info");
  } catch (error) {
    find("#key-form").hidden = error.status !== 401;
    trouble(error);
    if (error.status === 503) setTimeout(start, 1000);
    return;
  }
  trouble(null);
  find("#key-form").hidden = true;
  const number = new Intl.NumberFormat();
  find("#facts").textContent = `Bundle ${facts.bundle.slice(0, 12)} of ${facts.created.slice(0, 10)}: ` +
    `${number.format(facts.queries)} of ${facts.query}, ${number.format(facts.candidates)} of ${facts.candidate}; ` +
    (facts.exact ? "every candidate is scored." : `searched by ${facts.index}, which is approximate.`);
  find("#query-label").textContent = facts.query;
  find("#k").max = facts.limits.k;
  const columns = Object.entries(facts.columns).map(([name, kind]) => `${name} (${kind})`);
  find("#columns").textContent = `Of ${columns.join(", ")}`;
  const priced = Object.entries(facts.columns).find(([, kind]) => /double|float|int/.test(kind));
  if (priced) find("#where").placeholder = `${priced[0]} < 10`;
  await offer("");
  const named = decodeURIComponent(location.hash.slice(1));
  if (named) {
    find("#query").value = named;
    await recommend();
  }
}

async function offer(beginning) {
  const known = await ask("queries", {starts_with: beginning, most: 50});
  find("#known").replaceChildren(...known.queries.map(id => make("option", undefined, {value: id})));
}

function question() {
  const asked = {
    queries: [asId(find("#query").value.trim(), facts.query_ids)],
    k: Number(find("#k").value),
    exclude_seen: find("#seen").checked,
    attributes: true,
  };
  if (leftOut.size) asked.exclude = [[...leftOut.keys()]];
  const where = find("#where").value.trim();
  if (where) asked.where = where;
  if (facts.context.length) asked.context = "blank";
  return asked;
}

async function recommend() {
  const turn = ++latest, asked = question();
  say("Asking …");
  trouble(null);
  try {
    const each = [ask("recommend", asked), ask("history", {query: asked.queries[0], last: 20})];
    if (facts.beside) each.push(ask("beside/recommend", asked));
    const [first, past, second] = await Promise.all(each);
    if (turn !== latest) return;
    showPast(past);
    const ids = told => new Set(told.answers[0].candidates.map(candidate => candidate.id));
    show("#first", first, "", second && ids(second));
    if (second) show("#second", second, "beside/", ids(first));
    history.replaceState(null, "", `#${encodeURIComponent(asked.queries[0])}`);
    const answer = first.answers[0];
    say(`${answer.returned} recommended` + (answer.returned < answer.requested_k ? ": no more are left" : "") + ".");
  } catch (error) {
    if (turn !== latest) return;
    if (error.status === 401) find("#key-form").hidden = false;
    say("");
    trouble(error);
  }
}

const nameOf = candidate => String((facts.name && candidate.attributes[facts.name]) ?? candidate.id);

function rest(candidate) {
  const others = Object.entries(candidate.attributes).filter(([name, value]) => name !== facts.name && value !== null);
  return [candidate.id, ...others.map(([name, value]) => `${name} ${value}`)].join(" · ");
}

function row(candidate, rank) {
  const made = make("li", undefined, {class: "candidate"});
  made.append(make("span", rank, {class: "rank"}), make("span", nameOf(candidate), {class: "name"}));
  return made;
}

function showPast(past) {
  const section = find("#history");
  section.hidden = false;
  const shown = past.candidates.length;
  find(".note", section).textContent = past.unknown_query ? "Training never saw this id." :
    `The latest ${shown} of ${past.of}.`;
  find("ol", section).replaceChildren(...past.candidates.map((candidate, at) => {
    const made = row(candidate, at + 1);
    made.append(make("span", rest(candidate), {class: "more"}));
    return made;
  }));
}

function show(where, told, path, others) {
  const section = find(where), answer = told.answers[0], list = answer.candidates;
  section.hidden = false;
  const by = {model: "by the model", oov: "as for an id that nobody knows", popular: "by popularity"}[answer.answered_by];
  find(".note", section).textContent = `${answer.returned} of ${answer.requested_k} ${by}, ${answer.excluded} left out; ` +
    `bundle ${told.bundle.slice(0, 12)}`;
  const scores = list.map(candidate => candidate.score), low = Math.min(0, ...scores), high = Math.max(...scores);
  find("ol", section).replaceChildren(...list.map((candidate, at) => {
    const made = row(candidate, at + 1), name = nameOf(candidate);
    made.append(make("span", candidate.score.toFixed(3), {class: "score", title: "score"}));
    const bar = make("span", undefined, {class: "bar", "aria-hidden": "true"}), filled = make("i");
    filled.style.width = `${high > low ? Math.round(100 * (candidate.score - low) / (high - low)) : 100}%`;
    bar.append(filled);
    made.append(bar, make("span", rest(candidate), {class: "more"}));
    const acts = make("span", undefined, {class: "acts"});
    if (others && !others.has(candidate.id)) acts.append(make("span", "only here", {class: "only"}));
    if (facts.explains && answer.answered_by === "model") acts.append(whyButton(path, answer.query, candidate, made, name));
    const out = make("button", "Leave out", {type: "button", "aria-label": `Leave out ${name}`});
    out.addEventListener("click", () => leave(candidate.id, name));
    acts.append(out);
    made.append(acts);
    return made;
  }));
}

function whyButton(path, query, candidate, into, name) {
  const button = make("button", "Why?", {type: "button", "aria-expanded": "false", "aria-label": `Why ${name}?`});
  button.addEventListener("click", async () => {
    const open = find(".why", into);
    if (open) open.remove();
    else await explain(path, query, candidate, into);
    button.setAttribute("aria-expanded", String(!open && Boolean(find(".why", into))));
  });
  return button;
}

async function explain(path, query, candidate, into) {
  try {
    const asked = {query, candidate: candidate.id};
    if (facts.context.length) asked.context = "blank";
    const told = await ask(`${path}explain`, asked);
    const parts = told.parts.sort((a, b) => Math.abs(b.value) - Math.abs(a.value)).slice(0, REASONS);
    const list = make("ul", undefined, {class: "why", "aria-label": "The largest parts of the score"});
    list.append(...parts.map(part => {
      const line = make("li", named(part.name));
      line.append(make("span", `${part.value >= 0 ? "+" : "−"}${Math.abs(part.value).toFixed(3)}`, {class: "score"}));
      return line;
    }));
    into.append(list);
  } catch (error) {
    trouble(error);
  }
}

// "item_id 22423" by the name that the history shows for it.
function named(part) {
  const shown = [...document.querySelectorAll("#history li")].find(line => {
    const id = find(".more", line).textContent.split(" · ")[0];
    return part.endsWith(` ${id}`);
  });
  return shown ? `${find(".name", shown).textContent} (${part})` : part;
}

function leave(id, name) {
  leftOut.set(id, name);
  drawLeftOut();
  recommend();
  find("#lists").focus({preventScroll: true});
}

function drawLeftOut() {
  find("#left-out").hidden = !leftOut.size;
  find("#left-out ul").replaceChildren(...[...leftOut].map(([id, name]) => {
    const item = make("li"), button = make("button", `${name} ×`, {type: "button", "aria-label": `Take ${name} back in`});
    button.addEventListener("click", () => { leftOut.delete(id); drawLeftOut(); recommend(); });
    item.append(button);
    return item;
  }));
}

const say = text => { find("#said").textContent = text; };
const trouble = error => { find("#trouble").textContent = error ? error.message : ""; };

find("#ask").addEventListener("submit", event => { event.preventDefault(); if (facts) recommend(); });
find("#query").addEventListener("input", event => {
  if (facts) offer(event.target.value.trim()).catch(trouble);
});
find("#key-form").addEventListener("submit", event => {
  event.preventDefault();
  key = find("#key").value;
  start();
});
start();
