// A blind listening test: hidden names, a seeded random order, versions that play together and change without a gap.
"use strict";
(() => {
  const SYNC = 0.04; // seconds by which a silent version may be off before it is put right
  const SYNC_PAUSE = 1000; // milliseconds between two such corrections of a version: on a slow machine a jump takes long
  const HEARD = 0.25; // seconds of a version that must be heard before an answer counts
  const MOST_VERSIONS = 12; // rated in one trial
  const LETTERS = "ABCDEFGHIJKLM";
  const RESAMPLES = 2000;

  const clips = JSON.parse(document.getElementById("blind-data").textContent);
  const setup = document.getElementById("setup");
  const trialPart = document.getElementById("trial");
  const resultPart = document.getElementById("result");
  const byId = (id) => document.getElementById(id);
  const field = (name) => setup.elements.namedItem(name);
  const make = (tag, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };

  // -- chance -----------------------------------------------------------------------------------------

  // mulberry32: a small generator whose numbers follow from the seed on every machine.
  function randomNumbers(seed) {
    let state = seed >>> 0;
    return () => {
      state = (state + 0x6d2b79f5) >>> 0;
      let t = state;
      t = Math.imul(t ^ (t >>> 15), t | 1);
      t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
      return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
    };
  }

  function shuffled(list, random) {
    const out = [...list];
    for (let i = out.length - 1; i > 0; i--) {
      const j = Math.floor(random() * (i + 1));
      [out[i], out[j]] = [out[j], out[i]];
    }
    return out;
  }

  // -- statistics -------------------------------------------------------------------------------------

  // P(X >= k) of n tosses that succeed with probability p.
  function tail(k, n, p = 0.5) {
    if (k <= 0) return 1;
    if (p <= 0) return 0;
    if (p >= 1) return 1;
    let log = n * Math.log1p(-p); // of P(X = 0)
    let sum = 0;
    for (let i = 1; i <= n; i++) {
      log += Math.log((n - i + 1) / i) + Math.log(p) - Math.log1p(-p);
      if (i >= k) sum += Math.exp(log);
    }
    return Math.min(sum, 1);
  }

  // The sign test: two-sided, exact; ties are left out beforehand.
  const signTest = (wins, losses) => (wins + losses ? Math.min(1, 2 * tail(Math.max(wins, losses), wins + losses)) : null);

  // Clopper and Pearson's 95% interval of a share.
  function shareInterval(k, n) {
    const solve = (wanted, rises) => {
      let [low, high] = [0, 1];
      for (let i = 0; i < 60; i++) {
        const p = (low + high) / 2;
        if (rises(p) < wanted) low = p;
        else high = p;
      }
      return (low + high) / 2;
    };
    return [k === 0 ? 0 : solve(0.025, (p) => tail(k, n, p)), k === n ? 1 : solve(0.975, (p) => tail(k + 1, n, p))];
  }

  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

  function meanInterval(values) {
    if (values.length < 2) return null;
    const random = randomNumbers(0);
    const means = Array.from({ length: RESAMPLES }, () => mean(values.map(() => values[Math.floor(random() * values.length)])));
    means.sort((a, b) => a - b);
    return [means[Math.floor(0.025 * RESAMPLES)], means[Math.ceil(0.975 * RESAMPLES) - 1]];
  }

  // -- set-up -----------------------------------------------------------------------------------------

  const codecsOf = (clip) => (clip.original ? clip.sources.slice(1) : clip.sources);
  const allCodecs = [...new Set(clips.flatMap((clip) => codecsOf(clip).map((source) => source.label)))];
  const few = allCodecs.length <= 4 ? allCodecs : [0, 1, 2, 3].map((i) => allCodecs[Math.round((i * (allCodecs.length - 1)) / 3)]);
  const asked = new URLSearchParams(location.search);

  for (const label of allCodecs) {
    const wanted = asked.has("codec") ? asked.getAll("codec") : few;
    const box = make("input", { type: "checkbox", name: "codec", value: label, checked: wanted.includes(label) });
    byId("codecs").append(make("label", { className: "tick" }, box, ` ${label}`));
  }
  for (const name of ["trials", "seed", "category", "listener"]) {
    if (asked.has(name) && field(name)) field(name).value = asked.get(name);
  }
  if (asked.has("mode") && setup.querySelector(`input[name=mode][value="${CSS.escape(asked.get("mode"))}"]`)) field("mode").value = asked.get("mode");
  if (!field("seed").value) field("seed").value = String(crypto.getRandomValues(new Uint32Array(1))[0] % 100000);

  function settings() {
    return {
      mode: field("mode").value,
      codecs: [...setup.querySelectorAll("input[name=codec]:checked")].map((box) => box.value),
      category: field("category")?.value ?? "",
      trials: Number(field("trials").value),
      seed: Number(field("seed").value),
      listener: field("listener").value,
      match: field("match").checked,
      loop: field("loop").checked,
    };
  }

  // What can be asked with these settings: the questions, each with the clips that have all of it.
  function questions({ mode, codecs, category }) {
    const usable = clips.filter((clip) => (!category || clip.category === category) && (clip.original || mode === "ab"));
    const having = (labels) => usable.filter((clip) => labels.every((label) => codecsOf(clip).some((s) => s.label === label)));
    let sets;
    if (mode === "ab") sets = codecs.flatMap((a, i) => codecs.slice(i + 1).map((b) => [a, b]));
    else if (mode === "abx") sets = codecs.map((label) => [label]);
    else sets = codecs.length ? [codecs] : [];
    return sets.map((labels) => ({ labels, clips: having(labels) })).filter((question) => question.clips.length);
  }

  function problem(chosen) {
    const least = chosen.mode === "ab" ? 2 : 1;
    if (chosen.codecs.length < least) return `Choose ${least === 2 ? "two codecs" : "a codec"} at least.`;
    if (chosen.mode === "rating" && chosen.codecs.length > MOST_VERSIONS) return `Choose ${MOST_VERSIONS} codecs at most to rate.`;
    if (!questions(chosen).length) return "No saved clip has all of these codecs" + (chosen.mode === "ab" ? "." : " and the original.");
    if (!(chosen.trials >= 1 && chosen.trials <= 500)) return "The number of trials is 1 to 500.";
    if (!(chosen.seed >= 0 && Number.isInteger(chosen.seed))) return "The seed is a whole number from 0.";
    return "";
  }

  function levelsOf(clip, labels) {
    const wanted = clip.sources.filter((source, i) => (clip.original && i === 0) || labels.includes(source.label));
    return wanted.map((source) => source.level);
  }

  function note() {
    const chosen = settings();
    const found = questions(chosen);
    const texts = [];
    if (found.length) {
      const what = { ab: "pair", abx: "codec", rating: "set of codecs" }[chosen.mode];
      const used = new Set(found.flatMap((question) => question.clips));
      texts.push(`${found.length} ${what}${found.length > 1 ? "s" : ""}, ${used.size} clip${used.size > 1 ? "s" : ""}: ${chosen.trials} trials ask each about ${Math.round((10 * chosen.trials) / found.length) / 10} times.`);
      let widest = 0;
      let silent = false;
      for (const question of found) {
        for (const clip of question.clips) {
          const levels = levelsOf(clip, question.labels);
          silent ||= levels.includes(null);
          const known = levels.filter((level) => level !== null);
          if (known.length > 1) widest = Math.max(widest, Math.max(...known) - Math.min(...known));
        }
      }
      texts.push(`Levels of one clip differ by up to ${widest.toFixed(1)} dB${chosen.match ? ", and are matched" : ": what is louder is often preferred for it"}.`);
      if (silent) texts.push("A version that is silent is left as it is.");
    }
    byId("level-note").textContent = texts.join(" ");
    byId("level-note").hidden = !texts.length;
    byId("setup-error").textContent = "";
  }

  setup.addEventListener("input", note);
  for (const [id, on] of [["all-codecs", true], ["no-codecs", false]]) {
    byId(id).addEventListener("click", () => {
      for (const box of setup.querySelectorAll("input[name=codec]")) box.checked = on;
      note();
    });
  }
  note();

  // -- the plan ---------------------------------------------------------------------------------------

  // Each question equally often, in a random order; its clips in turn, so that none comes twice before all came once.
  function plan(chosen) {
    const random = randomNumbers(chosen.seed);
    const found = questions(chosen).map((question) => ({ ...question, queue: [] }));
    const trials = [];
    let round = [];
    for (let i = 0; i < chosen.trials; i++) {
      if (!round.length) round = shuffled(found, random);
      const question = round.pop();
      if (!question.queue.length) question.queue = shuffled(question.clips, random);
      const clip = question.queue.pop();
      const source = (label) => codecsOf(clip).find((one) => one.label === label);
      const original = clip.original ? { ...clip.sources[0], original: true } : null;
      const trial = { clip, labels: question.labels, shown: [] };
      if (chosen.mode === "ab") {
        const [a, b] = shuffled(question.labels, random).map(source);
        trial.shown = [...(original ? [{ name: "Original", key: "O", source: original }] : []),
          { name: "A", key: "A", source: a }, { name: "B", key: "B", source: b }];
      } else if (chosen.mode === "abx") {
        const [a, b] = shuffled([original, source(question.labels[0])], random);
        trial.x = random() < 0.5 ? "A" : "B";
        trial.shown = [{ name: "A", key: "A", source: a }, { name: "B", key: "B", source: b },
          { name: "X", key: "X", source: trial.x === "A" ? a : b }];
      } else {
        const versions = shuffled([original, ...question.labels.map(source)], random);
        trial.shown = [{ name: "Original", key: "O", source: original },
          ...versions.map((version, k) => ({ name: LETTERS[k], key: LETTERS[k], source: version, rated: true }))];
      }
      trials.push(trial);
    }
    return trials;
  }

  // -- the player: all versions run, one is heard ------------------------------------------------------

  class Deck {
    constructor(trial, chosen) {
      this.seconds = trial.clip.seconds;
      this.loop = chosen.loop;
      this.index = 0;
      this.wanted = false;
      this.switches = 0;
      this.heard = trial.shown.map(() => 0);
      const levels = trial.shown.map((version) => version.source.level);
      const quietest = Math.min(...levels.filter((level) => level !== null));
      this.audios = trial.shown.map((version, i) => {
        const audio = new Audio(version.source.audio);
        audio.preload = "auto";
        audio.muted = i > 0;
        if (chosen.match && levels[i] !== null) audio.volume = Math.min(1, 10 ** ((quietest - levels[i]) / 20));
        audio.corrected = -Infinity;
        audio.addEventListener("ended", () => audio === this.audio && this.end());
        audio.addEventListener("error", () => (this.heard[i] = HEARD)); // what cannot be played is no reason to be stuck
        return audio;
      });
    }

    get audio() {
      return this.audios[this.index];
    }

    select(index) {
      if (!this.audios[index] || index === this.index) return;
      this.switches += 1;
      this.audio.muted = true;
      this.index = index;
      this.audio.muted = false;
      show();
    }

    async play() {
      this.wanted = true;
      const at = this.audio.currentTime;
      for (const audio of this.audios) if (audio !== this.audio && Math.abs(audio.currentTime - at) > 0.001) audio.currentTime = at;
      const started = await Promise.allSettled(this.audios.map((audio) => audio.play()));
      if (started[this.index].status === "rejected" && this.wanted) this.pause();
      this.before = performance.now();
      requestAnimationFrame(() => this.tick());
      show();
    }

    pause() {
      this.wanted = false;
      for (const audio of this.audios) audio.pause();
      this.together(0.001);
      show();
    }

    toggle() {
      if (this.wanted) this.pause();
      else this.play();
    }

    end() {
      this.seek(0);
      if (this.loop) this.play();
      else this.pause();
    }

    seek(seconds) {
      const at = Math.min(Math.max(seconds, 0), this.seconds);
      for (const audio of this.audios) audio.currentTime = at;
      show();
    }

    // Silent versions that ran off are put to where the heard one is.
    together(most) {
      const at = this.audio.currentTime;
      const now = performance.now();
      for (const audio of this.audios) {
        if (audio === this.audio || audio.seeking || Math.abs(audio.currentTime - at) <= most) continue;
        if (this.wanted && now - audio.corrected < SYNC_PAUSE) continue;
        audio.corrected = now;
        audio.currentTime = at;
        // One that has ended, when it is a little shorter, does not play on by itself.
        if (this.wanted && audio.paused) audio.play().catch(() => {});
      }
    }

    tick() {
      if (!this.wanted) return;
      const now = performance.now();
      this.heard[this.index] += (now - this.before) / 1000;
      this.before = now;
      this.together(SYNC);
      show();
      requestAnimationFrame(() => this.tick());
    }

    close() {
      this.wanted = false;
      for (const audio of this.audios) {
        audio.pause();
        audio.removeAttribute("src");
        audio.load();
      }
    }
  }

  // -- trials -----------------------------------------------------------------------------------------

  let chosen = null;
  let trials = [];
  let number = 0;
  let deck = null;
  let began = 0;
  let answers = [];

  const seekBar = trialPart.querySelector(".seek");
  const playButton = trialPart.querySelector(".play");

  function show() {
    if (!deck) return;
    const now = deck.audio.currentTime;
    trialPart.classList.toggle("playing", deck.wanted);
    playButton.setAttribute("aria-label", deck.wanted ? "Pause" : "Play");
    seekBar.value = String(now);
    seekBar.setAttribute("aria-valuetext", `${now.toFixed(1)} of ${deck.seconds.toFixed(1)} seconds`);
    trialPart.querySelector(".at").textContent = now.toFixed(1);
    byId("versions").querySelectorAll("label").forEach((label, i) => {
      label.classList.toggle("current", i === deck.index);
      label.classList.toggle("heard", deck.heard[i] >= HEARD);
      label.querySelector("input").checked = i === deck.index;
    });
  }

  function part(which) {
    for (const one of [setup, trialPart, resultPart]) one.hidden = one !== which;
  }

  setup.addEventListener("submit", (event) => {
    event.preventDefault();
    const now = settings();
    byId("setup-error").textContent = problem(now);
    if (problem(now)) return;
    chosen = now;
    trials = plan(chosen);
    number = 0;
    answers = [];
    part(trialPart);
    ask();
  });

  const QUESTIONS = {
    ab: (trial) => (trial.clip.original ? "Which is closer to the original?" : "Which sounds better?"),
    abx: () => "Is X the same as A or as B?",
    rating: () => "How close is each to the original?",
  };
  const CHOICES = {
    ab: [["A", "A"], ["none", "no difference"], ["B", "B"]],
    abx: [["A", "X is A"], ["B", "X is B"]],
  };

  function ask() {
    const trial = trials[number];
    deck?.close();
    deck = new Deck(trial, chosen);
    began = performance.now();
    byId("progress-text").textContent = `Trial ${number + 1} of ${trials.length}`;
    byId("progress").value = number / trials.length;
    byId("trial-title").textContent = QUESTIONS[chosen.mode](trial);
    byId("trial-error").textContent = "";
    byId("next").textContent = number + 1 < trials.length ? "Next" : "Finish";
    seekBar.max = String(deck.seconds);
    trialPart.querySelector(".of").textContent = deck.seconds.toFixed(1);
    byId("versions").replaceChildren(...trial.shown.map((version, i) => {
      const radio = make("input", { type: "radio", name: "version", checked: i === 0 });
      radio.addEventListener("change", () => deck.select(i));
      return make("label", {}, radio, make("span", { textContent: version.name }), make("kbd", { textContent: version.key.toLowerCase() }));
    }));
    byId("answers").replaceChildren(chosen.mode === "rating" ? ratings(trial) : choices());
    byId("trial-keys").textContent = "Keys: Space plays and pauses, the letters choose what is heard, ← → move by a second, "
      + (chosen.mode === "rating" ? "Enter goes on; in a scale ← → change it." : "1 to " + CHOICES[chosen.mode].length + " answer, Enter goes on.");
    show();
    byId("trial-title").focus();
  }

  function choices() {
    const box = make("fieldset", { className: "choice row" }, make("legend", { textContent: QUESTIONS[chosen.mode](trials[number]) }));
    CHOICES[chosen.mode].forEach(([value, text], i) => {
      box.append(make("label", {}, make("input", { type: "radio", name: "answer", value }), make("span", { textContent: text }), make("kbd", { textContent: String(i + 1) })));
    });
    return box;
  }

  function ratings(trial) {
    const box = make("fieldset", { className: "choice scales" }, make("legend", { textContent: "0 bad, 20 poor, 40 fair, 60 good, 80 and above excellent, 100 as the original" }));
    for (const version of trial.shown.filter((one) => one.rated)) {
      const scale = make("input", { type: "range", name: "rating", min: "0", max: "100", step: "1", value: "50" });
      const shown = make("output", { textContent: "–" });
      scale.setAttribute("aria-label", `Rating of ${version.name}`);
      scale.setAttribute("aria-valuetext", "not rated");
      const rate = () => {
        scale.dataset.rated = "yes";
        shown.textContent = scale.value;
        scale.removeAttribute("aria-valuetext");
      };
      for (const kind of ["input", "click"]) scale.addEventListener(kind, rate);
      box.append(make("div", { className: "scale" }, make("b", { textContent: version.name }), scale, shown));
    }
    return box;
  }

  function next() {
    const trial = trials[number];
    const unheard = trial.shown.filter((_, i) => deck.heard[i] < HEARD).map((version) => version.name);
    const picked = trialPart.querySelector("input[name=answer]:checked");
    const scales = [...trialPart.querySelectorAll("input[name=rating]")];
    const rated = trial.shown.filter((one) => one.rated);
    const missing = rated.filter((_, i) => !scales[i].dataset.rated).map((version) => version.name);
    let trouble = "";
    if (unheard.length) trouble = `Not heard yet: ${unheard.join(", ")}.`;
    else if (chosen.mode === "rating" ? missing.length : !picked) trouble = missing.length ? `Not rated yet: ${missing.join(", ")}.` : "Choose an answer.";
    byId("trial-error").textContent = trouble;
    if (trouble) return;
    const label = (letter) => trial.shown.find((version) => version.name === letter)?.source.label ?? "";
    const same = {
      trial: number + 1, clip: trial.clip.id, run: trial.clip.run, category: trial.clip.category, labels: trial.labels,
      seconds: Math.round((performance.now() - began) / 100) / 10, switches: deck.switches,
    };
    if (chosen.mode === "rating") {
      answers.push({ ...same, ratings: rated.map((version, i) => ({ version: version.name, codec: version.source.label, original: Boolean(version.source.original), rating: Number(scales[i].value) })) });
    } else {
      const answer = picked.value;
      answers.push({ ...same, a: label("A"), b: label("B"), x: trial.x ?? "", answer, chosen: label(answer), correct: trial.x ? answer === trial.x : null });
    }
    number += 1;
    if (number < trials.length) ask();
    else finish();
  }

  byId("next").addEventListener("click", next);
  byId("stop").addEventListener("click", finish);
  playButton.addEventListener("click", () => deck.toggle());
  seekBar.addEventListener("input", () => deck.seek(Number(seekBar.value)));

  document.addEventListener("keydown", (event) => {
    if (trialPart.hidden || event.ctrlKey || event.metaKey || event.altKey) return;
    const on = event.target;
    const key = event.key.toUpperCase();
    const version = trials[number].shown.findIndex((one) => one.key === key);
    const answer = trialPart.querySelectorAll("input[name=answer]")[Number(event.key) - 1];
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (event.key === " " && !on.closest("button")) deck.toggle();
    else if (version >= 0) deck.select(version);
    else if (answer) answer.checked = true;
    else if (event.key === "Enter" && !on.closest("button")) next();
    else if (step && !on.closest("input")) deck.seek(deck.audio.currentTime + step);
    else return;
    event.preventDefault();
  });

  window.addEventListener("beforeunload", (event) => {
    if (!trialPart.hidden && answers.length) event.preventDefault();
  });

  // -- result -----------------------------------------------------------------------------------------

  const percent = (share) => `${Math.round(100 * share)} %`;
  const probability = (p) => (p === null ? "–" : p < 0.001 ? "< 0.001" : p.toFixed(3));
  const interval = (k, n) => (n ? `${percent(k / n)} [${shareInterval(k, n).map((end) => Math.round(100 * end)).join(", ")}]` : "–");

  function table(caption, head, rows) {
    const cell = (tag, text, i) => make(tag, { textContent: text, className: i && typeof text === "number" ? "number" : "" });
    const body = rows.map((row) => make("tr", {}, ...row.map((text, i) => {
      const one = cell(i ? "td" : "th", text, i);
      if (!i) one.scope = "row";
      return one;
    })));
    const top = make("tr", {}, ...head.map((text, i) => make("th", { textContent: text, scope: "col", className: typeof rows[0]?.[i] === "number" ? "number" : "" })));
    const whole = make("table", { className: "board words" }, make("caption", { textContent: caption }), make("thead", {}, top), make("tbody", {}, ...body));
    return make("div", { className: "scroll", tabIndex: 0, role: "region", ariaLabel: caption }, whole);
  }

  function preferences() {
    const pairs = new Map();
    const codecs = new Map(chosen.codecs.map((label) => [label, { wins: 0, losses: 0, ties: 0 }]));
    for (const { labels, answer, chosen: won } of answers) {
      const [first, second] = labels;
      const pair = pairs.get(labels.join("\n")) ?? { first, second, wins: 0, losses: 0, ties: 0 };
      pairs.set(labels.join("\n"), pair);
      const lost = won === first ? second : first;
      if (answer === "none") {
        pair.ties += 1;
        for (const label of labels) codecs.get(label).ties += 1;
      } else {
        pair[won === first ? "wins" : "losses"] += 1;
        codecs.get(won).wins += 1;
        codecs.get(lost).losses += 1;
      }
    }
    const counts = ({ wins, ties, losses }) => [wins, ties, losses, interval(wins, wins + losses), probability(signTest(wins, losses))];
    const share = (one) => (one.wins + one.losses ? one.wins / (one.wins + one.losses) : -1);
    const ranked = [...codecs].filter(([, one]) => one.wins + one.losses + one.ties).sort((a, b) => share(b[1]) - share(a[1]));
    return [
      table("Codecs: how often each was preferred to the others", ["codec", "preferred", "no difference", "not preferred", "share preferred [95%]", "p, sign test"],
        ranked.map(([label, one]) => [label, ...counts(one)])),
      table("Pairs. The sign test leaves out “no difference”; p is not corrected for the number of pairs", ["pair", "first preferred", "no difference", "second preferred", "share of the first [95%]", "p, sign test"],
        [...pairs.values()].map((pair) => [`${pair.first} – ${pair.second}`, ...counts(pair)])),
    ];
  }

  function discrimination() {
    const row = (label, some) => {
      const right = some.filter((answer) => answer.correct).length;
      return [label, some.length, right, interval(right, some.length), probability(some.length ? tail(right, some.length) : null)];
    };
    const labels = chosen.codecs.filter((label) => answers.some((answer) => answer.labels[0] === label));
    const rows = labels.map((label) => row(label, answers.filter((answer) => answer.labels[0] === label)));
    if (labels.length > 1) rows.push(row("all", answers));
    return [table("Told from the original. p: one-sided binomial test against guessing", ["codec", "trials", "right", "share right [95%]", "p, binomial test"], rows)];
  }

  function rated() {
    const found = new Map();
    for (const answer of answers) {
      const hidden = answer.ratings.find((one) => one.original).rating;
      for (const { codec, original, rating } of answer.ratings) {
        const key = original ? "original (hidden)" : codec;
        const one = found.get(key) ?? { values: [], original, below: 0, above: 0 };
        found.set(key, one);
        one.values.push(rating);
        one.below += rating < hidden;
        one.above += rating > hidden;
      }
    }
    const rows = [...found].sort((a, b) => mean(b[1].values) - mean(a[1].values)).map(([label, one]) => {
      const ends = meanInterval(one.values);
      return [label, one.values.length, mean(one.values).toFixed(1) + (ends ? ` [${ends.map((end) => end.toFixed(1)).join(", ")}]` : ""),
        `${Math.min(...one.values)} to ${Math.max(...one.values)}`,
        ...(one.original ? ["–", "–"] : [`${one.below} of ${one.values.length}`, probability(signTest(one.below, one.above))])];
    });
    const hidden = found.get("original (hidden)").values;
    const low = hidden.filter((value) => value < 90).length;
    const advice = make("p", { className: "notice", textContent: `The hidden original was rated below 90 in ${low} of ${hidden.length} trials`
      + (low > 0.15 * hidden.length ? ": MUSHRA (ITU-R BS.1534) leaves out listeners with more than 15 %." : ".") });
    return [table("Ratings", ["codec", "trials", "mean [95%]", "range", "below the hidden original", "p, sign test"], rows), advice];
  }

  function finish() {
    deck?.close();
    deck = null;
    part(resultPart);
    byId("result-facts").textContent = `${answers.length} of ${trials.length} trials, seed ${chosen.seed}, levels ${chosen.match ? "matched" : "not matched"}.`;
    const tables = !answers.length ? [make("p", { textContent: "No answer was given." })]
      : { ab: preferences, abx: discrimination, rating: rated }[chosen.mode]();
    byId("result-tables").replaceChildren(...tables);
    byId("download").disabled = !answers.length;
    byId("result-title").focus();
  }

  const FIELDS = ["listener", "seed", "mode", "levels_matched", "trial", "clip", "run", "category", "seconds", "switches",
    "a", "b", "x", "answer", "chosen", "correct", "version", "codec", "rating"];

  function csv() {
    const rows = answers.flatMap((answer) => {
      const same = { ...answer, listener: chosen.listener, seed: chosen.seed, mode: chosen.mode, levels_matched: chosen.match ? 1 : 0 };
      if (same.correct !== undefined && same.correct !== null) same.correct = same.correct ? 1 : 0;
      return answer.ratings ? answer.ratings.map((one) => ({ ...same, version: one.version, codec: one.original ? "original" : one.codec, rating: one.rating })) : [same];
    });
    const quoted = (value) => {
      const text = String(value ?? "");
      return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
    };
    return [FIELDS, ...rows.map((row) => FIELDS.map((name) => row[name]))].map((row) => row.map(quoted).join(",")).join("\n") + "\n";
  }

  byId("download").addEventListener("click", () => {
    const url = URL.createObjectURL(new Blob([csv()], { type: "text/csv;charset=utf-8" }));
    const name = ["blind", chosen.mode, chosen.seed, chosen.listener].filter((word) => word !== "").join("-");
    make("a", { href: url, download: `${name.replace(/[^\w.-]+/g, "_")}.csv` }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10000);
  });
  byId("again").addEventListener("click", () => {
    field("seed").value = String((chosen.seed + 1) % 4294967296);
    part(setup);
    note();
    field("mode")[0].focus();
  });
})();
