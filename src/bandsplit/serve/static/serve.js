// The page of `bandsplit serve`: songs go to the server one by one, and the list of jobs follows its events.
import { announce, ask, duration, find, make, remove, size } from "./page.js";
import { takeSongs } from "./uploads.js";

const STAGES = {
  load: "Loading the model", decode: "Decoding", count: "Reading", separate: "Separating", write: "Writing",
  listen: "Preparing the player",
};
const ENDED = { done: "Done", failed: "Failed", cancelled: "Cancelled" };
let models = [];
let about = null;
let states = null; // id -> state of the job at the last event, to announce changes
let events = null;
let retry = null; // timer of `begin`
let look = null; // timer of `showModels`

/** Show why a job failed, or what cannot be done with it. */
function showError(item, text) {
  const error = item.querySelector(".error");
  error.textContent = text;
  error.hidden = !text;
}

function complain(item, text) {
  showError(item, text);
  announce(text);
}

// --- the token ---

const logIn = (token) => ask("/session", { method: "POST", headers: { Authorization: `Bearer ${token}` } });

/** Read what the server offers, and follow its jobs: at the start, when it comes back, and when the tab is shown. */
async function begin() {
  clearTimeout(retry);
  if (document.hidden) return;
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (token) {
    history.replaceState(null, "", location.pathname); // it must not stay in the history
    await logIn(token).catch(() => {});
  }
  try {
    about = await (await ask("/about")).json();
    await showModels();
  } catch (error) {
    const locked = error.status === 401;
    find("#offline").hidden = locked;
    if (!locked) {
      retry = setTimeout(begin, 2000);
      return;
    }
    find("main").hidden = true;
    find("#login").hidden = false;
    find("#token").focus();
    return;
  }
  find("#offline").hidden = true;
  find("#login").hidden = true;
  find("main").hidden = false;
  if (!find("#format").length) find("#format").append(...about.formats.map((format) => make("option", {}, format)));
  find("#songs").accept = ["audio/*", ...about.suffixes].join();
  find("#most").textContent = `up to ${size(about.max_upload_bytes)} each`;
  follow();
}

find("#login").addEventListener("submit", async (event) => {
  event.preventDefault();
  const wrong = find("#wrong");
  wrong.hidden = true;
  try {
    await logIn(find("#token").value.trim());
    find("#token").value = "";
    await begin();
  } catch (error) {
    wrong.textContent = error.status === 401 ? "This is not the token." : error.message;
    wrong.hidden = false;
  }
});

// --- models ---

const chosen = () => models.find(({ id }) => id === find(".models input:checked")?.value);

function price(model) {
  if (model.seconds_per_minute !== null) return `${duration(model.seconds_per_minute)} per minute of music`;
  return model.measured ? "speed not known" : "speed is being measured";
}

function card(model) {
  const facts = [model.targets.join(", "), size(model.bytes)];
  return make(
    "label", { "data-id": model.id },
    make("input", { type: "radio", name: "model", value: model.id, onchange: showStems }),
    make("strong", {}, model.id),
    make("span", {}, `${facts.join(" · ")} · `, make("span", { class: "price" }, price(model))),
    make("small", { title: `Trained on: ${model.training_data}` },
      `${model.scores.join("; ") || "score not published"}. Licence: ${model.licence}`),
  );
}

async function showModels() {
  models = await (await ask("/models")).json();
  const box = find(".models");
  for (const label of box.querySelectorAll("label")) {
    if (!models.some(({ id }) => id === label.dataset.id)) label.remove(); // the server was started with others
  }
  for (const model of models) {
    const known = box.querySelector(`[data-id="${CSS.escape(model.id)}"]`);
    const fresh = card(model);
    if (!known) {
      box.append(fresh);
      continue;
    }
    known.querySelector(".price").textContent = price(model);
    if (known.isEqualNode(fresh)) continue; // it may have the focus
    const { checked } = known.querySelector("input");
    known.replaceWith(fresh); // another model of this name
    fresh.querySelector("input").checked = checked;
    if (checked) showStems();
  }
  if (!chosen()) {
    box.querySelector("input").checked = true;
    showStems();
  }
  clearTimeout(look);
  if (models.some(({ measured }) => !measured)) look = setTimeout(() => showModels().catch(() => {}), 3000);
}

function showStems() {
  const { targets } = chosen();
  const pairs = targets.map((target) => make("option", { value: target }, `${target} and the rest of the song`));
  find("#stems").replaceChildren(make("option", { value: "" }, `all: ${targets.join(", ")}`), ...pairs);
}

takeSongs(() => {
  const wish = { model: chosen().id, format: find("#format").value };
  if (find("#stems").value) wish.two_stems = find("#stems").value;
  return { wish, mostBytes: about.max_upload_bytes };
}, begin);

// --- jobs ---

function follow() {
  events?.close();
  if (document.hidden) return;
  events = new EventSource("/jobs/events");
  events.onmessage = ({ data }) => show(JSON.parse(data));
  events.onerror = () => {
    events.close();
    find("#offline").hidden = false;
    retry = setTimeout(begin, 2000);
  };
}

// Browsers hold six connections to a server at most: a tab that nobody sees leaves its own to the others.
document.addEventListener("visibilitychange", () => {
  if (document.hidden) events?.close();
  else begin();
});

function describe(job) {
  const left = job.left_s === null ? "" : `, about ${duration(Math.max(1, Math.ceil(job.left_s)))} left`;
  if (job.state === "queued") return `Number ${job.position} in the queue${left}`;
  if (job.state === "running") {
    const { stage, share } = job.progress;
    const percent = stage === "load" ? "" : `, ${Math.floor(100 * share)} %`;
    return `${STAGES[stage] ?? stage}${percent}${left}`;
  }
  if (job.state !== "done") return ENDED[job.state];
  const { audio_s: audio, wall_s: wall } = job.result;
  return `Done: ${duration(audio)} of music in ${duration(wall)}`;
}

function link(job, file, text) {
  const href = `/jobs/${job.id}/${file}`;
  return make("a", { class: "button", href, download: true, "aria-label": `${text} of ${job.name}` }, text);
}

function actions(job, item) {
  const buttons = [];
  if (job.state === "queued" || job.state === "running") {
    const cancel = () => act(item, `/jobs/${job.id}/cancel`, "POST");
    buttons.push(make("button", { type: "button", "aria-label": `Cancel ${job.name}`, onclick: cancel }, "Cancel"));
  }
  if (job.state === "done") {
    const facts = { type: "button", class: "main listen", "aria-expanded": "false", "aria-label": `Listen to ${job.name}` };
    const listen = make("button", facts, "Listen");
    listen.addEventListener("click", () => togglePlayer(job, item, listen));
    buttons.push(listen, link(job, "zip", "All stems (zip)"));
    for (const stem of Object.keys(job.result.stems)) buttons.push(link(job, `stems/${encodeURIComponent(stem)}`, stem));
  }
  buttons.push(deleteButton(job, item));
  return buttons;
}

/** A button that asks once more before it deletes, and forgets the first press after a while. */
function deleteButton(job, item) {
  const button = make("button", { type: "button" });
  const word = (sure) => {
    button.classList.toggle("danger", sure);
    button.textContent = sure ? "Really delete?" : "Delete";
    button.setAttribute("aria-label", sure ? `Really delete ${job.name}?` : `Delete ${job.name}`);
  };
  button.addEventListener("click", ({ detail }) => {
    if (!button.classList.contains("danger")) {
      word(true);
      announce(button.getAttribute("aria-label"));
      setTimeout(() => word(false), find("#list").dataset.askAgainMs);
    } else if (detail < 2) { // a double click is no answer
      act(item, `/jobs/${job.id}`, "DELETE");
    }
  });
  word(false);
  return button;
}

const act = (item, address, method) => ask(address, { method }).catch(({ message }) => complain(item, message));

async function togglePlayer(job, item, button) {
  const open = item.querySelector(".song");
  if (open) {
    open.player.close();
    open.remove();
    button.setAttribute("aria-expanded", "false");
    return;
  }
  try {
    const text = await (await ask(`/jobs/${job.id}/player`)).text();
    const song = new DOMParser().parseFromString(text, "text/html").querySelector(".song");
    if (item.querySelector(".song")) return;
    item.append(song);
    song.player = window.bandsplitPlayer(song);
    button.setAttribute("aria-expanded", "true");
    showError(item, "");
  } catch (error) {
    complain(item, error.message);
  }
}

function update(item, job) {
  item.querySelector(".facts").textContent = describe(job);
  const bar = item.querySelector("progress");
  bar.hidden = job.state !== "running";
  const share = job.progress?.stage === "load" ? null : job.progress?.share;
  if (share === null || share === undefined) bar.removeAttribute("value");
  else bar.value = share;
  if (item.dataset.state === job.state) return;
  item.dataset.state = job.state;
  const notes = job.result?.notes.join("; ");
  showError(item, job.error ?? "");
  item.querySelector(".notes").textContent = notes ? `Note: ${notes}` : "";
  const had = item.querySelector(".actions").contains(document.activeElement);
  item.querySelector(".actions").replaceChildren(...actions(job, item));
  if (had) item.querySelector(".actions > *")?.focus();
}

function entry(job) {
  const wish = `${job.model}${job.two_stems ? `, ${job.two_stems} and the rest` : ""}, ${job.format}, ${size(job.bytes)}`;
  return make(
    "li", { class: "job", "data-id": job.id },
    make("h3", { tabindex: -1 }, make("bdi", {}, job.name)),
    make("p", { class: "facts" }), make("p", { class: "facts" }, wish), make("p", { class: "facts notes" }),
    make("p", { class: "error", hidden: true }),
    make("progress", { max: 1, "aria-label": `Progress of ${job.name}` }), make("div", { class: "actions" }),
  );
}

function show(jobs) {
  const list = find("#list");
  const news = [];
  const items = new Map([...list.children].map((item) => [item.dataset.id, item]));
  for (const job of jobs) { // in the order of arrival; the newest is shown first
    let item = items.get(job.id);
    if (!item) {
      item = entry(job);
      list.prepend(item);
    }
    update(item, job);
    items.delete(job.id);
    const before = states?.get(job.id);
    if (before && before !== job.state && ENDED[job.state]) news.push(`${job.name}: ${ENDED[job.state]}`);
  }
  for (const item of items.values()) {
    item.querySelector(".song")?.player.close();
    remove(item);
    news.push(`${item.querySelector("h3").textContent}: Deleted`);
  }
  if (news.length) announce(news.join("; "));
  states = new Map(jobs.map((job) => [job.id, job.state]));
  find("#none").hidden = jobs.length > 0;
}

begin();
