// Songs that are chosen or dropped, and their uploads, one after the other.
import { announce, ask, find, make, remove, size } from "./page.js";

const AWAY = [undefined, 401, 502, 503, 504]; // no answer, that of a server with a new token, and those of proxies
const waiting = [];
let sending = null;
let retry = null; // timer of `sendAgain`
let lookAgain = null; // reads what the server offers, and asks for its token

/**
 * Take songs that are chosen or dropped; `look` returns the wish for them, and the limit of their size. `begin` is called
 * when the server does not take songs.
 */
export function takeSongs(look, begin) {
  lookAgain = begin;
  find("#songs").addEventListener("change", ({ target }) => {
    add([...target.files], look());
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
    if (find("main").hidden) return;
    const files = [];
    const folders = [];
    for (const item of event.dataTransfer.items) {
      const folder = item.webkitGetAsEntry();
      if (folder?.isDirectory) folders.push(folder);
      else if (item.kind === "file") files.push(item.getAsFile());
    }
    add(files, look());
    for (const folder of folders) addFolder(folder, look());
  });
}

function add(files, settings) {
  for (const file of files) {
    const upload = enlist(file, settings.wish);
    if (file.size > settings.mostBytes) {
      refuse(upload, `The file is ${size(file.size)}; at most ${size(settings.mostBytes)} can be uploaded`);
    } else {
      waiting.push(upload);
    }
  }
  send();
}

async function addFolder(folder, settings) {
  try {
    const songs = (await filesIn(folder)).filter(isSong);
    if (songs.length) add(songs, settings);
    else refuse(enlist(folder), "This folder has no songs");
  } catch (error) {
    refuse(enlist(folder), `This folder cannot be read (${error.message})`);
  }
}

/** Files in a folder and in those in it, in the order of their names. */
async function filesIn(folder) {
  const reader = folder.createReader();
  const entries = [];
  let some;
  do { // browsers return a hundred at a time
    some = await new Promise((resolve, reject) => { reader.readEntries(resolve, reject); });
    entries.push(...some);
  } while (some.length);
  entries.sort((one, other) => one.name.localeCompare(other.name, undefined, { numeric: true }));
  const files = [];
  for (const entry of entries) {
    if (entry.isDirectory) files.push(...await filesIn(entry));
    else files.push(await new Promise((resolve, reject) => { entry.file(resolve, reject); }));
  }
  return files;
}

/** Return true for a song, as the box accepts them; macOS keeps notes about songs in files whose names start with a dot. */
function isSong({ name, type }) {
  const kinds = find("#songs").accept.split(",");
  return !name.startsWith(".") && kinds.some((kind) => (
    kind.startsWith(".") ? name.toLowerCase().endsWith(kind) : type.startsWith(kind.replace("*", ""))));
}

/** Show an upload that waits. */
function enlist(file, wish) {
  const upload = { file, wish };
  upload.facts = make("p", { class: "facts" }, "Waiting to be uploaded");
  upload.bar = make("progress", { max: 1, value: 0, "aria-label": `Upload of ${file.name}` });
  upload.button = make("button", { type: "button", onclick: () => drop(upload) }, "Cancel");
  upload.item = make(
    "li", { class: "job" },
    make("h3", { tabindex: -1 }, make("bdi", {}, file.name)), upload.facts, upload.bar,
    make("div", { class: "actions" }, upload.button),
  );
  find("#uploads").append(upload.item);
  return upload;
}

function drop(upload) {
  remove(upload.item);
  if (waiting.includes(upload)) waiting.splice(waiting.indexOf(upload), 1);
  upload.request?.abort();
}

function refuse(upload, reason) {
  upload.bar.remove();
  upload.facts.className = "error";
  upload.facts.textContent = reason;
  upload.button.textContent = "Remove";
  announce(`${upload.file.name}: ${reason}`);
}

const isAway = () => ask("/about").then(() => false, ({ status }) => AWAY.includes(status));

/** Keep an upload until the server takes it. */
function putBack(upload) {
  sending = null;
  if (upload.item.isConnected) waiting.unshift(upload); // it was not cancelled meanwhile
  upload.bar.value = 0;
  upload.facts.textContent = "The server does not answer; the upload begins again when it does";
  clearTimeout(retry);
  retry = setTimeout(sendAgain, 2000);
  lookAgain();
}

async function sendAgain() {
  if (await isAway()) retry = setTimeout(sendAgain, 2000);
  else send();
}

/** Upload what waits. */
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
  request.onload = async () => {
    if (request.status === 201) {
      remove(upload.item);
      announce(`${upload.file.name} is in the queue`);
    } else if (AWAY.includes(request.status) && await isAway()) {
      putBack(upload);
      return;
    } else {
      let reason = `the server answers ${request.status}`;
      try { reason = JSON.parse(request.responseText).detail; } catch { /* no JSON: the status must do */ }
      refuse(upload, reason);
    }
    next();
  };
  request.onerror = async () => {
    if (await isAway()) {
      putBack(upload);
      return;
    }
    if (upload.item.isConnected) {
      refuse(upload, "The upload was interrupted: the file cannot be read, or the server went away");
    }
    next();
  };
  request.onabort = next;
  request.open("POST", `/jobs?${new URLSearchParams({ name: upload.file.name, ...upload.wish })}`);
  request.setRequestHeader("Content-Type", "application/octet-stream");
  request.send(upload.file);
}

// What is not uploaded yet is lost with the page.
addEventListener("beforeunload", (event) => {
  if (sending || waiting.length) event.preventDefault();
});
