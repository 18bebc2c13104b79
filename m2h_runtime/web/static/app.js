// What comes from the robot goes to whoever shows it.

import { Connection } from "./connection.js";
import { showCards, showSilence, showStatus } from "./cards.js";
import { History, drawCharts } from "./charts.js";
import { Views } from "./views.js";
import { Probe } from "./probe.js";
import { connectActions, showRecording } from "./actions.js";
import { $, text } from "./page.js";

const history = new History();
const views = new Views((panes) => connection.send({ kind: "show", panes }));
const probe = new Probe((at) => connection.send({ kind: "probe", at }));
let newest = null; // the latest status

const connection = new Connection({
  hello(message) {
    if (!message.ready) return;
    views.begin(message);
    probe.begin(message.labels);
    history.begin(message.chart);
    showCards(message);
  },
  status(message) {
    newest = message;
    history.add(message);
    showStatus(message, history);
    showRecording(message.recording);
    drawCharts(history, message);
    showBanner();
  },
  async view(buffer) {
    await views.show(buffer);
    probe.refresh();
  },
  probe(message) {
    probe.show(message);
  },
  opened() {
    views.announce();
    showBanner();
  },
  changed: showBanner,
});

function showBanner() {
  const state = connection.state();
  const lost = state.name !== "open";
  document.body.classList.toggle("lost", lost);
  let said = "";
  if (lost) {
    said = state.said;
    showSilence(state.name === "connecting" ? "connecting" : "no connection", said);
  } else if (newest?.phase === "starting") said = "The run is starting: no perception yet.";
  else if (newest?.phase === "ended") said = "The run has ended. What you see is its last picture.";
  $("banner").hidden = !said || state.name === "connecting";
  $("banner-retry").hidden = !lost;
  if ($("banner-text").textContent !== said) text("banner-text", said);
}

// The page keeps the token as a cookie; it need not stand in the address, nor in the history.
if (location.search) window.history.replaceState(null, "", location.pathname);

$("banner-retry").addEventListener("click", () => connection.retry());
setInterval(() => {
  showBanner();
  views.showAge(connection.state().name === "open");
}, 250);
connectActions();
connection.open();
