"use strict";
(() => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const words = read("words");
  let language = (navigator.language || "en").toLowerCase().startsWith("zh") ? 1 : 0;

  const say = (key, values = {}) =>
    words[key][language].replace(/\{(\w+)\}/g, (whole, name) => {
      const value = values[name];
      return value === undefined ? whole : Array.isArray(value) ? say(value[0]) : String(value);
    });

  function speak(chosen) {
    language = chosen;
    document.documentElement.lang = language ? "zh" : "en";
    for (const node of document.querySelectorAll("[data-t]")) {
      node.textContent = say(node.dataset.t, JSON.parse(node.dataset.v || "{}"));
    }
    for (const node of document.querySelectorAll("[data-t-label]")) {
      node.setAttribute("aria-label", say(node.dataset.tLabel, JSON.parse(node.dataset.v || "{}")));
    }
    for (const node of document.querySelectorAll(".language")) node.setAttribute("aria-pressed", String((node.value === "zh") === !!language));
  }

  const list = document.getElementById("row-list");
  const browser = list ? browse(read("rows-data")) : { show() {} };
  for (const button of document.querySelectorAll(".language")) {
    button.addEventListener("click", () => {
      speak(button.value === "zh" ? 1 : 0);
      browser.show();
    });
  }
  speak(language);
  browser.show();

  // Every value of a row goes in through textContent: whatever it holds, it stays text.
  function make(name, className, text) {
    const node = document.createElement(name);
    if (className) node.className = className;
    if (text !== undefined) node.textContent = text;
    return node;
  }

  function worded(name, key) {
    const node = make(name, "", say(key));
    node.dataset.t = key;
    return node;
  }

  function browse(rows) {
    const PAGE = 10, LONG = 280;
    const PICTURE = /^data:image\/png;base64,[A-Za-z0-9+\/]+=*$/;
    const control = (name) => document.getElementById(`row-${name}`);
    const known = (value) => value !== null && value !== undefined;
    const flat = (value) => Array.isArray(value) && value.every((piece) => typeof piece !== "object");
    const plain = (value) =>
      !known(value) ? "–" : flat(value) ? value.join(", ") : typeof value === "object" ? JSON.stringify(value) : String(value);
    const right = (row, who) => known(row.truth) && plain(row[who]) === plain(row.truth);
    const tests = {
      all: () => true,
      differ: (row) => plain(row.teacher) !== plain(row.student),
      lost: (row) => right(row, "teacher") && !right(row, "student"),
      gained: (row) => right(row, "student") && !right(row, "teacher"),
      both_wrong: (row) => known(row.truth) && !right(row, "teacher") && !right(row, "student"),
    };
    const spelt = (name, held) => (PICTURE.test(held) ? "" : held);
    const texts = new Map(rows.map((row) => [row, JSON.stringify(Object.values(row), spelt).toLowerCase()]));
    const largest = Math.max(1, ...rows.map((row) => row.disagreement || 0));
    const figure = (value) => (typeof value === "number" ? value.toFixed(3) : "–");
    let page = 0, rising = false, pages = 1;

    function chosen() {
      const wanted = control("search").value.trim().toLowerCase().split(/\s+/);
      const key = control("sort").value;
      const protocol = control("protocol") ? control("protocol").value : "";
      const sign = rising ? 1 : -1;
      const test = tests[control("show").value];
      return rows
        .filter((row) => (!protocol || row.protocol === protocol) && test(row) && wanted.every((word) => texts.get(row).includes(word)))
        .sort((a, b) => (known(b[key]) - known(a[key])) || sign * (a[key] - b[key]) || 0);
    }

    function value(raw) {
      const text = plain(raw);
      const node = make("dd");
      if (PICTURE.test(text)) {
        const picture = make("img", "thumb");
        picture.src = text;
        picture.alt = "";
        node.append(picture);
        return node;
      }
      const held = make("bdi", "", text.length > LONG ? `${text.slice(0, LONG)}…` : text);
      held.dir = "auto";
      node.append(held);
      if (text.length > LONG) {
        const more = worded("button", "more");
        more.type = "button";
        more.className = "more";
        more.addEventListener("click", () => {
          held.textContent = text;
          more.remove();
        });
        node.append(more);
      }
      return node;
    }

    function answer(row, who) {
      const node = value(row[who]);
      if (known(row.truth)) node.firstChild.className = right(row, who) ? "right" : "wrong";
      if (known(row[`${who}_p`])) node.append(make("span", "p", figure(row[`${who}_p`])));
      return node;
    }

    function card(row) {
      const item = make("li"), top = make("div", "top"), gap = make("span", "gap");
      top.append(make("span", "", `#${plain(row.id)}`));
      if (control("protocol")) top.append(make("span", "", plain(row.protocol)));
      if (known(row.disagreement)) {
        const meter = make("span", "meter"), filled = make("span");
        filled.style.width = `${Math.max(0, Math.min(1, row.disagreement / largest)) * 100}%`;
        meter.append(filled);
        gap.append(worded("span", "disagreement"), meter, make("span", "", figure(row.disagreement)));
        top.append(gap);
      }
      const raw = make("dl"), said = make("dl", "answers");
      for (const [name, held] of Object.entries(row.row || {})) raw.append(make("dt", "", name), value(held));
      said.append(worded("dt", "truth"), value(row.truth), worded("dt", "teacher"), answer(row, "teacher"));
      said.append(worded("dt", "student"), answer(row, "student"));
      item.append(top, raw, said);
      return item;
    }

    function show() {
      const found = chosen();
      pages = Math.max(1, Math.ceil(found.length / PAGE));
      page = Math.min(Math.max(page, 0), pages - 1);
      list.replaceChildren(...found.slice(page * PAGE, (page + 1) * PAGE).map(card));
      const facts = { shown: found.length, total: rows.length, page: page + 1, pages };
      control("status").textContent = found.length ? say("status", facts) : say("none");
      control("previous").disabled = page === 0;
      control("next").disabled = page === pages - 1;
    }

    const turn = (to) => {
      page = to;
      show();
    };
    const keys = { ArrowRight: () => page + 1, ArrowLeft: () => page - 1, Home: () => 0, End: () => pages - 1 };
    list.addEventListener("keydown", (event) => {
      if (event.target !== list || !(event.key in keys)) return;
      event.preventDefault();
      turn(keys[event.key]());
    });
    control("controls").addEventListener("submit", (event) => event.preventDefault());
    control("controls").addEventListener("input", () => turn(0));
    control("previous").addEventListener("click", () => turn(page - 1));
    control("next").addEventListener("click", () => turn(page + 1));
    control("order").addEventListener("click", () => {
      rising = !rising;
      control("order").dataset.t = rising ? "ascending" : "descending";
      control("order").textContent = say(control("order").dataset.t);
      control("order").setAttribute("aria-pressed", String(rising));
      turn(0);
    });
    return { show };
  }
})();
