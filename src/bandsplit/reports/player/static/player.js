// Plays the signals of a song together. Every signal gets buffer sources of its own, all start on the same sample, and
// gains decide which ones are heard. The audio of a song comes in pieces of equal length, so that a long song need not
// be decoded at once; pieces follow each other on the sample. A page on the disk may not fetch audio, so a report has a
// script with one piece, as text.
"use strict";

(() => {
  const RAMP_S = 0.008; // short enough to be instant, long enough not to click
  const LEAD_S = 0.05; // sources are started this far ahead, so that none of them is late
  const REST_S = 0.12; // a drag that rests this long at a place loads its audio
  const waiting = new Map(); // song id -> what to do with its audio
  let context = null;
  let playing = null; // only one song plays, and only its audio is kept decoded

  // Called by the script of a song.
  window.bandsplitAudio = (id, signals) => waiting.get(id)(signals);

  function readScript(id, address) {
    return new Promise((resolve, reject) => {
      const script = document.createElement("script");
      waiting.set(id, resolve);
      script.src = address;
      script.onload = () => script.remove();
      script.onerror = () => reject(new Error(`${address} cannot be read; keep the page and its assets together`));
      document.head.append(script);
    });
  }

  async function decodeTexts(signals) {
    const buffers = await Promise.all(Object.entries(signals).map(async ([key, text]) => {
      const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
      return [key, await context.decodeAudioData(bytes.buffer)];
    }));
    return new Map(buffers);
  }

  async function fetchPieces(addresses) {
    const buffers = await Promise.all(Object.entries(addresses).map(async ([key, address]) => {
      const answer = await fetch(address);
      if (!answer.ok) throw new Error(`the server answers ${answer.status} for the audio`);
      return [key, await context.decodeAudioData(await answer.arrayBuffer())];
    }));
    return new Map(buffers);
  }

  /** Take a context of this rate, so that pieces are not resampled one by one; 0 for any. */
  function useRate(rate) {
    if (context && (!rate || context.sampleRate === rate)) return;
    context?.close();
    try {
      context = new AudioContext(rate ? { sampleRate: rate } : {});
    } catch {
      context = new AudioContext(); // a rate that this browser cannot play
    }
  }

  const sleep = (seconds) => new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
  const onSample = (seconds) => Math.round(seconds * context.sampleRate) / context.sampleRate;
  const clock = (seconds) => `${Math.floor(seconds / 60)}:${(seconds % 60).toFixed(1).padStart(4, "0")}`;
  const pressed = (button) => button.getAttribute("aria-pressed") === "true";

  class Track {
    constructor(root) {
      this.solo = root.querySelector(".solo");
      this.mute = root.querySelector(".mute");
      this.volume = root.querySelector(".volume");
      this.versions = [...root.querySelectorAll(".versions input")];
      this.pictures = [...root.querySelectorAll(".pictures img")];
      this.strip = root.querySelector(".pictures");
      this.root = root;
    }

    get key() {
      return this.versions.length ? this.versions.find((version) => version.checked).value : this.pictures[0].dataset.key;
    }

    /** Choose the signal called `name`, if the track has it. */
    choose(name) {
      const version = this.versions.find((candidate) => candidate.dataset.name === name);
      if (version) version.checked = true;
    }

    show(heard) {
      for (const picture of this.pictures) picture.hidden = picture.dataset.key !== this.key;
      this.root.classList.toggle("silent", !heard);
    }
  }

  class Player {
    constructor(root) {
      this.root = root;
      this.id = root.id;
      this.duration = Number(root.dataset.duration);
      this.piece = Number(root.dataset.piece ?? this.duration); // length of a piece in seconds
      this.button = root.querySelector(".play");
      this.seekBar = root.querySelector(".seek");
      this.now = root.querySelector(".now");
      this.status = root.querySelector(".status");
      this.tracks = [...root.querySelectorAll(".track")].map((track) => new Track(track));
      this.running = false; // what the button says; the audio may still be loading
      this.turn = 0; // counts starts and stops, so that audio that arrives late is not played
      this.offset = 0; // where playing starts, in seconds
      this.startedAt = null; // the context's time at which it did; null while nothing is heard
      this.ready = 0; // end of the audio that is there, in seconds
      this.pieces = new Map(); // number -> promise of its buffers
      this.sources = new Set();
      this.gains = new Map();
      this.master = null;
      this.bind();
      this.mix();
    }

    bind() {
      this.button.addEventListener("click", () => this.toggle());
      this.seekBar.addEventListener("input", () => this.seek(Number(this.seekBar.value)));
      for (const button of this.root.querySelectorAll("[data-all]")) {
        button.addEventListener("click", () => {
          for (const track of this.tracks) track.choose(button.dataset.all);
          this.mix();
        });
      }
      for (const track of this.tracks) {
        for (const button of [track.solo, track.mute]) {
          button.addEventListener("click", () => {
            button.setAttribute("aria-pressed", String(!pressed(button)));
            this.mix();
          });
        }
        track.volume.addEventListener("input", () => this.mix());
        for (const version of track.versions) version.addEventListener("change", () => this.mix());
        this.bindStrip(track.strip);
      }
    }

    bindStrip(strip) {
      const follow = (event) => {
        const box = strip.getBoundingClientRect();
        this.seek((Math.min(Math.max(event.clientX - box.left, 0), box.width) / box.width) * this.duration);
      };
      // A drag along the picture scrubs; up and down still scrolls the page.
      strip.addEventListener("pointerdown", (event) => {
        if (event.button !== 0) return;
        strip.setPointerCapture(event.pointerId);
        follow(event);
      });
      strip.addEventListener("pointermove", (event) => {
        if (strip.hasPointerCapture(event.pointerId)) follow(event);
      });
    }

    get position() {
      if (this.startedAt === null) return this.offset;
      return Math.min(Math.max(this.offset + context.currentTime - this.startedAt, this.offset), this.ready);
    }

    toggle() {
      if (this.running) {
        this.pause();
        return;
      }
      if (playing !== this) playing?.unload();
      playing = this;
      useRate(Number(this.root.dataset.rate ?? 0));
      this.play();
    }

    async play() {
      this.turn += 1;
      const { turn } = this;
      const over = () => turn !== this.turn;
      if (this.offset >= this.duration) this.offset = 0;
      this.running = true;
      this.label("Pause");
      try {
        await context.resume();
        let number = Math.floor(this.offset / this.piece);
        if (!this.pieces.has(number)) await sleep(REST_S);
        for (; number * this.piece < this.duration && !over(); number += 1) {
          const buffers = await this.read(number, over);
          if (over()) return;
          this.schedule(buffers, number);
          if (number * this.piece + this.piece < this.duration) this.read(number + 1, over).catch(() => {});
          while (!over() && this.position < number * this.piece) await sleep(0.05);
        }
      } catch (error) {
        if (over()) return;
        this.pause();
        this.say(`Cannot play: ${error.message || "this browser does not decode the audio"}`);
      }
    }

    /** Buffers of a piece; the one that plays and the next one are kept. */
    async read(number, over) {
      for (const old of this.pieces.keys()) {
        if (old < number - 1 || old > number + 1) this.pieces.delete(old);
      }
      if (!this.pieces.has(number)) {
        const { script, listen } = this.root.dataset;
        const keys = this.tracks.flatMap(({ pictures }) => pictures.map(({ dataset }) => dataset.key));
        const piece = script
          ? readScript(this.id, script).then(decodeTexts)
          : fetchPieces(Object.fromEntries(keys.map((key) => [key, `${listen}/${key}/${number}.flac`])));
        this.pieces.set(number, piece);
        piece.catch(() => this.pieces.delete(number)); // to be tried again
      }
      const loading = setTimeout(() => !over() && this.position >= this.ready && this.say("Reading the audio…"), 100);
      try {
        return await this.pieces.get(number);
      } finally {
        clearTimeout(loading);
        if (!over()) this.say("");
      }
    }

    connect(keys) {
      if (this.master) return;
      this.master = context.createGain();
      this.master.connect(context.destination);
      for (const key of keys) {
        const gain = context.createGain();
        gain.gain.value = 0;
        gain.connect(this.master);
        this.gains.set(key, gain);
      }
    }

    schedule(buffers, number) {
      this.connect(buffers.keys());
      const begin = number * this.piece;
      if (this.startedAt === null || this.startedAt + begin - this.offset < context.currentTime) {
        // The start, or a piece that came too late to follow the one before it without a gap.
        if (this.startedAt === null) requestAnimationFrame(() => this.follow());
        this.offset = onSample(Math.max(this.offset, begin));
        this.startedAt = onSample(context.currentTime + LEAD_S);
        this.mix();
      }
      this.ready = Math.min(begin + this.piece, this.duration);
      for (const [key, buffer] of buffers) {
        const source = context.createBufferSource();
        source.buffer = buffer;
        source.connect(this.gains.get(key));
        source.start(this.startedAt + Math.max(begin - this.offset, 0), Math.max(this.offset - begin, 0));
        source.onended = () => this.sources.delete(source);
        this.sources.add(source);
      }
    }

    stop() {
      this.turn += 1;
      for (const source of this.sources) source.stop();
      this.sources.clear();
      this.startedAt = null;
      this.ready = 0;
      this.running = false;
    }

    pause() {
      this.offset = this.position;
      this.stop();
      this.label("Play");
      this.say("");
      this.draw();
    }

    unload() {
      this.pause();
      this.master?.disconnect();
      this.master = null;
      this.gains.clear();
      this.pieces.clear();
    }

    /** Stop for good, before the song leaves the page. */
    close() {
      if (playing !== this) return;
      this.unload();
      playing = null;
    }

    seek(seconds) {
      const { running } = this;
      this.stop();
      this.offset = Math.min(seconds, this.duration);
      if (running && this.offset < this.duration) this.play();
      else this.label("Play");
      this.draw();
    }

    /** Bring gains and pictures up to what the controls say. */
    mix() {
      const solo = this.tracks.some((track) => pressed(track.solo));
      for (const track of this.tracks) {
        const heard = solo ? pressed(track.solo) : !pressed(track.mute);
        track.show(heard);
        for (const picture of track.pictures) {
          const { key } = picture.dataset;
          const level = heard && key === track.key ? Number(track.volume.value) : 0;
          this.gains.get(key)?.gain.setTargetAtTime(level, context.currentTime, RAMP_S);
        }
      }
      for (const button of this.root.querySelectorAll("[data-all]")) {
        const all = this.tracks.every(({ versions }) => versions.every((version) => (
          version.checked || version.dataset.name !== button.dataset.all)));
        button.setAttribute("aria-pressed", String(all));
      }
    }

    follow() {
      if (this.startedAt === null) return;
      if (this.position >= this.duration) {
        this.stop();
        this.offset = 0;
        this.label("Play");
      } else {
        requestAnimationFrame(() => this.follow());
      }
      this.draw();
    }

    draw() {
      const { position } = this;
      this.now.textContent = clock(position);
      this.seekBar.value = position;
      this.seekBar.setAttribute("aria-valuetext", `${position.toFixed(1)} of ${this.duration.toFixed(1)} seconds`);
      this.root.style.setProperty("--at", position / this.duration);
    }

    label(word) {
      this.button.querySelector(".word").textContent = word;
      this.button.setAttribute("aria-label", `${word} ${this.root.querySelector("h3").textContent}`);
      this.button.classList.toggle("running", word === "Pause");
    }

    say(text) {
      this.status.textContent = text;
      this.status.hidden = !text;
    }
  }

  window.bandsplitPlayer = (root) => new Player(root);
  for (const root of document.querySelectorAll(".song")) root.player = new Player(root);
})();
