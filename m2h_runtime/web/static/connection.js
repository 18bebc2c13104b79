// The WebSocket: acknowledges what came, notices silence, comes back by itself.

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 8000;
const GOING_AWAY = 1001;
const SILENCE_MS = 3000; // a status comes four times a second

export class Connection {
  constructor(handlers) {
    this.handlers = handlers;
    this.socket = null;
    this.waitMs = FIRST_WAIT_MS;
    this.heardMs = 0;
    this.lostMs = 0;
    this.retryMs = 0;
    this.refused = "";
    this.over = false; // the robot said goodbye
    this.timer = 0;
    setInterval(() => this.watch(), 500);
  }

  open() {
    clearTimeout(this.timer);
    this.retryMs = 0;
    const url = new URL("socket", location.href);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    url.search = url.hash = "";
    const socket = new WebSocket(url);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => this.opened(socket);
    socket.onmessage = (event) => this.heard(socket, event.data);
    socket.onclose = (event) => this.closed(socket, event.code === GOING_AWAY);
    this.socket = socket;
    this.startedMs = performance.now();
  }

  opened(socket) {
    if (socket !== this.socket) return;
    this.heardMs = performance.now();
    this.refused = "";
    this.handlers.opened();
  }

  async heard(socket, data) {
    if (socket !== this.socket) return;
    this.heardMs = performance.now();
    this.waitMs = FIRST_WAIT_MS;
    this.lostMs = 0;
    this.over = false;
    if (typeof data !== "string") {
      try {
        await this.handlers.view(data);
      } finally {
        this.send({ kind: "got", what: "view" }); // the next one is made only now
      }
      return;
    }
    const message = JSON.parse(data);
    this.handlers[message.kind](message);
    if (message.kind === "status") this.send({ kind: "got", what: "status" });
  }

  closed(socket, over) {
    if (socket !== this.socket) return;
    this.socket = null;
    this.over ||= over;
    this.lostMs ||= performance.now();
    this.retryMs = performance.now() + this.waitMs;
    this.timer = setTimeout(() => this.open(), this.waitMs);
    this.waitMs = Math.min(2 * this.waitMs, LONGEST_WAIT_MS);
    this.handlers.changed();
    this.askWhy();
  }

  /** A handshake does not tell why it was refused; an ordinary request does. */
  async askWhy() {
    try {
      const answer = await fetch("status.json");
      this.refused = answer.ok ? "" : (await answer.text()).trim();
    } catch {
      this.refused = "";
    }
    this.handlers.changed();
  }

  /** A network that went away closes nothing: silence has to be noticed. */
  watch() {
    const since = Math.max(this.heardMs, this.startedMs ?? 0);
    if (this.socket && performance.now() - since > SILENCE_MS) {
      const socket = this.socket;
      this.closed(socket, false);
      socket.close();
    }
  }

  retry() {
    this.waitMs = FIRST_WAIT_MS;
    if (!this.socket) this.open();
  }

  send(message) {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  state() {
    if (this.socket?.readyState === WebSocket.OPEN && this.lostMs === 0) return { name: "open" };
    if (!this.heardMs && !this.lostMs) return { name: "connecting", said: "" };
    if (this.refused) return { name: "lost", said: `The robot refuses this page: ${this.refused}` };
    const now = performance.now();
    const ago = Math.round((now - this.lostMs) / 1000);
    const wait = Math.max(0, Math.ceil((this.retryMs - now) / 1000));
    const next = this.retryMs && wait ? `trying again in ${wait} s` : "trying again";
    const why = this.over ? "The run is over" : `No connection to the robot for ${ago} s`;
    return { name: "lost", said: `${why}: what you see is old; ${next}.` };
  }
}
