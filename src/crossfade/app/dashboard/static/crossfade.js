"use strict";
// Keeps the rollout's page fresh, and sends what people ask for to the API.
(() => {
  const live = document.getElementById("live");
  const chart = document.getElementById("chart");
  let plot = null;

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  async function draw() {
    if (!chart) return;
    const answer = await fetch(chart.dataset.trend);
    if (!answer.ok) return;
    const { at, weight, seen } = await answer.json();
    const data = [at, weight, seen];
    if (plot) { plot.setData(data); return; }
    const day = "\n{YYYY}-{MM}-{DD}";
    const times = [[86400, "{YYYY}-{MM}-{DD}", null, null, null, null, null, null, 1], [60, "{HH}:{mm}", day, null, day, null, null, null, 1], [1, "{HH}:{mm}:{ss}", day, null, day, null, null, null, 1]];
    const axis = { stroke: colour("--soft"), grid: { stroke: colour("--edge") }, ticks: { stroke: colour("--edge") } };
    plot = new uPlot({
      width: chart.clientWidth, height: 240, tzDate: (s) => uPlot.tzDate(new Date(s * 1000), "UTC"),
      scales: { y: { range: [0, 100] } },
      axes: [{ ...axis, values: times }, { ...axis, size: 60, values: (_, ticks) => ticks.map((t) => t + " %") }],
      series: [
        { label: "UTC", value: "{YYYY}-{MM}-{DD} {HH}:{mm}" },
        { label: "planned", stroke: colour("--soft"), width: 2, paths: uPlot.paths.stepped({ align: 1 }) },
        { label: "seen", stroke: colour("--v2"), width: 2 },
      ],
    }, data, chart);
    new ResizeObserver(() => plot.setSize({ width: chart.clientWidth, height: 240 })).observe(chart);
  }

  function follow() {
    if (!live) return;
    const source = new EventSource(live.dataset.changes);
    source.addEventListener("changed", () => { htmx.trigger(live, "changed"); draw(); });
    addEventListener("pagehide", () => source.close());
  }

  // What somebody has opened stays open when its part comes anew.
  let open = [];
  document.addEventListener("htmx:beforeSwap", () => {
    open = [...document.querySelectorAll("#live article details[open]")].map((d) => [d.closest("article").getAttribute("aria-labelledby"), d.firstChild.textContent]);
  });
  document.addEventListener("htmx:afterSwap", () => {
    for (const [id, text] of open) {
      const all = [...document.querySelectorAll(`#live article[aria-labelledby="${id}"] details`)];
      all.find((d) => d.firstChild.textContent === text)?.setAttribute("open", "");
    }
  });

  const post = (path, body, headers = {}) => fetch(path, {
    method: "POST", body: JSON.stringify(body),
    headers: { "Content-Type": "application/json", "X-Crossfade-Request": "1", ...headers },
  });

  async function said(answer) {
    if (answer.ok) return "";
    const problem = await answer.json().catch(() => ({}));
    return problem.detail || `the answer was ${answer.status}`;
  }

  function tell(place, text) {
    place.hidden = !text;
    place.textContent = text;
    if (text) place.scrollIntoView({ block: "nearest" });
  }

  async function act(form) {
    const fields = Object.fromEntries(new FormData(form));
    const { rollout, revision } = document.querySelector("[data-revision]").dataset;
    const verb = form.dataset.verb;
    const body = { reason: fields.reason };
    if (fields.phase) body.phase = fields.phase;
    // A rollback is wanted whatever has changed meanwhile; everything else is meant for what was seen.
    const headers = verb === "rollback" ? {} : { "If-Match": `"${revision}"` };
    const answer = await post(`/api/v1/rollouts/${encodeURIComponent(rollout)}/${verb}`, body, headers);
    const problem = await said(answer);
    tell(document.getElementById("refused"), problem);
    tell(document.querySelector(".said"), problem ? "" : `Done: ${verb}. It is the latest line of the history.`);
    if (!problem) form.reset();
    htmx.trigger(live, "changed");
  }

  async function login(form, token) {
    const problem = await said(await post("/login", { token }));
    if (problem) { tell(form.querySelector(".alert"), problem); return; }
    const next = new URLSearchParams(location.search).get("next") || "/";
    location.replace(new URL(next, location.origin).origin === location.origin ? next : "/");
  }

  document.addEventListener("input", ({ target }) => {
    if (target.dataset.exactly) target.setCustomValidity(target.value.trim() === target.dataset.exactly ? "" : `type ${target.dataset.exactly}`);
  });
  document.addEventListener("submit", (event) => {
    event.preventDefault();
    const form = event.target;
    if (form.dataset.verb) act(form);
    else if ("login" in form.dataset) login(form, new FormData(form).get("token"));
  });
  document.querySelector("[data-logout]")?.addEventListener("click", async () => { await post("/logout", {}); location.assign("/login"); });

  const loginForm = document.querySelector("[data-login]");
  if (loginForm && location.hash.startsWith("#code=")) {
    const code = location.hash.slice(6);
    history.replaceState(null, "", location.pathname + location.search);
    login(loginForm, decodeURIComponent(code));
  }
  draw();
  follow();
})();
