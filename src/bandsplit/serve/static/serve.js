// The page of `bandsplit serve`: songs go to the server one by one, and the list of jobs follows its events.
"use strict";

(() => {
  const find = (selector) => document.querySelector(selector);
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

  /** Make an element with attributes, listeners ("on..."), and children. */
  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else if (value === true) element.setAttribute(name, "");
      else if (value !== false && value !== null) element.setAttribute(name, value);
    }
    element.append(...children);
    return element;
  }

  function duration(seconds) {
    if (seconds < 9.95) return `${Number(seconds.toPrecision(2))} s`;
    if (seconds < 90) return `${Math.round(seconds)} s`;
    if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
    return `${(seconds / 3600).toFixed(1)} h`;
  }

  const size = (bytes) => (bytes < 1e6 ? `${Math.ceil(bytes / 1e3)} kB` : `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`);
  const announce = (text) => { find("#news").textContent = text; };

  async function ask(address, options = {}) {
    const answer = await fetch(address, options);
    if (!answer.ok) {
      const { detail } = await answer.json().catch(() => ({}));
      throw Object.assign(new Error(detail || `the server answers ${answer.status}`), { status: answer.status });
    }
    return answer;
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
      if (known) known.querySelector(".price").textContent = price(model);
      else box.append(card(model));
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

  // --- uploads ---

  const waiting = [];
  let sending = null;

  function add(files) {
    const wish = { model: chosen().id, format: find("#format").value };
    if (find("#stems").value) wish.two_stems = find("#stems").value;
    for (const file of files) {
      const upload = { file, wish };
      upload.facts = make("p", { class: "facts" }, "Waits to be uploaded");
      upload.bar = make("progress", { max: 1, value: 0, "aria-label": `Upload of ${file.name}` });
      upload.button = make("button", { type: "button", onclick: () => drop(upload) }, "Cancel");
      upload.item = make("li", { class: "job" }, make("h3", {}, make("bdi", {}, file.name)), upload.facts, upload.bar,
        make("div", { class: "actions" }, upload.button));
      find("#uploads").append(upload.item);
      if (file.size > about.max_upload_bytes) {
        refuse(upload, `The file has ${size(file.size)}; at most ${size(about.max_upload_bytes)} can be uploaded`);
      } else {
        waiting.push(upload);
      }
    }
    send();
  }

  function drop(upload) {
    upload.request?.abort();
    upload.item.remove();
    if (waiting.includes(upload)) waiting.splice(waiting.indexOf(upload), 1);
  }

  function refuse(upload, reason) {
    upload.bar.remove();
    upload.facts.className = "error";
    upload.facts.textContent = reason;
    upload.button.textContent = "Remove";
    announce(`${upload.file.name}: ${reason}`);
  }

  function send() {
    if (sending || !waiting.length) return;
    sending = waiting.shift();
    const upload = sending;
    const request = new XMLHttpRequest(); // fetch does not report the progress of uploads
    upload.request = request;
    const next = () => {
      sending = null;
      send();
    };
    request.upload.onprogress = ({ loaded, total }) => {
      upload.bar.value = total ? loaded / total : 0;
      upload.facts.textContent = `Uploading: ${size(loaded)} of ${size(total)}`;
    };
    request.onload = () => {
      if (request.status === 201) {
        upload.item.remove();
        announce(`${upload.file.name} is in the queue`);
      } else {
        let reason = `the server answers ${request.status}`;
        try { reason = JSON.parse(request.responseText).detail; } catch { /* no JSON: the status must do */ }
        refuse(upload, reason);
      }
      next();
    };
    request.onerror = () => {
      refuse(upload, "The upload was interrupted: the file cannot be read, or the server went away");
      next();
    };
    request.onabort = next;
    request.open("POST", `/jobs?${new URLSearchParams({ name: upload.file.name, ...upload.wish })}`);
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.send(upload.file);
  }

  find("#songs").addEventListener("change", ({ target }) => {
    add([...target.files]);
    target.value = ""; // so that the same file can be chosen again
  });
  // Anywhere on the page: a file that misses the box must not replace the page.
  addEventListener("dragover", (event) => {
    event.preventDefault();
    find(".drop").classList.add("over");
  });
  addEventListener("dragleave", () => find(".drop").classList.remove("over"));
  addEventListener("drop", (event) => {
    event.preventDefault();
    find(".drop").classList.remove("over");
    if (!find("main").hidden) add([...event.dataTransfer.files]);
  });

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
      const { stage, share } = job.progress ?? { stage: "load", share: 0 };
      const percent = stage === "load" ? "" : `, ${Math.floor(100 * share)} %`;
      return `${STAGES[stage] ?? stage}${percent}${left}`;
    }
    if (job.state !== "done") return ENDED[job.state];
    const { audio_s: audio, wall_s: wall } = job.result;
    return `Done: ${duration(audio)} of music in ${duration(wall)}`;
  }

  function actions(job, item) {
    const base = `/jobs/${job.id}`;
    const buttons = [];
    if (job.state === "queued" || job.state === "running") {
      const cancel = () => act(`${base}/cancel`, "POST");
      buttons.push(make("button", { type: "button", "aria-label": `Cancel ${job.name}`, onclick: cancel }, "Cancel"));
    }
    if (job.state === "done") {
      const listen = make("button", { type: "button", class: "main listen", "aria-expanded": "false" }, "Listen");
      listen.addEventListener("click", () => togglePlayer(job, item, listen));
      buttons.push(listen, make("a", { class: "button", href: `${base}/zip`, download: true }, "All stems (zip)"));
      for (const stem of Object.keys(job.result.stems)) {
        const href = `${base}/stems/${encodeURIComponent(stem)}`;
        buttons.push(make("a", { class: "button", href, download: true }, stem));
      }
    }
    buttons.push(deleteButton(job));
    return buttons;
  }

  /** A button that asks once more before it deletes. */
  function deleteButton(job) {
    const button = make("button", { type: "button", "aria-label": `Delete ${job.name}` }, "Delete");
    button.addEventListener("click", () => {
      if (button.classList.contains("danger")) {
        act(`/jobs/${job.id}`, "DELETE");
        return;
      }
      button.classList.add("danger");
      button.textContent = "Really delete?";
      button.setAttribute("aria-label", `Really delete ${job.name}?`);
      setTimeout(() => button.isConnected && button.replaceWith(deleteButton(job)), 5000);
    });
    return button;
  }

  const act = (address, method) => ask(address, { method }).catch((error) => announce(error.message));

  async function togglePlayer(job, item, button) {
    const open = item.querySelector(".song");
    button.setAttribute("aria-expanded", String(!open));
    if (open) {
      open.player.close();
      open.remove();
      return;
    }
    try {
      const text = await (await ask(`/jobs/${job.id}/player`)).text();
      const song = new DOMParser().parseFromString(text, "text/html").querySelector(".song");
      if (item.querySelector(".song")) return;
      item.append(song);
      song.player = window.bandsplitPlayer(song);
    } catch (error) {
      announce(error.message);
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
    const error = item.querySelector(".error");
    const notes = job.result?.notes.join("; ");
    error.textContent = job.error ?? "";
    error.hidden = !job.error;
    item.querySelector(".notes").textContent = notes ? `Note: ${notes}` : "";
    const had = item.querySelector(".actions").contains(document.activeElement);
    item.querySelector(".actions").replaceChildren(...actions(job, item));
    if (had) item.querySelector(".actions > *")?.focus();
  }

  function entry(job) {
    const wish = `${job.model}${job.two_stems ? `, ${job.two_stems} and the rest` : ""}, ${job.format}, ${size(job.bytes)}`;
    return make(
      "li", { class: "job", "data-id": job.id },
      make("h3", {}, make("bdi", {}, job.name)),
      make("p", { class: "facts" }), make("p", { class: "facts" }, wish), make("p", { class: "facts notes" }),
      make("p", { class: "error", hidden: true }),
      make("progress", { max: 1, "aria-label": `Progress of ${job.name}` }), make("div", { class: "actions" }),
    );
  }

  function show(jobs) {
    const list = find("#list");
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
      if (before && before !== job.state && ENDED[job.state]) announce(`${job.name}: ${ENDED[job.state]}`);
    }
    for (const item of items.values()) {
      item.querySelector(".song")?.player.close();
      item.remove();
    }
    states = new Map(jobs.map((job) => [job.id, job.state]));
    find("#none").hidden = jobs.length > 0;
  }

  begin();
})();
