// Plays the signals of a song together. Pages on the disk may not fetch audio, so it comes as text in a script per song;
// every signal gets a buffer source of its own, all start on the same sample, and gains decide which ones are heard.
"use strict";

(() => {
  const RAMP_S = 0.008; // short enough to be instant, long enough not to click
  const LEAD_S = 0.05; // sources are started this far ahead, so that none of them is late
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

  async function decode(signals) {
    const buffers = await Promise.all(Object.entries(signals).map(async ([key, text]) => {
      const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
      return [key, await context.decodeAudioData(bytes.buffer)];
    }));
    return new Map(buffers);
  }

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
      this.button = root.querySelector(".play");
      this.seekBar = root.querySelector(".seek");
      this.now = root.querySelector(".now");
      this.status = root.querySelector(".status");
      this.tracks = [...root.querySelectorAll(".track")].map((track) => new Track(track));
      this.offset = 0; // where playing starts, in seconds
      this.startedAt = null; // the context's time at which it did; null while paused
      this.sources = [];
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
      return Math.min(Math.max(this.offset + context.currentTime - this.startedAt, this.offset), this.duration);
    }

    async toggle() {
      if (this.startedAt !== null) return this.pause();
      if (this.button.disabled) return undefined;
      context ??= new AudioContext();
      this.button.disabled = true;
      try {
        if (playing !== this) playing?.unload();
        playing = this;
        await Promise.all([context.resume(), this.load()]);
        if (playing !== this) return this.unload(); // another song was started meanwhile
        this.start();
        this.follow();
      } catch (error) {
        this.say(`Cannot play: ${error.message || "this browser does not decode Ogg Vorbis"}`);
      } finally {
        this.button.disabled = false;
      }
      return undefined;
    }

    async load() {
      if (this.buffers) return;
      this.say("Reading the audio…");
      this.buffers = await decode(await readScript(this.id, this.root.dataset.script));
      this.say("");
      this.master = context.createGain();
      this.master.connect(context.destination);
      for (const key of this.buffers.keys()) {
        const gain = context.createGain();
        gain.gain.value = 0;
        gain.connect(this.master);
        this.gains.set(key, gain);
      }
    }

    unload() {
      this.pause();
      this.master?.disconnect();
      this.gains.clear();
      this.buffers = null;
    }

    start() {
      if (this.offset >= this.duration) this.offset = 0;
      this.startedAt = context.currentTime + LEAD_S;
      this.mix();
      this.sources = [...this.buffers].map(([key, buffer]) => {
        const source = context.createBufferSource();
        source.buffer = buffer;
        source.connect(this.gains.get(key));
        source.start(this.startedAt, this.offset);
        return source;
      });
      this.label("Pause");
    }

    stop() {
      for (const source of this.sources) source.stop();
      this.sources = [];
      this.startedAt = null;
    }

    pause() {
      this.offset = this.position;
      this.stop();
      this.label("Play");
      this.draw();
    }

    seek(seconds) {
      const running = this.startedAt !== null;
      if (running) this.stop();
      this.offset = Math.min(seconds, this.duration);
      if (running && this.offset < this.duration) this.start();
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

  for (const root of document.querySelectorAll(".song")) root.player = new Player(root);
})();
