// Players that change their source while they play. All sources of a clip share one position; one clip plays at a time.
"use strict";
(() => {
  const KEYS = "0123456789abcdefghijklmnopqrstuvwxyz"; // of the sources, as the page shows them
  let playing = null; // the clip that plays
  let active = null; // the clip that was used last: keys are for it, wherever the focus is

  class Clip {
    constructor(element) {
      this.element = element;
      this.seconds = Number(element.dataset.seconds);
      this.sources = [...element.querySelectorAll(".source:not(.failed)")];
      this.audios = this.sources.map((source) => source.querySelector("audio"));
      this.radios = this.sources.map((source) => source.querySelector("input[type=radio]"));
      this.button = element.querySelector(".play");
      this.slider = element.querySelector(".seek");
      this.at = element.querySelector(".at");
      this.wanted = false; // to play
      this.select(0);
      this.button.addEventListener("click", () => this.toggle());
      this.slider.addEventListener("input", () => this.seek(Number(this.slider.value)));
      this.radios.forEach((radio, i) => radio.addEventListener("change", () => this.select(i)));
      this.audios.forEach((audio) => {
        audio.addEventListener("ended", () => audio === this.audio && this.end());
        audio.addEventListener("error", () => audio === this.audio && this.pause());
      });
      this.sources.forEach((source, i) => {
        const picture = source.querySelector(".picture");
        picture.addEventListener("click", (event) => {
          const box = picture.getBoundingClientRect();
          this.select(i);
          this.seek(((event.clientX - box.left) / box.width) * this.seconds);
          this.play();
        });
      });
      for (const kind of ["focusin", "pointerdown"]) {
        element.addEventListener(kind, () => {
          active = this;
          this.load();
        });
      }
    }

    get audio() {
      return this.audios[this.index];
    }

    // Fetch all sources, so that changing between them takes no time.
    load() {
      for (const audio of this.audios) audio.preload = "auto";
    }

    select(index) {
      if (index === this.index || !this.audios[index]) return;
      const before = this.audio;
      this.index = index;
      this.radios[index].checked = true;
      this.sources.forEach((source, i) => source.classList.toggle("current", i === index));
      if (before) {
        const position = before.currentTime;
        before.pause();
        this.audio.currentTime = position;
        if (this.wanted) this.start();
      }
    }

    play() {
      if (playing && playing !== this) playing.pause();
      playing = this;
      this.wanted = true;
      this.load();
      this.start();
      this.show();
      requestAnimationFrame(() => this.tick());
    }

    start() {
      // A source that was changed again before it began rejects with AbortError; what else keeps it from playing
      // stops the clip, and the button shows it.
      this.audio.play().catch((error) => error.name === "AbortError" || this.pause());
    }

    pause() {
      this.wanted = false;
      this.audio.pause();
      this.show();
    }

    toggle() {
      if (this.wanted) this.pause();
      else this.play();
    }

    end() {
      this.pause();
      this.seek(0);
    }

    seek(seconds) {
      this.audio.currentTime = Math.min(Math.max(seconds, 0), this.seconds);
      this.show();
    }

    tick() {
      this.show();
      if (this.wanted) requestAnimationFrame(() => this.tick());
    }

    show() {
      const now = this.audio.currentTime;
      this.element.classList.toggle("playing", this.wanted);
      this.element.style.setProperty("--position", String(this.seconds ? Math.min(now / this.seconds, 1) : 0));
      const title = this.element.querySelector("h2").textContent;
      this.button.setAttribute("aria-label", `${this.wanted ? "Pause" : "Play"} ${title}`);
      this.slider.value = String(now);
      this.slider.setAttribute("aria-valuetext", `${now.toFixed(1)} of ${this.seconds.toFixed(1)} seconds`);
      this.at.textContent = now.toFixed(1);
    }

    key(event) {
      const source = KEYS.indexOf(event.key);
      const move = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (event.key === " ") {
        this.toggle();
      } else if (source >= 0 && this.audios[source]) {
        this.choose(source);
      } else if (move) {
        this.choose((this.index + move + this.audios.length) % this.audios.length);
      } else if (step && event.target !== this.slider) {
        this.seek(this.audio.currentTime + step);
      } else {
        return;
      }
      event.preventDefault();
    }

    choose(index) {
      this.select(index);
      this.sources[index].scrollIntoView({ block: "nearest", behavior: "instant" });
      if (this.element.contains(document.activeElement)) this.radios[index].focus({ preventScroll: true });
    }
  }

  const clips = [...document.querySelectorAll("article.clip")].map((element) => new Clip(element));

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !active || active.element.hidden) return;
    const inside = active.element.contains(event.target);
    // Elsewhere, keys belong to the control that has the focus; inside, a button and a summary keep the space bar.
    if (!inside && event.target.closest("input, select, textarea, button, a, summary")) return;
    if (event.key === " " && event.target.closest("button, summary, a")) return;
    active.key(event);
  });

  const form = document.getElementById("clip-filter");
  if (!form) return;
  const value = (name) => form.elements.namedItem(name)?.value ?? "";
  const apply = () => {
    const words = value("text").toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const clip of clips) {
      const { text, category } = clip.element.dataset;
      const fits = words.every((word) => text.includes(word)) && ["", category].includes(value("category"));
      clip.element.hidden = !fits;
      if (!fits && clip.wanted) clip.pause();
      shown += fits;
    }
    form.querySelector("output").value = `${shown} of ${clips.length} shown`;
  };
  form.addEventListener("input", (event) => {
    if (event.target.name !== "jump") return apply();
    const clip = document.getElementById(event.target.value);
    event.target.value = "";
    if (!clip) return;
    if (clip.hidden) {
      form.elements.namedItem("text").value = "";
      const category = form.elements.namedItem("category");
      if (category) category.value = "";
      apply();
    }
    clip.scrollIntoView({ behavior: "instant" });
    clip.querySelector(".play").focus({ preventScroll: true });
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  apply();
})();
